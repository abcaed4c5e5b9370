/** A worker's journal on a disk that drops what was not synced. */
import { type Journal, type JournalDisk, journalOn } from '../../../node/journal.ts'
import type { Batch, CrashDisk } from './crash-disk.ts'

/** A process's hold on the disk, until it dies. */
export class CrashJournalDisk implements JournalDisk {
  readonly disk: CrashDisk
  #isDead = false

  constructor(disk: CrashDisk) {
    this.disk = disk
  }

  open(): Promise<Journal> {
    return journalOn(this, 'a journal in memory')
  }

  crash(chance: number): void {
    this.#isDead = true
    this.disk.crash(chance)
  }

  async *rows(): AsyncGenerator<[string, Uint8Array]> {
    for (const key of this.disk.keys()) yield [key, this.disk.get(key)!]
  }

  async write(rows: Batch, sync: boolean): Promise<void> {
    if (this.#isDead) return never
    this.disk.write(rows)
    await new Promise(setImmediate)
    if (this.#isDead) return never
    if (sync) this.disk.sync()
  }

  async close(): Promise<void> {}
}

/** What a dead process waits for. */
const never = new Promise<never>(() => {})
