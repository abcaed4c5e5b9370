/**
 * Machines that fetch one file together, in virtual time: each sends one chunk after the other at its own pace, asks the
 * others what they have from time to time, and decides by the real plan (node/blobs/chunk-plan.ts).
 */
import { ChunkPlan } from '../../node/blobs/chunk-plan.ts'
import { Dice } from '../fuzz/dice.ts'

export interface SwarmOptions {
  seed: number
  chunks: number
  fetchers?: number
  /** How long a fetcher takes to send a chunk. */
  chunkMs?: (fetcher: number) => number
  homeChunkMs?: number
  /** A fetcher whose process ends. */
  dies?: { at: number; afterMs: number }
  /** A fetcher that gives wrong bytes. */
  liar?: number
  /** Peers that are named and never answer. */
  ghosts?: number
}

interface Machine {
  name: string
  chunkMs: number
  /** When it has sent all that it was asked for. */
  busyUntil: number
  has: Uint8Array
  plan: ChunkPlan | undefined
  isDead: boolean
}

/** There and back. */
const wayMs = 2
const askMs = 100
const askLaterMs = 250

export class Swarm {
  /** Chunks that the home sent, by chunks of the file. */
  share = 0
  /** Wrong chunks that were taken for right. */
  believedWrong = 0
  endMs = 0
  readonly #options: SwarmOptions
  readonly #dice: Dice
  readonly #home: Machine
  readonly #machines: Machine[]
  #events: { atMs: number; order: number; run: () => void }[] = []
  #now = 0
  #order = 0

  constructor(options: SwarmOptions) {
    this.#options = options
    this.#dice = new Dice(options.seed)
    const machine = (name: string, chunkMs: number): Machine => {
      return { name, chunkMs, busyUntil: 0, has: new Uint8Array(options.chunks), plan: undefined, isDead: false }
    }
    this.#home = machine('home', options.homeChunkMs ?? 5)
    this.#home.has.fill(1)
    this.#machines = Array.from({ length: options.fetchers ?? 8 }, (_, at) => machine(`fetcher ${at}`, options.chunkMs?.(at) ?? 5))
  }

  unfinished(): string[] {
    return this.#machines.filter(({ has, isDead }) => !isDead && has.includes(0)).map(({ name }) => name)
  }

  run(): void {
    const { dies } = this.#options
    for (const machine of this.#machines) this.#at(this.#dice.below(20), () => this.#begin(machine))
    if (dies !== undefined)
      this.#at(dies.afterMs, () => {
        this.#machines[dies.at]!.isDead = true
      })
    while (this.#events.length > 0 && this.#now < 600_000 && this.unfinished().length > 0) {
      this.#events.sort((a, b) => a.atMs - b.atMs || a.order - b.order)
      const event = this.#events.shift()!
      this.#now = event.atMs
      event.run()
    }
    this.endMs = this.#now
  }

  #at(delayMs: number, run: () => void): void {
    this.#events.push({ atMs: this.#now + delayMs, order: this.#order++, run })
  }

  #begin(machine: Machine): void {
    const { chunks, ghosts = 0 } = this.#options
    const isHere = (index: number) => machine.has[index] === 1
    const plan = new ChunkPlan({ id: 'blob', chunks, self: machine.name, isHere, random: () => this.#dice.next() })
    machine.plan = plan
    plan.join('home', { isHome: true, isWhole: true }, this.#now)
    for (let at = 0; at < ghosts; at += 1) plan.join(`ghost ${at}`, { isHome: false, isWhole: false }, this.#now)
    // Those that began before are named by the home; they learn of this one when it asks them.
    for (const other of this.#machines) if (other !== machine && other.plan !== undefined) this.#meet(machine, other)
    const tick = () => {
      this.#fill(machine)
      this.#at(100, tick)
    }
    tick()
  }

  #meet(machine: Machine, other: Machine): void {
    const { plan } = machine
    if (plan === undefined || plan.isKnown(other.name)) return
    plan.join(other.name, { isHome: false, isWhole: false }, this.#now)
    const ask = () => {
      if (!plan.isKnown(other.name) || machine.isDead) return
      if (other.isDead) return plan.leave(other.name)
      this.#at(50, () => this.#meet(other, machine))
      plan.says(other.name, bitsOf(other.has))
      this.#fill(machine)
      if (!plan.isWhole(other.name)) this.#at(plan.isUseful(other.name) ? askLaterMs : askMs, ask)
    }
    this.#at(wayMs, ask)
  }

  #fill(machine: Machine): void {
    const { plan } = machine
    if (plan === undefined || machine.isDead) return
    for (const source of [...this.#machines, this.#home]) {
      if (source === machine) continue
      for (let index = plan.next(source.name, this.#now); index !== undefined; index = plan.next(source.name, this.#now))
        this.#send(source, machine, index)
    }
  }

  #send(source: Machine, machine: Machine, index: number): void {
    const startMs = Math.max(this.#now + wayMs / 2, source.busyUntil)
    source.busyUntil = startMs + source.chunkMs
    if (source === this.#home) this.share += 1 / this.#options.chunks
    this.#at(source.busyUntil + wayMs / 2 - this.#now, () => {
      const plan = machine.plan!
      const isWrong = source.name === `fetcher ${this.#options.liar}`
      if (source.isDead || isWrong) plan.leave(source.name)
      else {
        if (source.has[index] === 0) this.believedWrong += 1
        machine.has[index] = 1
      }
      plan.ended(source.name, index, source.isDead || isWrong ? 'failed' : 'came', this.#now)
      this.#fill(machine)
    })
  }
}

function bitsOf(has: Uint8Array): Uint8Array {
  const bits = new Uint8Array(Math.ceil(has.length / 8))
  for (const [index, one] of has.entries()) bits[index >> 3]! |= one << (index & 7)
  return bits
}
