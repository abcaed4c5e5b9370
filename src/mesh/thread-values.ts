/** Arguments and results of thread tasks: V8's serialisation, in place or as a blob (protocols/model/thread-task.ts). */
import { deserialize, serialize } from 'node:v8'
import { MeshError } from '../../protocols/errors.ts'
import { maxBlobPieceBytes } from '../../protocols/local.ts'
import { type CloneValue, maxInlineValueBytes } from '../../protocols/model/thread-task.ts'
import { fetchBlob, putStream, readBlob } from './blobs.ts'
import type { Mesh } from './client.ts'

/** A serialised value that is ready to travel: a large one is uploaded first. */
export async function sendBytes(mesh: Mesh, bytes: Uint8Array, signal?: AbortSignal): Promise<CloneValue> {
  const own = new Uint8Array(bytes)
  if (own.length <= maxInlineValueBytes) return { bytes: own }
  const { id, size } = await putStream(mesh, piecesOf(own), { size: own.length, ...(signal === undefined ? {} : { signal }) })
  return { blob: id, size }
}

/** Throws TypeError, as structuredClone would, for what cannot be sent: functions, symbols, promises, proxies. */
export function serializeArguments(args: readonly unknown[]): Uint8Array {
  try {
    return serialize(args)
  } catch (error) {
    throw new TypeError((error as Error).message, { cause: error })
  }
}

/** A value that came back. Rejects with BlobNotFound when it is gone, BlobCorrupt when it is no value. */
export async function readValue(mesh: Mesh, value: CloneValue, signal?: AbortSignal): Promise<unknown> {
  let bytes: Uint8Array
  if ('bytes' in value) bytes = value.bytes
  else {
    const { size } = await fetchBlob(mesh, value.blob, signal)
    const pieces: Uint8Array[] = []
    for await (const piece of readBlob(mesh, value.blob, size, signal)) pieces.push(piece)
    bytes = Buffer.concat(pieces)
  }
  try {
    return deserialize(bytes)
  } catch (error) {
    throw new MeshError('BlobCorrupt', `The value that came back cannot be read: ${(error as Error).message}`, { cause: error })
  }
}

/** Pieces of a MiB, as the conversation with the node takes them. */
export async function* piecesOf(bytes: Uint8Array<ArrayBuffer>): AsyncGenerator<Uint8Array<ArrayBuffer>> {
  for (let at = 0; at < bytes.length; at += maxBlobPieceBytes) yield bytes.subarray(at, at + maxBlobPieceBytes)
}
