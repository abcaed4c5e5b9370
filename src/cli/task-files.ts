/** Reading files of tasks where they lie, also while they grow. */
import { MeshError } from '../../protocols/errors.ts'
import { maxReadBytes } from '../../protocols/files.ts'
import type { Mesh } from '../mesh/client.ts'
import { pause } from '../mesh/sessions.ts'

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
  for (;;) {
    let chunk: { data: Uint8Array; size: number; final: boolean }
    try {
      const request = { ...ref, name, offset, length: maxReadBytes, waitMs: follow ? followWaitMs : 0 }
      chunk = await mesh.control.call('readTaskFile', request, { signal: options.signal, persist: follow })
    } catch (error) {
      if (!follow || !(error instanceof MeshError)) throw error
      // The task runs again, and its file has begun anew.
      if (error.code === 'InvalidRange' && offset > 0) offset = 0
      else if (!(await mayStillCome(mesh, ref, error, options.signal))) throw error
      else await pause(startPollMs, options.signal)
      continue
    }
    offset += chunk.data.length
    if (chunk.data.length > 0) yield chunk.data
    else if (!follow || chunk.final) return
    if (offset >= chunk.size && (chunk.final || !follow)) return
  }
}

async function mayStillCome(mesh: Mesh, ref: TaskRef, error: MeshError, signal?: AbortSignal): Promise<boolean> {
  if (error.code !== 'FileNotFound' && error.code !== 'TaskFilesUnavailable' && error.code !== 'TaskFilesCleanedup') return false
  const { state } = await mesh.control.call('getTask', ref, { signal, persist: true })
  return state !== 'completed'
}

/** A whole file in memory: for short texts such as the end of a task's output. */
export async function readWhole(mesh: Mesh, ref: TaskRef, name: string, signal?: AbortSignal): Promise<Uint8Array> {
  const pieces: Uint8Array[] = []
  for await (const piece of readTaskFile(mesh, ref, name, { signal })) pieces.push(piece)
  return Buffer.concat(pieces)
}
