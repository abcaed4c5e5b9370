/** The worker as its owner (the node's assembly) sees it. */
import type { PeerIdText } from '../../protocols/ids.ts'
import type { MachineDescription } from '../../protocols/model/machine.ts'
import type { Capacity } from '../../protocols/model/resources.ts'
import type { Reservation } from '../../protocols/pools.ts'
import type { Wire } from '../../protocols/wire.ts'
import type { Gangs } from '../gangs/gangs.ts'
import type { Journal } from '../journal.ts'
import type { Mpi } from '../mpi/mpi.ts'
import type { DiskWatch, Executor, FindAttempt, Log, Staging, TaskDirectories, ThreadExecutor } from '../ports.ts'

export interface WorkerOptions {
  wire: Wire
  meshId: string
  coordinator: PeerIdText
  /** The machine as it is now; asked at each connection and heartbeat, so it must not wait for anything. */
  machine: () => MachineDescription
  /** What the machine lends. */
  capacity: Capacity
  executor: Executor
  threads: ThreadExecutor
  staging: Staging
  directories: TaskDirectories
  gangs: Gangs
  mpi?: Mpi
  /** Watches over the disk; absent: nobody does. */
  disk?: DiskWatch
  /** Its owner watches {@link Journal.broken} and ends the node when a write failed. */
  journal: Journal
  log: Log
  /** Told when the coordinator says that this machine was removed from the mesh; its tasks have been ended. */
  removed?: () => void
  /** AZ_BATCH_ACCOUNT_NAME and AZ_BATCH_ACCOUNT_URL; the mesh has no account, but programs may look. */
  account?: { name: string; url: string }
  /** Name of the user that tasks run as (USER). */
  taskUser?: string
  /** Milliseconds, to wait and to measure silence by: a clock that nobody sets (steady-clock.ts). The wall clock if absent. */
  now?: () => number
  /** From 0 to below 1. */
  random?: () => number
}

export interface WorkerStatus {
  connected: boolean
  draining: boolean
  runningTasks: number
  unstartedTasks: number
  unreportedTasks: number
  /** Capacity that compute nodes of pools hold. */
  reservations: Reservation[]
}

export interface Worker {
  start(): void
  /** Ends what runs, without a report, and the session. Executor, journal and wire stay open: their owner closes them. */
  stop(): Promise<void>
  /** Takes nothing more, gives unstarted tasks back, and resolves when all others have ended and are acknowledged. `leaving`: it leaves the mesh for good. */
  drain(options?: { leaving?: boolean; signal?: AbortSignal }): Promise<void>
  status(): WorkerStatus
  findAttempt: FindAttempt
  /** Longest lateness of a heartbeat since this was last asked, in ms. */
  maxLagMs(): number
}
