/** Blobs in and out of the node's store, in pieces of 1 MiB with a few in flight. */
import { createHash } from 'node:crypto'
import { createReadStream } from 'node:fs'
import { open, stat } from 'node:fs/promises'
import { MeshError } from '../../protocols/errors.ts'
import { maxBlobPieceBytes } from '../../protocols/local.ts'
import type { Mesh } from './client.ts'
import { type LocalFile, listLocal } from './files.ts'

/** Pieces on their way at once: enough to hide the answer's delay, few enough to hold little memory. */
const piecesInFlight = 4
/** Small files are bound by round trips, so several go at once. */
const filesAtOnce = 4
/** A node that hashes a large file, copies it to its home, or pulls it from far away answers only then. */
const bulkTimeoutMs = 3_600_000

export interface PutBlob {
  id: string
  size: number
}
export interface PutOptions {
  signal?: AbortSignal
  /** Called with the number of bytes that each piece brought, also for files whose content was sent before. */
  onBytes?: (count: number) => void
  /** Name of a pin that keeps the blob. */
  pin?: string
}

/** Sends the bytes of a file. When it fails or is aborted, the node forgets what it got. */
export async function putStream(
  mesh: Mesh,
  pieces: AsyncIterable<Uint8Array<ArrayBuffer>>,
  options: PutOptions & { size?: number } = {},
): Promise<PutBlob> {
  // A handle belongs to one session, so the whole file goes through this one.
  const session = await mesh.local.session()
  const { handle } = await session.call('putBegin', { size: options.size }, { signal: options.signal })
  const sent: Promise<unknown>[] = []
  try {
    for await (const data of pieces) {
      options.signal?.throwIfAborted()
      const piece = session.call('putPiece', { handle, data }, { signal: options.signal }).then(() => options.onBytes?.(data.length))
      // Its failure is seen when it is awaited below; until then it must not count as unhandled.
      piece.catch(() => undefined)
      sent.push(piece)
      if (sent.length >= piecesInFlight) await sent.shift()
    }
    await Promise.all(sent)
    return await session.call('putEnd', { handle, pin: options.pin }, { signal: options.signal, timeoutMs: bulkTimeoutMs })
  } catch (error) {
    await session.call('putAbort', { handle }).catch(() => undefined)
    throw error
  }
}

async function* readPieces(path: string): AsyncGenerator<Uint8Array<ArrayBuffer>> {
  const file = await open(path)
  try {
    for (;;) {
      const { bytesRead, buffer } = await file.read({ buffer: Buffer.allocUnsafeSlow(maxBlobPieceBytes), length: maxBlobPieceBytes })
      if (bytesRead === 0) return
      yield buffer.subarray(0, bytesRead)
    }
  } finally {
    await file.close()
  }
}

async function hashOf(path: string): Promise<string> {
  const hash = createHash('sha256')
  for await (const chunk of createReadStream(path, { highWaterMark: maxBlobPieceBytes })) hash.update(chunk as Uint8Array)
  return hash.digest('hex')
}

/** Uploads of one command: the same content is sent once, whatever its name. */
export class Uploader {
  readonly #mesh: Mesh
  readonly #options: PutOptions
  readonly #byContent = new Map<string, Promise<PutBlob>>()
  readonly #sizes = new Map<number, number>()

  constructor(mesh: Mesh, options: PutOptions = {}) {
    this.#mesh = mesh
    this.#options = options
  }

  /** Uploads files, several at once; answers in the same order. */
  async putFiles(files: readonly LocalFile[]): Promise<PutBlob[]> {
    for (const { size } of files) this.#sizes.set(size, (this.#sizes.get(size) ?? 0) + 1)
    const answers: PutBlob[] = []
    let next = 0
    let broken = false
    const worker = async () => {
      while (next < files.length && !broken) {
        const at = next
        next += 1
        this.#options.signal?.throwIfAborted()
        answers[at] = await this.#put(files[at]!)
      }
    }
    const workers = Array.from({ length: filesAtOnce }, async () => {
      try {
        await worker()
      } catch (error) {
        broken = true
        throw error
      }
    })
    // All have stopped, and told the node to forget what they had begun, before the failure is passed on.
    const failed = (await Promise.allSettled(workers)).find((result) => result.status === 'rejected')
    if (failed !== undefined) throw failed.reason
    return answers
  }

  /** A file, or a directory with all files below it. */
  async put(path: string): Promise<PutBlob> {
    const local = await listLocal(path)
    const blobs = await this.putFiles(local.files)
    if (!local.isDirectory) return blobs[0]!
    const entries = local.files.map((file, at) => ({ path: file.path, id: blobs[at]!.id, size: blobs[at]!.size }))
    const { signal, pin } = this.#options
    return this.#mesh.local.call('putTree', { entries, pin }, { signal, timeoutMs: bulkTimeoutMs })
  }

  async #put(file: LocalFile): Promise<PutBlob> {
    const { dev, ino } = await stat(file.source)
    // Reading a file twice to hash it pays only where another of the same size could be the same.
    const isShared = (this.#sizes.get(file.size) ?? 0) > 1
    const key = isShared ? `${file.size}:${await hashOf(file.source)}` : `${dev}:${ino}:${file.size}`
    const known = this.#byContent.get(key)
    if (known !== undefined) {
      const blob = await known
      this.#options.onBytes?.(blob.size)
      return blob
    }
    const putting = putStream(this.#mesh, readPieces(file.source), { ...this.#options, size: file.size })
    this.#byContent.set(key, putting)
    return putting
  }
}

/** The bytes of a file blob, in order. It must have been fetched. */
export async function* readBlob(mesh: Mesh, id: string, size: number, signal?: AbortSignal): AsyncGenerator<Uint8Array> {
  const waiting: Promise<{ data: Uint8Array }>[] = []
  let asked = 0
  let got = 0
  while (got < size) {
    while (asked < size && waiting.length < piecesInFlight) {
      const length = Math.min(maxBlobPieceBytes, size - asked)
      const piece = mesh.local.call('read', { id, offset: asked, length }, { signal, persist: true })
      piece.catch(() => undefined)
      waiting.push(piece)
      asked += length
    }
    const { data } = await waiting.shift()!
    if (data.length === 0) throw new MeshError('BlobCorrupt', `The blob ${id} ended after ${got} of ${size} bytes.`)
    got += data.length
    yield data
  }
}

/** Brings a blob to this machine's store, from wherever it is. */
export function fetchBlob(mesh: Mesh, id: string, signal?: AbortSignal) {
  return mesh.local.call('fetch', { id }, { signal, persist: true, timeoutMs: bulkTimeoutMs })
}
