/** Submitting tasks: as many requests as it takes, several at once, each of which may be repeated. */
import { maxTasksPerAdd } from '../../protocols/control.ts'
import { MeshError } from '../../protocols/errors.ts'
import type { TaskSpec } from '../../protocols/model/task.ts'
import type { Mesh } from './client.ts'

/** Requests on their way at once: the coordinator syncs one batch while the next one travels. */
const requestsInFlight = 4
/** Text of one request: well below the frame's limit of 32 MiB, whatever the encoding adds. */
const maxRequestChars = 4 << 20

export interface SubmitOptions {
  signal?: AbortSignal
  /** The tasks are new in a job that is this command's own: one that exists already was added by a request whose answer was lost. */
  isOwnJob?: boolean
  onAdded?: (count: number) => void
}

/** Tasks in batches that fit a request. */
export function* batches(tasks: Iterable<TaskSpec>): Generator<TaskSpec[]> {
  let batch: TaskSpec[] = []
  let chars = 0
  for (const task of tasks) {
    const length = JSON.stringify(task).length
    if (batch.length > 0 && (batch.length === maxTasksPerAdd || chars + length > maxRequestChars)) {
      yield batch
      batch = []
      chars = 0
    }
    batch.push(task)
    chars += length
  }
  if (batch.length > 0) yield batch
}

/** Adds tasks to a job. Rejects with the first refusal, which says how many others were added; no more are sent after it. */
export async function addTasks(mesh: Mesh, jobId: string, tasks: Iterable<TaskSpec>, options: SubmitOptions = {}): Promise<void> {
  const source = batches(tasks)
  const refused: { taskId: string; error: { code: string; message: string } }[] = []
  let added = 0
  const sender = async () => {
    for (const batch of source) {
      const { results } = await mesh.control.call('addTasks', { jobId, tasks: batch }, { signal: options.signal, persist: true })
      for (const { taskId, error } of results) {
        if (error === undefined || (options.isOwnJob === true && error.code === 'TaskExists')) added += 1
        else refused.push({ taskId, error })
      }
      if (refused.length > 0) return
      options.onAdded?.(batch.length)
    }
  }
  const results = await Promise.allSettled(Array.from({ length: requestsInFlight }, sender))
  const failed = results.find((result) => result.status === 'rejected')
  if (failed !== undefined) throw failed.reason
  const [first] = refused
  if (first === undefined) return
  const others = [
    ...(refused.length > 1 ? [`${refused.length - 1} more refused`] : []),
    ...(added > 0 ? [`${added} ${added === 1 ? 'other was' : 'others were'} added`] : []),
  ]
  const { taskId, error } = first
  throw new MeshError(
    error.code === 'TaskExists' ? 'TaskExists' : 'InvalidPropertyValue',
    `Task ${taskId}: ${error.message}${others.length === 0 ? '' : ` (${others.join(', ')})`}`,
  )
}
