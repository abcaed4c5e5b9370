/**
 * A link between threads of one process: a ring of shared memory for each direction of a pair that speaks, made at first
 * use; and one word of each member that the others change to wake it.
 *
 * A member that has nothing to read sleeps in its event loop (Atomics.waitAsync), after it has said so; who writes then wakes it.
 * While messages follow each other closely it looks for the next one a moment before it sleeps: then they cost no wakes.
 */
import { availableParallelism } from 'node:os'
import type { MessagePort } from 'node:worker_threads'
import type { Envelope, Link, Receiver } from '../link.ts'
import type { FromBroker, ToBroker } from './broker.ts'
import { checkEnvelope, FrameReader, headerBytes, headerOf, kinds } from './frames.ts'
import { OwnMessages } from './own-messages.ts'
import { newRing, Ring } from './ring.ts'

/** What is read before other work of the thread has its turn. */
const turnBytes = 4 << 20
/** A wake takes 11 us and more. Where the last wait was short, a thread looks for the next message so long before it sleeps. */
const lookOutMs = 0.02
const quickMs = 0.05
/** Words of a member in the memory that all see, on a cache line of their own. */
const bellWords = 32
/** The word that changes when it is woken, and the one that says whether it sleeps. */
const count = 0
const asleep = 1

interface Outgoing {
  ring: Ring
  /** Waits for room. */
  queue: { header: Uint8Array | undefined; rest: Uint8Array; done: PromiseWithResolvers<void> }[]
}

interface Incoming {
  ring: Ring
  reader: FrameReader
}

export interface SharedLinkOptions {
  rank: number
  size: number
  /** Members in this process, with this one. */
  ranks: readonly number[]
  /** Names the group in this process. */
  group: string
  port: MessagePort
}

export class SharedLink implements Link {
  readonly rank: number
  readonly size: number
  readonly #options: SharedLinkOptions
  readonly #local: ReadonlySet<number>
  readonly #own: OwnMessages
  readonly #outgoing = new Map<number, Outgoing>()
  readonly #incoming = new Map<number, Incoming>()
  readonly #lost = new Map<number, Error>()
  readonly #requests = new Map<number, PromiseWithResolvers<SharedArrayBuffer>>()
  #bells: Int32Array | undefined
  #receiver: Receiver | undefined
  #lastRequest = 0
  #isWaiting = false
  #isReading = false
  /** The last wait was short, so the next may be. */
  #isQuick = false
  readonly #mayLookOut: boolean
  #closing: Promise<void> | undefined
  #isClosed = false

