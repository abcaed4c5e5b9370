/** The tasks of a job as they complete: each once, however often the connection breaks and they are told again. */
import type { TaskEvent } from '../../protocols/control.ts'
import { MeshError } from '../../protocols/errors.ts'
import type { Mesh as Client } from '../mesh/client.ts'

/**
 * Goes on until the caller stops. `isNew` says whether a task has not been handed on yet. Rejects with JobCompleted when
 * the job was ended by somebody else before `isDone`, JobNotFound when it was deleted, and Aborted with the signal.
 */
export async function* completions(
  client: Client,
  jobId: string,
  signal: AbortSignal,
  isNew: (taskId: string) => boolean,
  isDone: () => boolean,
): AsyncGenerator<TaskEvent, void, undefined> {
  let seen = 0
  for await (const { events, counts, jobState } of client.watchJob(jobId, signal)) {
    for (const event of events) {
      if (event.state !== 'completed' || !isNew(event.taskId)) continue
      seen += 1
      yield event
    }
    if (isDone()) return
    // Counts run ahead of the events, which come in batches.
    if ((jobState === 'completed' || jobState === 'deleting') && seen >= counts.completed)
      throw new MeshError('JobCompleted', `The job ${jobId} was ended before all of its tasks ran.`)
  }
}
