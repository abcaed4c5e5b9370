/** A file that comes in as a stream of pieces, in order. Little of it stays in memory: it is hashed and written chunk by chunk. */
import { type FileHandle, open, rm } from 'node:fs/promises'
import { MeshError } from '../../protocols/errors.ts'
import type { BlobId } from '../../protocols/ids.ts'
import { appendChunk } from './chunk-io.ts'
import { inThread } from './hash-pool.ts'
import { chunkBytes } from './unixfs.ts'

/** What an {@link Incoming} needs of its store. */
export interface IncomingStore {
  tmpPath(): string
  maxFileBytes: number
  /** Larger content gets a file of its own. */
  rowBytes: number
  reserve(bytes: number): Promise<void>
  unreserve(bytes: number): void
  /** Budget.failed */
  failed(error: unknown, bytes: number): Promise<never>
  addSmall(content: Uint8Array, options: PutOptions): Promise<BlobId>
  addFile(tmpPath: string, of: { id: BlobId; size: number; totalBytes: number; leaves: Uint8Array }, options: PutOptions): Promise<BlobId>
}

export interface PutOptions {
  /** Name of a pin that is set in the same stroke. Without one the blob is kept for an hour from now. */
  pin?: string
  /** A copy that can be fetched again: it makes room when room is needed. */
  cache?: boolean
}

export class Incoming {
  readonly #store: IncomingStore
  readonly #chunk = Buffer.allocUnsafe(chunkBytes)
  readonly #digests: Uint8Array[] = []
  #filled = 0
  #written = 0
  #reserved = 0
  #file: FileHandle | undefined
  #path: string | undefined
  #last: Promise<unknown> = Promise.resolve()
  #state: 'open' | 'ended' | 'aborted' = 'open'

  constructor(store: IncomingStore) {
    this.#store = store
  }

  /** Takes the next piece; resolves when the next one may come. Pieces are taken in the order of the calls. */
  append(piece: Uint8Array): Promise<void> {
    return this.#inOrder(async () => {
      if (this.#state !== 'open') throw new MeshError('InvalidRequestBody', 'This upload has ended; begin a new one.')
      const size = this.#written + this.#filled + piece.length
      if (size > this.#store.maxFileBytes) {
        throw new MeshError('InvalidPropertyValue', `A blob holds at most ${this.#store.maxFileBytes} bytes; split the file.`)
      }
      if (size > this.#reserved) {
        await this.#store.reserve(size - this.#reserved)
        this.#reserved = size
      }
      for (let at = 0; at < piece.length; ) {
        const take = Math.min(piece.length - at, chunkBytes - this.#filled)
        this.#chunk.set(piece.subarray(at, at + take), this.#filled)
        this.#filled += take
        at += take
        if (this.#filled === chunkBytes) await this.#flush().catch((error: unknown) => this.#fail(error))
      }
    })
  }

  /** The blob, once it is durable. */
  end(options: PutOptions = {}): Promise<{ id: BlobId; size: number }> {
    return this.#inOrder(async () => {
      if (this.#state !== 'open') throw new MeshError('InvalidRequestBody', 'This upload has ended; begin a new one.')
      this.#state = 'ended'
      try {
        const size = this.#written + this.#filled
        if (size <= this.#store.rowBytes) {
          return { id: await this.#store.addSmall(this.#chunk.subarray(0, size), options), size }
        }
        if (this.#filled > 0) await this.#flush()
        const file = this.#file!
        await file.chmod(0o444)
        await file.datasync()
        const leaves = new Uint8Array(Buffer.concat(this.#digests))
        const root = await inThread('rootOf', { leaves, size })
        return { id: await this.#store.addFile(this.#path!, { ...root, size, leaves }, options), size }
      } catch (error) {
        return await this.#fail(error)
      } finally {
        await this.#cleanUp()
      }
    })
  }

  abort(): Promise<void> {
    return this.#inOrder(async () => {
      if (this.#state === 'open') await this.#cleanUp()
      this.#state = 'aborted'
    })
  }

  async #flush(): Promise<void> {
    this.#path ??= this.#store.tmpPath()
    this.#file ??= await open(this.#path, 'wx', 0o600)
    const data = this.#chunk.subarray(0, this.#filled)
    this.#digests.push(await appendChunk(this.#file, this.#written, data))
    this.#written += this.#filled
    this.#filled = 0
  }

  async #fail(error: unknown): Promise<never> {
    const bytes = this.#reserved
    this.#state = 'ended'
    await this.#cleanUp()
    return this.#store.failed(error, bytes)
  }

  async #cleanUp(): Promise<void> {
    await this.#file?.close()
    this.#file = undefined
    if (this.#path !== undefined) await rm(this.#path, { force: true })
    this.#store.unreserve(this.#reserved)
    this.#reserved = 0
  }

  #inOrder<T>(work: () => Promise<T>): Promise<T> {
    const result = this.#last.then(work)
    this.#last = result.catch(() => undefined)
    return result
  }
}
