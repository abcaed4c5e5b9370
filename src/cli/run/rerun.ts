/** `batchmesh job rerun`: tasks that failed run again, in their job while it is active, else in a new one. */
import { MeshError } from '../../../protocols/errors.ts'
import { foldId } from '../../../protocols/ids.ts'
import type { JobSpec, JobView } from '../../../protocols/model/job.ts'
import { defaultPoolId } from '../../../protocols/model/pool.ts'
import { type TaskSpec, type TaskView, taskSpecSchema } from '../../../protocols/model/task.ts'
import { severalAtOnce } from '../../mesh/batches.ts'
import type { Mesh } from '../../mesh/client.ts'
import { addTasks } from '../../mesh/submit.ts'
import { idRanges, RangeBuilder } from '../array.ts'
import type { Context } from '../context.ts'
import { interruptible } from '../interrupt.ts'
import { laterNames } from './names.ts'
import { waitForJob } from './wait.ts'

/** They are listed, read and sent one by one: a million takes minutes, and no array is made of them again. */
const maxAgain = 1_000_000

export interface RerunOptions {
  /** Also the tasks that succeeded. */
  all: boolean
  detach: boolean
  quiet: boolean
  to?: string
}

/** Metadata of a job made by it: who made it, so that a repeated request finds its own. */
const rerunName = 'batchmesh.rerun'

/** Answers the exit code. */
export async function rerunJob(context: Context, jobId: string, options: RerunOptions): Promise<number> {
  const mesh = await context.mesh()
  const job = await mesh.control.call('getJob', { jobId })
  if (job.state !== 'active' && job.state !== 'completed')
    throw new MeshError('InvalidPropertyValue', `Job ${jobId} is ${job.state}. Try again when it is completed.`)
  const again = await interruptible(context.world, (signal) =>
    job.state === 'active' ? reactivate(context, mesh, job, options, signal) : submitAgain(context, mesh, job, options, signal),
  )
  if (again === undefined) {
    const what = options.all ? `Job ${jobId} has no tasks.` : `No task of job ${jobId} has failed. Nothing is run again.`
    await context.done(what, { jobId, tasks: 0 })
    return 0
  }
  const { count, jobId: newId } = again
  if (newId !== jobId || options.detach) {
    const text = newId === jobId ? `${plural(count)} of job ${jobId} again.` : `${plural(count)} again, as job ${newId}.`
    // What follows prints JSON of its own.
    if (options.detach) await context.done(text, { jobId: newId, tasks: count })
    else context.say(text)
  }
  if (options.detach) return 0
  return await waitForJob(context, newId, { quiet: options.quiet, ...(options.to === undefined ? {} : { to: options.to }) })
}

function plural(count: number): string {
  return count === 1 ? '1 task runs' : `${count} tasks run`
}

interface Again {
  jobId: string
  count: number
}

async function reactivate(
  context: Context,
  mesh: Mesh,
  { id: jobId }: JobView,
  { all }: RerunOptions,
  signal: AbortSignal,
): Promise<Again | undefined> {
  if (all)
    throw new MeshError(
      'InvalidPropertyValue',
      `Job ${jobId} is active, and a task that succeeded cannot run again in it. Give --failed, or end the job first: batchmesh job stop ${jobId}`,
    )
  const failed: string[] = []
  for await (const page of tasksOf(mesh, jobId, { state: 'completed', result: 'failure' }, signal)) failed.push(...page.map(({ id }) => id))
  if (failed.length === 0) return undefined
  await severalAtOnce(failed, async (taskId) => {
    try {
      await mesh.control.call('reactivateTask', { jobId, taskId }, { signal, persist: true })
    } catch (error) {
      // It was asked for before, and the answer was lost: it waits, or has run again already.
      if (!(error instanceof MeshError) || (error.code !== 'TaskNotCompleted' && error.code !== 'TaskSucceeded')) throw error
    }
  })
  context.say(`${plural(failed.length)} again in job ${jobId}.`)
  return { jobId, count: failed.length }
}

