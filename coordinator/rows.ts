/**
 * What the coordinator keeps on disk: one row a pool, node, job, task spec, task array and task status. Keys sort so that all rows
 * of a job lie together and its tasks come in the order of their ids.
 *
 *   mesh                          one row: next numbers, owner epoch, format
 *   pool/<folded id>              PoolRow
 *   mach/<peer id>                MachineRow
 *   node/<reservation id>         NodeRow
 *   job/<uid>                     JobRow
 *   spec/<uid>/<folded task id>   SpecRow, written once; none for the tasks of arrays
 *   roll/<uid>/<number>           RollRow, written once a request, for all tasks that it added; <number> is that of the first
 *   arry/<uid>/<number>           ArrayRow, written once, for all tasks of an array
 *   stat/<uid>/<folded task id>   StatusRow, absent until the first grant
 *   subt/<uid>/<folded task id>/<page>   SubtasksRow, of multi-instance tasks whose newest attempt has ended, or a member of it
 */
import type { JobUid } from '../protocols/ids.ts'
import type { JobSpec, JobState } from '../protocols/model/job.ts'
import type { MachineDescription, MpiFlavor } from '../protocols/model/machine.ts'
import type { AllocationState, DeallocationOption, PoolSpec } from '../protocols/model/pool.ts'
import type { Capacity, Demand } from '../protocols/model/resources.ts'
import type { AttemptRecord, FailureInfo, Outcome } from '../protocols/model/task.ts'
import type { Role } from '../protocols/wire.ts'

/** Raised when rows change their shape; a store of another format is migrated (migrate.ts) or refused, never guessed at. */
export const storeFormat = 4

export interface MeshRow {
  format: number
  ownerEpoch: number
  nextJobUid: number
  nextReservationId: number
  /** New attempts of every task have larger epochs than this: raised by a restore (raise.ts). Absent: 0. */
  epochFloor?: number
}

export interface PoolRow {
  spec: PoolSpec
  size: Capacity
  creationTime: number
  allocationState: AllocationState
  allocationStateTransitionTime: number
  resizeDeadline: number
  resizeErrors: { code: string; message: string }[]
  deallocation: DeallocationOption
  deleting: boolean
}

export interface MachineRow {
  description: MachineDescription
  roles: Role[]
  incarnation: number
  lastSeen: number
}

export interface NodeRow {
  reservationId: number
  ownerEpoch: number
  nodeId: string
  poolId: string
  machine: string
  machineName: string
  allocationTime: number
  /** The pool gives it back: no new tasks. */
  leaving: boolean
}

export interface JobRow {
  uid: JobUid
  spec: JobSpec
  state: JobState
  creationTime: number
  stateTransitionTime: number
  endTime?: number
  terminateReason?: string
  submitter?: string
  /** Jobs that must have ended before anything of it runs. */
  waitingFor?: { uid: JobUid; condition: 'afterok' | 'afterany' }[]
  /** Counts at the end of the job, so that a restart needs not read its tasks. */
  finalCounts?: { active: number; succeeded: number; failed: number }
  excluded: { machine: string; name: string; reason: string }[]
}

export interface SpecRow {
  creationTime: number
  /** The encoded TaskSpec. */
  spec: Uint8Array
}

/** Tasks in the order of submission, as the coordinator's memory holds them (roll.ts): all of a job without reading its specs. */
export interface RollRow {
  /** As given, with spaces between. */
  ids: string
  /** What they are like; one entry stands for `count` tasks. */
  runs: {
    count: number
    slots: number
    demand?: Demand
    /** Absent: 0. */
    gang?: number
    thread?: boolean
    mpi?: MpiFlavor
    maxTaskRetryCount?: number
    /** Rounded up (roll.ts). */
    specBytes: number
    /** They wait for others; for which, their specs say. */
    dependent?: boolean
  }[]
}

export interface ArrayRow {
  creationTime: number
  /** Tasks that were in the roll when it was added: their turn comes first. Rows of older formats do not tell. */
  after?: number
  /** The encoded TaskArray. */
  array: Uint8Array
}

/** How the newest attempt ended, as far as late reports are concerned (L2). */
export type LastEnd = 'reported' | 'lost' | 'revoked'

export interface StatusRow {
  /** Of the newest attempt. */
  epoch: number
  state: 'active' | 'running' | 'completed'
  stateTransitionTime: number
  retryCount: number
  requeueCount: number
  /** Members of the newest attempt while its lease stands. `ended` is of rows of version 0.2 only: SubtasksRow says it. */
  lease?: { machine: string; nodeId: string; incarnation: number; ended?: boolean }[]
  grantTime?: number
  lastEnd?: LastEnd
  result?: 'success' | 'failure'
  outcome?: Outcome
  /** Where the newest attempt ran, once its lease has ended; until then the lease tells. */
  ranOn?: { machine: string; machineName: string; nodeId: string; epoch: number }
  /** Ended attempts, oldest first, bounded. */
  history?: AttemptRecord[]
  /** Attempts that ended with their machine (C1). */
  losses?: number
}

/** What is known of a gang member's own part; it has ended if there is a time of that. */
export interface SubtaskPart {
  startTime?: number
  endTime?: number
  exitCode?: number
  failureInfo?: FailureInfo
}

/** A page of the members of a gang's attempt (subtasks.ts). */
export interface SubtasksRow {
  epoch: number
  /** Which member stands first on it. */
  first: number
  members: ({ machine: string; machineName: string; nodeId: string } & SubtaskPart)[]
}

const width = 10
function uidText(uid: JobUid): string {
  return String(uid).padStart(width, '0')
}

export const meshKey = 'mesh'
export const poolKey = (foldedId: string) => `pool/${foldedId}`
export const machineKey = (peer: string) => `mach/${peer}`
export const nodeKey = (reservationId: number) => `node/${String(reservationId).padStart(width, '0')}`
export const jobKey = (uid: JobUid) => `job/${uidText(uid)}`
export const specKey = (uid: JobUid, task: string) => `spec/${uidText(uid)}/${task}`
export const rollKey = (uid: JobUid, first: number) => `${rollPrefix(uid)}${String(first).padStart(width, '0')}`
export const arrayKey = (uid: JobUid, number: number) => `${arrayPrefix(uid)}${String(number).padStart(4, '0')}`
export const subtasksKey = (uid: JobUid, task: string, page: number) => `${subtasksPrefix(uid)}${task}/${String(page).padStart(4, '0')}`
export const statusKey = (uid: JobUid, task: string) => `stat/${uidText(uid)}/${task}`
/** Prefix of all spec (or roll, array, status) rows of a job; `gt` this and `lt` this + 0xff covers them. */
export const specPrefix = (uid: JobUid) => `spec/${uidText(uid)}/`
export const rollPrefix = (uid: JobUid) => `roll/${uidText(uid)}/`
export const arrayPrefix = (uid: JobUid) => `arry/${uidText(uid)}/`
export const statusPrefix = (uid: JobUid) => `stat/${uidText(uid)}/`
const subtasksPrefix = (uid: JobUid) => `subt/${uidText(uid)}/`
/** All that is kept of a job's tasks, and goes with it. */
export const taskPrefixes = (uid: JobUid) => [specPrefix(uid), rollPrefix(uid), arrayPrefix(uid), statusPrefix(uid), subtasksPrefix(uid)]
/** The folded task id in a spec or status key. */
export function taskOfKey(key: string): string {
  return key.slice(5 + width + 1)
}
export function uidOfKey(key: string): JobUid {
  return Number(key.slice(5, 5 + width))
}
