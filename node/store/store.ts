/**
 * The content-addressed store of a machine (DESIGN: blobs). Blobs are files, named by their IPFS CID, and directories
 * of them.
 *
 * ```
 * <dir>/db/        LevelDB: one row a blob, pins, digests of chunks, directories, and the content of small files
 *       files/     a larger file each, whole, named by its id, read-only
 *       partial/   files that are coming in from peers (or were found damaged), with the list of chunks that came
 *       tmp/ trash/  what is on its way in or out; emptied at start
 * ```
 * A blob is there when its row is. The row is synced after the bytes, so a torn write is never visible (B1); a file
 * without a row is swept at the next start. Bytes are hashed whenever they leave the store; a blob whose bytes do not
 * match is taken out at once and becomes a partial file, whose good chunks need not be fetched again.
 */
import { type FileHandle, mkdir, rename, rm, statfs } from 'node:fs/promises'
import { join } from 'node:path'
import { maxFileBytes, smallBytes } from '../../protocols/blobs.ts'
import { MeshError } from '../../protocols/errors.ts'
import { failpoint } from '../../protocols/failpoint.ts'
import type { BlobId } from '../../protocols/ids.ts'
import { Budget } from './budget.ts'
import { directoryChildren } from './directory.ts'
import { inThread } from './hash-pool.ts'
import { Incoming, type PutOptions } from './incoming.ts'
import { type Changes, Ledger, type Row } from './ledger.ts'
import { BlobReader, type StoreLog } from './reader.ts'
import { type FinishedFile, type Receiving, ReceivingFiles } from './receiving.ts'
import { clearTmp, recover } from './recover.ts'
import { Sweep, type SweepResult } from './sweep.ts'
import { rawCid, sha256 } from './unixfs.ts'

/** Smaller contents lie in the database: a file of its own costs more than it holds, and a sync each. They travel whole. */
export const rowBytes = smallBytes
/** How long an upload without a pin is kept: its pin or its directory may still be to come. */
const provisionalMs = 3_600_000
/** Default room for blobs at most. */
const mostQuotaBytes = 100 * 2 ** 30

export interface StoreOptions {
  /** Default: half of what the store could have of the disk, which others use too, and at most 100 GiB. */
  quotaBytes?: number | undefined
  log?: StoreLog
  /** The clock, ms since 1970. */
  now?: () => number
}

export async function openStore(dir: string, options: StoreOptions = {}): Promise<BlobStore> {
  for (const name of ['db', 'files', 'partial', 'tmp', 'trash']) await mkdir(join(dir, name), { recursive: true, mode: 0o700 })
  await clearTmp(dir)
  const ledger = await Ledger.open(join(dir, 'db'), join(dir, 'files'))
  await recover(dir, ledger)
  const quotaBytes = options.quotaBytes ?? defaultQuotaBytes(await freeDiskBytes(dir), ledger.usedBytes)
  return new BlobStore(dir, ledger, { ...options, quotaBytes })
}

/** Where `usedBytes` of the disk are the store's already, and `freeBytes` are nobody's. */
export function defaultQuotaBytes(freeBytes: number, usedBytes: number): number {
  return Math.min(mostQuotaBytes, Math.floor((freeBytes + usedBytes) / 2))
}

async function freeDiskBytes(path: string): Promise<number> {
  const { bavail, bsize } = await statfs(path)
  return bavail * bsize
}

export class BlobStore extends BlobReader {
  readonly #budget: Budget
  readonly #now: () => number
  readonly #held = new Map<BlobId, number>()
  readonly #receiving: ReceivingFiles
  #sweep: Sweep | undefined
  #sweeping: Promise<SweepResult> | undefined
  #lastTmp = 0

