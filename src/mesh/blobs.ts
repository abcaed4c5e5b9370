/** Blobs in and out of the node's store, in pieces of 1 MiB with a few in flight. */
import { createHash } from 'node:crypto'
import { createReadStream } from 'node:fs'
import { open, readFile, stat } from 'node:fs/promises'
import { smallBytes } from '../../protocols/blobs.ts'
import { MeshError } from '../../protocols/errors.ts'
import { maxBlobPieceBytes } from '../../protocols/local.ts'
import { batches, bulkTimeoutMs, severalAtOnce } from './batches.ts'
import type { Mesh } from './client.ts'
import { type LocalFile, listLocal } from './files.ts'
import { putTree } from './trees.ts'

/** Pieces on their way at once: enough to hide the answer's delay, few enough to hold little memory. */
const piecesInFlight = 4

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
  async putFiles(files: readonly LocalFile[], options: { pin?: string | undefined } = this.#options): Promise<PutBlob[]> {
    const { pin } = options
    for (const { size } of files) this.#sizes.set(size, (this.#sizes.get(size) ?? 0) + 1)
    const answers: PutBlob[] = []
    await severalAtOnce(batches(files), async (batch) => {
      this.#options.signal?.throwIfAborted()
      if (batch.length === 1) answers[batch[0]!] = await this.#put(files[batch[0]!]!, pin)
      else await this.#putSmall(files, batch, pin, answers)
    })
    return answers
  }

  /** A file, or a directory with all files below it. */
  async put(path: string): Promise<PutBlob> {
    const local = await listLocal(path)
    if (!local.isDirectory) return (await this.putFiles(local.files))[0]!
    // The pin of a directory keeps what is below it; files of their own pins would outlive it.
    const blobs = await this.putFiles(local.files, {})
    const { signal, pin } = this.#options
    const entries = local.files.map((file, at) => ({ path: file.path, id: blobs[at]!.id, size: blobs[at]!.size }))
    return await putTree(this.#mesh, entries, { signal, pin })
  }

  /** Reads and sends small files together. One that grew meanwhile goes by itself. */
  async #putSmall(files: readonly LocalFile[], batch: readonly number[], pin: string | undefined, answers: PutBlob[]): Promise<void> {
    const { signal, onBytes } = this.#options
    const contents = await Promise.all(batch.map((at) => readFile(files[at]!.source)))
    const isSmall = (_: number, index: number) => contents[index]!.length <= smallBytes
    const small = batch.filter(isSmall)
    const sent = contents.filter((content) => content.length <= smallBytes).map((content) => new Uint8Array(content))
    if (small.length > 0) {
      const { ids } = await this.#mesh.local.call('putSmall', { files: sent, pin }, { signal, timeoutMs: bulkTimeoutMs })
      for (const [index, at] of small.entries()) {
        answers[at] = { id: ids[index]!, size: sent[index]!.length }
        onBytes?.(files[at]!.size)
      }
    }
    for (const at of batch.filter((at, index) => !isSmall(at, index))) answers[at] = await this.#put(files[at]!, pin)
  }

  async #put(file: LocalFile, pin: string | undefined): Promise<PutBlob> {
    const { dev, ino } = await stat(file.source)
    // Reading a file twice to hash it pays only where another of the same size could be the same.
    const isShared = (this.#sizes.get(file.size) ?? 0) > 1
    const content = isShared ? `${file.size}:${await hashOf(file.source)}` : `${dev}:${ino}:${file.size}`
    const key = `${pin ?? ''}/${content}`
    const known = this.#byContent.get(key)
    if (known !== undefined) {
      const blob = await known
      this.#options.onBytes?.(blob.size)
      return blob
    }
    const putting = putStream(this.#mesh, readPieces(file.source), { ...this.#options, pin, size: file.size })
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
