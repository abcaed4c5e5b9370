/** The libp2p node under a host, with the settings that a mesh of batch machines needs. */
import { identify } from '@libp2p/identify'
import { FaultTolerance, type PrivateKey } from '@libp2p/interface'
import { mdns } from '@libp2p/mdns'
import { noise } from '@libp2p/noise'
import { ping } from '@libp2p/ping'
import { tcp } from '@libp2p/tcp'
import { tls } from '@libp2p/tls'
import { yamux } from '@libp2p/yamux'
import { createLibp2p, type Libp2p } from 'libp2p'
import { MeshError } from '../../protocols/errors.ts'
import { silentConnectionMs } from '../../protocols/wire.ts'
import { type Admit, type MemberGossip, membersOnly } from './gossip.ts'

/** Fixed: a window that grows past a stream's read buffer (4 MiB) resets the stream as soon as its reader is slow. */
const windowBytes = 1 << 20

export interface NodeOptions {
  privateKey: PrivateKey
  mesh: string
  listen: { port: number; addresses?: readonly string[] } | undefined
  announce: readonly string[]
  mdns: boolean
  gossip: MemberGossip
  admit: Admit
}

/** A node that is configured but not started. */
export function createNode(options: NodeOptions): Promise<Libp2p> {
  const { listen, admit } = options
  const hosts = listen?.addresses ?? ['/ip4/0.0.0.0', '/ip6/::']
  return createLibp2p({
    start: false,
    privateKey: options.privateKey,
    addresses: {
      listen: listen === undefined ? [] : hosts.map((host) => `${host}/tcp/${listen.port}`),
      appendAnnounce: [...options.announce],
    },
    // A machine without IPv6 still listens on IPv4; see startNode for a port that is taken.
    transportManager: { faultTolerance: FaultTolerance.NO_FATAL },
    transports: [tcp()],
    connectionEncrypters: [tls(), noise()],
    streamMuxers: [yamux({ streamOptions: { initialStreamWindowSize: windowBytes, maxStreamWindowSize: windowBytes } })],
    connectionManager: {
      maxConnections: 5000,
      // The defaults (5 a second and host, 10 at once) refuse most of a mesh that starts behind one address.
      inboundConnectionThreshold: 500,
      maxIncomingPendingConnections: 500,
      maxParallelDials: 50,
      // Redialling is the dialer's business.
      reconnectRetries: 0,
    },
    // A cut path is noticed within about half a minute; a node that is merely busy for seconds is not cut off.
    connectionMonitor: { pingInterval: 10_000, pingTimeout: { minTimeout: silentConnectionMs } },
    ...(options.mdns ? { peerDiscovery: [discovery(options.mesh)] } : {}),
    services: {
      identify: membersOnly(identify(), admit),
      ping: membersOnly(ping(), admit),
      gossip: options.gossip.service,
    },
  }) as Promise<Libp2p>
}

/** Starts the node. Rejects with InvalidPropertyValue when it was to listen and cannot. */
export async function startNode(node: Libp2p, listen: NodeOptions['listen']): Promise<void> {
  try {
    await node.start()
  } catch (error) {
    throw new MeshError('InvalidPropertyValue', `The node cannot listen: ${(error as Error).message}`, { cause: error })
  }
  if (listen === undefined || node.getMultiaddrs().length > 0) return
  await node.stop()
  throw new MeshError(
    'InvalidPropertyValue',
    `The node cannot listen on port ${listen.port}: another program has it, or the address is not one of this machine. Choose another port.`,
  )
}

/** Discovery on the local network. Machines of other meshes are not even seen. (A DNS label holds 63 characters.) */
export function discovery(mesh: string): ReturnType<typeof mdns> {
  return mdns({ serviceTag: `_bm${mesh.slice(0, 20)}._udp.local`, interval: 10_000 })
}
