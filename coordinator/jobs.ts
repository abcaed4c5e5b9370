/** Jobs: added, given tasks, ended by a user, a limit or their last task, deleted (Azure Batch: Job). */
import type { ErrorCode } from '../protocols/errors.ts'
import { foldId } from '../protocols/ids.ts'
import type { JobSpec } from '../protocols/model/job.ts'
import type { TaskSpec } from '../protocols/model/task.ts'
import { waitsForItself, wholeNumber } from './dependencies.ts'
import type { ControlEvent } from './events.ts'
import { addJobToState } from './make-state.ts'
import { removeIfJobless, startAllocating } from './pools.ts'
import { emptyQueues } from './queue.ts'
import { type Enrolled, makeRollRow } from './roll-rows.ts'
import { type JobRow, meshKey, rollKey } from './rows.ts'
import { isOpen, type Job, liveTasks, poolOf, type State, succeeded } from './state.ts'
import { liveEntries, lookUp } from './task-book.ts'
import { addTask, giveUp, reactivate, terminateTask } from './tasks.ts'
import { answer, log, putJob, refuse, type Turn } from './turn.ts'

/** One task's encoded spec; Azure's request bodies end at about 1 MB too. */
export const maxSpecBytes = 1 << 20

export function onAddJob(turn: Turn, event: Extract<ControlEvent, { kind: 'addJob' }>): void {
  const { state, now } = turn
  const { spec } = event
  if (state.jobIds.has(foldId(spec.id))) return refuse(turn, event.replyTo, 'JobExists', `The job ${spec.id} exists already.`)
  const missing = spec.dependsOnJobs?.find(({ jobId }) => !state.jobIds.has(foldId(jobId)))
  if (missing !== undefined)
    return refuse(turn, event.replyTo, 'JobNotFound', `The job ${spec.id} depends on ${missing.jobId}, and there is no such job.`)
  const { waitingFor, isHopeless } = waitsOf(state, spec)
  const uid = state.mesh.nextJobUid
  state.mesh.nextJobUid += 1
  turn.out.push({ kind: 'put', key: meshKey, value: { ...state.mesh } })
  const job = addJobToState(state, {
    uid,
    spec,
    state: 'active',
    creationTime: now,
    stateTransitionTime: now,
    submitter: event.submitter,
    excluded: [],
    ...(waitingFor.length === 0 ? {} : { waitingFor }),
  })
  putJob(turn, job)
  markPool(turn, job)
  // Azure: no tasks counts as all complete, so the setting ends an empty job at once.
  if (isHopeless) endJob(turn, job, neverSatisfied)
  else endIfDone(turn, job)
  answer(turn, event.replyTo, { jobId: spec.id })
  log(turn, 'info', `job ${spec.id} is added`, { job: spec.id, pool: spec.poolId })
}

/** Why a job ends that waits for the success of one that failed (Slurm's word for it). */
const neverSatisfied = 'DependencyNeverSatisfied'
/** Azure's word. */
const allComplete = 'AllTasksComplete'

/** Of the jobs that a new one depends on, those that have not ended; and whether one that has ended failed. */
function waitsOf(state: State, spec: JobSpec): { waitingFor: NonNullable<JobRow['waitingFor']>; isHopeless: boolean } {
  const waitingFor: NonNullable<JobRow['waitingFor']> = []
  let isHopeless = false
  for (const { jobId, condition } of spec.dependsOnJobs ?? []) {
    const other = state.jobIds.get(foldId(jobId))!
    if (other.row.state === 'active') waitingFor.push({ uid: other.uid, condition })
    else if (condition === 'afterok' && !hasSucceeded(other)) isHopeless = true
  }
  return { waitingFor, isHopeless }
}

/** One that never had its turn has not, though nothing of it failed: its tasks may not even have been added. */
function hasSucceeded({ row: { finalCounts, terminateReason } }: Job): boolean {
  return finalCounts !== undefined && finalCounts.active === 0 && finalCounts.failed === 0 && terminateReason !== neverSatisfied
}

/** A pool of the job's own gets its nodes once something of it may run. */
function markPool(turn: Turn, job: Job): void {
  const pool = poolOf(turn.state, job)
  if (pool === undefined) return
  pool.dirty = true
  if (isOpen(job.row)) startAllocating(turn, pool)
}

/** The jobs that waited for the end of this one have their turn. Answers those that have to end as well, and why. */
function letFollow(turn: Turn, job: Job): { job: Job; reason: string }[] {
  const ending: { job: Job; reason: string }[] = []
  for (const follower of job.followers) {
    const { row } = follower
    const mine = row.waitingFor?.filter(({ uid }) => uid === job.uid) ?? []
    if (mine.some(({ condition }) => condition === 'afterok') && !hasSucceeded(job)) {
      ending.push({ job: follower, reason: neverSatisfied })
      continue
    }
    row.waitingFor = row.waitingFor?.filter(({ uid }) => uid !== job.uid)
    putJob(turn, follower)
    if (!isOpen(row)) continue
    poolOf(turn.state, follower)?.jobs.add(follower)
    markPool(turn, follower)
    if (isDone(follower)) ending.push({ job: follower, reason: allComplete })
  }
  job.followers.clear()
  return ending
}

