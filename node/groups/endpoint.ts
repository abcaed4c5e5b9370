/**
 * One member's end of a link, shared by all its groups: it sorts what comes by context, and says when messages may leave.
 *
 * Small messages leave at once and wait in the memory of the other side until a receive fits them: at most `eagerWindow`
 * bytes from each member; the other side says now and then how much of it has been taken (`credit`). A message larger than
 * `eagerBytes`, or beyond that window, is only announced: its bytes leave when a receive asks for them (`ready`), and go
 * straight into its array. So memory stays bounded whatever is sent, and the order of messages is that of their envelopes.
 *
 * Between endpoints, in context 0: ready, withdrawn (an announced message is taken back), credit, closed (the sender has
 * left a group), broken (its collective operations have failed). In context 1: the bytes that were asked for.
 */
import { type Arrival, Channel } from './channel.ts'
import { announced } from './datatypes.ts'
import type { Envelope, Link, Receiver } from './link.ts'

/** Largest message that comes unasked: below it the copy costs less than waiting for an answer. */
export const eagerBytes = 64 << 10
/** Most bytes that wait unasked at the other side: sixteen of the largest, so that a burst of small ones does not stop. */
const eagerWindow = 1 << 20
/** What a message takes in memory besides its bytes. */
const overheadBytes = 128

const controlContext = 0
const dataContext = 1
/** The first context of a group. */
const firstContext = 2

/** Kinds of messages in the control context, as their type. */
const ready = 0
const withdrawn = 1
const credit = 2
const closed = 3
const broken = 4

const nothing = new Uint8Array(0)

/** What a group hears of the other members; ranks are those of the link. */
export interface Listener {
  closed(from: number): void
  broken(from: number, note: Uint8Array): void
  lost(rank: number, error: Error): void
}

/** A message that leaves. */
export interface Sending {
  readonly to: number
  readonly tag: number
  /** Resolves when its bytes may be changed; absent if they may at once. */
  readonly done: Promise<void> | undefined
  /** Takes it back with this reason; false if it has left. */
  cancel(error: unknown): boolean
}

interface Pending {
  to: number
  context: number
  tag: number
  type: number
  bytes: Uint8Array
  resolve: () => void
  reject: (error: unknown) => void
}

interface Incoming {
  channel: Channel | undefined
  arrival: Arrival | undefined
}

/** What came for a group that is not made yet on this member: it may be the last one in a split. */
interface Early {
  closedBy: number[]
  broken: { from: number; note: Uint8Array }[]
}

export class Endpoint implements Receiver {
  readonly link: Link
  readonly #channels = new Map<number, Channel>()
  readonly #listeners = new Map<number, Listener>()
  readonly #early = new Map<number, Early>()
  readonly #closed = new Set<number>()
  readonly #lost = new Map<number, Error>()
  /** The message that each member is sending, and what it announced. */
  readonly #incoming: Incoming[]
  readonly #announced: Map<number, { channel: Channel; arrival: Arrival }>[]
  /** Bytes of ours that wait, as far as we know, at each member; bytes of each member's that were taken and not said so. */
  readonly #unacknowledged: Float64Array
  readonly #taken: Float64Array
  readonly #pending = new Map<number, Pending>()
  #nextId = 0
  #nextGroup = 1

  constructor(link: Link) {
    this.link = link
    this.#incoming = Array.from({ length: link.size }, () => ({ channel: undefined, arrival: undefined }))
    this.#announced = Array.from({ length: link.size }, () => new Map())
    this.#unacknowledged = new Float64Array(link.size)
    this.#taken = new Float64Array(link.size)
    link.receive(this)
  }

  /** A number for a group that no other group of these members has, if the group's first member has drawn it. */
  drawGroup(): number {
    // Drawn by one member for all, it needs no agreement: members that split several groups at once would not find one.
    return this.link.rank * 2 ** 24 + this.#nextGroup++
  }

