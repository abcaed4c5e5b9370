/** `mesh.run`: a command for each input, finished tasks as an async iterable. */
import type { TaskEvent } from '../../../protocols/control.ts'
import { MeshError } from '../../../protocols/errors.ts'
import { patternMatcher } from '../../../protocols/model/file-pattern.ts'
import type { OutputEntry, ResourceFile, TaskSpec } from '../../../protocols/model/task.ts'
import { Uploader } from '../../mesh/blobs.ts'
import type { Mesh as Client } from '../../mesh/client.ts'
import { completions } from '../completions.ts'
import { OwnJob } from '../own-job.ts'
import { FinishedTask } from './finished-task.ts'
import type { RunOptions } from './options.ts'
import { RunPlan } from './plan.ts'

const defaultRetentionMs = 7 * 86_400_000

export async function* runCommand(client: Client, options: RunOptions): AsyncGenerator<FinishedTask, void, undefined> {
  options.signal?.throwIfAborted()
  const plan = await RunPlan.make(options)
  if (plan.indexes.length === 0) return
  const ending = new AbortController()
  const signal = options.signal === undefined ? ending.signal : AbortSignal.any([ending.signal, options.signal])
  let job: OwnJob | undefined
  let submitting: Promise<void> = Promise.resolve()
  let isDone = false
  try {
    const files = await upload(client, plan, signal)
    const retentionMs = options.retentionMs ?? (options.jobId === undefined ? defaultRetentionMs : undefined)
    job = await OwnJob.create(client, 'run', options, retentionMs, signal)
    submitting = submit(job, plan, files)
    // A task that is refused ends the run.
    submitting.catch((error: unknown) => ending.abort(error))
    const waiting = new Map(plan.indexes.map((_, at) => [plan.taskId(at), at]))
    const isNew = (taskId: string) => waiting.has(taskId)
    for await (const event of completions(client, job.id, signal, isNew, () => waiting.size === 0)) {
      const at = waiting.get(event.taskId)!
      waiting.delete(event.taskId)
      yield finished(client, job.id, plan, at, event, files[at])
    }
    await submitting
    isDone = true
  } catch (error) {
    options.signal?.throwIfAborted()
    throw ending.signal.aborted ? ending.signal.reason : error
  } finally {
    ending.abort(new MeshError('Aborted'))
    await submitting.catch(() => undefined)
    if (!isDone) await job?.terminate('RunEnded')
  }
}

/** Resource files of each task: what all share, and its input. */
async function upload(client: Client, plan: RunPlan, signal: AbortSignal): Promise<ResourceFile[][]> {
  const uploader = new Uploader(client, { signal })
  const shared: ResourceFile[] = []
  for (const { path, source } of plan.shared) shared.push({ filePath: path, blob: (await uploader.put(source)).id, shared: true })
  const inputs = plan.inputs ?? []
  const local = inputs.flatMap((input) => ('source' in input ? [{ ...input, path: '' }] : []))
  const blobs = (await uploader.putFiles(local)).values()
  return plan.indexes.map((_, at) => {
    const input = inputs[at]
    if (input === undefined) return shared
    const blob = 'blob' in input ? input.blob : blobs.next().value!.id
    const isShared = plan.shared.some(({ path }) => input.path === path || input.path.startsWith(`${path}/`))
    return isShared ? shared : [...shared, { filePath: input.path, blob }]
  })
}

async function submit(job: OwnJob, plan: RunPlan, files: readonly ResourceFile[][]): Promise<void> {
  const tasks = function* (): Generator<TaskSpec> {
    for (let at = 0; at < plan.indexes.length; at += 1) yield plan.spec(at, files[at]!)
  }
  if (!(await addedAsArray(job, plan, files))) await job.add(tasks())
  await job.endByItself()
}

/** One request for many tasks, where numbers are all that tells them apart. */
async function addedAsArray(job: OwnJob, plan: RunPlan, files: readonly ResourceFile[][]): Promise<boolean> {
  if (plan.options.array === undefined) return false
  for (const array of plan.arrays(files[0]!)) if (!(await job.addArray(array))) return false
  return true
}

function finished(client: Client, jobId: string, plan: RunPlan, at: number, event: TaskEvent, files: readonly ResourceFile[] = []) {
  const before = new Map(files.map(({ filePath, blob }) => [filePath, blob]))
  const isWanted = patternMatcher(plan.outputs(at))
  // An input that was left as it was is no result, and what no pattern names was not asked for.
  const isResult = ({ path, blob }: OutputEntry) => before.get(path) !== blob && isWanted(path)
  const outputs = (event.outputs ?? []).filter(isResult)
  return new FinishedTask(client, jobId, event, { input: plan.inputs?.[at]?.given, index: plan.indexes[at]!, outputs })
}
