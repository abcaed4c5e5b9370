/** Reading files of tasks where they lie, also while they grow. */
import { MeshError } from '../../protocols/errors.ts'
import { maxReadBytes } from '../../protocols/files.ts'
import type { Mesh } from './client.ts'
import { pause } from './sessions.ts'

export interface TaskRef {
  jobId: string
  taskId: string
}

/** The node answers sooner when bytes come; this only bounds how long a request stands. */
const followWaitMs = 20_000
/** A task that has not started is asked after again this often. */
const startPollMs = 500

/** The bytes of a file in a task's directory. With `follow`, goes on until the task has ended, and waits for one that has not started. */
export async function* readTaskFile(
  mesh: Mesh,
  ref: TaskRef,
  name: string,
  options: { follow?: boolean; signal?: AbortSignal } = {},
): AsyncGenerator<Uint8Array> {
  const follow = options.follow === true
  let offset = 0
  let hasEnded = false
  for (;;) {
    let chunk: { data: Uint8Array; size: number; final: boolean }
    try {
      const request = { ...ref, name, offset, length: maxReadBytes, waitMs: follow ? followWaitMs : 0 }
      chunk = await mesh.control.call('readTaskFile', request, { signal: options.signal, persist: follow })
    } catch (error) {
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
