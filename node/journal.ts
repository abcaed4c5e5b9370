/**
 * What a machine must remember across restarts, in a LevelDB directory of its own (the coordinator has another):
 * its incarnation number, the highest owner epoch that it obeyed, its reservations (R1), and the outcomes that no coordinator has acknowledged (L6).
 *
 * Writes are gathered while one batch syncs and go down together as the next: an fsync takes 1 to 4 ms, whatever the
 * number of rows. A failed write is final: every later one is refused, because what is on disk is not known any more.
 */
import { Level } from 'level'
import { z } from 'zod'
import { decode, encode } from '../protocols/codec.ts'
import { failpoint } from '../protocols/failpoint.ts'
import { type Attempt, attemptKey, attemptSchema } from '../protocols/ids.ts'
import { levelDamage, systemAdvice } from '../protocols/level-log.ts'
import { outcomeSchema } from '../protocols/model/task.ts'
import { type Reservation, reservationSchema } from '../protocols/pools.ts'
import { levelFiles } from './level-files.ts'

/** Layout of the rows; a journal of another version is refused. */
const format = 'batchmesh node journal 1'

/**
 * Outcomes wait so long for their fsync, because most are acknowledged within it and then need none: on one disk with
 * the coordinator every fsync slows its own. A crash within it costs no more than one that much earlier: the task runs again.
 * Several times what a busy worker gathers reports for (worker/reporter.ts), so that the coordinator's fsync fits in.
 */
const gatherMs = 100

const finishedSchema = z.object({ attempt: attemptSchema, nodeId: z.string(), outcome: outcomeSchema })
/** An attempt that has ended here and whose report is not acknowledged. */
export type Finished = z.infer<typeof finishedSchema>

/** What was on disk when the journal was opened. */
export interface Remembered {
  /** Of this start: larger than that of any start before, and on disk. */
  incarnation: number
  ownerEpoch: number
  reservations: Reservation[]
  finished: Finished[]
}

export interface Journal {
  readonly remembered: Remembered
  /** Resolves when it is on disk. */
  obeyed(ownerEpoch: number): Promise<void>
  reserve(reservation: Reservation): Promise<void>
  release(reservationId: number): Promise<void>
  /** Keeps an outcome until {@link acknowledged}; resolves when it is on disk, or was acknowledged before it had to be. */
  finished(item: Finished): Promise<void>
  /** Forgets an outcome. Not synced: after a crash it is reported once more and accepted once more (L4). */
  acknowledged(attempt: Attempt): void
  /** Rejects with the first write that failed; never resolves otherwise. */
  readonly broken: Promise<never>
  close(): Promise<void>
}

type Batch = Map<string, unknown>

/** Where the rows lie. */
export interface JournalDisk {
  rows(): AsyncIterable<[key: string, value: Uint8Array]>
  /** Writes all rows as one (`undefined` deletes), after all that were written before; durable when it resolves if `sync` is set. */
  write(rows: ReadonlyMap<string, Uint8Array | undefined>, sync: boolean): Promise<void>
  close(): Promise<void>
}

/**
 * Opens or makes the journal in `directory`. Throws when it is in use, damaged, or something else. `firstStart` is the number
 * of the first start of a journal that is made: above any of one that was lost, so that the coordinator knows this start for a
 * later one (L7).
 */
export async function openJournal(directory: string, firstStart?: number): Promise<Journal> {
  const damage = levelDamage(levelFiles(directory))
  if (damage !== undefined) throw openError(directory, new Error(damage))
  const db = new Level<string, Uint8Array>(directory, { keyEncoding: 'utf8', valueEncoding: 'view' })
  try {
    await db.open()
  } catch (error) {
    throw openError(directory, error)
  }
  return journalOn(levelDisk(db), directory, firstStart)
}

function levelDisk(db: Level<string, Uint8Array>): JournalDisk {
  return {
    rows: () => db.iterator(),
    write: (rows, sync) => {
      const operations = []
      for (const [key, value] of rows) {
        if (value === undefined) operations.push({ type: 'del' as const, key })
        else operations.push({ type: 'put' as const, key, value })
      }
      return db.batch(operations, { sync })
    },
    close: () => db.close(),
  }
}

/** A journal on an open disk, which it closes; `directory` is named in errors. Throws when its rows are not a journal's. */
export async function journalOn(disk: JournalDisk, directory: string, firstStart = 1): Promise<Journal> {
  try {
    const rows = await readRows(disk, directory)
    const incarnation = rows.incarnation === 0 ? firstStart : rows.incarnation + 1
    const head: Batch = new Map<string, unknown>([
      ['format', format],
      ['incarnation', incarnation],
    ])
    await writeBatch(disk, head, true)
    failpoint('journal.start.counted')
    return new GatheringJournal(disk, { ...rows, incarnation })
  } catch (error) {
    await disk.close()
    throw error
  }
}

function openError(directory: string, error: unknown): Error {
  const cause = error instanceof Error && error.cause instanceof Error ? error.cause : error
  const code = (cause as { code?: string }).code
  const text = cause instanceof Error ? cause.message : String(cause)
  if (code === 'LEVEL_LOCKED')
    return new Error(
      `The node journal ${directory} is in use: another node runs with this data directory. Stop it first (\`batchmesh down\`), or give this one another.`,
      { cause: error },
    )
  return new Error(
    `The node journal ${directory} cannot be opened: ${text}. ${systemAdvice(text) ?? 'If it is damaged, move the directory away: the node starts as new, and its unreported tasks run again'}.`,
    { cause: error },
  )
}

