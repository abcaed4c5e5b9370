/** Members of a gang come together without nodes: a rally in the test's own process. */
import { randomBytes } from 'node:crypto'
import type { GangMember } from '../../node/ports.ts'

export class FakeRally {
  readonly size: number
  /** What came, by rank. */
  readonly cards: Uint8Array[] = []
  /** Who listens for losses. */
  readonly listeners = new Set<(rank: number, reason: string) => void>()
  readonly #all = Promise.withResolvers<{ cards: readonly Uint8Array[]; key: Uint8Array }>()
  #count = 0

  constructor(size: number) {
    this.size = size
    this.#all.promise.catch(() => undefined)
  }

  member(rank: number): GangMember {
    return {
      rank,
      address: '127.0.0.1',
      rally: (card) => {
        this.cards[rank] = card
        this.#count += 1
        if (this.#count === this.size) this.#all.resolve({ cards: this.cards, key: randomBytes(32) })
        return this.#all.promise
      },
      onLost: (handler) => {
        this.listeners.add(handler)
        return () => this.listeners.delete(handler)
      },
    }
  }

  /** They cannot come together. */
  fail(error: Error): void {
    this.#all.reject(error)
  }

  lose(rank: number, reason: string): void {
    for (const listener of this.listeners) listener(rank, reason)
  }
}
