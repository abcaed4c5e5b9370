/** One channel to one peer, by a machine that is no member yet: only for enrolment. */
import type { Connection, PrivateKey } from '@libp2p/interface'
import { noise } from '@libp2p/noise'
import { tcp } from '@libp2p/tcp'
import { tls } from '@libp2p/tls'
import { yamux } from '@libp2p/yamux'
import { type Multiaddr, multiaddr } from '@multiformats/multiaddr'
import { createLibp2p, type Libp2p } from 'libp2p'
import { MeshError } from '../../protocols/errors.ts'
import type { PeerIdText } from '../../protocols/ids.ts'
import { checkVerdict } from '../../protocols/opening.ts'
import { StreamChannel } from '../../protocols/stream-channel.ts'
import type { Channel, Service } from '../../protocols/wire.ts'
import { AddressBook } from './addresses.ts'
import { discovery } from './libp2p.ts'
import { duplexOf } from './streams.ts'

const timeoutMs = 15_000

/** Machines on the local network answer a query within a second; when nothing else is left to try, they get three. */
const sightingMs = 3000

export interface DialOnceOptions {
  privateKey: PrivateKey
  remote: PeerIdText
  /** Multiaddrs, with or without the peer id. */
  addresses: readonly string[]
  service: Service
  /** Looks for the peer on the local network too, among the machines of this mesh. */
  mesh?: string | undefined
  signal?: AbortSignal | undefined
}

/** `address`: where the peer answered. Rejects with Unreachable when it answers nowhere, or with the refusal of the other side. */
export async function dialOnce(options: DialOnceOptions): Promise<{ channel: Channel; address: string; close: () => Promise<void> }> {
  const { remote, service, mesh } = options
  const book = await AddressBook.open(undefined)
  book.learn(remote, options.addresses)
  const targets = book.of(remote)
  if (targets.length === 0 && mesh === undefined)
    throw new MeshError('Unreachable', 'No address of the founder is known: the invitation holds none.')
  const deadline = AbortSignal.timeout(timeoutMs)
  const signal = options.signal === undefined ? deadline : AbortSignal.any([deadline, options.signal])
  const node = await createLibp2p({
    start: false,
    privateKey: options.privateKey,
    transports: [tcp()],
    connectionEncrypters: [tls(), noise()],
    streamMuxers: [yamux()],
    connectionMonitor: { enabled: false },
    ...(mesh === undefined ? {} : { peerDiscovery: [discovery(mesh)] }),
  })
  const close = () => Promise.resolve(node.stop())
  try {
    const connection = await reach(node, remote, targets, mesh !== undefined, signal)
    const stream = await connection.newStream([service.protocol], { signal })
    const channel = new StreamChannel(duplexOf(stream), { peer: remote, roles: [] }, service.maxFrameBytes)
    checkVerdict(await channel.next(signal))
    return { channel, address: withoutPeer(connection.remoteAddr), close }
  } catch (error) {
    await close()
    if (error instanceof MeshError) throw error
    const tried = targets.map(withoutPeer).join(', ')
    const unseen = mesh === undefined ? '' : ', and it was not found on the local network'
    throw new MeshError(
      'Unreachable',
      `The founder of the mesh answers at none of its addresses (${tried})${unseen}. Is it running, and does its firewall let this machine in? If it moved, name it with --bootstrap.`,
      { cause: error },
    )
  }
}

/** Starts the node; a connection by the addresses given, or by those that the peer says on the local network, whichever is first. */
async function reach(node: Libp2p, remote: PeerIdText, targets: Multiaddr[], looks: boolean, signal: AbortSignal): Promise<Connection> {
  const settled = new AbortController()
  const either = AbortSignal.any([signal, settled.signal])
  const seen = Promise.withResolvers<Multiaddr[]>()
  node.addEventListener('peer:discovery', ({ detail }) => {
    if (detail.id.toString() === remote)
      seen.resolve(detail.multiaddrs.map((address) => multiaddr(`${withoutPeer(address)}/p2p/${remote}`)))
  })
  await node.start()
  const known = targets.length === 0 ? Promise.reject(new Error('no address of it is known')) : node.dial(targets, { signal: either })
  const tries: Promise<Connection>[] = [known]
  if (looks) {
    const giveUp = () => seen.reject(new Error('it was not found on the local network'))
    either.addEventListener('abort', giveUp, { once: true })
    known.catch(() => setTimeout(giveUp, sightingMs).unref())
    tries.push(seen.promise.then((addresses) => node.dial(addresses, { signal: either })))
  }
  try {
    return await Promise.any(tries)
  } finally {
    settled.abort()
  }
}

function withoutPeer(address: Multiaddr): string {
  return address.toString().replace(/\/p2p\/.*/, '')
}