export function onUpdateJob(turn: Turn, event: Extract<ControlEvent, { kind: 'updateJob' }>): void {
  const job = activeJob(turn, event.jobId, event.replyTo)
  if (job === undefined) return
  job.row.spec = {
    ...job.row.spec,
    onAllTasksComplete: event.onAllTasksComplete ?? job.row.spec.onAllTasksComplete,
    priority: event.priority ?? job.row.spec.priority,
  }
  putJob(turn, job)
  endIfDone(turn, job)
  answer(turn, event.replyTo, { jobId: job.row.spec.id })
}

export function onTerminateJob(turn: Turn, event: Extract<ControlEvent, { kind: 'terminateJob' }>): void {
  const job = turn.state.jobIds.get(foldId(event.jobId))
  if (job === undefined) return refuse(turn, event.replyTo, 'JobNotFound', `There is no job ${event.jobId}.`)
  if (job.row.state === 'completed') return refuse(turn, event.replyTo, 'JobCompleted', `The job ${event.jobId} is completed already.`)
  endJob(turn, job, event.terminateReason ?? 'UserTerminate')
  answer(turn, event.replyTo, {})
}

/**
 * Azure: running tasks complete with failureInfo, those still active stay active and never run. Jobs that depend on this one
 * may end with it, and others with those: one after the other, however long the line is.
 */
export function endJob(turn: Turn, job: Job, reason: string): void {
  const ending = [{ job, reason }]
  for (const next of ending) {
    if (next.job.row.state !== 'active') continue
    endAlone(turn, next.job, next.reason)
    for (const other of letFollow(turn, next.job)) ending.push(other)
  }
}

function endAlone(turn: Turn, job: Job, reason: string): void {
  // Before its tasks are ended, so that nothing is queued again.
  job.row.state = 'completed'
  job.row.stateTransitionTime = turn.now
  job.row.endTime = turn.now
  job.row.terminateReason = reason
  const pool = poolOf(turn.state, job)
  pool?.jobs.delete(job)
  // Its gangs may have held nodes.
  if (pool !== undefined) pool.dirty = true
  emptyQueues(job)
  for (const { uid } of job.row.waitingFor ?? []) turn.state.jobs.get(uid)?.followers.delete(job)
  const message = `The job was ended (${reason}).`
  for (const task of [...liveEntries(job)]) {
    if (task.lease === undefined) continue
    // With a machine, but not begun: it stays as active as it was shown.
    const hasBegun = task.lease.startTime !== undefined || task.lease.restored
    if (hasBegun) terminateTask(turn, task, message)
    else giveUp(turn, task.lease, 'requeued', message)
  }
  job.row.finalCounts = { active: liveTasks(job), succeeded: job.succeeded, failed: job.failed }
  putJob(turn, job)
  turn.out.push({ kind: 'changed', jobUid: job.uid })
  if (pool !== undefined) removeIfJobless(turn, pool)
  log(turn, 'info', `job ${job.row.spec.id} is completed`, { job: job.row.spec.id, reason, succeeded: job.succeeded, failed: job.failed })
}

/** Ends a job whose tasks are all complete, where it asks for that (Azure: onAllTasksComplete). */
export function endIfDone(turn: Turn, job: Job): void {
  if (isDone(job)) endJob(turn, job, allComplete)
}

/** One without tasks that waits for another job is not: those that depend on it wait for both. */
function isDone(job: Job): boolean {
  return isOpen(job.row) && job.row.spec.onAllTasksComplete === 'terminatejob' && liveTasks(job) === 0
}

export function onDeleteJob(turn: Turn, event: Extract<ControlEvent, { kind: 'deleteJob' }>): void {
  const job = turn.state.jobIds.get(foldId(event.jobId))
  if (job === undefined) return refuse(turn, event.replyTo, 'JobNotFound', `There is no job ${event.jobId}.`)
  deleteJob(turn, job)
  answer(turn, event.replyTo, {})
}

export function deleteJob(turn: Turn, job: Job): void {
  if (job.row.state === 'active') endJob(turn, job, 'UserDelete')
  job.row.state = 'deleting'
  putJob(turn, job)
  turn.state.jobs.delete(job.uid)
  for (const machine of turn.state.machines.values()) machine.briefed.delete(job.uid)
  turn.state.jobIds.delete(foldId(job.row.spec.id))
  turn.out.push({ kind: 'changed', jobUid: job.uid })
  turn.out.push({ kind: 'purge', jobUid: job.uid, home: job.row.spec.home ?? turn.state.self })
}

