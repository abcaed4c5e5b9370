/** The life of tasks: added, released by their parents, ended by a report or without one, run again or completed. */
import { foldId } from '../protocols/ids.ts'
import type { AttemptEnd, FailureInfo, Outcome, TaskSpec } from '../protocols/model/task.ts'
import { depend, release } from './dependencies.ts'
import { mayRetract, retract } from './hoards.ts'
import { closeLease, emitChange, putStatus, ranOn, remember } from './lease.ts'
import { machineFault, missedProgram, ranProgram } from './missing-program.ts'
import { classOf, dequeue, enqueue, enqueueArray, enqueueEntry } from './queue.ts'
import type { Kind } from './roll.ts'
import type { Enrolled } from './roll-rows.ts'
import { type LastEnd, type SpecRow, type StatusRow, specKey } from './rows.ts'
import {
  completed,
  epochOf,
  isArray,
  type Job,
  type Lease,
  type Machine,
  nextEpoch,
  poolOf,
  succeeded,
  type Task,
  type TaskClass,
  type Waiter,
} from './state.ts'
import { judge } from './suspects.ts'
import { closeTask, enroll, lookUp, makeReal, putTask, reopenTask } from './task-book.ts'
import type { Turn } from './turn.ts'

/** Attempts that may end with their machine before a task is taken for what kills machines (C1; Azure: MaxInternalRetryCountReached). */
export const maxLosses = 10
/** The same for low-priority machines, whose leaving is no surprise. */
export const maxPreemptions = 100

/** What a task is like as far as scheduling goes. */
export function kindOf(job: Job, spec: TaskSpec, specBytes: number): Kind<TaskClass> {
  return { class: classOf(job, spec), maxTaskRetryCount: spec.constraints?.maxTaskRetryCount, specBytes }
}

/** Adds a task to the roll and its queue; one that waits for others is in the book from the start. The caller writes the roll's row. */
export function addTask(turn: Turn, job: Job, spec: TaskSpec, encoded: Uint8Array): Enrolled {
  const row: SpecRow = { creationTime: turn.now, spec: encoded }
  turn.out.push({ kind: 'put', key: specKey(job.uid, foldId(spec.id)), value: row })
  const n = enroll(job, spec.id, kindOf(job, spec, encoded.length))
  const kind = job.roll.kindAt(n)
  const isDependent = spec.dependsOn !== undefined
  if (isDependent) {
    const task = putTask(job, { id: spec.id, ...kind })
    task.waiting = depend(job, task, spec.dependsOn)
    if (task.waiting === 0) ready(turn, task, false)
  } else {
    enqueueEntry(job, n, turn.now)
    wake(turn, job)
  }
  return { id: spec.id, kind, isDependent }
}

/** The task may run, or all of an array: queues it and wakes its pool. */
export function ready(turn: Turn, waiter: Waiter, again: boolean): void {
  if (waiter.job.row.state !== 'active') return
  if (isArray(waiter)) enqueueArray(waiter, turn.now)
  else enqueue(waiter, again, turn.now)
  wake(turn, waiter.job)
}

/** Something of the job became ready. */
function wake(turn: Turn, job: Job): void {
  const pool = poolOf(turn.state, job)
  if (pool !== undefined) pool.dirty = true
}

/**
 * Ends an attempt by its report. `ended` is absent for a late report of an attempt that was given up but not replaced
 * (L2). `member` is who of a gang reported.
 */
export function finish(turn: Turn, task: Task, outcome: Outcome, ended: Lease | undefined, machine: Machine, member = 0): void {
  if (ended === undefined) dequeue(task)
  else closeLease(turn, ended, { reason: 'the task has ended', except: member })
  const reason = task.class.gang > 0 ? outcome.failureInfo?.reason : undefined
  // What members say of each other tells nothing of the machine that says it: any of them may be first to notice (M1).
  if (reason === 'MemberLost') return lostThere(turn, task, outcome, ended, isPreempted(ended) ? 'preempted' : 'lost', machine)
  // That a network keeps them apart does not change by itself: the task says which, and fails.
  if (reason === 'MembersUnreachable') return complete(turn, task, { outcome, ended, machine })
  const failed = outcome.exitCode !== 0 || outcome.failureInfo !== undefined
  if (judge(turn, task, outcome, machine)) {
    const held = [...machine.leases.values()].filter((lease) => lease.task.job === task.job && mayRetract(lease))
    retract(turn, machine, held)
  }
  if (!failed) {
    ranProgram(task.job, machine)
    return complete(turn, task, { outcome, ended, machine })
  }
  const missing = missedProgram(turn, task, outcome, machine)
  if (missing) return again(turn, task, ended, 'program-missing', 'reported', outcome)
  if (machineFault(turn, task, outcome, machine)) return lostThere(turn, task, outcome, ended, 'lost', machine)
  // Azure: only exit codes are retried; a task that could not be started, or whose files could not be had or kept, is not.
  const retryable = outcome.exitCode !== undefined && outcome.exitCode !== 0 && !neverRan(outcome)
  if (retryable && (task.maxRetries < 0 || task.retries < task.maxRetries)) {
    task.retries += 1
    return again(turn, task, ended, 'failure', 'reported', outcome)
  }
  complete(turn, task, { outcome, ended, machine })
}

