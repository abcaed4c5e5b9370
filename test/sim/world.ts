/** The simulated world: one clock, one source of chance, and a count of each fault that happened. */
import { coordinatorFailpoints, Died, type SimFailpoint, workerFailpoints } from './failpoints.ts'

export const faultNames = [
  'delay',
  'double',
  'cut',
  'partition',
  'pauseWorker',
  'pauseCoordinator',
  'crashWorker',
  'crashCoordinator',
  'lostRows',
  'lostOutcomes',
  ...coordinatorFailpoints,
  ...workerFailpoints,
] as const
export type FaultName = (typeof faultNames)[number]
export type FaultCounts = Record<FaultName, number>

export function noFaults(): FaultCounts {
  return Object.fromEntries(faultNames.map((name) => [name, 0])) as FaultCounts
}

interface Entry {
  time: number
  seq: number
  act: () => void
}

/** Thrown by what checks the world: the promise that was broken, and how. */
export class Violation extends Error {
  override readonly name = 'Violation'
}

export class World {
  now = 1_700_000_000_000
  readonly faults = noFaults()
  /** Lines of what happened, for --verbose. */
  readonly say: (line: string) => void
  /** Faults happen only while this is set. */
  hostile = true
  #seed: number
  #seq = 0
  readonly #heap: Entry[] = []

  constructor(seed: number, say: (line: string) => void = () => {}) {
    this.#seed = (Math.imul(seed, 0x9e3779b1) ^ 0x85ebca6b) >>> 0
    this.say = say
  }

  /** From 0 to below 1 (mulberry32). */
  random(): number {
    this.#seed = (this.#seed + 0x6d2b79f5) >>> 0
    let t = this.#seed
    t = Math.imul(t ^ (t >>> 15), t | 1)
    t ^= t + Math.imul(t ^ (t >>> 7), t | 61)
    return ((t ^ (t >>> 14)) >>> 0) / 4294967296
  }

  /** A whole number, both ends included. */
  between(low: number, high: number): number {
    return low + Math.floor(this.random() * (high - low + 1))
  }

  chance(share: number): boolean {
    return this.random() < share
  }

  pick<T>(items: readonly T[]): T {
    return items[Math.floor(this.random() * items.length)]!
  }

  /** A fault that happens with this chance while the world is hostile; counted when it does. */
  fault(name: FaultName, share: number): boolean {
    if (!this.hostile || !this.chance(share)) return false
    this.faults[name] += 1
    return true
  }

  /** A process died at a failpoint. */
  diedAt(name: SimFailpoint): void {
    this.faults[name] += 1
  }

  after(ms: number, act: () => void): void {
    const entry = { time: this.now + Math.max(0, ms), seq: this.#seq++, act }
    const heap = this.#heap
    let at = heap.push(entry) - 1
    while (at > 0) {
      const up = (at - 1) >> 1
      if (!before(entry, heap[up]!)) break
      heap[at] = heap[up]!
      at = up
    }
    heap[at] = entry
  }

  /** Lets time pass until `end`, or until `done` holds after an event. */
  run(end: number, done: () => boolean = () => false): void {
    for (let next = this.#heap[0]; next !== undefined && next.time <= end; next = this.#heap[0]) {
      this.#pop()
      this.now = next.time
      try {
        next.act()
      } catch (error) {
        // A process died in the middle of it.
        if (!(error instanceof Died)) throw error
      }
      if (done()) return
    }
    this.now = end
  }

  #pop(): void {
    const heap = this.#heap
    const last = heap.pop()!
    if (heap.length === 0) return
    let at = 0
    for (;;) {
      let down = at * 2 + 1
      if (down >= heap.length) break
      if (down + 1 < heap.length && before(heap[down + 1]!, heap[down]!)) down += 1
      if (!before(heap[down]!, last)) break
      heap[at] = heap[down]!
      at = down
    }
    heap[at] = last
  }
}

function before(a: Entry, b: Entry): boolean {
  return a.time < b.time || (a.time === b.time && a.seq < b.seq)
}

/** A process of the world: it can be paused, when what happens to it waits, and it can crash, when that is lost. */
export class Process {
  readonly world: World
  isUp = false
  #life = 0
  #paused = false
  #timers: (() => void)[] = []
  #frames: (() => void)[] = []

  constructor(world: World) {
    this.world = world
  }

  get isPaused(): boolean {
    return this.#paused
  }

  begin(): void {
    this.isUp = true
    this.#life += 1
  }

  end(): void {
    this.isUp = false
    this.#life += 1
    this.#paused = false
    this.#timers = []
    this.#frames = []
  }

  /** A timer of this life of the process. */
  later(ms: number, act: () => void): void {
    const life = this.#life
    this.world.after(ms, () => {
      if (this.#life !== life) return
      if (this.#paused) this.#timers.push(act)
      else act()
    })
  }

  /** Something from outside that the process reads. */
  reads(act: () => void): void {
    if (!this.isUp) return
    if (this.#paused) this.#frames.push(act)
    else act()
  }

  pause(ms: number): void {
    if (this.#paused || !this.isUp) return
    this.#paused = true
    const life = this.#life
    this.world.after(ms, () => {
      if (this.#life !== life) return
      this.#paused = false
      // Timers that are due fire before sockets are read.
      const waiting = [...this.#timers, ...this.#frames]
      this.#timers = []
      this.#frames = []
      for (const act of waiting) if (this.#life === life) act()
    })
  }
}
