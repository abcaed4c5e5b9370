/**
 * What the store knows: one row a blob, its pins, and small contents themselves, in a LevelDB. The one door to LevelDB
 * of the node's store.
 *
 * Changes are committed in groups: while one group is being synced the next gathers, so that a thousand small files
 * cost a handful of syncs. What a change decides on (is it pinned, is it there) is read inside the group, one change
 * after another, so decisions never race.
 */
import { type FileHandle, open, statfs } from 'node:fs/promises'
import { dirname } from 'node:path'
import { type BatchOperation, ClassicLevel } from 'classic-level'
import { decode, encode } from '../../protocols/codec.ts'
import { MeshError } from '../../protocols/errors.ts'
import { failpoint } from '../../protocols/failpoint.ts'
import type { BlobId } from '../../protocols/ids.ts'
import { levelDamage, systemAdvice } from '../../protocols/level-log.ts'
import { levelFiles } from '../level-files.ts'
import { diskFull, isDiskFull } from './budget.ts'

export interface Row {
  kind: 'file' | 'directory'
  /** Bytes of the file, or of all files below. */
  size: number
  /** Size with the nodes above the content: what a directory's link to it says. */
  totalBytes: number
  /** When it came, ms since 1970: the oldest unpinned blobs make room first. */
  since: number
  /** Not swept before this time although nothing pins it: an upload whose pin is still to come. */
  keepUntil: number
  /** `file`: a file of its own. `row`: its bytes are the row's detail. */
  where: 'file' | 'row'
}

/** One group of changes. A change first reads and checks, then writes: a change that throws must have written nothing. */
export interface Changes {
  get(id: BlobId): Promise<Row | undefined>
  getMany(ids: readonly BlobId[]): Promise<(Row | undefined)[]>
  isPinned(id: BlobId): Promise<boolean>
  /** `detail`: digests of the chunks of a larger file, the content of a small one, or the block of a directory. */
  add(id: BlobId, row: Row, detail?: Uint8Array): void
  /** Changes the row of a blob that is there. */
  touch(id: BlobId, row: Row): void
  remove(id: BlobId, row: Row): void
  pin(id: BlobId, name: string): void
  unpin(id: BlobId, name: string): void
  /** A file was renamed into the directory of files: it is synced before the rows are. */
  renamed(): void
}

interface Waiting {
  work: (changes: Changes) => Promise<unknown>
  resolve: (value: never) => void
  reject: (error: unknown) => void
}

/** Of the rows; raised when they change their shape. */
const format = 1

/** Changes in one group: bounds what a crash takes back and how long the first waits. */
const maxGroup = 2048

/** Free disk without which the index is not opened anew: opening writes its newest rows to a file of their own. */
const reopenBytes = 16 << 20

type Operation = BatchOperation<ClassicLevel<string, Uint8Array>, string, Uint8Array>

export class Ledger {
  readonly #db: ClassicLevel<string, Uint8Array>
  readonly #path: string
  readonly #filesDir: FileHandle
  /**
   * A write failed half way: what LevelDB adds to that log, it does not find again at the next start. The index is opened
   * anew, which begins another log, before anything else is written.
   */
  #isTorn = false
  #reopening: Promise<void> | undefined
  #usedBytes = 0
  #waiting: Waiting[] = []
  #running: Promise<void> | undefined

  private constructor(db: ClassicLevel<string, Uint8Array>, path: string, filesDir: FileHandle) {
    this.#db = db
    this.#path = path
    this.#filesDir = filesDir
  }

  static async open(path: string, filesPath: string): Promise<Ledger> {
    const damage = levelDamage(levelFiles(path))
    if (damage !== undefined) throw damaged(path, damage)
    // It begins to open when it is made.
    const db = new ClassicLevel<string, Uint8Array>(path, { keyEncoding: 'utf8', valueEncoding: 'view' })
    await db.open().catch((error: Error) => {
      throw damaged(path, (error.cause instanceof Error ? error.cause : error).message, error)
    })
    try {
      await checkFormat(db, path)
    } catch (error) {
      await db.close()
      throw error
    }
    const ledger = new Ledger(db, path, await open(filesPath, 'r'))
    const used = await db.get('used')
    ledger.#usedBytes = used === undefined ? 0 : (decode(used) as number)
    return ledger
  }