async function submitAgain(
  context: Context,
  mesh: Mesh,
  job: JobView,
  { all }: RerunOptions,
  signal: AbortSignal,
): Promise<Again | undefined> {
  const { failed, succeeded, active } = job.counts
  const count = failed + active + (all ? succeeded : 0)
  if (count > maxAgain) throw tooMany(job.id, count)
  const isWanted = (task: TaskView) => all || task.executionInfo.result !== 'success'
  const ids = new Set<string>()
  let neverRan = 0
  for await (const page of tasksOf(mesh, job.id, {}, signal)) {
    for (const task of page.filter(isWanted)) {
      ids.add(foldId(task.id))
      if (task.state !== 'completed') neverRan += 1
    }
  }
  if (ids.size === 0) return undefined
  if (neverRan > 0) context.say(`${neverRan} of them never ran, because the job was ended.`)
  await checkPool(mesh, job, signal)
  const jobId = await addJobAgain(mesh, job, signal)
  try {
    for await (const page of tasksOf(mesh, job.id, {}, signal)) {
      const specs = page.filter(isWanted).map((task) => withoutDone(taskSpecSchema.parse(task), ids))
      await addTasks(mesh, jobId, specs, { signal, isOwnJob: true })
    }
    await mesh.control.call('updateJob', { jobId, onAllTasksComplete: 'terminatejob' }, { signal, persist: true })
  } catch (error) {
    // A job that has a part of its tasks is of no use to anybody.
    await mesh.control.call('terminateJob', { jobId, terminateReason: 'SubmissionFailed' }).catch(() => undefined)
    throw error
  }
  return { jobId, count: ids.size }
}

/** Pools that `mpi run` and `submit` make go with their job: another job would wait for its pool for ever. */
async function checkPool(mesh: Mesh, { id, poolId }: JobView, signal: AbortSignal): Promise<void> {
  if (poolId === defaultPoolId) return
  try {
    await mesh.control.call('getPool', { poolId }, { signal, persist: true })
  } catch (error) {
    if (!(error instanceof MeshError) || error.code !== 'PoolNotFound') throw error
    const message = `The pool ${poolId} of job ${id} is not there any more; one that was made for a job goes with it. Give the command that submitted the job again, or make such a pool first: batchmesh pool create ${poolId} …`
    throw new MeshError('PoolNotFound', message, { cause: error })
  }
}

function tooMany(jobId: string, count: number): MeshError {
  return new MeshError(
    'InvalidPropertyValue',
    `${count} tasks of job ${jobId} would run again, most of them perhaps for the first time; at most ${maxAgain} can. Give "batchmesh run" the same command with --resume, or put the indexes that are left into a new job as an array (batchmesh task create --array).`,
  )
}

/** A job like another, under the next free name. */
async function addJobAgain(mesh: Mesh, job: JobView, signal: AbortSignal): Promise<string> {
  const maker = crypto.randomUUID()
  const metadata = [...(job.metadata ?? []).filter(({ name }) => name !== rerunName), { name: rerunName, value: maker }]
  const { displayName, poolId, priority, maxParallelTasks, commonEnvironmentSettings, constraints } = job
  const { usesTaskDependencies, disconnect, home, retentionTimeMs } = job
  const like: Omit<JobSpec, 'id'> = {
    ...{ displayName, poolId, priority, maxParallelTasks, commonEnvironmentSettings, constraints },
    ...{ usesTaskDependencies, disconnect, home, retentionTimeMs, metadata, onAllTasksComplete: 'noaction' },
  }
  const names = laterNames(job.id)
  for (;;) {
    const id = names.next().value
    try {
      await mesh.control.call('addJob', { ...like, id }, { signal, persist: true })
      return id
    } catch (error) {
      if (!(error instanceof MeshError) || error.code !== 'JobExists') throw error
      // A repeated request whose first answer was lost finds its own job.
      const other = await mesh.control.call('getJob', { jobId: id }, { signal, persist: true })
      if (other.metadata?.some(({ name, value }) => name === rerunName && value === maker)) return id
    }
  }
}

/** The task without its dependencies on tasks that have succeeded and are not run again. */
function withoutDone(spec: TaskSpec, ids: ReadonlySet<string>): TaskSpec {
  const { dependsOn, ...rest } = spec
  if (dependsOn === undefined) return spec
  const taskIds = (dependsOn.taskIds ?? []).filter((id) => ids.has(foldId(id)))
  const numbers = dependsOn.taskIdRanges === undefined ? [] : [...ids].filter((id) => /^\d{1,15}$/.test(id)).map(Number)
  const built = new RangeBuilder()
  for (const number of [...new Set(numbers)].sort((a, b) => a - b))
    if (dependsOn.taskIdRanges!.some(({ start, end }) => number >= start && number <= end)) built.index(number)
  const taskIdRanges = idRanges(built.ranges, Number.POSITIVE_INFINITY)!
  if (taskIds.length + taskIdRanges.length === 0) return rest
  return { ...rest, dependsOn: { ...(taskIds.length > 0 ? { taskIds } : {}), ...(taskIdRanges.length > 0 ? { taskIdRanges } : {}) } }
}

async function* tasksOf(
  mesh: Mesh,
  jobId: string,
  filter: { state?: 'completed'; result?: 'failure' },
  signal: AbortSignal,
): AsyncGenerator<TaskView[]> {
  let after: string | undefined
  do {
    const page = await mesh.control.call('listTasks', { jobId, ...filter, after }, { signal, persist: true })
    yield page.items
    after = page.next
  } while (after !== undefined)
}