  private constructor(options: SharedLinkOptions) {
    this.rank = options.rank
    this.size = options.size
    this.#options = options
    this.#local = new Set(options.ranks)
    // Else it would look out for a thread that waits for this processor.
    this.#mayLookOut = options.ranks.length <= availableParallelism()
    this.#own = new OwnMessages(options.rank)
    options.port.on('message', (told: FromBroker) => this.#told(told))
    options.port.on('close', () => {
      for (const rank of this.#local) if (rank !== this.rank) this.#gone(rank, false)
    })
  }

  /** Joins the others of the process; `port` is of its {@link Broker}. */
  static async open(options: SharedLinkOptions): Promise<SharedLink> {
    const link = new SharedLink(options)
    const { group, rank, ranks } = options
    link.#say({ join: group, rank })
    const words = bellWords * (Math.max(...ranks) + 1)
    link.#bells = new Int32Array(await link.#ask('bells', ranks, words * Int32Array.BYTES_PER_ELEMENT))
    link.#sleep()
    return link
  }

  receive(receiver: Receiver): void {
    this.#receiver = receiver
    this.#own.receive(receiver)
    for (const [rank, error] of this.#lost) {
      this.#read(rank, Number.POSITIVE_INFINITY)
      receiver.lost(rank, error)
    }
    this.#awake()
  }

  send(to: number, envelope: Envelope, data: Uint8Array): Promise<void> | undefined {
    checkEnvelope(envelope, data)
    if (to === this.rank) return this.#own.send(envelope, data)
    const lost = this.#lost.get(to)
    if (lost !== undefined) return Promise.reject(lost)
    if (!this.#local.has(to)) throw new RangeError(`Member ${to} is not in this process.`)
    const outgoing = this.#outgoing.get(to) ?? this.#open(to)
    const header = headerOf(kinds.message, envelope)
    if (outgoing.queue.length === 0 && outgoing.ring.hasRoom(headerBytes)) {
      outgoing.ring.write(header)
      const written = outgoing.ring.write(data)
      this.#wake(to)
      if (written === data.length) return undefined
      return this.#queue(to, outgoing, undefined, data.subarray(written))
    }
    return this.#queue(to, outgoing, Uint8Array.from(header), data)
  }

  async shared(name: string, ranks: readonly number[], bytes: number): Promise<SharedArrayBuffer | undefined> {
    if (!ranks.every((rank) => this.#local.has(rank))) return undefined
    return await this.#ask(`of the group: ${name}`, ranks, bytes)
  }

  close(): Promise<void> {
    this.#closing ??= this.#close()
    return this.#closing
  }

  async #close(): Promise<void> {
    await Promise.allSettled([...this.#outgoing.values()].flatMap(({ queue }) => queue.map(({ done }) => done.promise)))
    this.#isClosed = true
    this.#say({ leave: true })
    this.#options.port.close()
    // What waits for the bell is let go.
    this.#wake(this.rank, true)
    for (const { reject } of this.#requests.values()) reject(new Error('This member has left the group.'))
  }

  #say(message: ToBroker): void {
    this.#options.port.postMessage(message)
  }

  #ask(name: string, ranks: readonly number[], bytes: number): Promise<SharedArrayBuffer> {
    this.#lastRequest += 1
    const request = this.#lastRequest
    const answer = Promise.withResolvers<SharedArrayBuffer>()
    this.#requests.set(request, answer)
    this.#say({ shared: name, ranks, bytes, request })
    return answer.promise
  }

  #told(told: FromBroker): void {
    if ('shared' in told) {
      const answer = this.#requests.get(told.request)
      this.#requests.delete(told.request)
      if (typeof told.shared === 'string') answer?.reject(new RangeError(told.shared))
      else answer?.resolve(told.shared)
    } else if ('ring' in told) {
      const { from } = told
      const reader = new FrameReader({
        begin: (envelope) => this.#receiver?.begin(from, envelope),
        end: (envelope, data) => this.#receiver!.end(from, envelope, data),
        control: () => undefined,
      })
      this.#incoming.set(from, { ring: new Ring(told.ring), reader })
      this.#awake()
    } else if ('gone' in told) this.#gone(told.gone, told.hasLeft)
  }

  #gone(rank: number, hasLeft: boolean): void {
    if (!this.#local.has(rank) || this.#lost.has(rank) || this.#isClosed) return
    // What it had sent is there, whole or not.
    if (this.#receiver !== undefined) this.#read(rank, Number.POSITIVE_INFINITY)
    const error = new Error(hasLeft ? `Member ${rank} has left the group.` : `Member ${rank} is gone: its thread ended.`)
    this.#lost.set(rank, error)
    for (const { done } of this.#outgoing.get(rank)?.queue.splice(0) ?? []) done.reject(error)
    this.#receiver?.lost(rank, error)
  }

  #open(to: number): Outgoing {
    const buffer = newRing()
    const outgoing: Outgoing = { ring: new Ring(buffer), queue: [] }
    this.#outgoing.set(to, outgoing)
    this.#say({ ring: buffer, to })
    return outgoing
  }

  #queue(to: number, outgoing: Outgoing, header: Uint8Array | undefined, rest: Uint8Array): Promise<void> {
    const done = Promise.withResolvers<void>()
    outgoing.queue.push({ header, rest, done })
    if (outgoing.queue.length === 1) this.#write(to, outgoing)
    return done.promise
  }

  /** Writes what waits for room in a ring, as far as there is. */
  #write(to: number, { ring, queue }: Outgoing): void {
    let written = 0
    for (let first = queue[0]; first !== undefined; first = queue[0]) {
      if (first.header !== undefined) {
        if (!ring.hasRoom(headerBytes)) {
          ring.block()
          if (!ring.hasRoom(headerBytes)) break
        }
        written += ring.write(first.header)
        first.header = undefined
      }
      const count = ring.write(first.rest)
      written += count
      first.rest = first.rest.subarray(count)
      if (first.rest.length === 0) {
        queue.shift()
        first.done.resolve()
        continue
      }
      ring.block()
      if (!ring.hasRoom(1)) break
    }
    if (written > 0) this.#wake(to)
  }

  #wake(rank: number, always = false): void {
    const bells = this.#bells!
    const at = rank * bellWords
    if (!always && (Atomics.load(bells, at + asleep) === 0 || Atomics.exchange(bells, at + asleep, 0) === 0)) return
    Atomics.add(bells, at + count, 1)
    Atomics.notify(bells, at + count)
  }

  /** Reads and writes all that can be; then sleeps again. */
  #awake(): void {
    if (this.#isReading || this.#isClosed || this.#receiver === undefined) return
    this.#isReading = true
    let left = turnBytes
    for (let more = true; more && left > 0; ) {
      more = false
      for (const rank of this.#incoming.keys()) {
        const taken = this.#read(rank, left)
        left -= taken
        if (taken > 0) more = true
      }
      for (const [to, outgoing] of this.#outgoing) if (outgoing.queue.length > 0) this.#write(to, outgoing)
    }
    this.#isReading = false
    if (left <= 0) setImmediate(() => this.#awake())
    else if (this.#isQuick) setImmediate(() => this.#lookOut())
    else this.#sleep()
  }

  /** What came is being worked on by now; perhaps the answer to that is here in a moment. */
  #lookOut(): void {
    const until = performance.now() + lookOutMs
    while (!this.#hasWork() && performance.now() < until);
    if (this.#hasWork()) this.#awake()
    else this.#sleep()
  }

  #hasWork(): boolean {
    for (const { ring } of this.#incoming.values()) if (!ring.isEmpty) return true
    for (const { ring, queue } of this.#outgoing.values()) if (queue.length > 0 && ring.hasRoom(headerBytes)) return true
    return false
  }

  /** Hands over what came from a member, at most about so many bytes; says how many. */
  #read(from: number, most: number): number {
    const incoming = this.#incoming.get(from)
    if (incoming === undefined || this.#lost.has(from)) return 0
    const { ring, reader } = incoming
    let taken = 0
    while (taken < most) {
      const bytes = ring.readable()
      if (bytes.length === 0) break
      const used = reader.push(bytes)
      taken += used
      if (ring.consume(used)) this.#wake(from)
    }
    return taken
  }

  /** Waits for the bell, unless something came while it was set. */
  #sleep(): void {
    if (this.#isWaiting || this.#isClosed) return
    const bells = this.#bells!
    const at = this.rank * bellWords
    const seen = Atomics.load(bells, at + count)
    Atomics.store(bells, at + asleep, 1)
    if (this.#receiver !== undefined && this.#hasWork()) {
      Atomics.store(bells, at + asleep, 0)
      return void setImmediate(() => this.#awake())
    }
    const woken = Atomics.waitAsync(bells, at + count, seen)
    this.#isWaiting = woken.async
    if (!woken.async) return void setImmediate(() => this.#awake())
    const since = performance.now()
    void woken.value.then(() => {
      this.#isWaiting = false
      this.#isQuick = this.#mayLookOut && performance.now() - since < quickMs
      this.#awake()
    })
  }
}
