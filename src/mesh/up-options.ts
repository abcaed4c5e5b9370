/** What `batchmesh up` asks of a node, and what it gets back: the seam between the command line and the node's assembly. */
import type { MachineClass } from '../../protocols/model/machine.ts'
import type { Labels } from '../../protocols/model/resources.ts'
import type { Log } from './log.ts'

export interface UpOptions {
  /** Absolute. Made when it is missing. */
  dataDir: string
  /** An invitation token. Absent: the membership found in `dataDir`, else a mesh is founded. */
  join?: string
  /** TCP port to listen on; 0 picks a free one. */
  port: number
  /** Addresses (IP or multiaddr) to listen on; empty means all. */
  listen: string[]
  /** Multiaddrs to tell others instead of those listened on. */
  announce: string[]
  /** Multiaddrs of peers to dial first. */
  bootstrap: string[]
  /** Whether to look for peers on the local network. */
  mdns: boolean
  /** Cores to lend; default all. */
  lendCpus?: number
  /** Memory to lend; default what the node finds reasonable. */
  lendMemoryMiB?: number
  /** Lends as many cores as asked for, also more than there are: for tests. */
  overcommit?: boolean
  /** Whether it takes tasks; false: it only submits, and is no machine of the mesh. Default true. */
  worker?: boolean
  /** Room for blobs; default half of what the disk has for them, at most 100 GiB. */
  blobQuotaMiB?: number
  /** Free disk at which the largest task is ended; default 1 GiB, at most a twentieth of the disk. 0: none. */
  diskReserveMiB?: number
  /** Most processes and threads of one task; default 4096. */
  pidsLimit?: number
  labels: Labels
  class: MachineClass
  /** Name shown for the machine; default its host name. */
  name?: string
  log: Log
}

export interface RunningNode {
  readonly peer: string
  readonly meshId: string
  readonly name: string
  /** Multiaddrs where it can be dialled. */
  readonly addresses: readonly string[]
  /** `founded` a new mesh, `joined` one by a token, or `resumed` a membership that was in the data directory. */
  readonly how: 'founded' | 'joined' | 'resumed'
  /** A token that lets another machine join, when a mesh was founded. */
  readonly invitation?: string
  /** What it lends to the mesh, and as what. */
  readonly lends: { readonly cores: number; readonly memoryMiB: number; readonly class: MachineClass; readonly labels: Labels }
  /** The user that tasks run as. */
  readonly taskUser: string
  /** Resolves when the node has ended: stopped by {@link stop}, by `batchmesh down` or by `batchmesh leave`. Rejects if it broke. */
  readonly ended: Promise<void>
  /** Ends the node; with `drain` after its running tasks. A second call without `drain` cuts a drain short. With `leaving` the machine is forgotten by the mesh. */
  stop(options: { drain: boolean; leaving?: boolean }): Promise<void>
}
