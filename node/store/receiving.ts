/** Files that are coming in from peers. Several pulls and uploads may be filling the same one. */
import { MeshError } from '../../protocols/errors.ts'
import { failpoint } from '../../protocols/failpoint.ts'
import type { BlobId } from '../../protocols/ids.ts'
import type { Budget } from './budget.ts'
import { inThread } from './hash-pool.ts'
import type { PutOptions } from './incoming.ts'
import { PartialFile } from './partial.ts'

/** A partial file that several may be filling at once; it is kept open until the last has released it. */
export interface Receiving {
  readonly partial: PartialFile
  /** Makes the file a blob, when all chunks have come. */
  finish(options?: PutOptions): Promise<void>
  release(): Promise<void>
}

interface Entry {
  partial: Promise<PartialFile>
  users: number
  reserved: number
}

/** A finished file, ready to be renamed into the store. */
export interface FinishedFile {
  id: BlobId
  size: number
  totalBytes: number
  leaves: Uint8Array
}

export class ReceivingFiles {
  readonly #dir: string
  readonly #budget: Budget
  readonly #addFile: (path: string, of: FinishedFile, options: PutOptions) => Promise<BlobId>
  readonly #receiving = new Map<BlobId, Entry>()

  constructor(dir: string, budget: Budget, addFile: (path: string, of: FinishedFile, options: PutOptions) => Promise<BlobId>) {
    this.#dir = dir
    this.#budget = budget
    this.#addFile = addFile
  }

  has(id: BlobId): boolean {
    return this.#receiving.has(id)
  }

  async chunk(id: BlobId, index: number): Promise<Uint8Array | undefined> {
    const entry = this.#receiving.get(id)
    return entry === undefined ? undefined : await (await entry.partial).read(index)
  }

  /** Which chunks came, one bit each; undefined when the file is not coming in. */
  async bits(id: BlobId): Promise<Uint8Array | undefined> {
    return (await this.#receiving.get(id)?.partial)?.bits()
  }

  /** Opens the partial file of a blob whose list of leaves was checked against its id. Reserves room for all of it. */
  async receive(id: BlobId, size: number, leaves: Uint8Array): Promise<Receiving> {
    let entry = this.#receiving.get(id)
    if (entry === undefined) {
      const opening = (async () => {
        await this.#budget.reserve(size)
        try {
          return await PartialFile.open(this.#dir, { id, size, leaves })
        } catch (error) {
          this.#budget.unreserve(size)
          throw error
        }
      })()
      entry = { partial: opening, users: 0, reserved: size }
      this.#receiving.set(id, entry)
    }
    const mine = entry
    mine.users += 1
    let partial: PartialFile
    try {
      partial = await mine.partial
    } catch (error) {
      if (this.#receiving.get(id) === mine) this.#receiving.delete(id)
      throw error
    }
    let released = false
    return {
      partial,
      finish: async (options = {}) => {
        if (partial.missingCount > 0)
          throw new MeshError('BlobNotFound', `${partial.missingCount} chunks of the blob ${id} have not come yet.`)
        await partial.seal()
        failpoint('blobs.partial.sealed')
        const totalBytes = (await inThread('rootOf', { leaves, size })).totalBytes
        await this.#addFile(partial.path, { id, size, totalBytes, leaves }, options)
        await partial.forgetList()
      },
      release: async () => {
        if (released) return
        released = true
        mine.users -= 1
        if (mine.users > 0) return
        if (this.#receiving.get(id) === mine) this.#receiving.delete(id)
        this.#budget.unreserve(mine.reserved)
        if (await partial.close()) await this.#budget.makeRoom(size)
      },
    }
  }
}