  /** Bytes of all blobs. */
  get usedBytes(): number {
    return this.#usedBytes
  }

  async get(id: BlobId): Promise<Row | undefined> {
    return readRow(await (await this.#opened()).get(`b!${id}`))
  }

  async getMany(ids: readonly BlobId[]): Promise<(Row | undefined)[]> {
    return (await (await this.#opened()).getMany(ids.map((id) => `b!${id}`))).map(readRow)
  }

  async detail(id: BlobId): Promise<Uint8Array | undefined> {
    return (await this.#opened()).get(`d!${id}`)
  }

  /** Rows in the order of their ids. */
  async *rows(after?: BlobId): AsyncGenerator<[BlobId, Row]> {
    for await (const [key, value] of (await this.#opened()).iterator({ gt: `b!${after ?? ''}`, lt: 'b"' }))
      yield [key.slice(2), readRow(value)!]
  }

  async pins(id: BlobId): Promise<string[]> {
    const keys = await (await this.#opened()).keys({ gt: `p!${id}!`, lt: `p!${id}"` }).all()
    return keys.map((key) => decodeURIComponent(key.slice(id.length + 3)))
  }

  /** Every pinned id, an id with several pins several times. */
  async *pinned(): AsyncGenerator<BlobId> {
    for await (const key of (await this.#opened()).keys({ gt: 'p!', lt: 'p"' })) yield key.slice(2, key.indexOf('!', 2))
  }

  async pinnedBy(name: string): Promise<BlobId[]> {
    const prefix = `n!${encodeURIComponent(name)}`
    return (await (await this.#opened()).keys({ gt: `${prefix}!`, lt: `${prefix}"` }).all()).map((key) => key.slice(prefix.length + 1))
  }

  /** Does `work` in the next group; resolves when its changes are synced to the disk. */
  change<T>(work: (changes: Changes) => Promise<T>): Promise<T> {
    return new Promise<T>((resolve, reject) => {
      this.#waiting.push({ work, resolve, reject })
      this.#running ??= this.#run()
    })
  }

  async close(): Promise<void> {
    await this.#running
    await this.#db.close()
    await this.#filesDir.close()
  }

  async #run(): Promise<void> {
    // The first of a burst waits for the rest of its turn of the loop.
    await new Promise<void>((resolve) => setImmediate(resolve))
    while (this.#waiting.length > 0) await this.#commit(this.#waiting.splice(0, maxGroup))
    this.#running = undefined
  }

  async #commit(group: Waiting[]): Promise<void> {
    const overlay = new Map<string, Uint8Array | null>()
    const rows = new Map<BlobId, Row | undefined>()
    let grownBytes = 0
    let filesRenamed = false
    const changes: Changes = {
      get: async (id) => (rows.has(id) ? rows.get(id) : this.get(id)),
      getMany: async (ids) => {
        const stored = await this.getMany(ids)
        return stored.map((row, index) => (rows.has(ids[index]!) ? rows.get(ids[index]!) : row))
      },
      isPinned: async (id) => {
        for (const name of await this.pins(id)) if (overlay.get(pinKey(id, name)) !== null) return true
        for (const [key, value] of overlay) if (value !== null && key.startsWith(`p!${id}!`)) return true
        return false
      },
      add: (id, row, detail) => {
        rows.set(id, row)
        overlay.set(`b!${id}`, encode(row))
        if (detail !== undefined) overlay.set(`d!${id}`, detail)
        grownBytes += heldBytes(row)
      },
      touch: (id, row) => {
        rows.set(id, row)
        overlay.set(`b!${id}`, encode(row))
      },
      remove: (id, row) => {
        rows.set(id, undefined)
        overlay.set(`b!${id}`, null)
        overlay.set(`d!${id}`, null)
        grownBytes -= heldBytes(row)
      },
      pin: (id, name) => {
        overlay.set(pinKey(id, name), new Uint8Array())
        overlay.set(`n!${encodeURIComponent(name)}!${id}`, new Uint8Array())
      },
      unpin: (id, name) => {
        overlay.set(pinKey(id, name), null)
        overlay.set(`n!${encodeURIComponent(name)}!${id}`, null)
      },
      renamed: () => {
        filesRenamed = true
      },
    }
    const done: { waiting: Waiting; value: never }[] = []
    for (const waiting of group) {
      try {
        done.push({ waiting, value: (await waiting.work(changes)) as never })
      } catch (error) {
        waiting.reject(error)
      }
    }
    try {
      if (filesRenamed) await this.#filesDir.sync()
      failpoint('blobs.rows.writing')
      if (overlay.size > 0) await this.#write(overlay, this.#usedBytes + grownBytes)
      failpoint('blobs.rows.synced')
      this.#usedBytes += grownBytes
      for (const { waiting, value } of done) waiting.resolve(value)
    } catch (error) {
      for (const { waiting } of done) waiting.reject(isDiskFull(error) ? diskFull(error) : error)
    }
  }

  async #write(overlay: ReadonlyMap<string, Uint8Array | null>, usedBytes: number): Promise<void> {
    const batch: Operation[] = [{ type: 'put', key: 'used', value: encode(usedBytes) }]
    for (const [key, value] of overlay) batch.push(value === null ? { type: 'del', key } : { type: 'put', key, value })
    if (this.#isTorn) await this.#reopen()
    try {
      await (await this.#opened()).batch(batch, { sync: true })
    } catch (error) {
      this.#isTorn = true
      throw error
    }
  }

  /** The index, once it is not being opened anew. */
  async #opened(): Promise<ClassicLevel<string, Uint8Array>> {
    await this.#reopening
    if (this.#db.status !== 'open') await this.#reopen()
    return this.#db
  }

  /** Closes the index and opens it again; while the disk has no room for that, rejects and leaves it as it is, to be read. */
  async #reopen(): Promise<void> {
    this.#reopening ??= (async () => {
      const { bavail, bsize } = await statfs(this.#path)
      if (bavail * bsize < reopenBytes) throw diskFull(undefined)
      await this.#db.close()
      await this.#db.open()
      this.#isTorn = false
    })().finally(() => {
      this.#reopening = undefined
    })
    await this.#reopening
  }
}

function damaged(path: string, what: string, cause?: unknown): MeshError {
  const locked = ((cause as Error | undefined)?.cause as { code?: string } | undefined)?.code === 'LEVEL_LOCKED'
  const then = locked
    ? 'Another process uses it'
    : (systemAdvice(what) ??
      `Move the directory ${dirname(path)} away: the node starts with an empty store and fetches from others what they have; restore the directory from a copy to keep what only this machine had`)
  return new MeshError('InternalError', `The index of the blob store ${path} cannot be opened: ${what}. ${then}.`, { cause })
}

/** Marks a new index; one without a number is of version 0.1, which had this format and gave none. Rejects, and changes nothing, for another. */
async function checkFormat(db: ClassicLevel<string, Uint8Array>, path: string): Promise<void> {
  const known = await db.get('format')
  if (known === undefined) return db.put('format', encode(format), { sync: true })
  const found = decode(known)
  if (found === format) return
  throw new MeshError(
    'UnsupportedVersion',
    `The index of the blob store ${path} has format ${String(found)}, this version of Batchmesh knows format ${format}. Use the version that wrote it.`,
  )
}

function pinKey(id: BlobId, name: string): string {
  return `p!${id}!${encodeURIComponent(name)}`
}

/** Bytes that count against the quota: content, not the nodes of directories. */
function heldBytes(row: Row): number {
  return row.kind === 'file' ? row.size : 0
}

function readRow(value: Uint8Array | undefined): Row | undefined {
  return value === undefined ? undefined : (decode(value) as Row)
}
