/** Joins a call in a thread with the gang that it is a member of: what the thread brings to the rally, and what it hears of the others. */
import { setTimeout as sleep } from 'node:timers/promises'
import type { Called, GangMember } from '../../ports.ts'
import type { CallEvents } from './child.ts'
import type { GangFacts, Rallied } from './messages.ts'

/**
 * A member that failed because of another one waits so long with its own report: that of the other says why, and ends the
 * attempt everywhere. A machine that falls silent is known to be lost after 8 s (gangs/), and the coordinator may take a moment.
 */
const otherSaysMs = 15_000

/** What the call's thread is told. */
export interface Tell {
  rallied(rally: Rallied): void
  parted(rank: number, why: string): void
  stop(): void
}

export class GangCall {
  readonly facts: GangFacts
  readonly #member: GangMember
  readonly #signal: AbortSignal
  readonly #waitMs: number
  #hasRallied = false
  #failure: unknown
  #isOfAnother = false
  #unlisten = () => {}

  /** `waitMs`: instead of {@link otherSaysMs}. */
  constructor(member: GangMember, signal: AbortSignal, waitMs = otherSaysMs) {
    const { rank, address } = member
    this.facts = { rank, address }
    this.#member = member
    this.#signal = signal
    this.#waitMs = waitMs
  }

  /** The events of the call, with what its gang adds to them. */
  events(own: CallEvents, tell: Tell): CallEvents {
    return {
      ...own,
      answered: (answer, times) => {
        this.#isOfAnother = answer.how === 'threw' && answer.after !== undefined
        own.answered(answer, times)
      },
      rally: (card) => {
        // The child runs a stranger's code.
        if (this.#hasRallied) return
        this.#hasRallied = true
        this.#unlisten = this.#member.onLost((rank, why) => tell.parted(rank, why))
        this.#member.rally(card, this.#signal).then(
          (rally) => tell.rallied(rally),
          (error: unknown) => {
            this.#failure = error
            tell.stop()
          },
        )
      },
    }
  }

  /** How the call ended, once that can be told. Rejects as the call or the rally did. */
  async settled(call: Promise<Called>): Promise<Called> {
    try {
      const called = await call
      if (called.killed && this.#failure !== undefined && !this.#signal.aborted) throw this.#failure
      return called
    } finally {
      this.#unlisten()
      if (this.#isOfAnother) await sleep(this.#waitMs, undefined, { signal: this.#signal, ref: false }).catch(() => undefined)
    }
  }
}
