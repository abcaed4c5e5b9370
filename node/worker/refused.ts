/** Attempts said to be ended before their grant was read: it may be in an answer that arrived just before. */
import { type Attempt, attemptKey } from '../../protocols/ids.ts'

/** Far more than a session ever has. */
const most = 10_000

export class Refused {
  readonly #keys = new Set<string>()

  add(attempt: Attempt): void {
    if (this.#keys.size >= most) this.#keys.clear()
    this.#keys.add(attemptKey(attempt))
  }

  has(attempt: Attempt): boolean {
    return this.#keys.has(attemptKey(attempt))
  }

  clear(): void {
    this.#keys.clear()
  }
}
