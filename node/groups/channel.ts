/**
 * The messages of one context on one member: which receive gets which message, and when it is told. Ranks are those of the
 * link here.
 *
 * A receive that is given up never loses a message. What has come, or is on its way, stays and goes to the next receive that
 * fits, in its old place in the order. So does a message that a receive refuses because its array is too short for it or of
 * another type.
 */
import { noteType } from './datatypes.ts'
import type { GroupError } from './group-error.ts'
import { fits, Line, type Matched } from './matching.ts'

/** A message that has begun to come, or was announced. */
export interface Arrival extends Matched {
  readonly type: number
  readonly bytes: number
  /** By it its bytes are asked for; absent for one that comes unasked. */
  readonly id?: number
  isAsked?: boolean
  isWhole?: boolean
  /** Nobody waits for it any more, nor will. */
  isDropped?: boolean
  /** Where its bytes are, from when they begin to come. */
  buffer?: Uint8Array
  /** The buffer is the array of a receive that was given up since. */
  isBorrowed?: boolean
  /** What gets it. */
  receive?: Receive | undefined
}

/** Waits for a message to be there. */
export interface Probe extends Matched {
  resolve(arrival: Arrival): void
  reject(error: unknown): void
}

/** Waits for a message. */
export interface Receive extends Matched {
  /** Where the bytes go; where it is absent, into memory of their own. */
  readonly into?: Uint8Array | undefined
  /** Why it cannot have a message, by what is known before its bytes. */
  refuses?(arrival: Arrival): GroupError | undefined
  resolve(arrival: Arrival, bytes: Uint8Array): void
  reject(error: unknown): void
  /** The message that it gets, on its way. */
  arrival?: Arrival | undefined
}

/** What a channel needs of the endpoint. */
export interface Upstream {
  /** Asks for the bytes of a message that was announced. */
  ask(arrival: Arrival): void
  /** A message has left the memory of this member. */
  consumed(arrival: Arrival): void
}

export class Channel {
  /** Called with each message that no receive waits for. */
  onUnexpected: ((arrival: Arrival) => void) | undefined
  readonly #upstream: Upstream
  readonly #receives = new Line<Receive>()
  readonly #probes = new Line<Probe>()
  readonly #arrivals = new Line<Arrival>()
  /** Receives whose message is on its way. */
  readonly #attached = new Set<Receive>()
  /** Why nothing comes any more, by who is gone; `any` stands for receives from any member. */
  readonly #gone = new Map<number, GroupError>()

  constructor(upstream: Upstream) {
    this.#upstream = upstream
  }

  post(receive: Receive): void {
    this.#receives.number(receive)
    const arrival = this.#arrivals.findFor(receive)
    if (arrival === undefined) {
      const gone = this.#gone.get(receive.from)
      return gone === undefined ? this.#receives.put(receive) : receive.reject(gone)
    }
    const refusal = receive.refuses?.(arrival)
    if (refusal !== undefined) return receive.reject(refusal)
    this.#arrivals.remove(arrival)
    this.#attach(arrival, receive)
  }

  /** Waits until a message is there that a receive like it would get. */
  probe(probe: Probe): void {
    const arrival = this.#arrivals.findFor(probe)
    const gone = this.#gone.get(probe.from)
    if (arrival !== undefined) probe.resolve(arrival)
    else if (gone !== undefined) probe.reject(gone)
    else this.#probes.put(probe)
  }

  /** The message that a receive would get. */
  find(wanted: Matched): Arrival | undefined {
    return this.#arrivals.findFor(wanted)
  }

  /** A message that no receive waits for, and is in the test. */
  findWhere(test: (arrival: Arrival) => boolean): Arrival | undefined {
    return this.#arrivals.items.find(test)
  }