  constructor(dir: string, ledger: Ledger, options: StoreOptions & { quotaBytes: number }) {
    super(dir, ledger, options.log)
    this.#now = options.now ?? Date.now
    this.#budget = new Budget({
      quotaBytes: options.quotaBytes,
      usedBytes: () => ledger.usedBytes,
      makeRoom: async (neededBytes) => {
        await this.#sweepNow(neededBytes)
      },
    })
    this.#receiving = new ReceivingFiles(join(dir, 'partial'), this.#budget, (path, of, put) => this.#addFile(path, of, put))
  }

  get usedBytes(): number {
    return this.ledger.usedBytes
  }

  get quotaBytes(): number {
    return this.#budget.quotaBytes
  }

  #tmpPath(): string {
    this.#lastTmp += 1
    return join(this.dir, 'tmp', `${process.pid}-${this.#lastTmp}`)
  }

  /** Begins a file that comes in pieces. */
  begin(): Incoming {
    return new Incoming({
      tmpPath: () => this.#tmpPath(),
      maxFileBytes,
      rowBytes,
      reserve: (bytes) => this.#budget.reserve(bytes),
      unreserve: (bytes) => this.#budget.unreserve(bytes),
      failed: (error, bytes) => this.#budget.failed(error, bytes),
      addSmall: (content, options) => this.addSmall(content, options),
      addFile: (path, of, options) => this.#addFile(path, of, options),
    })
  }

  /** Takes in a regular file from its beginning to its end. */
  async importFile(file: FileHandle, options: PutOptions = {}): Promise<{ id: BlobId; size: number }> {
    const { size } = await file.stat()
    if (size <= rowBytes) {
      const buffer = Buffer.allocUnsafe(rowBytes + 1)
      const { bytesRead } = await file.read(buffer, 0, buffer.length, 0)
      if (bytesRead <= rowBytes) return { id: await this.addSmall(buffer.subarray(0, bytesRead), options), size: bytesRead }
    }
    const to = this.#tmpPath()
    return await this.#budget.within(size, async () => {
      try {
        const taken = await inThread('takeIn', { fd: file.fd, to, maxBytes: Math.min(maxFileBytes, size + this.#budget.freeBytes()) })
        if (taken === 'too-large')
          throw new MeshError('StoreFull', 'The file grew while it was taken in, beyond what the store has room for.')
        return { id: await this.#addFile(to, taken, options), size: taken.size }
      } finally {
        await rm(to, { force: true })
      }
    })
  }

  /** Takes in a small content; hashed where it is. */
  async addSmall(content: Uint8Array, options: PutOptions = {}): Promise<BlobId> {
    if (content.length > rowBytes) throw new RangeError(`addSmall takes at most ${rowBytes} bytes, not ${content.length}`)
    const bytes = new Uint8Array(content)
    const id = rawCid(sha256(bytes)).toString()
    const row = { kind: 'file', size: bytes.length, totalBytes: bytes.length, where: 'row' } as const
    await this.#budget.within(bytes.length, () => this.ledger.change((changes) => this.#addRow(changes, id, row, bytes, options)))
    return id
  }

  /** Takes in a node of a directory whose children are all here. */
  async addDirectoryNode(block: Uint8Array, id: BlobId, options: PutOptions = {}): Promise<void> {
    const bytes = new Uint8Array(block)
    const children = directoryChildren(id, bytes)
    await this.ledger.change(async (changes) => {
      let size = 0
      let totalBytes = bytes.length
      const rows = await changes.getMany(children.map((child) => child.id))
      for (const [index, child] of children.entries()) {
        const row = rows[index]
        if (row === undefined) {
          throw new MeshError('BlobNotFound', `The directory ${id} names ${child.id}, which is not in the store; put it first.`)
        }
        size = Math.min(Number.MAX_SAFE_INTEGER, size + row.size)
        totalBytes = Math.min(Number.MAX_SAFE_INTEGER, totalBytes + row.totalBytes)
      }
      await this.#addRow(changes, id, { kind: 'directory', size, totalBytes, where: 'row' }, bytes, options)
    })
  }

  /** Opens the partial file of a blob whose list of leaves was checked against its id. Reserves room for all of it. */
  receive(id: BlobId, size: number, leaves: Uint8Array): Promise<Receiving> {
    return this.#receiving.receive(id, size, leaves)
  }

  async pin(id: BlobId, name: string): Promise<void> {
    await this.ledger.change(async (changes) => {
      const row = await changes.get(id)
      if (row === undefined) throw new MeshError('BlobNotFound', `The blob ${id} is not in this store; put or fetch it first.`)
      await this.#sweep?.mark(id)
      changes.pin(id, name)
      if (row.keepUntil > 0) changes.touch(id, { ...row, keepUntil: 0 })
    })
  }

  async unpin(id: BlobId, name: string): Promise<void> {
    await this.ledger.change(async (changes) => changes.unpin(id, name))
  }

  /** Takes back every pin of a name. */
  async unpinAll(name: string): Promise<void> {
    await this.ledger.change(async (changes) => {
      for (const id of await this.ledger.pinnedBy(name)) changes.unpin(id, name)
    })
  }

  /** Keeps a blob, and all below it, from being swept until the returned function is called. */
  async hold(id: BlobId): Promise<() => void> {
    this.#held.set(id, (this.#held.get(id) ?? 0) + 1)
    if (this.#sweep !== undefined) await this.ledger.change(async () => this.#sweep?.mark(id))
    let released = false
    return () => {
      if (released) return
      released = true
      const users = this.#held.get(id)! - 1
      if (users === 0) this.#held.delete(id)
      else this.#held.set(id, users)
    }
  }

  /** Removes every blob that is not pinned, in use, coming in, or an upload of the last hour. */
  gc(): Promise<SweepResult> {
    return this.#sweepNow()
  }

  async close(): Promise<void> {
    await this.#sweeping?.catch(() => undefined)
    await this.ledger.close()
  }

  async #sweepNow(neededBytes?: number): Promise<SweepResult> {
    if (this.#sweeping !== undefined) return await this.#sweeping
    this.#sweep = new Sweep({
      ledger: this.ledger,
      now: this.#now(),
      held: () => this.#held.keys(),
      isHeld: (id) => this.#held.has(id) || this.#receiving.has(id),
      filePath: (id) => this.filePath(id),
      trashPath: (id) => join(this.dir, 'trash', id),
      ...(neededBytes === undefined ? {} : { neededBytes }),
    })
    this.#sweeping = this.#sweep.run().finally(() => {
      this.#sweep = undefined
      this.#sweeping = undefined
    })
    return await this.#sweeping
  }

  protected override comingChunk(id: BlobId, index: number): Promise<Uint8Array | undefined> {
    return this.#receiving.chunk(id, index)
  }

  protected override comingBits(id: BlobId): Promise<Uint8Array | undefined> {
    return this.#receiving.bits(id)
  }

  async #addFile(path: string, of: FinishedFile, options: PutOptions): Promise<BlobId> {
    const { id, size, totalBytes, leaves } = of
    await this.ledger.change(async (changes) => {
      if ((await changes.get(id)) === undefined) {
        await rename(path, this.filePath(id))
        failpoint('blobs.file.renamed')
        changes.renamed()
      } else await rm(path, { force: true })
      await this.#addRow(changes, id, { kind: 'file', size, totalBytes, where: 'file' }, leaves, options)
    })
    return id
  }

  async #addRow(
    changes: Changes,
    id: BlobId,
    row: Omit<Row, 'since' | 'keepUntil'>,
    detail: Uint8Array,
    options: PutOptions,
  ): Promise<void> {
    await this.#sweep?.mark(id)
    const there = await changes.get(id)
    const upload = options.pin === undefined && options.cache !== true
    const keepUntil = upload ? this.#now() + provisionalMs : (there?.keepUntil ?? 0)
    if (there === undefined) changes.add(id, { ...row, since: this.#now(), keepUntil }, detail)
    else if (upload) changes.touch(id, { ...there, since: this.#now(), keepUntil })
    if (options.pin !== undefined) changes.pin(id, options.pin)
  }
}
