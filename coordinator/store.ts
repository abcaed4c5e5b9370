/**
 * The coordinator's rows on disk: LevelDB, one door. A batch is atomic and on the disk when `write` resolves (fsync);
 * what can be read is always durable. A write that fails leaves the process with no truth to speak from, so the shell
 * ends it (L5).
 */
import { readdirSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { Level } from 'level'
import { MeshError } from '../protocols/errors.ts'
import { levelDamage, systemAdvice } from '../protocols/level-log.ts'

/** `undefined` deletes. */
export type Rows = ReadonlyMap<string, Uint8Array | undefined>

export interface Range {
  gt?: string
  gte?: string
  lt: string
  limit?: number
}

export interface Store {
  /** Makes all rows durable as one: after a crash either all are there or none. */
  write(rows: Rows): Promise<void>
  get(key: string): Promise<Uint8Array | undefined>
  /** In the order of the keys; undefined where there is none. */
  getMany(keys: readonly string[]): Promise<(Uint8Array | undefined)[]>
  /** Rows in the order of their keys. */
  scan(range: Range): AsyncIterable<[key: string, value: Uint8Array]>
  /** Deletes a range; may take long, need not be atomic. */
  clear(range: Range): Promise<void>
  close(): Promise<void>
}

/** What a scan takes from the database at once: some hundred rows, for each time is a way to another thread and back. */
const scannedBytes = 256 << 10

/** Opens the store in a directory, which one process at a time may use. Rejects with a sentence on what is wrong. */
export async function openLevelStore(directory: string): Promise<Store> {
  const unusable = (what: string, cause?: unknown) =>
    new MeshError('InternalError', `The coordinator's database ${directory} cannot be opened: ${what}.`, { cause })
  const wayOut = 'Restore it from a backup, or move it away to start without its jobs'
  const damage = levelDamage({ list: () => readdirSync(directory), read: (name) => readFileSync(join(directory, name)) })
  if (damage !== undefined) throw unusable(`it is damaged, ${damage}. ${wayOut}`)
  // It begins to open when it is made.
  const level = new Level<string, Uint8Array>(directory, { keyEncoding: 'utf8', valueEncoding: 'view' })
  try {
    await level.open()
  } catch (error) {
    const cause = error instanceof Error && error.cause instanceof Error ? error.cause : (error as Error)
    const locked = 'code' in cause && cause.code === 'LEVEL_LOCKED'
    throw unusable(locked ? 'another process is using it' : `${cause.message}. ${systemAdvice(cause.message) ?? wayOut}`, error)
  }
  /** Damage in tables shows when they are read. */
  const readable = (error: unknown): never => {
    const { code, message } = error as { code?: string; message: string }
    if (code !== 'LEVEL_CORRUPTION' && code !== 'LEVEL_IO_ERROR') throw error
    throw new MeshError('InternalError', `The coordinator's database ${directory} is damaged: ${message}. Stop the node. ${wayOut}.`, {
      cause: error,
    })
  }
  return {
    async write(rows) {
      const batch = []
      for (const [key, value] of rows) {
        batch.push(value === undefined ? ({ type: 'del', key } as const) : ({ type: 'put', key, value } as const))
      }
      if (batch.length > 0) await level.batch(batch, { sync: true })
    },
    get: (key) => level.get(key).catch(readable),
    getMany: (keys) => level.getMany([...keys]).catch(readable),
    scan: (range) => ({
      [Symbol.asyncIterator]() {
        const rows = level.iterator({ ...range, highWaterMarkBytes: scannedBytes })[Symbol.asyncIterator]()
        return { next: () => rows.next().catch(readable), return: () => rows.return!() }
      },
    }),
    clear: (range) => level.clear(range),
    close: () => level.close(),
  }
}

/** A store in memory, for tests and simulations. */
export function createMemoryStore(): Store {
  const rows = new Map<string, Uint8Array>()
  const inRange = ({ gt, gte, lt }: Range) =>
    [...rows.keys()].filter((key) => (gt === undefined || key > gt) && (gte === undefined || key >= gte) && key < lt).sort()
  return {
    write: async (batch) => {
      for (const [key, value] of batch) {
        if (value === undefined) rows.delete(key)
        else rows.set(key, value)
      }
    },
    get: async (key) => rows.get(key),
    getMany: async (keys) => keys.map((key) => rows.get(key)),
    async *scan(range) {
      for (const key of inRange(range).slice(0, range.limit)) {
        const value = rows.get(key)
        if (value !== undefined) yield [key, value]
      }
    },
    clear: async (range) => {
      for (const key of inRange(range)) rows.delete(key)
    },
    close: async () => {},
  }
}
