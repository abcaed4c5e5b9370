/** What may happen to a coordinator, and what it then wants done. Both are plain data: the step between them is pure. */

import type { TaskEvent } from '../protocols/control.ts'
import type { ErrorCode } from '../protocols/errors.ts'
import type { Attempt, JobUid, PeerIdText } from '../protocols/ids.ts'
import type { Claim, Grant, Hello, JobBrief, Report } from '../protocols/leases.ts'
import type { JobSpec } from '../protocols/model/job.ts'
import type { DeallocationOption, PoolSpec } from '../protocols/model/pool.ts'
import type { TaskSpec } from '../protocols/model/task.ts'
import type { TaskArray } from '../protocols/model/task-array.ts'
import type { Reservation } from '../protocols/pools.ts'
import type { Role } from '../protocols/wire.ts'
import type { StatusRow } from './rows.ts'

/** Names the request that an `answer` or `refuse` effect belongs to; chosen by the shell. */
export type ReplyTo = number

/** From machines. `session` numbers the worker's connection, so that what a dead one still says is recognised. */
export type WorkerEvent =
  | { kind: 'hello'; replyTo: ReplyTo; peer: PeerIdText; roles: readonly Role[]; session: number; hello: Hello }
  /** The session ended; `dead` when a redial was refused (L7). */
  | { kind: 'gone'; peer: PeerIdText; session: number; dead: boolean }
  | { kind: 'heartbeat'; peer: PeerIdText; session: number; sentAt: number; diskFreeMiB?: number }
  | { kind: 'claim'; replyTo: ReplyTo; peer: PeerIdText; session: number; claim: Claim }
  | { kind: 'report'; replyTo: ReplyTo; peer: PeerIdText; session: number; reports: readonly Report[] }
  | { kind: 'started'; peer: PeerIdText; session: number; attempts: readonly (Attempt & { startTime: number })[] }
  | { kind: 'uploading'; peer: PeerIdText; session: number; attempts: readonly Attempt[] }
  | { kind: 'draining'; peer: PeerIdText; session: number; returned: readonly Attempt[]; leaving: boolean }
  | { kind: 'retracted'; peer: PeerIdText; session: number; attempts: readonly Attempt[] }
  | { kind: 'reserved'; peer: PeerIdText; reservationId: number; granted: boolean; draining: boolean; reason?: string }

/** The machine's membership was revoked. */
export interface RevokedEvent {
  kind: 'revoked'
  peer: PeerIdText
}

/** From submitters. */
export type ControlEvent =
  | { kind: 'addPool'; replyTo: ReplyTo; spec: PoolSpec }
  | {
      kind: 'resizePool'
      replyTo: ReplyTo
      poolId: string
      targetDedicatedNodes?: number
      targetLowPriorityNodes?: number
      nodeDeallocationOption: DeallocationOption
      resizeTimeoutMs?: number
    }
  | { kind: 'deletePool'; replyTo: ReplyTo; poolId: string }
  | { kind: 'addJob'; replyTo: ReplyTo; spec: JobSpec; submitter?: string }
  | { kind: 'updateJob'; replyTo: ReplyTo; jobId: string; onAllTasksComplete?: 'noaction' | 'terminatejob'; priority?: number }
  | { kind: 'terminateJob'; replyTo: ReplyTo; jobId: string; terminateReason?: string }
  | { kind: 'deleteJob'; replyTo: ReplyTo; jobId: string }
  /** `encoded[i]` are the bytes of `tasks[i]`, which are stored as they are. */
  | { kind: 'addTasks'; replyTo: ReplyTo; jobId: string; tasks: readonly TaskSpec[]; encoded: readonly Uint8Array[] }
  /** `encoded` is stored as it is; `specBytes` is what the spec of one of its tasks takes when encoded. */
  | { kind: 'addTaskArray'; replyTo: ReplyTo; jobId: string; array: TaskArray; encoded: Uint8Array; specBytes: number }
  | { kind: 'terminateTask'; replyTo: ReplyTo; jobId: string; taskId: string }
  /** The shell reads the rows, which are not in memory for completed tasks. */
  | { kind: 'reactivateTask'; replyTo: ReplyTo; jobId: string; spec: TaskSpec; status: StatusRow }

export type Event = WorkerEvent | ControlEvent | RevokedEvent | { kind: 'tick' }

/** A grant without its spec, which is on disk: the shell fills it in. */
export type GrantRef = Omit<Grant, 'spec'>

export type Effect =
  /** Rows of one turn become one atomic, fsynced batch before anything else of the turn is done (L5). */
  | { kind: 'put'; key: string; value: unknown }
  | { kind: 'del'; key: string }
  /** All task rows of a deleted job, then its job row; may take long and is taken up again after a restart. */
  | { kind: 'purge'; jobUid: JobUid; home: PeerIdText }
  | { kind: 'answer'; replyTo: ReplyTo; body: unknown }
  | { kind: 'refuse'; replyTo: ReplyTo; code: ErrorCode; message: string }
  /** With `replyTo` the answer of a claim, else a note to a worker that did not ask. */
  | { kind: 'grants'; replyTo?: ReplyTo; peer: PeerIdText; grants: GrantRef[]; jobs: JobBrief[]; held: string[] }
  | { kind: 'beat'; peer: PeerIdText; sentAt: number; heartbeatMs: number }
  | { kind: 'stop'; peer: PeerIdText; attempts: Attempt[]; reason: string }
  /** Jobs that are deleted: the machine removes their files. */
  | { kind: 'forget'; peer: PeerIdText; jobUids: JobUid[] }
  | { kind: 'release'; peer: PeerIdText; reservationId: number; now: boolean }
  | { kind: 'reserve'; peer: PeerIdText; reservation: Reservation }
  | { kind: 'retract'; peer: PeerIdText; attempts: Attempt[] }
  | { kind: 'offer'; poolId: string; pending: number }
  /** A change that watchers of the job see. */
  | { kind: 'changed'; jobUid: JobUid; event?: TaskEvent }
  /** A line for the log. */
  | { kind: 'log'; level: 'info' | 'warn'; message: string; fields: Record<string, unknown> }
