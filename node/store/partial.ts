/**
 * A file that is coming in from peers, chunk by chunk, in any order. It survives a restart: which chunks came is kept
 * in a list beside it, and because that list and the bytes are not synced, each listed chunk is hashed again when the
 * file is opened anew. A file found damaged becomes such a file too, so that only its bad chunks are fetched.
 */
import { constants } from 'node:fs'
import { chmod, type FileHandle, open, readFile, rename, rm, stat } from 'node:fs/promises'
import { join } from 'node:path'
import { failpoint } from '../../protocols/failpoint.ts'
import type { BlobId } from '../../protocols/ids.ts'
import { diskFull, isDiskFull } from './budget.ts'
import { readChunk, writeChunk } from './chunk-io.ts'
import { inThread } from './hash-pool.ts'
import { chunkBytes, chunkCount, chunkLength, leafAt } from './unixfs.ts'

export class PartialFile {
  readonly id: BlobId
  readonly size: number
  readonly leaves: Uint8Array
  readonly path: string
  readonly #file: FileHandle
  readonly #list: FileHandle
  readonly #have: Uint8Array
  #missing: number
  #hadNoRoom = false

  private constructor(
    path: string,
    of: { id: BlobId; size: number; leaves: Uint8Array },
    file: FileHandle,
    list: FileHandle,
    have: Uint8Array,
  ) {
    this.path = path
    this.id = of.id
    this.size = of.size
    this.leaves = of.leaves
    this.#file = file
    this.#list = list
    this.#have = have
    this.#missing = chunkCount(of.size) - have.reduce((sum, one) => sum + one, 0)
  }

  /** `leaves` were checked against the id. */
  static async open(dir: string, of: { id: BlobId; size: number; leaves: Uint8Array }): Promise<PartialFile> {
    const path = join(dir, of.id)
    const have = await readHave(path, of)
    // A file that was found damaged is read-only.
    await chmod(path, 0o600).catch(() => undefined)
    const file = await open(path, constants.O_RDWR | constants.O_CREAT, 0o600)
    await file.truncate(of.size)
    const list = await open(listPath(path), 'w', 0o600)
    const indexes = [...have.keys()].filter((index) => have[index] === 1)
    await list.appendFile(Uint32Array.from(indexes))
    return new PartialFile(path, of, file, list, have)
  }

  get chunks(): number {
    return this.#have.length
  }

  get missingCount(): number {
    return this.#missing
  }

  has(index: number): boolean {
    return this.#have[index] === 1
  }

  /** Which chunks are here: one bit each, lowest bit first. */
  bits(): Uint8Array {
    const bits = new Uint8Array(Math.ceil(this.chunks / 8))
    for (const [index, one] of this.#have.entries()) bits[index >> 3]! |= one << (index & 7)
    return bits
  }

  /** Takes one chunk if its bytes match; false when they do not. */
  async write(index: number, data: Uint8Array): Promise<boolean> {
    if (data.length !== chunkLength(this.size, index)) return false
    try {
      if (!(await writeChunk(this.#file, index * chunkBytes, data, leafAt(this.leaves, index)))) return false
    } catch (error) {
      if (!isDiskFull(error)) throw error
      this.#hadNoRoom = true
      throw diskFull(error)
    }
    if (this.#have[index] === 1) return true
    this.#have[index] = 1
    this.#missing -= 1
    await this.#list.appendFile(Uint32Array.of(index))
    return true
  }

  /** Bytes of a chunk that came, checked; undefined when it did not come. */
  async read(index: number): Promise<Uint8Array | undefined> {
    if (!this.has(index)) return undefined
    const task = {
      path: this.path,
      offset: index * chunkBytes,
      length: chunkLength(this.size, index),
      digest: leafAt(this.leaves, index),
    }
    return await readChunk(task)
  }

  /** Makes the bytes durable and read-only; the file is then ready to be renamed into the store. */
  async seal(): Promise<void> {
    await this.#file.chmod(0o444)
    await this.#file.datasync()
  }

  /** What came stays for a later try, unless the disk had no room for the rest: then it is removed, and the answer true. */
  async close(): Promise<boolean> {
    await this.#file.close()
    await this.#list.close()
    if (!this.#hadNoRoom || this.#missing === 0) return false
    await rm(this.path, { force: true })
    await this.forgetList()
    return true
  }

  /** Forgets the list of chunks, once the file has become a blob. */
  async forgetList(): Promise<void> {
    await rm(listPath(this.path), { force: true })
  }
}

/** Turns a damaged file of the store into one that is coming in, claiming all its chunks: those that are good will be kept. */
export async function quarantine(filePath: string, dir: string, id: BlobId, size: number): Promise<void> {
  const path = join(dir, id)
  const list = await open(listPath(path), 'w', 0o600)
  await list.appendFile(Uint32Array.from({ length: chunkCount(size) }, (_, index) => index))
  await list.close()
  failpoint('blobs.damage.listed')
  await rename(filePath, path)
}

function listPath(path: string): string {
  return `${path}.have`
}

async function readHave(path: string, of: { size: number; leaves: Uint8Array }): Promise<Uint8Array> {
  const have = new Uint8Array(chunkCount(of.size))
  try {
    await stat(path)
    const list = await readFile(listPath(path))
    for (let at = 0; at + 4 <= list.length; at += 4) {
      const index = list.readUInt32LE(at)
      if (index < have.length) have[index] = 1
    }
  } catch {
    return have.fill(0)
  }
  const indexes = [...have.keys()].filter((index) => have[index] === 1)
  if (indexes.length === 0) return have
  // A longer file than it should be fails its last chunk here, which is then fetched again after the truncation.
  for (const bad of await inThread('mismatches', { path, size: of.size, leaves: of.leaves, indexes })) have[bad] = 0
  return have
}
