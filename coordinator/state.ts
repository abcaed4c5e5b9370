/**
 * The coordinator's memory: what is moving. Specs and outcomes stay on disk. A task that nothing has happened to, or
 * that is completed, is a line of its job's roll, or a position of its array, with one number for what became of it.
 *
 *   task      active (waiting | queued) ─grant→ leased (unstarted → started → uploading) ─report→ completed
 *               ↑                                   │ lost, preempted, taken back, failed with tries left
 *               └───────────────────────────────────┘
 */
import { foldId, type JobUid, type PeerIdText } from '../protocols/ids.ts'
import type { Claim } from '../protocols/leases.ts'
import type { MachineDescription, MpiFlavor } from '../protocols/model/machine.ts'
import type { Capacity, Demand } from '../protocols/model/resources.ts'
import type { AttemptRecord } from '../protocols/model/task.ts'
import type { TaskArray } from '../protocols/model/task-array.ts'
import type { Role } from '../protocols/wire.ts'
import type { ArrayIds } from './array-ids.ts'
import type { ReplyTo } from './events.ts'
import type { NumberSet } from './number-set.ts'
import type { Roll } from './roll.ts'
import type { JobRow, LastEnd, MeshRow, NodeRow, PoolRow, StatusRow, SubtaskPart } from './rows.ts'

/** What tasks have in common that decides where they fit; scheduling goes by classes, not tasks. */
export interface TaskClass {
  readonly key: string
  readonly slots: number
  readonly demand: Demand
  /** Nodes of a gang; 0 for an ordinary task. */
  readonly gang: number
  /** A thread task: only machines that say so can run it. */
  readonly thread: boolean
  /** All members of the gang must have this MPI in the same version. */
  readonly mpi?: MpiFlavor
}

export interface Task {
  readonly job: Job
  /** Folded id. */
  readonly id: string
  /** The id as given, where that differs. */
  readonly name?: string
  /** Of a task of an array. */
  readonly place?: Place
  readonly class: TaskClass
  /** Of the newest attempt, 0 before the first. */
  epoch: number
  retries: number
  requeues: number
  /** Attempts that ended with their machine; capped apart (C1). */
  losses: number
  readonly maxRetries: number
  /** Of its spec, as encoded: bounds what one answer carries. */
  readonly specBytes: number
  /** Dependencies not met yet. */
  waiting: number
  /** In a queue of its job. */
  queued: boolean
  /** When it could first have run; a gang ages from here. */
  readySince: number
  lease?: Lease
  lastEnd?: LastEnd
  /** Where the newest attempt ran, while the task is active again: a late report must come from there. */
  lastRan?: NonNullable<StatusRow['ranOn']>
  history?: AttemptRecord[]
}

/** Where in an array a task stands: positions count from 0 over all its ranges. */
export interface Place {
  readonly array: JobArray
  readonly position: number
}

/**
 * A task array. A task of it that nothing has happened to is not in memory: it is *pristine*. One that was claimed, or
 * touched by hand, is in the job's map until it is completed; from then on it is one number here.
 */
export interface JobArray {
  readonly job: Job
  /** Counts from 0 in its job. */
  readonly number: number
  readonly spec: TaskArray
  readonly ids: ArrayIds
  readonly creationTime: number
  /** Tasks that were in the roll when it was added. */
  readonly after: number
  readonly class: TaskClass
  /** About what the encoded spec of one of its tasks takes. */
  readonly specBytes: number
  /** No position before it is pristine. */
  cursor: number
  /** Positions from the cursor on that are not pristine. */
  ahead: number
  /** {@link Completed} marks by position, 0 while there is none; a page is there once one of its tasks is completed. */
  readonly pages: Map<number, Uint32Array>
  /** Dependencies of its template not met yet: the array waits as one. */
  waiting: number
  /** In a queue of its job, for all its pristine tasks. */
  queued: boolean
  readySince: number
}

/** Tasks of a job's roll that became ready together: those from `next` to before `end` that are pristine and of one class. */
export interface Run {
  readonly job: Job
  readonly class: TaskClass
  readonly readySince: number
  next: number
  end: number
}

/** What waits for others as one. */
export type Waiter = Task | JobArray

export function isArray(waiter: Waiter | Run): waiter is JobArray {
  return 'cursor' in waiter
}

/** A completed task: its last epoch, with the lowest bit set if it succeeded. Read through the functions below. */
export type Completed = number
export const completed = (epoch: number, success: boolean): Completed => epoch * 2 + (success ? 1 : 0)
export const succeeded = (mark: Completed): boolean => mark % 2 === 1
export const epochOf = (mark: Completed): number => Math.floor(mark / 2)

/** The epoch after the newest: what a restore may have forgotten is passed over (L2). */
export function nextEpoch(state: State, task: Pick<Task, 'epoch'>): number {
  return Math.max(task.epoch, state.mesh.epochFloor ?? 0) + 1
}

export interface LeaseMember {
  readonly machine: Machine
  readonly node: Node
}

export interface Lease {
  readonly task: Task
  readonly epoch: number
  readonly grantTime: number
  /** More than one for a gang; index 0 is the primary. */
  readonly members: readonly LeaseMember[]
  /** Of the primary's machine when the lease was given (L7). */
  readonly incarnation: number
  startTime?: number
  /** The program has ended, outputs are on their way: the node's slot is free. */
  uploading: boolean
  /** Read from disk after a restart: whether it was started is not known until the worker says hello. */
  restored: boolean
  /** What is known of the members of a gang but the primary, by index (subtasks.ts). */
  readonly parts: Map<number, SubtaskPart>
  /** The machine was asked to give it back; if it does not, it has begun. */
  retractAsked: boolean
}

