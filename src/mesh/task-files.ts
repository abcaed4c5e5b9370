/** Reading files of tasks where they lie, also while they grow. */
import { MeshError } from '../../protocols/errors.ts'
import { type FileChunk, maxReadBytes } from '../../protocols/files.ts'
import type { Mesh } from './client.ts'
import { pause } from './sessions.ts'

export interface TaskRef {
  jobId: string
  taskId: string
}

/** The node answers sooner when bytes come; this only bounds how long a request stands. */
const followWaitMs = 20_000
/** Requests on their way, of a file that is large: enough to hide the way, few enough to hold little memory. */
const chunksInFlight = 8
/** A task that has not started is asked after again this often. */
const startPollMs = 500

/** The bytes of a file in the directory of a task, or of one of its subtasks. With `follow`, goes on until the task has ended, and waits for one that has not started. */
export async function* readTaskFile(
  mesh: Mesh,
  ref: TaskRef,
  name: string,
  options: { follow?: boolean; subtask?: number; signal?: AbortSignal } = {},
): AsyncGenerator<Uint8Array> {
  const follow = options.follow === true
  /** Asked for, in order, each from where the one before ends. */
  const asked: { from: number; answer: Promise<FileChunk> }[] = []
  const ask = (from: number) => {
    const request = { ...ref, subtask: options.subtask, name, offset: from, length: maxReadBytes, waitMs: follow ? followWaitMs : 0 }
    const answer = mesh.control.call('readTaskFile', request, { signal: options.signal, persist: follow })
    // Its failure is seen when its turn comes.
    answer.catch(() => undefined)
    asked.push({ from, answer })
  }
  let offset = 0
  let size = 0
  let hasEnded = false
  for (;;) {
    if (asked.length === 0) ask(offset)
    // What is known to be there is asked for ahead: each answer comes from another machine, by way of the coordinator.
    while (asked.length < chunksInFlight && asked.at(-1)!.from + maxReadBytes < size) ask(asked.at(-1)!.from + maxReadBytes)
    let chunk: FileChunk
    try {
      chunk = await asked.shift()!.answer
      size = chunk.size
      if (chunk.data.length < maxReadBytes) asked.length = 0
    } catch (error) {
      asked.length = 0
      size = 0
      if (!follow || !(error instanceof MeshError)) throw error
      // The task runs again, and its file has begun anew.
      if (error.code === 'InvalidRange' && offset > 0) offset = 0
      else if (hasEnded || !mayStillCome(error)) throw error
      else {
        const { state } = await mesh.control.call('getTask', ref, { signal: options.signal, persist: true })
        // It may have run since the question: then its file is there now, or never.
        hasEnded = state === 'completed'
        if (!hasEnded) await pause(startPollMs, options.signal)
      }
      continue
    }
    offset += chunk.data.length
    if (chunk.data.length > 0) yield chunk.data
    else if (!follow || chunk.final) return
    if (offset >= chunk.size && (chunk.final || !follow)) return
  }
}

function mayStillCome({ code }: MeshError): boolean {
  return code === 'FileNotFound' || code === 'TaskFilesUnavailable' || code === 'TaskFilesCleanedup'
}
