/**
 * Asks for work. One claim stands at the coordinator at a time, which holds it until there is something; when the
 * machine's room changes, a newer claim replaces it, and one whose time is up is made again, so that the first task
 * after a long idle time starts at once. Where the coordinator does not hold a claim (it refused it, or answered empty
 * too early) the machine sleeps, longer each time up to {@link sleepMs}, until an offer wakes it (G1) or its room grows.
 */

import { MeshError } from '../../protocols/errors.ts'
import type { ClaimAnswer } from '../../protocols/leases.ts'
import { parkMs, sleepMs, wakeJitterMs } from '../../protocols/offers.ts'
import { type Ask, outdated } from '../intake.ts'
import type { Log } from '../ports.ts'
import type { LeaseSession } from './reporter.ts'

/** A claim is not replaced sooner: most are answered within this, and what ends meanwhile is covered by the prefetch. */
const replaceMs = 20
/** First pause after a refused claim, or one that was answered empty at once; doubles up to {@link sleepMs}. */
const retryMs = 1000
/** The coordinator may hold a claim for {@link parkMs}; after so much more without an answer it is sent again. */
const claimGraceMs = 30_000

export interface ClaimerParts {
  /** What to ask for now; empty: nothing. */
  plan(): Ask[]
  /** Takes an answer of the session that is up. */
  answered(answer: ClaimAnswer, asked: readonly Ask[]): void
  /** Makes request ids that no start of this machine made before (L4). */
  nextId(): string
  now(): number
  random(): number
  log: Log
}

interface Standing {
  asks: Ask[]
  since: number
}

export class Claimer {
  readonly #parts: ClaimerParts
  #session: LeaseSession | undefined
  #standing: Standing | undefined
  /** What found nothing, and until when it is not asked again. */
  #asleep: { asks: Ask[]; until: number } | undefined
  /** Claims in a row that the coordinator did not hold. */
  #inVain = 0
  #scheduled = false
  #timer: NodeJS.Timeout | undefined

  constructor(parts: ClaimerParts) {
    this.#parts = parts
  }

  connect(session: LeaseSession): void {
    this.#session = session
    this.#standing = undefined
    this.#asleep = undefined
    this.#inVain = 0
    this.poke()
  }

  disconnect(): void {
    this.#session = undefined
    this.#standing = undefined
    this.#asleep = undefined
    clearTimeout(this.#timer)
  }

  /** Something changed: think again at the end of this turn of the loop. */
  poke(): void {
    if (this.#scheduled || this.#session === undefined) return
    this.#scheduled = true
    setImmediate(() => {
      this.#scheduled = false
      this.#think()
    })
  }

  /** An offer was heard. */
  wake(): void {
    if (this.#asleep === undefined) return
    const now = this.#parts.now()
    this.#asleep.until = Math.min(this.#asleep.until, now + this.#parts.random() * wakeJitterMs)
    this.poke()
  }

  #think(): void {
    if (this.#session === undefined) return
    const now = this.#parts.now()
    const asks = this.#parts.plan()
    if (this.#standing !== undefined) {
      if (!outdated(this.#standing.asks, asks)) return
      const age = now - this.#standing.since
      if (age >= 0 && age < replaceMs) return this.#later(replaceMs - age)
      return void this.#claim(this.#session, asks, now)
    }
    if (asks.length === 0) return
    if (this.#asleep !== undefined && this.#asleep.until > now && !outdated(this.#asleep.asks, asks))
      return this.#later(this.#asleep.until - now)
    void this.#claim(this.#session, asks, now)
  }

  #later(ms: number): void {
    clearTimeout(this.#timer)
    this.#timer = setTimeout(() => this.poke(), ms)
  }

  async #claim(session: LeaseSession, asks: Ask[], now: number): Promise<void> {
    const standing: Standing = { asks, since: now }
    this.#standing = standing
    this.#asleep = undefined
    // An empty claim takes the one that stands back.
    const waitMs = asks.length === 0 ? 0 : parkMs
    let answer: ClaimAnswer | undefined
    try {
      answer = await this.#ask(session, { requestId: this.#parts.nextId(), nodes: asks, waitMs })
    } catch (error) {
      if (this.#session === session) this.#parts.log.warn({ err: error }, 'the claim was refused; the machine asks again')
    }
    // L7: what was granted in a session that has ended is not started.
    if (this.#session !== session) return
    const isStanding = this.#standing === standing
    if (isStanding) this.#standing = undefined
    if (isStanding && (answer === undefined || answer.grants.length === 0) && asks.length > 0) {
      const after = this.#parts.now()
      const isEarly = answer === undefined || after - now < waitMs / 2
      this.#inVain = isEarly ? this.#inVain + 1 : 0
      if (isEarly) this.#asleep = { asks, until: after + Math.min(sleepMs, retryMs * 2 ** (this.#inVain - 1)) }
    } else if (isStanding) this.#inVain = 0
    if (answer !== undefined) this.#parts.answered(answer, asks)
    this.poke()
  }

  /** Repeats an unanswered claim with its id, so that what was granted in an answer that got lost is not granted twice (L4). */
  async #ask(session: LeaseSession, claim: { requestId: string; nodes: Ask[]; waitMs: number }): Promise<ClaimAnswer> {
    for (;;) {
      try {
        return await session.call('claim', claim, { timeoutMs: claim.waitMs + claimGraceMs })
      } catch (error) {
        if (session.isClosed || !(error instanceof MeshError) || error.code !== 'OperationTimedOut') throw error
        this.#parts.log.warn({ requestId: claim.requestId }, 'a claim was not answered; it is repeated')
      }
    }
  }
}
