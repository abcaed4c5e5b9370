/** Leases: when one is given, how long silence may last, and what is left when it ends (L1, L2, L3, L7, C1). */

import type { TaskEvent } from '../protocols/control.ts'
import { type Attempt, attemptKey } from '../protocols/ids.ts'
import type { AttemptEnd, AttemptRecord, Outcome } from '../protocols/model/task.ts'
import { allowsGangs } from './room.ts'
import { type LastEnd, type StatusRow, statusKey } from './rows.ts'
import { type Lease, type LeaseMember, type Machine, nextEpoch, type Task } from './state.ts'
import { partsEnded } from './subtasks.ts'
import type { Turn } from './turn.ts'

/** L7: a short task is given up after this much silence, a long one later. */
export const minWindowMs = 30_000
export const maxWindowMs = 600_000
/** Ended attempts that a status row remembers; enough to see a pattern, bounded so that a task lost for ever does not grow. */
const maxHistory = 10

/** `member` counts from 0, the primary; it is named only where it is another (ids.ts). */
export function attemptOf(task: Task, epoch: number, member = 0): Attempt {
  const attempt = { jobUid: task.job.uid, task: task.id, epoch }
  return member === 0 ? attempt : { ...attempt, member }
}

/** Leases are filed under the attempt of their primary, also on the machines of other members. */
export function leaseKey(attempt: Attempt): string {
  return attemptKey({ ...attempt, member: undefined })
}

/** The lease that a machine has for an attempt; of a gang, as the member that the attempt names. */
export function leaseOn(machine: Machine, attempt: Attempt): Lease | undefined {
  const lease = machine.leases.get(leaseKey(attempt))
  return lease?.members[attempt.member ?? 0]?.machine === machine ? lease : undefined
}

/**
 * Silence of its machine that a lease survives, in ms: the time the task had run when the silence began, within bounds,
 * unless the job says otherwise (L7). Never less than two heartbeats: a machine that speaks on time is not silent.
 */
export function windowMs(lease: Lease, silentSince: number, beatMs: number): number {
  const fixed = lease.task.job.row.spec.disconnect.lostAfterMs
  if (fixed !== undefined) return Math.max(fixed, 2 * beatMs)
  return Math.min(maxWindowMs, Math.max(minWindowMs, 2 * beatMs, silentSince - (lease.startTime ?? lease.grantTime)))
}

/** Gives the task's next attempt to these nodes; the caller tells the workers. */
export function grant(turn: Turn, task: Task, members: readonly LeaseMember[]): Lease {
  task.epoch = nextEpoch(turn.state, task)
  task.lastEnd = undefined
  const lease = openLease(task, { grantTime: turn.now, members, restored: false, incarnation: members[0]!.machine.incarnation })
  putStatus(turn, task, { state: 'running' })
  return lease
}

/** Puts a lease into the books without a new epoch: at a grant, after a restart, and when a lost attempt turns out to be alive. */
export function openLease(
  task: Task,
  from: Pick<Lease, 'grantTime' | 'members' | 'restored' | 'incarnation'> & { startTime?: number; parts?: Lease['parts'] },
): Lease {
  const lease: Lease = { task, epoch: task.epoch, uploading: false, retractAsked: false, parts: new Map(), ...from }
  task.lease = lease
  task.job.leased += 1
  if (lease.startTime !== undefined) task.job.started += 1
  const key = attemptKey(attemptOf(task, task.epoch))
  for (const { machine, node } of lease.members) {
    machine.leases.set(key, lease)
    node.leases.add(lease)
  }
  return lease
}

/** Whether a program of it runs, as far as is known: of a gang, any member's. */
export function hasBegun({ startTime, parts, restored }: Lease): boolean {
  return startTime !== undefined || parts.size > 0 || restored
}

export function markStarted(lease: Lease, startTime: number): void {
  if (lease.startTime === undefined) lease.task.job.started += 1
  lease.startTime = startTime
}

/** Takes a lease out of the books. The members, but for the one that reported, are told to stop. */
export function closeLease(turn: Turn, lease: Lease, tell: { reason: string; except?: number } | undefined): void {
  const { task } = lease
  const key = attemptKey(attemptOf(task, lease.epoch))
  partsEnded(turn, lease)
  for (const [index, { machine, node }] of lease.members.entries()) {
    machine.leases.delete(key)
    node.leases.delete(lease)
    // Gangs want idle nodes, a job at its limit wants room below it; any other claim waits for tasks, not for this.
    if (allowsGangs(node.pool) || task.job.row.spec.maxParallelTasks > 0) node.pool.dirty = true
    if (tell !== undefined && index !== tell.except && machine.session !== 0) {
      turn.out.push({ kind: 'stop', peer: machine.peer, attempts: [attemptOf(task, lease.epoch, index)], reason: tell.reason })
    }
  }
  if (lease.startTime !== undefined) task.job.started -= 1
  task.job.leased -= 1
  task.lease = undefined
}

/** Remembers how an attempt ended that will be followed by another. */
export function remember(
  task: Task,
  where: { machine: string; nodeId: string },
  attempt: Pick<AttemptRecord, 'grantTime' | 'startTime' | 'endTime' | 'exitCode'> & { end: AttemptEnd },
): void {
  const record: AttemptRecord = { epoch: task.epoch, machine: where.machine, nodeId: where.nodeId, ...attempt }
  task.history = [...(task.history ?? []), record].slice(-maxHistory)
}

interface StatusChange {
  state: StatusRow['state']
  lastEnd?: LastEnd
  result?: 'success' | 'failure'
  outcome?: Outcome
  /** The lease that has just ended. */
  ended?: Lease
  /** Where the attempt ran, when no lease of this process tells. */
  ranOn?: StatusRow['ranOn']
}

/** Writes the status row of a task as it stands now. */
export function putStatus(turn: Turn, task: Task, change: StatusChange): void {
  const lease = task.lease
  const shown = lease ?? change.ended
  const row: StatusRow = {
    epoch: task.epoch,
    state: change.state,
    stateTransitionTime: turn.now,
    retryCount: task.retries,
    requeueCount: task.requeues,
    lease: lease?.members.map(({ machine, node }) => ({
      machine: machine.peer,
      nodeId: node.row.nodeId,
      incarnation: lease.incarnation,
    })),
    grantTime: shown?.grantTime,
    lastEnd: change.lastEnd,
    result: change.result,
    outcome: change.outcome,
    ranOn: lease !== undefined ? undefined : change.ended === undefined ? change.ranOn : ranOn(change.ended),
    history: task.history,
    losses: task.losses === 0 ? undefined : task.losses,
  }
  turn.out.push({ kind: 'put', key: statusKey(task.job.uid, task.id), value: row })
}

export function ranOn(lease: Lease): NonNullable<StatusRow['ranOn']> {
  const { machine, node } = lease.members[0]!
  return { machine: machine.peer, machineName: machine.description.name, nodeId: node.row.nodeId, epoch: lease.epoch }
}

/** Shows watchers of the job that a task changed. */
export function emitChange(turn: Turn, task: Task, event: Omit<TaskEvent, 'taskId' | 'retryCount' | 'requeueCount'>): void {
  turn.out.push({
    kind: 'changed',
    jobUid: task.job.uid,
    event: { taskId: task.name ?? task.id, retryCount: task.retries, requeueCount: task.requeues, ...event },
  })
}
