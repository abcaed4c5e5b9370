/**
 * A disk that drops what was not synced: LevelDB's promise and no more. Batches go to a log, in order; a sync makes all of
 * it durable. A crash keeps what was synced and, as the torn end of a log is read back, the first few of the batches after
 * that, or none; each is whole or not there. Used by the store and the journal of tests, and by the simulation.
 */

/** `undefined` deletes. */
export type Batch = ReadonlyMap<string, Uint8Array | undefined>

export class CrashDisk {
  /** What no crash takes away. */
  readonly durable = new Map<string, Uint8Array>()
  #log: Batch[] = []

  /** Written, but not synced yet. */
  get unsynced(): number {
    return this.#log.length
  }

  write(batch: Batch): void {
    this.#log.push(new Map(batch))
  }

  sync(): void {
    for (const batch of this.#log) this.#apply(batch)
    this.#log = []
  }

  /** `chance`, from 0 to below 1, says how much of the log's end is there after all. The answer: the batches that are lost. */
  crash(chance: number): Batch[] {
    const kept = Math.floor(chance * (this.#log.length + 1))
    const lost = this.#log.splice(kept)
    this.sync()
    return lost
  }

  /** As the process sees it that goes on. */
  get(key: string): Uint8Array | undefined {
    const last = this.#log.findLast((batch) => batch.has(key))
    return last === undefined ? this.durable.get(key) : last.get(key)
  }

  /** Keys that the process sees, in their order. */
  keys(): string[] {
    const keys = new Set(this.durable.keys())
    for (const batch of this.#log) {
      for (const [key, value] of batch) {
        if (value === undefined) keys.delete(key)
        else keys.add(key)
      }
    }
    return [...keys].sort()
  }

  #apply(batch: Batch): void {
    for (const [key, value] of batch) {
      if (value === undefined) this.durable.delete(key)
      else this.durable.set(key, value)
    }
  }
}
