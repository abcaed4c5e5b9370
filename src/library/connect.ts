/** The ways into a mesh. Only those that start a node load it. */
import { rm } from 'node:fs/promises'
import { resolve } from 'node:path'
import { MeshError } from '../../protocols/errors.ts'
import type { MachineClass } from '../../protocols/model/machine.ts'
import type { Labels } from '../../protocols/model/resources.ts'
import { Mesh as Client, type ConnectOptions as ClientOptions } from '../mesh/client.ts'
import type { Log } from '../mesh/log.ts'
import type { RunningNode, UpOptions } from '../mesh/up-options.ts'
import { startNode } from '../mesh.ts'
import { Mesh } from './mesh.ts'
import { temporaryDirectory } from './temporary.ts'

/** Where a program finds its mesh. */
export interface ConnectOptions {
  /**
   * An invitation, for a machine without a node: a peer inside the program that only submits. It dials out, lends
   * nothing, and is no machine of the mesh.
   */
  token?: string
  /**
   * Data directory of this machine's node; default `$BATCHMESH_DATA`, else the platform's. With `token`: where the
   * peer's identity is kept, so that the next start needs no second use of the invitation; default a temporary
   * directory, which is removed at the end.
   */
  dataDir?: string
  /** What the mesh is told by; nothing is written anywhere by itself. */
  log?: Log
  /** Told when calls that go on by themselves are waiting for the mesh, and when it is back. */
  onLost?: (error: MeshError) => void
  onBack?: () => void
  /** Another way to the node. @internal */
  open?: ClientOptions['open']
}

/** How a program takes part in a mesh. */
export interface JoinOptions {
  /** An invitation. Without one, the membership that is in `dataDir`; without that, a mesh is founded. */
  token?: string
  /** Where identity, blobs and, at the founder, jobs are kept. Default a temporary directory, which is removed at the end. */
  dataDir?: string
  /** Cores to lend; default all. With 0 it runs no tasks. */
  lendCpus?: number
  /** Default all. */
  lendMemoryMiB?: number
  /** Default half of what is free, at most 100 GiB. */
  blobQuotaMiB?: number
  /** Free disk at which the largest task is ended. Default 1 GiB, at most a twentieth of the disk; 0: none. */
  diskReserveMiB?: number
  /** Most processes and threads of one task, where the machine can count them. Default 4096. */
  pidsLimit?: number
  /** What pools and tasks can ask for. */
  labels?: Labels
  /** `low-priority`: it may leave at any time. Default `dedicated`. */
  class?: MachineClass
  /** Default the host name. */
  name?: string
  /** TCP port; default a free one. */
  port?: number
  /** Addresses to listen on; default all. */
  listen?: string[]
  /** Multiaddrs to tell others instead of those listened on. */
  announce?: string[]
  /** Multiaddrs of peers to dial first. */
  bootstrap?: string[]
  /** Whether to look for peers on the local network; default true. */
  mdns?: boolean
  log?: Log
  onLost?: (error: MeshError) => void
  onBack?: () => void
}

/**
 * Connects to the mesh through the node that runs on this machine; with `token`, through a peer inside the program.
 *
 *     await using mesh = await connect()
 *
 * @throws {@link MeshError} `Unreachable` when no node runs here, or none of the token's addresses answers;
 *   `InsufficientPermissions` when the node belongs to another user; `InvalidPropertyValue` for a damaged or expired
 *   token; `AuthenticationFailed` for one that is used up
 */
export async function connect(options: ConnectOptions = {}): Promise<Mesh> {
  const { token, dataDir, log, ...rest } = options
  if (token !== undefined) {
    const peer = await startPeer({ ...given({ token, dataDir, log }), lendCpus: 0, listen: ['127.0.0.1'] }, { worker: false }, rest)
    return new Mesh(peer.client, peer.release)
  }
  const client = new Client({ ...rest, ...(dataDir === undefined ? {} : { dataDir: resolve(dataDir) }) })
  try {
    await client.local.session()
  } catch (error) {
    if (!(error instanceof MeshError) || error.code !== 'Unreachable') throw error
    const message = `No node runs here (nothing answers in ${client.dataDir}). Start one with \`batchmesh up\`, give connect a token, or use join().`
    throw new MeshError('Unreachable', message, { cause: error.cause })
  }
  return new Mesh(client)
}

/**
 * Takes part in a mesh with a whole peer inside the program: it founds one or joins one, lends its cores, runs tasks,
 * and is gone when the program ends. While it runs, `batchmesh --data DIR` on this machine works with it.
 *
 *     await using mesh = await join({ token, lendCpus: 4 })
 *
 * Closing it waits for no tasks: they run again elsewhere.
 *
 * @throws {@link MeshError} `InvalidPropertyValue` for a damaged or expired token or unusable options, `Unreachable`,
 *   `AuthenticationFailed`
 */
export async function join(options: JoinOptions = {}): Promise<Mesh> {
  const { onLost, onBack, ...node } = options
  const peer = await startPeer(node, {}, { ...(onLost === undefined ? {} : { onLost }), ...(onBack === undefined ? {} : { onBack }) })
  return new Mesh(peer.client, peer.release)
}

/** A node in this process, and a connection to it. */
export interface Peer {
  client: Client
  /** Ends the node. */
  release: () => Promise<void>
}

export async function startPeer(
  options: JoinOptions,
  more: Pick<UpOptions, 'worker' | 'overcommit'>,
  callbacks: Omit<ClientOptions, 'dataDir'>,
): Promise<Peer> {
  const { token, log = () => {}, ...rest } = options
  const isOwn = options.dataDir === undefined
  const dataDir = options.dataDir === undefined ? await temporaryDirectory('peer') : resolve(options.dataDir)
  const removeOwn = async () => {
    if (isOwn) await rm(dataDir, { recursive: true, force: true, maxRetries: 5 })
  }
  let node: RunningNode
  try {
    node = await startNode({
      port: 0,
      listen: [],
      announce: [],
      bootstrap: [],
      mdns: true,
      labels: {},
      class: 'dedicated',
      ...given(rest),
      ...more,
      dataDir,
      log,
      ...(token === undefined ? {} : { join: token }),
    })
  } catch (error) {
    await removeOwn()
    throw inOwnWords(error)
  }
  // Told to whoever calls next: its calls find no node.
  node.ended.catch((error: unknown) => log('error', 'the node broke', { error: String(error) }))
  const release = async () => {
    await node.stop({ drain: false, leaving: isOwn })
    await removeOwn()
  }
  const client = new Client({ ...callbacks, dataDir })
  try {
    await client.local.session()
  } catch (error) {
    await release()
    throw error
  }
  return { client, release }
}

/** What was really given: an absent option must not hide its default. */
function given<T extends object>(options: T): { [K in keyof T]: Exclude<T[K], undefined> } {
  return Object.fromEntries(Object.entries(options).filter(([, value]) => value !== undefined)) as {
    [K in keyof T]: Exclude<T[K], undefined>
  }
}

/** The node names options of the command line. */
function inOwnWords(error: unknown): unknown {
  if (!(error instanceof RangeError)) return error
  const message = error.message.replace('--lend-cpus', 'lendCpus').replace('--lend-memory', 'lendMemoryMiB')
  return new MeshError('InvalidPropertyValue', message, { cause: error })
}