  /** Gives a message to the first receive that fits and takes it, or keeps it. */
  offer(arrival: Arrival): void {
    this.#arrivals.number(arrival)
    for (let receive = this.#receives.takeFor(arrival); receive !== undefined; receive = this.#receives.takeFor(arrival)) {
      const refusal = receive.refuses?.(arrival)
      if (refusal === undefined) return this.#attach(arrival, receive)
      receive.reject(refusal)
    }
    this.#arrivals.put(arrival)
    for (const probe of this.#probes.removeAll((item) => fits(item, arrival))) probe.resolve(arrival)
    this.onUnexpected?.(arrival)
  }

  /** Memory for the bytes of a message, which come now. */
  begin(arrival: Arrival): Uint8Array {
    arrival.buffer = placeOf(arrival, arrival.receive) ?? new Uint8Array(arrival.bytes)
    return arrival.buffer
  }

  /** All bytes are there. */
  end(arrival: Arrival): void {
    arrival.isWhole = true
    if (arrival.isBorrowed) arrival.buffer = arrival.buffer!.slice()
    arrival.isBorrowed = false
    if (arrival.receive !== undefined) this.#deliver(arrival, arrival.receive)
    else if (arrival.isDropped) this.#upstream.consumed(arrival)
  }

  /** True if the receive gets nothing any more; its message, if it had one, goes to another. */
  cancel(receive: Receive): boolean {
    if (this.#receives.remove(receive)) return true
    const { arrival } = receive
    if (arrival === undefined || !this.#attached.delete(receive)) return false
    // Once the array of one receive, always: a second that is given up has another, or none.
    if (arrival.buffer !== undefined && placeOf(arrival, receive) !== undefined) arrival.isBorrowed = true
    this.#detach(arrival, receive)
    this.offer(arrival)
    return true
  }

  cancelProbe(probe: Probe): boolean {
    return this.#probes.remove(probe)
  }

  /** The sender has taken back a message whose bytes have not come: what waited for it waits on, in its old place. */
  withdraw(arrival: Arrival): void {
    const { receive } = arrival
    if (receive === undefined) return void this.#arrivals.remove(arrival)
    this.#attached.delete(receive)
    this.#detach(arrival, receive)
    this.post(receive)
  }

  /** Nothing more comes from a member, or with `any` perhaps from none: who waits for it is told. */
  gone(from: number, error: GroupError): void {
    if (this.#gone.has(from)) return
    this.#gone.set(from, error)
    // What has not come whole never will.
    this.drop((arrival) => arrival.from === from && !arrival.isWhole)
    for (const receive of [...this.#attached]) if (receive.arrival?.from === from) this.#refuse(receive, error)
    for (const receive of this.#receives.removeAll((item) => item.from === from)) receive.reject(error)
    for (const probe of this.#probes.removeAll((item) => item.from === from)) probe.reject(error)
  }

  whyGone(from: number): GroupError | undefined {
    return this.#gone.get(from)
  }

  /** Rejects what waits and is in the test, also what waits for a message that is on its way; that one is forgotten. */
  fail(test: (item: Matched) => boolean, error: unknown): void {
    for (const receive of this.#receives.removeAll(test)) receive.reject(error)
    for (const receive of [...this.#attached].filter(test)) this.#refuse(receive, error)
    for (const probe of this.#probes.removeAll(test)) probe.reject(error)
  }

  /** Forgets messages that nobody waits for. */
  drop(test: (arrival: Arrival) => boolean): void {
    for (const arrival of this.#arrivals.removeAll(test)) this.#forget(arrival)
  }

  #attach(arrival: Arrival, receive: Receive): void {
    arrival.receive = receive
    receive.arrival = arrival
    if (arrival.isWhole) return this.#deliver(arrival, receive)
    this.#attached.add(receive)
    if (arrival.id !== undefined && !arrival.isAsked) this.#upstream.ask(arrival)
  }

  #detach(arrival: Arrival, receive: Receive): void {
    arrival.receive = undefined
    receive.arrival = undefined
  }

  #deliver(arrival: Arrival, receive: Receive): void {
    const buffer = arrival.buffer!
    this.#attached.delete(receive)
    this.#upstream.consumed(arrival)
    const bytes = placeOf(arrival, receive) ?? buffer
    // It came before the receive was there, or into the array of one that was given up.
    if (bytes.buffer !== buffer.buffer || bytes.byteOffset !== buffer.byteOffset) bytes.set(buffer)
    receive.resolve(arrival, bytes)
  }

  #refuse(receive: Receive, error: unknown): void {
    this.#attached.delete(receive)
    const arrival = receive.arrival!
    this.#detach(arrival, receive)
    this.#forget(arrival)
    receive.reject(error)
  }

  #forget(arrival: Arrival): void {
    arrival.isDropped = true
    if (arrival.isWhole) this.#upstream.consumed(arrival)
  }
}

/** Where a receive wants the bytes of a message. Notes of a collective operation come before what they are about. */
function placeOf(arrival: Arrival, receive: Receive | undefined): Uint8Array | undefined {
  return arrival.type === noteType ? undefined : receive?.into?.subarray(0, arrival.bytes)
}