async function readRows(disk: JournalDisk, directory: string): Promise<Remembered> {
  const rows: Remembered = { incarnation: 0, ownerEpoch: 0, reservations: [], finished: [] }
  let known = false
  let any = false
  for await (const [key, value] of disk.rows()) {
    any = true
    try {
      if (key === 'format') known = decode(value) === format
      else if (key === 'incarnation') rows.incarnation = z.number().int().positive().parse(decode(value))
      else if (key === 'ownerEpoch') rows.ownerEpoch = z.number().int().min(0).parse(decode(value))
      else if (key.startsWith('reservation/')) rows.reservations.push(reservationSchema.parse(decode(value)))
      else if (key.startsWith('finished/')) rows.finished.push(finishedSchema.parse(decode(value)))
    } catch (error) {
      throw new Error(
        `The node journal ${directory} is damaged at the row ${key}. Move the directory away: the node starts as new, and its unreported tasks run again.`,
        { cause: error },
      )
    }
  }
  if (any && !known)
    throw new Error(`The directory ${directory} is no node journal of this version of Batchmesh. Give the node another data directory.`)
  return rows
}

function writeBatch(disk: JournalDisk, batch: Batch, sync: boolean): Promise<void> {
  const rows = new Map<string, Uint8Array | undefined>()
  for (const [key, value] of batch) rows.set(key, value === undefined ? undefined : encode(value))
  return disk.write(rows, sync)
}

class GatheringJournal implements Journal {
  readonly remembered: Remembered
  readonly broken: Promise<never>
  readonly #disk: JournalDisk
  /** Gathered for the next batch; the last write of a key counts. `undefined` deletes. */
  #next: Batch = new Map()
  /** Whether the next batch holds a row that must be on disk before it is said to be. */
  #sync = false
  /** The batch under way: a row in it that is acknowledged meanwhile must be deleted by the next one. */
  #underWay: Batch | undefined
  #timer: NodeJS.Timeout | undefined
  #urgent = false
  #flushed: PromiseWithResolvers<void> = quiet()
  #failure: Error | undefined
  #break!: (error: Error) => void
  #idle: Promise<void> = Promise.resolve()

  constructor(disk: JournalDisk, remembered: Remembered) {
    this.#disk = disk
    this.remembered = remembered
    this.broken = new Promise((_, reject) => {
      this.#break = reject
    })
    this.broken.catch(() => {})
  }

  async obeyed(ownerEpoch: number): Promise<void> {
    failpoint('journal.epoch.given')
    await this.#write('ownerEpoch', ownerEpoch, 0)
    failpoint('journal.epoch.written')
  }

  reserve(reservation: Reservation): Promise<void> {
    return this.#write(`reservation/${reservation.reservationId}`, reservation, 0)
  }

  release(reservationId: number): Promise<void> {
    return this.#write(`reservation/${reservationId}`, undefined, 0)
  }

  finished(item: Finished): Promise<void> {
    failpoint('journal.outcome.given')
    return this.#write(`finished/${attemptKey(item.attempt)}`, item, gatherMs)
  }

  acknowledged(attempt: Attempt): void {
    const key = `finished/${attemptKey(attempt)}`
    // The common case on a quick network: the coordinator has it before this disk does, and nothing need be written.
    if (this.#next.get(key) !== undefined && this.#underWay?.has(key) !== true) this.#next.delete(key)
    else {
      this.#next.set(key, undefined)
      this.#schedule(gatherMs)
    }
  }

  #write(key: string, value: unknown, delayMs: number): Promise<void> {
    if (this.#failure !== undefined) return Promise.reject(this.#failure)
    this.#sync = true
    this.#next.set(key, value)
    const { promise } = this.#flushed
    this.#schedule(delayMs)
    return promise
  }

  #schedule(delayMs: number): void {
    if (delayMs > 0) {
      this.#timer ??= setTimeout(() => this.#begin(), delayMs)
      return
    }
    this.#urgent = true
    this.#begin()
  }

  #begin(): void {
    clearTimeout(this.#timer)
    this.#timer = undefined
    if (this.#underWay === undefined) this.#idle = this.#flush()
    else this.#urgent = true
  }

  /** Writes what is gathered, and again what came meanwhile as long as somebody waits for it. */
  async #flush(): Promise<void> {
    do {
      this.#urgent = false
      const batch = this.#next
      const flushed = this.#flushed
      const sync = this.#sync
      this.#underWay = batch
      this.#next = new Map()
      this.#flushed = quiet()
      this.#sync = false
      try {
        if (this.#failure !== undefined) throw this.#failure
        failpoint('journal.batch.writing')
        if (batch.size > 0) await writeBatch(this.#disk, batch, sync)
        failpoint('journal.batch.synced')
        flushed.resolve()
      } catch (error) {
        this.#fail(error)
        flushed.reject(this.#failure)
      }
    } while (this.#urgent)
    this.#underWay = undefined
  }

  #fail(error: unknown): void {
    if (this.#failure !== undefined) return
    const text = error instanceof Error ? error.message : String(error)
    this.#failure = new Error(`The node journal cannot be written: ${text}`, { cause: error })
    this.#break(this.#failure)
  }

  async close(): Promise<void> {
    this.#begin()
    await this.#idle
    this.#failure ??= new Error('The node journal is closed.')
    await this.#disk.close()
  }
}

/** A promise that may be rejected with nobody listening. */
function quiet(): PromiseWithResolvers<void> {
  const it = Promise.withResolvers<void>()
  it.promise.catch(() => {})
  return it
}