export function onAddTasks(turn: Turn, event: Extract<ControlEvent, { kind: 'addTasks' }>): void {
  const job = activeJob(turn, event.jobId, event.replyTo)
  if (job === undefined) return
  const first = job.roll.size
  const added: Enrolled[] = []
  const results = event.tasks.map((spec, index) => {
    const error =
      lookUp(job, foldId(spec.id)) === undefined
        ? specError(job, `The task ${spec.id}`, spec, event.encoded[index]!.length, ownId(spec.id))
        : { code: 'TaskExists' as const, message: `The task ${spec.id} exists already in job ${job.row.spec.id}.` }
    if (error === undefined) added.push(addTask(turn, job, spec, event.encoded[index]!))
    return { taskId: spec.id, error }
  })
  if (added.length > 0) turn.out.push({ kind: 'put', key: rollKey(job.uid, first), value: makeRollRow(added) })
  answer(turn, event.replyTo, { results })
  turn.out.push({ kind: 'changed', jobUid: job.uid })
}

function ownId(id: string): Parameters<typeof waitsForItself>[1] {
  const n = wholeNumber(id)
  return { hasId: (other) => other === foldId(id), hasNumberIn: (start, end) => n !== undefined && n >= start && n <= end }
}

/** What the job does not allow of a task, or of an array's template; `own` are the ids that are added. */
export function specError(
  job: Job,
  what: string,
  spec: Omit<TaskSpec, 'id'>,
  specBytes: number,
  own: Parameters<typeof waitsForItself>[1],
): { code: ErrorCode; message: string } | undefined {
  if (spec.dependsOn !== undefined && !job.row.spec.usesTaskDependencies) {
    return {
      code: 'TaskDependenciesNotSpecifiedOnJob',
      message: `${what} depends on others, but job ${job.row.spec.id} was added without usesTaskDependencies.`,
    }
  }
  const backwards = spec.dependsOn?.taskIdRanges?.find((range) => range.end < range.start)
  if (backwards !== undefined)
    return {
      code: 'InvalidPropertyValue',
      message: `${what} waits for the range ${backwards.start}-${backwards.end}, which ends before it starts.`,
    }
  if (waitsForItself(spec.dependsOn, own))
    return { code: 'InvalidPropertyValue', message: `${what} depends on itself, so it could never run.` }
  if (specBytes > maxSpecBytes)
    return { code: 'InvalidPropertyValue', message: `${what} is larger than 1 MiB; put long texts into a resource file.` }
  if (spec.multiInstanceSettings !== undefined && spec.requiredSlots !== 1)
    return { code: 'InvalidPropertyValue', message: `${what} is a multi-instance task and must have requiredSlots 1.` }
  return undefined
}

/** The job of a request that changes it; refuses the request where there is none. */
export function activeJob(turn: Turn, jobId: string, replyTo: number): Job | undefined {
  const job = turn.state.jobIds.get(foldId(jobId))
  if (job === undefined) refuse(turn, replyTo, 'JobNotFound', `There is no job ${jobId}.`)
  else if (job.row.state === 'completed') refuse(turn, replyTo, 'JobCompleted', `The job ${jobId} is completed and takes no changes.`)
  else return job
  return undefined
}

export function onTerminateTask(turn: Turn, event: Extract<ControlEvent, { kind: 'terminateTask' }>): void {
  const job = activeJob(turn, event.jobId, event.replyTo)
  if (job === undefined) return
  const task = lookUp(job, foldId(event.taskId))
  if (task === undefined) return refuse(turn, event.replyTo, 'TaskNotFound', `There is no task ${event.taskId} in job ${event.jobId}.`)
  if (typeof task === 'number') return refuse(turn, event.replyTo, 'TaskCompleted', `The task ${event.taskId} is completed already.`)
  terminateTask(turn, task, 'The task was ended by a user.')
  answer(turn, event.replyTo, {})
}

export function onReactivateTask(turn: Turn, event: Extract<ControlEvent, { kind: 'reactivateTask' }>): void {
  const job = activeJob(turn, event.jobId, event.replyTo)
  if (job === undefined) return
  const task = lookUp(job, foldId(event.spec.id))
  if (typeof task !== 'number') return refuse(turn, event.replyTo, 'TaskNotCompleted', `The task ${event.spec.id} is not completed.`)
  if (succeeded(task))
    return refuse(turn, event.replyTo, 'TaskSucceeded', `The task ${event.spec.id} succeeded; only a failed task can be run again.`)
  reactivate(turn, job, event.spec, event.status)
  answer(turn, event.replyTo, {})
}

/** Limits that time brings about: a job's wall clock, and how long an ended job is kept. */
export function limitJobs(turn: Turn): void {
  for (const job of [...turn.state.jobs.values()]) {
    const { spec, creationTime } = job.row
    const limitMs = spec.constraints.maxWallClockTimeMs
    if (job.row.state === 'active' && limitMs !== undefined && turn.now >= creationTime + limitMs)
      endJob(turn, job, 'MaxWallClockTimeExpiry')
    const endedAt = job.row.endTime ?? creationTime
    if (job.row.state === 'completed' && spec.retentionTimeMs !== undefined && turn.now >= endedAt + spec.retentionTimeMs)
      deleteJob(turn, job)
  }
}
