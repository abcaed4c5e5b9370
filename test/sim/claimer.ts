/** Asks for work, after node/worker/claimer.ts: one claim stands, a newer one replaces it, one that is not held is made again later. */
import { type Ask, outdated } from '../../node/intake.ts'
import type { Claim } from '../../protocols/leases.ts'
import { parkMs, sleepMs } from '../../protocols/offers.ts'
import type { ClaimAnswer } from './coordinator.ts'
import type { Connection } from './network.ts'
import type { Process, World } from './world.ts'

const replaceMs = 20
const retryMs = 1000

export interface ClaimerParts {
  plan(): Ask[]
  answered(answer: ClaimAnswer, connection: Connection): void
  call(connection: Connection, body: Claim, answer: (value: ClaimAnswer | undefined) => void): void
  nextId(n: number): string
}

export class SimClaimer {
  readonly #world: World
  readonly #process: Process
  readonly #parts: ClaimerParts
  #connection: Connection | undefined
  #standing: { asks: Ask[]; since: number } | undefined
  #asleep: { asks: Ask[]; until: number } | undefined
  #inVain = 0
  #scheduled = false
  #timer = 0
  #claims = 0

  constructor(world: World, process: Process, parts: ClaimerParts) {
    this.#world = world
    this.#process = process
    this.#parts = parts
  }

  connect(connection: Connection): void {
    this.disconnect()
    this.#inVain = 0
    this.#connection = connection
    this.poke()
  }

  disconnect(): void {
    this.#connection = undefined
    this.#standing = undefined
    this.#asleep = undefined
    this.#scheduled = false
    this.#timer += 1
  }

  poke(): void {
    if (this.#scheduled || this.#connection === undefined) return
    const connection = this.#connection
    this.#scheduled = true
    this.#process.later(0, () => {
      if (this.#connection !== connection) return
      this.#scheduled = false
      this.#think(connection)
    })
  }

  wake(): void {
    if (this.#asleep === undefined) return
    this.#asleep.until = Math.min(this.#asleep.until, this.#world.now + this.#world.between(0, 50))
    this.poke()
  }

  #think(connection: Connection): void {
    const { now } = this.#world
    const asks = this.#parts.plan()
    if (this.#standing !== undefined) {
      if (!outdated(this.#standing.asks, asks)) return
      const age = now - this.#standing.since
      return age < replaceMs ? this.#later(replaceMs - age) : this.#claim(connection, asks)
    }
    if (asks.length === 0) return
    if (this.#asleep !== undefined && this.#asleep.until > now && !outdated(this.#asleep.asks, asks))
      return this.#later(this.#asleep.until - now)
    this.#claim(connection, asks)
  }

  #later(ms: number): void {
    this.#timer += 1
    const timer = this.#timer
    this.#process.later(ms, () => {
      if (this.#timer === timer) this.poke()
    })
  }

  #claim(connection: Connection, asks: Ask[]): void {
    const standing = { asks, since: this.#world.now }
    this.#standing = standing
    this.#asleep = undefined
    this.#claims += 1
    const waitMs = asks.length === 0 ? 0 : parkMs
    this.#ask(connection, { requestId: this.#parts.nextId(this.#claims), nodes: asks, waitMs }, (answer) => {
      if (this.#connection !== connection) return
      const isStanding = this.#standing === standing
      if (isStanding) this.#standing = undefined
      if (isStanding && (answer === undefined || answer.grants.length === 0) && asks.length > 0) {
        const isEarly = answer === undefined || this.#world.now - standing.since < waitMs / 2
        this.#inVain = isEarly ? this.#inVain + 1 : 0
        if (isEarly) this.#asleep = { asks, until: this.#world.now + Math.min(sleepMs, retryMs * 2 ** (this.#inVain - 1)) }
      } else if (isStanding) this.#inVain = 0
      if (answer !== undefined) this.#parts.answered(answer, connection)
      this.poke()
    })
  }

  #ask(connection: Connection, claim: Claim, done: (answer: ClaimAnswer | undefined) => void): void {
    this.#parts.call(connection, claim, done)
  }
}