  /** The two contexts of a group: its own messages, and those of its collective operations (MPI 4.1, 6.1). */
  open(group: number, listener: Listener): { messages: Channel; collectives: Channel } {
    const context = contextOf(group)
    this.#listeners.set(context, listener)
    return { messages: this.#channel(context)!, collectives: this.#channel(context + 1)! }
  }

  /** Tells a group that was just made what was known before. */
  catchUp(group: number): void {
    const context = contextOf(group)
    const listener = this.#listeners.get(context)
    const early = this.#early.get(context)
    this.#early.delete(context)
    for (const [rank, error] of this.#lost) listener?.lost(rank, error)
    for (const { from, note } of early?.broken ?? []) listener?.broken(from, note)
    for (const from of early?.closedBy ?? []) listener?.closed(from)
  }

  /** Nothing more is kept for this group; its other members are told. */
  close(group: number, ranks: readonly number[]): void {
    const context = contextOf(group)
    for (const own of [context, context + 1]) {
      this.#channels.get(own)?.drop(() => true)
      this.#channels.delete(own)
      this.#closed.add(own)
    }
    this.#listeners.delete(context)
    for (const rank of ranks) if (rank !== this.link.rank) this.#tell(rank, closed, context, nothing)
  }

  /** Tells the members of a group that its collective operations have failed here. */
  break(group: number, ranks: readonly number[], note: Uint8Array): void {
    for (const rank of ranks) if (rank !== this.link.rank) this.#tell(rank, broken, contextOf(group), note)
  }

  /** Sends a message in one of the group's two contexts. */
  send(group: number, isCollective: boolean, to: number, tag: number, type: number, bytes: Uint8Array): Sending {
    const context = contextOf(group) + (isCollective ? 1 : 0)
    const cost = bytes.byteLength + overheadBytes
    if (bytes.byteLength <= eagerBytes && this.#unacknowledged[to]! + cost <= eagerWindow) {
      this.#unacknowledged[to]! += cost
      const done = this.link.send(to, { context, tag, type, bytes: bytes.byteLength }, bytes)
      return { to, tag, done, cancel: () => false }
    }
    const id = this.#nextId
    this.#nextId = (id + 1) % 2 ** 31
    const done = new Promise<void>((resolve, reject) => {
      this.#pending.set(id, { to, context, tag, type, bytes, resolve, reject })
    })
    done.catch(() => {})
    const note = new Uint8Array(new Float64Array([id, bytes.byteLength]).buffer)
    this.link.send(to, { context, tag, type: type | announced, bytes: note.byteLength }, note)?.catch((error) => this.#reject(id, error))
    const cancel = (error: unknown) => {
      if (!this.#reject(id, error)) return false
      this.#tell(to, withdrawn, id, nothing)
      return true
    }
    return { to, tag, done, cancel }
  }

  /** Gives up what has only been announced, of one of the group's contexts. */
  failSends(group: number, isCollective: boolean, test: (sending: { to: number; tag: number }) => boolean, error: unknown): void {
    const context = contextOf(group) + (isCollective ? 1 : 0)
    for (const [id, pending] of this.#pending) if (pending.context === context && test(pending)) this.#reject(id, error)
  }

  // What the link tells.

  begin(from: number, envelope: Envelope): Uint8Array {
    const { context, tag, type, bytes } = envelope
    const incoming = this.#incoming[from]!
    incoming.channel = undefined
    incoming.arrival = undefined
    if (context === dataContext) {
      const known = this.#announced[from]!.get(tag)
      if (known === undefined) return new Uint8Array(bytes)
      this.#announced[from]!.delete(tag)
      incoming.channel = known.channel
      incoming.arrival = known.arrival
      return known.channel.begin(known.arrival)
    }
    if (context === controlContext || type >= announced) return new Uint8Array(bytes)
    const arrival: Arrival = { from, tag, type, bytes }
    incoming.arrival = arrival
    incoming.channel = this.#channel(context)
    if (incoming.channel === undefined) return new Uint8Array(bytes)
    incoming.channel.offer(arrival)
    return incoming.channel.begin(arrival)
  }

  end(from: number, envelope: Envelope, data: Uint8Array): void {
    const { context, tag, type } = envelope
    const { arrival, channel } = this.#incoming[from]!
    if (context === controlContext) return this.#control(from, type, tag, data)
    if (arrival !== undefined) return channel === undefined ? this.consumed(arrival) : channel.end(arrival)
    if (context === dataContext) return
    const known = this.#channel(context)
    if (known === undefined) return
    const [id, bytes] = new Float64Array(data.buffer, data.byteOffset, 2)
    const coming: Arrival = { from, tag, type: type - announced, bytes: bytes!, id: id! }
    this.#announced[from]!.set(id!, { channel: known, arrival: coming })
    known.offer(coming)
  }

  lost(rank: number, error: Error): void {
    if (this.#lost.has(rank)) return
    this.#lost.set(rank, error)
    this.#announced[rank]!.clear()
    for (const listener of [...this.#listeners.values()]) listener.lost(rank, error)
  }

  // What channels ask for.

  ask(arrival: Arrival): void {
    arrival.isAsked = true
    this.#tell(arrival.from, ready, arrival.id!, nothing)
  }

  consumed(arrival: Arrival): void {
    if (arrival.id !== undefined) return
    const { from } = arrival
    const taken = this.#taken[from]! + arrival.bytes + overheadBytes
    // Said by quarters, so that it costs next to nothing and the other side never runs dry.
    const isDue = taken >= eagerWindow / 4
    this.#taken[from] = isDue ? 0 : taken
    if (isDue) this.#tell(from, credit, taken, nothing)
  }

  #control(from: number, kind: number, about: number, note: Uint8Array): void {
    if (kind === ready) this.#sendPending(about)
    else if (kind === credit) this.#unacknowledged[from]! -= about
    else if (kind === withdrawn) {
      const known = this.#announced[from]!.get(about)
      this.#announced[from]!.delete(about)
      if (known !== undefined) known.channel.withdraw(known.arrival)
    } else {
      const [context] = new Float64Array(note.slice(0, 8).buffer)
      this.#tellGroup(from, kind, context!, note.subarray(8))
    }
  }

  #tellGroup(from: number, kind: number, context: number, note: Uint8Array): void {
    const listener = this.#listeners.get(context)
    if (listener !== undefined) return kind === closed ? listener.closed(from) : listener.broken(from, note)
    if (this.#closed.has(context)) return
    const early = this.#early.get(context) ?? { closedBy: [], broken: [] }
    this.#early.set(context, early)
    if (kind === closed) early.closedBy.push(from)
    else early.broken.push({ from, note })
  }

  #sendPending(id: number): void {
    const pending = this.#pending.get(id)
    // It was taken back meanwhile, and the other side hears of it.
    if (pending === undefined) return
    this.#pending.delete(id)
    const { to, type, bytes, resolve, reject } = pending
    const done = this.link.send(to, { context: dataContext, tag: id, type, bytes: bytes.byteLength }, bytes)
    if (done === undefined) resolve()
    else done.then(resolve, reject)
  }

  #reject(id: number, error: unknown): boolean {
    const pending = this.#pending.get(id)
    this.#pending.delete(id)
    pending?.reject(error)
    return pending !== undefined
  }

  /** `about` is a number below 2^31, or a context, which may be larger and goes before the note. */
  #tell(to: number, kind: number, about: number, note: Uint8Array): void {
    const isOfGroup = kind === closed || kind === broken
    let data = note
    if (isOfGroup) {
      data = new Uint8Array(8 + note.byteLength)
      data.set(new Uint8Array(new Float64Array([about]).buffer))
      data.set(note, 8)
    }
    const envelope = { context: controlContext, tag: isOfGroup ? 0 : about, type: kind, bytes: data.byteLength }
    // To one that is lost: its groups hear of that from the link.
    this.link.send(to, envelope, data)?.catch(() => {})
  }

  /** Undefined for a context that this member has left. */
  #channel(context: number): Channel | undefined {
    if (this.#closed.has(context)) return undefined
    let channel = this.#channels.get(context)
    if (channel === undefined) {
      channel = new Channel(this)
      this.#channels.set(context, channel)
    }
    return channel
  }
}

function contextOf(group: number): number {
  return firstContext + 2 * group
}
