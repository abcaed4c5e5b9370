/** What a run says at its end. */
import type { TaskView } from '../../../protocols/model/task.ts'
import type { Mesh } from '../../mesh/client.ts'
import type { Context } from '../context.ts'
import { showBytes, showDuration } from '../format.ts'
import type { Failures } from './failures.ts'
import { each, type Positions } from './items.ts'
import { type RunPlan, reduceId } from './plan.ts'
import type { Output, Results } from './results.ts'

/** What has become of a run. */
export interface Outcome {
  /** The job; absent where nothing had to be run. */
  jobId: string | undefined
  succeeded: number
  failed: number
  /** Tasks that had succeeded in earlier runs. */
  kept: number
  notRun: number
  end: 'complete' | 'ended' | 'enough' | 'failed'
  /** Whether there was a last step that had all outputs of the others. */
  reduced: boolean
  /** Tasks of --try, else absent. */
  tried?: Positions
}

interface Tried {
  taskId: string
  result: string | undefined
  exitCode: number | undefined
  machine: string | undefined
  tookMs: number | undefined
}

/** More of them are only counted. */
const shownTried = 20

/** Prints it, and answers the exit code. */
export async function report(
  context: Context,
  mesh: Mesh,
  plan: RunPlan,
  results: Results,
  failures: Failures,
  outcome: Outcome,
  options: { quiet: boolean; began: number; maxFails: number | undefined },
): Promise<number> {
  const { jobId, succeeded, failed, kept, notRun, end } = outcome
  const tried = outcome.tried === undefined || jobId === undefined ? undefined : await triedTasks(mesh, plan, jobId, outcome.tried)
  const left = plan.count - succeeded - kept
  // What went into the reduce step is seldom wanted, and may be thousands of files. A program is told of all.
  const isBrief = context.isForPeople && plan.request.to === undefined && outcome.reduced
  const listed = isBrief ? results.outputs.filter(({ taskId }) => taskId === reduceId) : results.outputs
  if (context.format === 'json' || context.hasQuery) {
    await context.one([], {
      jobId,
      succeeded,
      failed,
      notRun,
      ...(kept > 0 ? { kept } : {}),
      ...(tried === undefined ? {} : { tried, left }),
      outputs: results.outputs,
      failures: failures.groups,
      problems: results.problems,
    })
  } else if (listed.length > 0 && (context.format === 'tsv' || plan.request.to === undefined)) {
    await context.list<Output>(
      [
        { title: 'task', value: (o) => o.taskId },
        { title: 'path', value: (o) => o.path },
        { title: 'size', value: (o) => showBytes(o.size), right: true },
        { title: 'blob', value: (o) => o.blob },
        ...(plan.request.to === undefined ? [] : [{ title: 'file', value: (o: Output) => o.file }]),
      ],
      listed,
    )
  }
  if (isBrief && !options.quiet && jobId !== undefined && listed.length < results.outputs.length)
    context.say(`The outputs of the other tasks stay in the mesh. To write them: batchmesh job wait ${jobId} --to DIR`)
  for (const line of failures.lines()) context.say(line)
  for (const problem of results.problems) context.say(`batchmesh: ${problem}`)
  if (results.lostTexts > 0)
    context.say(
      `The standard output of ${results.lostTexts} of the earlier tasks is not to be had any more: it lay on the machines that ran them.`,
    )
  if (end === 'ended' && notRun > 0) context.say(`batchmesh: the job was ended before ${notRun} of its tasks ran`)
  if (end === 'enough')
    context.say(
      `batchmesh: ${failed === 1 ? '1 task' : `${failed} tasks`} failed (--max-fails ${options.maxFails}), so the job was ended before ${notRun} of its tasks ran. To go on, give the same command with --resume.`,
    )
  const isGood = failed === 0 && results.problems.length === 0 && end === 'complete'
  if (end === 'complete' && failed === 0 && tried === undefined) {
    const made = results.outputs.map(({ taskId, path }) => ({ path, at: plan.positionOf(taskId) }))
    for (const pattern of plan.unmatched(made)) context.say(`batchmesh: ${pattern} named no file that was made`)
  }
  if (!options.quiet) {
    for (const line of tried === undefined ? [] : triedLines(tried, jobId!)) context.say(line)
    const { written } = results
    const files =
      plan.request.to === undefined || (kept > 0 && written === 0) ? '' : `, ${written} ${written === 1 ? 'file' : 'files'} written`
    const earlier = kept === 0 ? '' : `${kept} had succeeded before, `
    if (jobId === undefined) context.say(`${plan.count === 1 ? 'The task' : `All ${plan.count} tasks`} had succeeded before${files}.`)
    else
      context.say(
        `${earlier}${succeeded} succeeded, ${failed} failed${files} in ${showDuration(Date.now() - options.began)} (job ${jobId})`,
      )
    if (tried !== undefined) context.say(whatNext(left, failed, plan))
  }
  return isGood ? 0 : 1
}

function whatNext(left: number, failed: number, plan: RunPlan): string {
  const tasks = (count: number) => (count === 1 ? '1 task' : `${count} tasks`)
  const step = plan.request.reduce === undefined ? '' : ' and the reduce step'
  if (failed > 0)
    return `When that is mended, the same command with --resume instead of --try runs the ${tasks(left)} that have not succeeded${step}.`
  if (left === 0 && step === '') return 'These were all.'
  return `To run the rest (${left === 0 ? 'the reduce step' : `${tasks(left)}${step}`}), give the same command with --resume instead of --try.`
}

async function triedTasks(mesh: Mesh, plan: RunPlan, jobId: string, positions: Positions): Promise<Tried[]> {
  const found: Tried[] = []
  for (const at of each(positions)) {
    if (found.length === shownTried) break
    const view: TaskView = await mesh.control.call('getTask', { jobId, taskId: plan.taskId(at) }, { persist: true })
    const { startTime, endTime, exitCode, result } = view.executionInfo
    found.push({
      taskId: view.id,
      result,
      exitCode,
      machine: view.nodeInfo?.machineName,
      tookMs: startTime === undefined || endTime === undefined ? undefined : endTime - startTime,
    })
  }
  return found
}

function triedLines(tried: readonly Tried[], jobId: string): string[] {
  return tried.map(({ taskId, result, exitCode, machine, tookMs }) => {
    const how = result === 'success' ? 'succeeded' : `failed${exitCode === undefined ? '' : ` with exit code ${exitCode}`}`
    const logs =
      result === 'success'
        ? `Its standard output: batchmesh task logs ${jobId}/${taskId}`
        : `Its standard error: batchmesh task logs ${jobId}/${taskId} --stderr`
    const where = machine === undefined ? '' : ` on ${machine}`
    const took = tookMs === undefined ? '' : ` in ${showDuration(tookMs)}`
    return `Task ${taskId} ${how}${where}${took}. ${logs}`
  })
}
