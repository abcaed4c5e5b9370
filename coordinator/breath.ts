/** Long work in pieces: between them sockets are read, and heartbeats answered. */
import { setImmediate } from 'node:timers/promises'

/** Short beside any window or heartbeat, long beside what a turn of the loop costs. */
const pieceMs = 20

export class Breath {
  #since = performance.now()

  get isDue(): boolean {
    return performance.now() - this.#since >= pieceMs
  }

  async take(): Promise<void> {
    await setImmediate()
    this.#since = performance.now()
  }
}