/** A low-priority machine has left the gang. */
function isPreempted(lease: Lease | undefined): boolean {
  return lease?.members.some(({ machine }) => machine.session === 0 && lostOrPreempted(machine) === 'preempted') ?? false
}

/** How an attempt ends with its machine. */
export function lostOrPreempted(machine: Machine): 'lost' | 'preempted' {
  return machine.description.class === 'low-priority' ? 'preempted' : 'lost'
}

/** A machine reports that it could not run the task, or a member of a gang is lost: as lost as with a machine that is gone (C1). */
function lostThere(turn: Turn, task: Task, outcome: Outcome, ended: Lease | undefined, end: 'lost' | 'preempted', machine: Machine): void {
  if (end === 'lost') task.losses += 1
  task.requeues += 1
  const isOften = end === 'lost' ? task.losses >= maxLosses : task.requeues >= maxPreemptions
  const mayRunElsewhere = end === 'preempted' || task.job.row.spec.disconnect.replace
  if (mayRunElsewhere && !isOften) return again(turn, task, ended, end, 'reported', outcome)
  complete(turn, task, { outcome, ended, machine })
}

function neverRan(outcome: Outcome): boolean {
  const code = outcome.failureInfo?.code
  return code === 'CommandProgramNotFound' || code === 'CommandLaunchFailed' || code === 'MaxWallClockTimeExpiry'
}

/** Ends a lease without a report: its machine is gone, or the node is taken away. Each kind is counted apart, none spends a retry (C1). */
export function giveUp(turn: Turn, lease: Lease, end: Extract<AttemptEnd, 'lost' | 'preempted' | 'requeued'>, reason?: string): void {
  const { task } = lease
  // M1: with one member the whole attempt ends, everywhere.
  const tell = reason ?? (lease.members.length > 1 ? 'a member of the group was lost' : undefined)
  const ran = lease.startTime !== undefined || lease.restored
  closeLease(turn, lease, tell === undefined ? undefined : { reason: tell })
  const { replace } = task.job.row.spec.disconnect
  if (end === 'lost' && ran) task.losses += 1
  if (ran) task.requeues += 1
  if (ran && end === 'lost' && !replace) return complete(turn, task, { ended: lease, failure: notReplaced })
  if (ran && end === 'lost' && task.losses >= maxLosses)
    return complete(turn, task, { ended: lease, failure: tooOften(task.losses, 'lost') })
  if (ran && end === 'preempted' && task.requeues >= maxPreemptions)
    return complete(turn, task, { ended: lease, failure: tooOften(task.requeues, 'taken away') })
  // An attempt whose machine may still be at it can report late; one that was told to stop cannot (L2).
  const lastEnd: LastEnd = tell === undefined ? 'lost' : 'revoked'
  again(turn, task, lease, ran ? end : undefined, lastEnd)
}

/** The newest attempt was given up and is alive after all: it is not among those that ended (C1). */
export function notLost(task: Task): void {
  const last = task.history?.at(-1)
  if (last?.epoch !== task.epoch) return
  task.history = task.history!.slice(0, -1)
  task.requeues -= 1
  if (last.end === 'lost') task.losses -= 1
}

const notReplaced: FailureInfo = {
  category: 'servererror',
  code: 'MachineLost',
  message: 'The machine was lost, and the job asks not to replace lost tasks.',
}

function tooOften(times: number, how: string): FailureInfo {
  const message = `The machine was ${how} ${times} times while it ran this task; the task may be what ends them.`
  return { category: 'servererror', code: 'MaxInternalRetryCountReached', message }
}

