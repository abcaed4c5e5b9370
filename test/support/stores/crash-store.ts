/** The coordinator's store on a disk that drops what was not synced. */
import type { Range, Store } from '../../../coordinator/store.ts'
import { CrashDisk } from './crash-disk.ts'

/** Turns of the event loop. */
const syncTurns = 4

/** A process's hold on the disk; {@link crash} ends it, and the next one finds what is durable. */
export class CrashStore implements Store {
  readonly disk: CrashDisk
  #isDead = false

  constructor(disk = new CrashDisk()) {
    this.disk = disk
  }

  /** The process dies: nothing of it reaches the disk any more, and nothing is answered to it. */
  crash(chance: number): void {
    this.#isDead = true
    this.disk.crash(chance)
  }

  async write(rows: ReadonlyMap<string, Uint8Array | undefined>): Promise<void> {
    if (this.#isDead) return never
    this.disk.write(rows)
    // An fsync takes a while, in which much may be said and the process may die.
    for (let turn = 0; turn < syncTurns; turn += 1) await new Promise(setImmediate)
    if (this.#isDead) return never
    this.disk.sync()
  }

  async get(key: string): Promise<Uint8Array | undefined> {
    return this.#isDead ? never : this.disk.get(key)
  }

  async getMany(keys: readonly string[]): Promise<(Uint8Array | undefined)[]> {
    return this.#isDead ? never : keys.map((key) => this.disk.get(key))
  }

  async *scan(range: Range): AsyncGenerator<[string, Uint8Array]> {
    for (const key of this.#inRange(range).slice(0, range.limit)) {
      if (this.#isDead) return await never
      const value = this.disk.get(key)
      if (value !== undefined) yield [key, value]
    }
  }

  /** Not synced: after a crash the rows may be there again. */
  async clear(range: Range): Promise<void> {
    if (this.#isDead) return never
    // LevelDB deletes row by row, so a crash may leave a part.
    for (const key of this.#inRange(range)) this.disk.write(new Map([[key, undefined]]))
  }

  async close(): Promise<void> {}

  #inRange({ gt, gte, lt }: Range): string[] {
    return this.disk.keys().filter((key) => (gt === undefined || key > gt) && (gte === undefined || key >= gte) && key < lt)
  }
}

/** What a dead process waits for. */
const never = new Promise<never>(() => {})