/** First-in first-out of one class; what comes back is taken first. Entries that are no longer queued are skipped. */
export interface Queue {
  readonly class: TaskClass
  again: Task[]
  /** An array stands for all its pristine tasks, a run for those of a part of the roll. */
  fresh: (Task | JobArray | Run)[]
  head: number
  /** Tasks, those of arrays counted one by one. */
  size: number
  /** When a task of it was last given to a machine. */
  givenAt: number
}

export interface Job {
  readonly uid: JobUid
  row: JobRow
  /** The book: what moves. Read and changed through task-book.ts only, as the roll is. */
  readonly tasks: Map<string, Task>
  /** All tasks that were added by themselves. */
  readonly roll: Roll<TaskClass>
  readonly arrays: JobArray[]
  /** The same by prefix and digits: finds the array of an id (array-ids.ts). */
  readonly arraysByShape: Map<string, JobArray[]>
  /** All tasks that it ever got. */
  total: number
  /** It ended before this process began: what became of its tasks is only on disk. */
  readonly forgotten: boolean
  readonly queues: Map<string, Queue>
  /** Queued tasks over all queues. */
  ready: number
  started: number
  leased: number
  succeeded: number
  failed: number
  /** Tasks and arrays by the parent they wait for. */
  readonly dependents: Map<string, Waiter[]>
  readonly rangeWaiters: { waiter: Waiter; start: number; end: number; missing: number }[]
  /** Whole numbers whose task has completed well (number-set.ts); only kept when the job uses dependencies. */
  readonly numbersDone: NumberSet
  /** Per machine: tasks that found no program there (exit 126, 127). */
  readonly misses: Map<PeerIdText, number>
  /** Machines where some program of the job did run. */
  readonly ranOn: Set<PeerIdText>
  readonly excluded: Set<PeerIdText>
  /** Per machine: tasks that failed there quickly in a row, and when the last one did (suspects.ts). */
  readonly failing: Map<PeerIdText, { failures: number; at: number }>
  /** Jobs that wait for the end of this one. */
  readonly followers: Set<Job>
}

export interface Node {
  readonly row: NodeRow
  readonly pool: Pool
  readonly machine: Machine
  size: Capacity
  slots: number
  /** Granted by the machine. */
  ready: boolean
  /** Asked for; not again before this. */
  askAgainAt: number
  refusal?: string
  readonly leases: Set<Lease>
  /** The gang that this node is held for (M1). */
  heldFor?: Task
}

export interface Pool {
  /** Folded id. */
  readonly id: string
  row: PoolRow
  readonly nodes: Map<string, Node>
  /** Jobs with something ready or possibly so, by priority then age. */
  readonly jobs: Set<Job>
  /** Nodes that a waiting claim asks for, in the order the claims came (parking.ts). */
  readonly parked: Set<Node>
  /** When unstarted tasks were last taken back for those that wait. */
  sharedAt: number
  /** A node that is kept free for a class of tasks that found no room for long (wide.ts). */
  kept?: Kept
  /** Something became ready, or room came back: parked claims are looked at again at the end of the turn. */
  dirty: boolean
  lastOfferAt: number
  /** Machines or their nodes changed: what it lacks is asked for at the end of the turn (pools.ts). */
  toAllocate: boolean
}

export interface Kept {
  readonly node: Node
  readonly job: Job
  readonly queue: Queue
}

export interface ParkedClaim {
  replyTo: ReplyTo
  claim: Claim
  /** Those of the claim's nodes that the machine has. */
  readonly nodes: readonly Node[]
  until: number
}

export interface Machine {
  readonly peer: PeerIdText
  roles: readonly Role[]
  description: MachineDescription
  incarnation: number
  /** The connection it speaks on; 0 when there is none. */
  session: number
  lastHeard: number
  draining: boolean
  /** It is going for good: forgotten when its session ends. */
  leaving: boolean
  /** Its process has ended, as far as is known; with its session gone alone it may only be cut off (L7). */
  dead: boolean
  readonly nodes: Map<string, Node>
  readonly leases: Map<string, Lease>
  parked?: ParkedClaim
  /** Attempts granted by this session's last claims, by request id, for a repetition (L4). */
  readonly answeredClaims: Map<string, string[]>
  /** Jobs whose brief this session has. */
  readonly briefed: Set<JobUid>
  /** Pools, by folded id, whose node it refused, and until when it is not asked for another. */
  readonly refusals: Map<string, { until: number; reason: string }>
}

export interface State {
  readonly self: PeerIdText
  /** What the rolls' hashes are made of (roll.ts). */
  readonly chance: Uint32Array
  mesh: MeshRow
  readonly machines: Map<PeerIdText, Machine>
  readonly pools: Map<string, Pool>
  readonly jobs: Map<JobUid, Job>
  /** By folded job id. */
  readonly jobIds: Map<string, Job>
  lastTick: number
}

/** The pool a job runs in, if it exists: a job may be added before its pool (Azure). */
export function poolOf(state: State, job: Job): Pool | undefined {
  return state.pools.get(foldId(job.row.spec.poolId))
}

/** Whether tasks of the job may run: then it is among those of its pool. */
export function isOpen(row: JobRow): boolean {
  return row.state === 'active' && (row.waitingFor ?? []).length === 0
}

/** Tasks not completed: waiting, queued or leased. */
export function liveTasks(job: Job): number {
  return job.total - job.succeeded - job.failed
}