/** Back to active; `end` is remembered in the history unless the attempt never began. */
function again(turn: Turn, task: Task, lease: Lease | undefined, end: AttemptEnd | undefined, lastEnd: LastEnd, outcome?: Outcome): void {
  task.lastEnd = lastEnd
  if (lease !== undefined) task.lastRan = ranOn(lease)
  if (end !== undefined && task.lastRan !== undefined) {
    // Of a late report there is no lease any more: its own times stand for it.
    const startTime = lease === undefined ? outcome?.startTime : lease.startTime
    const grantTime = lease?.grantTime ?? startTime ?? turn.now
    remember(task, task.lastRan, { grantTime, startTime, endTime: outcome?.endTime ?? turn.now, end, exitCode: outcome?.exitCode })
  }
  putStatus(turn, task, { state: 'active', lastEnd, outcome, ended: lease, ranOn: task.lastRan })
  if (end !== undefined) {
    emitChange(turn, task, {
      state: 'active',
      epoch: task.epoch,
      attemptEnd: end,
      machine: task.lastRan?.machine,
      machineName: task.lastRan?.machineName,
      nodeId: task.lastRan?.nodeId,
      startTime: lease?.startTime,
      endTime: outcome?.endTime ?? turn.now,
      exitCode: outcome?.exitCode,
      failureInfo: outcome?.failureInfo,
      stderrTail: outcome?.stderrTail,
      threadError: outcome?.threadError,
    })
  }
  ready(turn, task, true)
}

interface Completion {
  /** As reported. */
  outcome?: Outcome
  ended?: Lease
  machine?: Machine
  /** Set when the task ends without a report. */
  failure?: FailureInfo
}

function complete(turn: Turn, task: Task, how: Completion): void {
  const { job } = task
  makeReal(task)
  dequeue(task)
  const pool = poolOf(turn.state, job)
  // A gang may have held nodes that others can have now.
  if (pool !== undefined && task.class.gang > 0) pool.dirty = true
  const outcome: Outcome = how.outcome ?? {
    startTime: how.ended?.startTime ?? turn.now,
    endTime: turn.now,
    failureInfo: how.failure,
  }
  const success = how.failure === undefined && outcome.exitCode === 0 && outcome.failureInfo === undefined
  // An attempt that is ended without its report must not be able to report later: its epoch is used up (L2).
  if (how.outcome === undefined) task.epoch = nextEpoch(turn.state, task)
  closeTask(job, task.id, task.place, completed(task.epoch, success))
  if (success) job.succeeded += 1
  else job.failed += 1
  const where = how.ended === undefined ? task.lastRan : ranOn(how.ended)
  const result = success ? 'success' : 'failure'
  putStatus(turn, task, {
    state: 'completed',
    result,
    outcome,
    ended: how.ended,
    ranOn: where,
    lastEnd: how.outcome === undefined ? 'revoked' : 'reported',
  })
  emitChange(turn, task, {
    state: 'completed',
    epoch: task.epoch,
    attemptEnd: success ? 'success' : how.failure === undefined ? 'failure' : how.failure.code === 'TaskEnded' ? 'terminated' : 'lost',
    machine: where?.machine,
    machineName: where?.machineName,
    nodeId: where?.nodeId,
    startTime: outcome.startTime,
    endTime: outcome.endTime,
    result,
    exitCode: outcome.exitCode,
    failureInfo: outcome.failureInfo,
    stderrTail: outcome.stderrTail,
    outputs: outcome.outputs,
    threadResult: outcome.threadResult,
    threadError: outcome.threadError,
  })
  if (success) for (const child of release(job, task.id)) ready(turn, child, false)
}

/** Ends a task by a user's or the job's wish (Azure: terminate; failureInfo TaskEnded). */
export function terminateTask(turn: Turn, task: Task, message: string): void {
  const lease = task.lease
  if (lease !== undefined) closeLease(turn, lease, { reason: message })
  complete(turn, task, { ended: lease, failure: { category: 'usererror', code: 'TaskEnded', message } })
}

/** Runs a failed task again: counts start anew, epochs go on (Azure: reactivate). */
export function reactivate(turn: Turn, job: Job, spec: TaskSpec, status: StatusRow): void {
  const mark = lookUp(job, foldId(spec.id))
  if (typeof mark !== 'number' || succeeded(mark)) return
  job.failed -= 1
  // The epoch is that of memory: the row that was read may be older (L2).
  const from: StatusRow = { ...status, epoch: epochOf(mark), retryCount: 0, requeueCount: 0, losses: 0 }
  const place = reopenTask(job, foldId(spec.id))
  const task = putTask(job, { id: spec.id, ...kindOf(job, spec, JSON.stringify(spec).length), status: from, place })
  task.lastEnd = 'revoked'
  putStatus(turn, task, { state: 'active', lastEnd: 'revoked', ranOn: status.ranOn })
  emitChange(turn, task, { state: 'active', epoch: task.epoch })
  // It may have been ended while it still waited for others.
  task.waiting = depend(job, task, spec.dependsOn)
  if (task.waiting === 0) ready(turn, task, false)
}
