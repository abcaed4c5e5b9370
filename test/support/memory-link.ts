/**
 * Links between members that live in one thread, for tests. What comes when is drawn from a seed: messages of different pairs
 * overtake each other, each comes in two pieces with other things between, and some are read from the sender's memory only
 * when they are delivered. Members can be lost.
 */
import type { Envelope, Link, Receiver } from '../../node/groups/link.ts'

export interface MemoryOptions {
  seed?: number
  /** The members share memory. */
  isShared?: boolean
}

interface Message {
  envelope: Envelope
  data: Uint8Array
  target?: Uint8Array
  sent?: { resolve(): void; reject(error: Error): void }
}

type Item = Message | { isEnd: true; error: Error }

/** Mulberry32: the next number from 0 to below 1. */
export function seeded(seed: number): () => number {
  let state = seed >>> 0
  return () => {
    state = (state + 0x6d2b79f5) >>> 0
    let mixed = Math.imul(state ^ (state >>> 15), 1 | state)
    mixed = (mixed + Math.imul(mixed ^ (mixed >>> 7), 61 | mixed)) ^ mixed
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32
  }
}

export class MemoryNetwork {
  readonly links: readonly Link[]
  /** Messages that were delivered, and their bytes. */
  messages = 0
  bytes = 0
  readonly #size: number
  readonly #random: () => number
  readonly #queues: Item[][]
  readonly #receivers: (Receiver | undefined)[]
  readonly #dead = new Set<number>()
  /** Pairs (at, about) of which the one knows that the other is gone, and why. */
  readonly #told = new Map<string, Error>()
  readonly #memory = new Map<string, SharedArrayBuffer>()
  #isRunning = false

  constructor(size: number, { seed = 1, isShared = false }: MemoryOptions = {}) {
    this.#size = size
    this.#random = seeded(seed)
    this.#queues = Array.from({ length: size * size }, () => [])
    this.#receivers = Array.from({ length: size }, () => undefined)
    this.links = Array.from({ length: size }, (_, rank) => this.#link(rank, isShared))
  }

  /** True if nothing is on its way. */
  get isIdle(): boolean {
    return this.#queues.every((queue, pair) => queue.length === 0 || this.#receivers[pair % this.#size] === undefined)
  }

  /** The member is gone from now on; the others hear of it one after the other. */
  kill(rank: number): void {
    if (this.#dead.has(rank)) return
    this.#dead.add(rank)
    const error = new Error('the connection broke')
    for (let other = 0; other < this.#size; other += 1) {
      for (const queue of [this.#queues[rank * this.#size + other]!, this.#queues[other * this.#size + rank]!]) {
        for (const item of queue.splice(0)) if (!('isEnd' in item)) item.sent?.reject(error)
      }
      if (other !== rank) this.#put(rank, other, { isEnd: true, error })
    }
  }

  /** Both ends of one connection hear that the other one is gone. */
  cut(a: number, b: number): void {
    const error = new Error('the connection broke')
    this.#put(a, b, { isEnd: true, error })
    this.#put(b, a, { isEnd: true, error })
  }

  #link(rank: number, isShared: boolean): Link {
    let isClosed = false
    const asked = new Map<string, number>()
    return {
      rank,
      size: this.#size,
      receive: (receiver) => {
        this.#receivers[rank] = receiver
        this.#run()
      },
      send: (to, envelope, data) => {
        if (data.byteLength !== envelope.bytes) throw new RangeError('The envelope tells another length than that of the data.')
        if (isClosed || this.#dead.has(rank) || this.#dead.has(to)) return Promise.reject(new Error('the connection broke'))
        const gone = this.#told.get(`${rank} ${to}`)
        if (gone !== undefined) return Promise.reject(gone)
        if (this.#random() < 0.5) {
          this.#put(rank, to, { envelope, data: data.slice() })
          return undefined
        }
        return new Promise((resolve, reject) => this.#put(rank, to, { envelope, data, sent: { resolve, reject } }))
      },
      shared: async (name, ranks, bytes) => {
        if (!isShared) return undefined
        const all = `${name} ${ranks.join(',')}`
        const times = asked.get(all) ?? 0
        asked.set(all, times + 1)
        const key = `${all} ${times}`
        const memory = this.#memory.get(key) ?? new SharedArrayBuffer(bytes)
        if (memory.byteLength !== bytes) throw new Error(`Members ask for ${memory.byteLength} and ${bytes} bytes of one memory.`)
        this.#memory.set(key, memory)
        return memory
      },
      close: async () => {
        if (isClosed) return
        isClosed = true
        for (let to = 0; to < this.#size; to += 1) {
          if (to !== rank) this.#put(rank, to, { isEnd: true, error: new Error(`Member ${rank} has left the group.`) })
        }
      },
    }
  }

  #put(from: number, to: number, item: Item): void {
    this.#queues[from * this.#size + to]!.push(item)
    this.#run()
  }

  #run(): void {
    if (this.#isRunning) return
    this.#isRunning = true
    setImmediate(() => {
      this.#isRunning = false
      for (let steps = 1 + Math.floor(this.#random() * 6); steps > 0; steps -= 1) if (!this.#step()) return
      this.#run()
    })
  }

  /** Does one thing of one pair; false if there is nothing to do. */
  #step(): boolean {
    const busy = this.#queues.flatMap((queue, pair) => (queue.length > 0 && this.#receivers[pair % this.#size] !== undefined ? [pair] : []))
    const pair = busy[Math.floor(this.#random() * busy.length)]
    if (pair === undefined) return false
    const from = Math.floor(pair / this.#size)
    const to = pair % this.#size
    const queue = this.#queues[pair]!
    const item = queue[0]!
    if ('isEnd' in item) {
      queue.shift()
      const isNews = !this.#told.has(`${to} ${from}`) && !this.#dead.has(to)
      if (isNews) this.#told.set(`${to} ${from}`, item.error)
      if (isNews) this.#receivers[to]!.lost(from, item.error)
      return true
    }
    this.#deliver(from, to, queue, item)
    return true
  }

  #deliver(from: number, to: number, queue: Item[], item: Message): void {
    const receiver = this.#receivers[to]!
    const { envelope, data } = item
    const half = data.byteLength >> 1
    if (item.target === undefined) {
      item.target = receiver.begin(from, { ...envelope })
      if (item.target.byteLength !== envelope.bytes) throw new Error('The receiver has room for another length than was sent.')
      item.target.set(data.subarray(0, half))
      return
    }
    queue.shift()
    item.target.set(data.subarray(half), half)
    this.messages += 1
    this.bytes += data.byteLength
    item.sent?.resolve()
    receiver.end(from, { ...envelope }, item.target)
  }
}
