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
import { type FileHandle, mkdir, open, rename, rm } from 'node:fs/promises'
import { join } from 'node:path'
import { maxFileBytes, smallBytes } from '../../protocols/blobs.ts'
import { MeshError } from '../../protocols/errors.ts'
import type { BlobId } from '../../protocols/ids.ts'
import type { BlobStat } from '../../protocols/local.ts'
import { Budget } from './budget.ts'
import { type Child, directoryChildren } from './directory.ts'
import { detached, inlineHashBytes, inThread } from './hash-pool.ts'
import { Incoming, type PutOptions } from './incoming.ts'
import { type Changes, Ledger, type Row } from './ledger.ts'
import { PartialFile, quarantine } from './partial.ts'
import { clearTmp, recover } from './recover.ts'
import { Sweep, type SweepResult } from './sweep.ts'
import { chunkBytes, chunkCount, chunkLength, leafAt, parseBlobId, rawCid, sha256 } from './unixfs.ts'

/** Smaller contents lie in the database: a file of its own costs more than it holds, and a sync each. They travel whole. */
export const rowBytes = smallBytes
/** How long an upload without a pin is kept: its pin or its directory may still be to come. */
const provisionalMs = 3_600_000
/** Default room for blobs. */
export const defaultQuotaBytes = 100 * 2 ** 30

/** User and group that a file is given to. */
export interface FileOwner {
  uid: number
  gid: number
}

export interface StoreLog {
  warn(fields: object, message: string): void
}

export interface StoreOptions {
  quotaBytes?: number
  log?: StoreLog
  /** The clock, ms since 1970. */
  now?: () => number
}

/** What it takes to check a blob, and its content where that is small. */
export type Manifest =
  | { kind: 'file'; size: number; leaves: Uint8Array; content?: Uint8Array }
  | { kind: 'directory'; size: number; block: Uint8Array }

/** A partial file that several may be filling at once; it is kept open until the last has released it. */
export interface Receiving {
  readonly partial: PartialFile
  /** Makes the file a blob, when all chunks have come. */
  finish(options?: PutOptions): Promise<void>
  release(): Promise<void>
}

export async function openStore(dir: string, options: StoreOptions = {}): Promise<BlobStore> {
  for (const name of ['db', 'files', 'partial', 'tmp', 'trash']) await mkdir(join(dir, name), { recursive: true, mode: 0o700 })
  await clearTmp(dir)
  const ledger = await Ledger.open(join(dir, 'db'), join(dir, 'files'))
  await recover(dir, ledger)
  return new BlobStore(dir, ledger, options)
}

export class BlobStore {
  readonly dir: string
  /** Called when a blob was found damaged and taken out; whoever can brings it back. */
  onDamaged: ((id: BlobId) => void) | undefined
  readonly #ledger: Ledger
  readonly #budget: Budget
  readonly #log: StoreLog | undefined
  readonly #now: () => number
  readonly #held = new Map<BlobId, number>()
  readonly #receiving = new Map<BlobId, { partial: Promise<PartialFile>; users: number; reserved: number }>()
  #sweep: Sweep | undefined
  #sweeping: Promise<SweepResult> | undefined
  #lastTmp = 0

  constructor(dir: string, ledger: Ledger, options: StoreOptions) {
    this.dir = dir
    this.#ledger = ledger
    this.#log = options.log
    this.#now = options.now ?? Date.now
    this.#budget = new Budget({
      quotaBytes: options.quotaBytes ?? defaultQuotaBytes,
      usedBytes: () => ledger.usedBytes,
      makeRoom: async (neededBytes) => {
        await this.#sweepNow(neededBytes)
      },
    })
  }

  get usedBytes(): number {
    return this.#ledger.usedBytes
  }

  get quotaBytes(): number {
    return this.#budget.quotaBytes
  }

  /** Where the bytes of a larger file lie; for the hand-out to tasks. */
  filePath(id: BlobId): string {
    return join(this.dir, 'files', id)
  }

  tmpPath(): string {
    this.#lastTmp += 1
    return join(this.dir, 'tmp', `${process.pid}-${this.#lastTmp}`)
  }

  /** Whether the blob is here, a directory with all that is below it. */
  async has(id: BlobId): Promise<boolean> {
    const row = await this.#ledger.get(id)
    if (row === undefined) return false
    return row.kind === 'file' || (await this.firstMissing(id)) === undefined
  }

  /** Rows of many blobs, without looking below directories. */
  rows(ids: readonly BlobId[]): Promise<(Row | undefined)[]> {
    return this.#ledger.getMany(ids)
  }

  async stat(id: BlobId): Promise<BlobStat> {
    const row = await this.#row(id)
    const complete = row.kind === 'file' || (await this.firstMissing(id)) === undefined
    return { id, kind: row.kind, size: row.size, pins: await this.#ledger.pins(id), complete }
  }

  /** Blobs in the order of their ids, up to `limit` after `after`. */
  async list(after?: BlobId, limit = 1000): Promise<BlobStat[]> {
    const items: BlobStat[] = []
    for await (const [id, row] of this.#ledger.rows(after)) {
      items.push({ id, kind: row.kind, size: row.size, pins: await this.#ledger.pins(id), complete: true })
      if (items.length >= limit) break
    }
    return items
  }

  /** The first id of a directory's tree that is not here. */
  async firstMissing(root: BlobId): Promise<BlobId | undefined> {
    const seen = new Set<BlobId>()
    const todo = [root]
    for (let id = todo.pop(); id !== undefined; id = todo.pop()) {
      if (seen.has(id)) continue
      seen.add(id)
      const row = await this.#ledger.get(id)
      if (row === undefined) return id
      if (row.kind === 'directory') for (const child of await this.children(id)) todo.push(child.id)
    }
    return undefined
  }

  /** Children of one node of a directory, checked. */
  async children(id: BlobId): Promise<Child[]> {
    return directoryChildren(id, await this.#detail(id, 'directory'))
  }

  async manifest(id: BlobId): Promise<Manifest> {
    const row = await this.#row(id)
    if (row.kind === 'directory') return { kind: 'directory', size: row.size, block: await this.#detail(id, 'directory') }
    const manifest = { kind: 'file' as const, size: row.size, leaves: await this.#leaves(id, row) }
    return row.where === 'row' ? { ...manifest, content: await this.#detail(id, 'file') } : manifest
  }

  /** Bytes of a chunk, checked against its digest (B1). A blob found damaged is taken out. */
  async chunk(id: BlobId, index: number): Promise<Uint8Array> {
    const row = await this.#ledger.get(id)
    if (row === undefined) return await this.#partialChunk(id, index)
    if (row.kind !== 'file') throw new MeshError('InvalidPropertyValue', `The blob ${id} is a directory; only files have bytes to read.`)
    if (!Number.isInteger(index) || index < 0 || index >= chunkCount(row.size)) {
      throw new MeshError('InvalidRange', `The blob ${id} has ${chunkCount(row.size)} chunks; there is no chunk ${index}.`)
    }
    if (row.where === 'row') return await this.#detail(id, 'file')
    const task = {
      path: this.filePath(id),
      offset: index * chunkBytes,
      length: chunkLength(row.size, index),
      digest: detached(leafAt(await this.#leaves(id, row), index)),
    }
    const bytes = await inThread('readChunk', task).catch(() => undefined)
    if (bytes !== undefined) return bytes
    throw await this.takeOut(id)
  }

  /** A range of a file, checked; shorter at its end. */
  async read(id: BlobId, offset: number, length: number): Promise<Uint8Array> {
    const row = await this.#row(id)
    if (row.kind !== 'file') throw new MeshError('InvalidPropertyValue', `The blob ${id} is a directory; only files have bytes to read.`)
    if (offset > row.size) throw new MeshError('InvalidRange', `The blob ${id} has ${row.size} bytes; the range begins at ${offset}.`)
    const end = Math.min(row.size, offset + length)
    const pieces: Uint8Array[] = []
    for (let at = offset; at < end; ) {
      const index = Math.floor(at / chunkBytes)
      const chunk = await this.chunk(id, index)
      const piece = chunk.subarray(at - index * chunkBytes, end - index * chunkBytes)
      pieces.push(piece)
      at += piece.length
    }
    return pieces.length === 1 ? pieces[0]! : Buffer.concat(pieces)
  }

  /**
   * Makes a file outside the store of a blob, checked (B1); what is done to it never reaches the store. A hard link
   * shares the store's inode, so it is made only for a read-only file of a task that runs as another user.
   */
  async handOut(id: BlobId, to: string, options: { mode: number; owner?: FileOwner | undefined }): Promise<void> {
    const { mode, owner } = options
    const row = await this.#row(id)
    if (row.kind !== 'file') throw new MeshError('InvalidPropertyValue', `The blob ${id} is a directory, not a file.`)
    if (row.where === 'row') {
      const content = await this.#detail(id, 'file')
      const file = await open(to, 'wx', 0o600)
      try {
        await file.writeFile(content)
        if (owner !== undefined) await file.chown(owner.uid, owner.gid)
        await file.chmod(mode)
      } finally {
        await file.close()
      }
      return
    }
    const mayLink = mode === 0o444 && owner !== undefined && owner.uid !== process.geteuid?.()
    const leaves = detached(await this.#leaves(id, row))
    const intact = await inThread('handOut', { from: this.filePath(id), to, size: row.size, leaves, mode, owner, mayLink })
    if (!intact) throw await this.takeOut(id)
  }

  /** Takes a damaged blob out of the store; its pins stay for when it is back. Resolves to the error to throw. */
  async takeOut(id: BlobId): Promise<MeshError> {
    const taken = await this.#ledger.change(async (changes) => {
      const row = await changes.get(id)
      if (row === undefined) return false
      if (row.where === 'file')
        await quarantine(this.filePath(id), join(this.dir, 'partial'), id, row.size).catch(() => rm(this.filePath(id), { force: true }))
      changes.remove(id, row)
      return true
    })
    if (taken) {
      this.#log?.warn({ blob: id }, 'a blob on disk does not match its id and was taken out of the store')
      this.onDamaged?.(id)
    }
    return new MeshError(
      'BlobCorrupt',
      `The bytes of the blob ${id} on disk do not match its id; it was taken out of the store, fetch it again.`,
    )
  }

  /** Begins a file that comes in pieces. */
  begin(): Incoming {
    return new Incoming({
      tmpPath: () => this.tmpPath(),
      maxFileBytes,
      rowBytes,
      reserve: (bytes) => this.#budget.reserve(bytes),
      unreserve: (bytes) => this.#budget.unreserve(bytes),
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
    const to = this.tmpPath()
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
    if (content.length > Math.max(rowBytes, inlineHashBytes)) throw new RangeError('content for addSmall is too large')
    const bytes = new Uint8Array(content)
    const id = rawCid(sha256(bytes)).toString()
    await this.#budget.within(bytes.length, () =>
      this.#add(id, { kind: 'file', size: bytes.length, totalBytes: bytes.length, where: 'row' }, bytes, options),
    )
    return id
  }

  /** Takes in a node of a directory whose children are all here. */
  async addDirectoryNode(block: Uint8Array, id: BlobId, options: PutOptions = {}): Promise<void> {
    const bytes = new Uint8Array(block)
    const children = directoryChildren(id, bytes)
    await this.#ledger.change(async (changes) => {
      let size = 0
      let totalBytes = bytes.length
      for (const child of children) {
        const row = await changes.get(child.id)
        if (row === undefined)
          throw new MeshError('BlobNotFound', `The directory ${id} names ${child.id}, which is not in the store; put it first.`)
        size = Math.min(Number.MAX_SAFE_INTEGER, size + row.size)
        totalBytes = Math.min(Number.MAX_SAFE_INTEGER, totalBytes + row.totalBytes)
      }
      await this.#addRow(changes, id, { kind: 'directory', size, totalBytes, where: 'row' }, bytes, options)
    })
  }

  /** Opens the partial file of a blob whose list of leaves was checked against its id. Reserves room for all of it. */
  async receive(id: BlobId, size: number, leaves: Uint8Array): Promise<Receiving> {
    let entry = this.#receiving.get(id)
    if (entry === undefined) {
      const opening = (async () => {
        await this.#budget.reserve(size)
        try {
          return await PartialFile.open(join(this.dir, 'partial'), { id, size, leaves })
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
        await partial.close()
      },
    }
  }

  async pin(id: BlobId, name: string): Promise<void> {
    await this.#ledger.change(async (changes) => {
      const row = await changes.get(id)
      if (row === undefined) throw new MeshError('BlobNotFound', `The blob ${id} is not in this store; put or fetch it first.`)
      await this.#sweep?.mark(id)
      changes.pin(id, name)
      if (row.keepUntil > 0) changes.touch(id, { ...row, keepUntil: 0 })
    })
  }

  async unpin(id: BlobId, name: string): Promise<void> {
    await this.#ledger.change(async (changes) => changes.unpin(id, name))
  }

  /** Takes back every pin of a name. */
  async unpinAll(name: string): Promise<void> {
    await this.#ledger.change(async (changes) => {
      for (const id of await this.#ledger.pinnedBy(name)) changes.unpin(id, name)
    })
  }

  pins(id: BlobId): Promise<string[]> {
    return this.#ledger.pins(id)
  }

  /** Keeps a blob, and all below it, from being swept until the returned function is called. */
  async hold(id: BlobId): Promise<() => void> {
    this.#held.set(id, (this.#held.get(id) ?? 0) + 1)
    if (this.#sweep !== undefined) await this.#ledger.change(async () => this.#sweep?.mark(id))
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
    await this.#ledger.close()
  }

  async #sweepNow(neededBytes?: number): Promise<SweepResult> {
    if (this.#sweeping !== undefined) return await this.#sweeping
    this.#sweep = new Sweep({
      ledger: this.#ledger,
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

  async #addFile(
    path: string,
    of: { id: BlobId; size: number; totalBytes: number; leaves: Uint8Array },
    options: PutOptions,
  ): Promise<BlobId> {
    const { id, size, totalBytes, leaves } = of
    await this.#ledger.change(async (changes) => {
      if ((await changes.get(id)) === undefined) {
        await rename(path, this.filePath(id))
        changes.renamed()
      } else await rm(path, { force: true })
      await this.#addRow(changes, id, { kind: 'file', size, totalBytes, where: 'file' }, leaves, options)
    })
    return id
  }

  async #add(id: BlobId, row: Omit<Row, 'since' | 'keepUntil'>, detail: Uint8Array, options: PutOptions): Promise<void> {
    await this.#ledger.change((changes) => this.#addRow(changes, id, row, detail, options))
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

  async #row(id: BlobId): Promise<Row> {
    const row = await this.#ledger.get(id)
    if (row === undefined) throw new MeshError('BlobNotFound', `The blob ${id} is not in this store.`)
    return row
  }

  /** The detail of a directory or of a file in the database, checked against its id. */
  async #detail(id: BlobId, kind: Row['kind']): Promise<Uint8Array> {
    const detail = await this.#ledger.detail(id)
    if (detail === undefined) throw new MeshError('BlobNotFound', `The blob ${id} is not in this store.`)
    if ((parseBlobId(id).codec === 'raw') !== (kind === 'file'))
      throw new MeshError('InvalidPropertyValue', `The blob ${id} is no ${kind}.`)
    if (Buffer.compare(sha256(detail), parseBlobId(id).digest) !== 0) throw await this.takeOut(id)
    return detail
  }

  /** The digests of a file's chunks, checked against its id. */
  async #leaves(id: BlobId, row: Row): Promise<Uint8Array> {
    if (row.size <= chunkBytes) return parseBlobId(id).digest
    const leaves = await this.#ledger.detail(id)
    if (leaves === undefined || leaves.length !== chunkCount(row.size) * 32) throw await this.takeOut(id)
    return leaves
  }

  async #partialChunk(id: BlobId, index: number): Promise<Uint8Array> {
    const entry = this.#receiving.get(id)
    const bytes = entry === undefined ? undefined : await (await entry.partial).read(index)
    if (bytes === undefined) throw new MeshError('BlobNotFound', `The blob ${id} is not in this store.`)
    return bytes
  }
}
