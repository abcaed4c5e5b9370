/**
 * One member's part in a group: its messages, and the order and the end of its collective operations.
 *
 * The rule of collective operations: each has a number, by the order of calls, which its messages carry. One that fails on a
 * member breaks the group there from this number on, and that member tells all others: whatever they run or call from this
 * number on fails with the same error. Operations before it are not touched, since that member had done its part in them. A
 * member that is lost breaks it for all numbers. A member that hears of the same number from another does not tell it again.
 */

import { type BrokenNote, readBroken, writeBroken } from './broken-note.ts'
import type { Arrival, Channel, Probe, Receive } from './channel.ts'
import { type Call, type Expected, type Part, refusal } from './collectives/call.ts'
import { Stage } from './collectives/stage-memory.ts'
import { elementBytes, typeName } from './datatypes.ts'
import type { Endpoint, Listener, Sending } from './endpoint.ts'
import type { MessageStatus } from './group.ts'
import { GroupError } from './group-error.ts'
import { any } from './matching.ts'
import { isFrom, type OperationName, operationOf, sequenceOf, sequences, tagOf } from './sequence.ts'
import { type Request, startRequest, type WaitOptions, watch } from './wait.ts'

/** A message that was received. */
export interface Received {
  /** Rank in the group. */
  from: number
  tag: number
  type: number
  bytes: Uint8Array
}

interface Broken {
  sequence: number
  isAll: boolean
  error: GroupError
}

export class Member implements Listener {
  readonly rank: number
  readonly size: number
  readonly endpoint: Endpoint
  /** Ranks in the link, by rank in the group. */
  readonly ranks: readonly number[]
  readonly #group: number
  readonly #rankOf: Map<number, number>
  readonly #messages: Channel
  readonly #collectives: Channel
  readonly #over = new AbortController()
  readonly #running = new Map<number, OperationName>()
  readonly #closedBy = new Set<number>()
  /** Shared memory, from the first operation that needs it on; and the end of the last operation that might use it. */
  #stage: Promise<Stage | undefined> | undefined
  #stageTurn = Promise.resolve()
  #sequence = 0
  #broken: Broken | undefined
  #closed: GroupError | undefined

  constructor(endpoint: Endpoint, group: number, ranks: readonly number[]) {
    this.endpoint = endpoint
    this.ranks = ranks
    this.size = ranks.length
    this.rank = ranks.indexOf(endpoint.link.rank)
    this.#group = group
    this.#rankOf = new Map(ranks.map((rank, index) => [rank, index]))
    const { messages, collectives } = endpoint.open(group, this)
    this.#messages = messages
    this.#collectives = collectives
    collectives.onUnexpected = (arrival) => this.#unexpected(arrival)
    endpoint.catchUp(group)
  }

  get signal(): AbortSignal {
    return this.#over.signal
  }

  get isClosed(): boolean {
    return this.#closed !== undefined
  }

  // Messages.

  isend(part: Part, to: number, tag: number, options: WaitOptions): Request<void> {
    const what = () => `send to rank ${to}, tag ${tag}`
    return startRequest(options, what, (resolve, reject) => {
      const sending = this.#send(false, to, tag, part)
      if (sending.done === undefined) resolve()
      else sending.done.then(resolve, (error) => reject(this.#whySendFailed(to, error)))
      return () => sending.cancel(undefined)
    })
  }

  irecv(from: number, tag: number, options: WaitOptions & { into?: { type: number; bytes: Uint8Array } | undefined }): Request<Received> {
    this.#checkOpen()
    const { into } = options
    const what = () => `recv from ${from === any ? 'any rank' : `rank ${from}`}, ${tag === any ? 'any tag' : `tag ${tag}`}`
    return startRequest(options, what, (resolve, reject) => {
      const receive: Receive = {
        from: this.#toLink(from),
        tag,
        into: into?.bytes,
        refuses: (arrival) => (into === undefined ? undefined : this.#misfit(arrival, into)),
        resolve: (arrival, bytes) => resolve({ ...this.#envelopeOf(arrival), bytes }),
        reject,
      }
      this.#messages.post(receive)
      return () => this.#messages.cancel(receive)
    })
  }

  probe(from: number, tag: number, options: WaitOptions): Request<MessageStatus> {
    this.#checkOpen()
    return startRequest(
      options,
      () => 'probe',
      (resolve, reject) => {
        const probe: Probe = { from: this.#toLink(from), tag, resolve: (arrival) => resolve(this.#statusOf(arrival)), reject }
        this.#messages.probe(probe)
        return () => this.#messages.cancelProbe(probe)
      },
    )
  }

  iprobe(from: number, tag: number): MessageStatus | undefined {
    this.#checkOpen()
    const wanted = { from: this.#toLink(from), tag }
    const arrival = this.#messages.find(wanted)
    if (arrival !== undefined) return this.#statusOf(arrival)
    const gone = this.#messages.whyGone(wanted.from)
    if (gone !== undefined) throw gone
    return undefined
  }

  // Collective operations.

  /** Runs an operation in its turn; `body` checks its arguments too, since the others wait for this member in any case. */
  async run<T>(name: OperationName, options: WaitOptions, body: (call: Call) => Promise<T> | T): Promise<T> {
    this.#checkOpen()
    const sequence = this.#sequence
    this.#sequence = (sequence + 1) % sequences
    if (this.#isBroken(sequence)) throw this.#broken!.error
    this.#running.set(sequence, name)
    const turn = this.#stageTurn
    const over = Promise.withResolvers<void>()
    this.#stageTurn = over.promise
    let ended: { error: unknown } | undefined
    const stop = watch(
      options,
      () => name,
      (error) => {
        ended = { error }
        this.#giveUp(name, sequence, error)
      },
    )
    try {
      if (ended === undefined) this.#findMismatch(sequence)
      if (this.#isBroken(sequence)) throw this.#broken!.error
      const result = await body(this.#callOf(name, sequence, turn))
      // It came through, but the others have been told otherwise.
      if (ended !== undefined) throw ended
      return result
    } catch (error) {
      if (ended !== undefined) throw (ended as { error: unknown }).error
      if (!this.#isBroken(sequence)) this.#giveUp(name, sequence, error)
      throw error
    } finally {
      stop()
      over.resolve()
      this.#running.delete(sequence)
      this.#findMismatch(sequence)
    }
  }

  /** What the endpoint tells. */
  closed(from: number): void {
    const rank = this.#rankOf.get(from)
    if (rank === undefined || this.#closedBy.has(from)) return
    this.#closedBy.add(from)
    this.#gone(from, new GroupError('MemberClosed', `Rank ${rank} has closed the group.`, { rank }))
    // Nobody is left to send.
    if (this.#closedBy.size >= this.size - 1) this.#messages.gone(any, this.#messages.whyGone(from)!)
  }

  broken(from: number, bytes: Uint8Array): void {
    const note = readBroken(bytes)
    if (note === undefined || !this.#rankOf.has(from)) return
    const { code = 'Broken', rank, message, sequence } = note
    this.#break(sequence, new GroupError(code, message, { rank }), code === 'MemberLost')
  }

  lost(from: number, cause: Error): void {
    const rank = this.#rankOf.get(from)
    if (rank === undefined || this.#closedBy.has(from)) return
    const error = new GroupError('MemberLost', `Rank ${rank} is lost: ${cause.message}`, { rank, cause })
    this.#gone(from, error)
    this.#messages.gone(any, error)
    this.#breakForAll(0, error, true)
    this.#over.abort(error)
  }

  /** Nothing more is done here; the other members are told. */
  close(): void {
    if (this.#closed !== undefined) return
    this.#closed = closedError()
    this.#messages.fail(() => true, this.#closed)
    this.#collectives.fail(() => true, this.#closed)
    for (const isCollective of [false, true]) this.endpoint.failSends(this.#group, isCollective, () => true, this.#closed)
    this.endpoint.close(this.#group, this.ranks)
    this.#over.abort(this.#closed)
  }

  #checkOpen(): void {
    if (this.#closed !== undefined) throw closedError()
  }

  #toLink(rank: number): number {
    return rank === any ? any : this.ranks[rank]!
  }

  #envelopeOf({ from, tag, type }: Arrival): { from: number; tag: number; type: number } {
    return { from: this.#rankOf.get(from)!, tag, type }
  }

  #statusOf(arrival: Arrival): MessageStatus {
    const { from, tag, type } = this.#envelopeOf(arrival)
    return { from, tag, count: arrival.bytes / elementBytes(type), type: type === 0 ? 'value' : typeName(type) }
  }

  #misfit(arrival: Arrival, into: { type: number; bytes: Uint8Array }): GroupError | undefined {
    const { from, tag, type } = this.#envelopeOf(arrival)
    const which = `The message from rank ${from}, tag ${tag},`
    if (type !== into.type) {
      const text = `${which} is ${typeName(type)}, but into is a ${typeName(into.type)}. It waits for another receive.`
      return new GroupError('DatatypeMismatch', text, { rank: from })
    }
    if (arrival.bytes <= into.bytes.byteLength) return undefined
    const size = elementBytes(type)
    const text = `${which} has ${arrival.bytes / size} elements, but into has room for ${into.bytes.byteLength / size}. It waits for another receive.`
    return new GroupError('Truncated', text, { rank: from })
  }

  #send(isCollective: boolean, to: number, tag: number, { type, bytes }: Part): Sending {
    this.#checkOpen()
    const channel = isCollective ? this.#collectives : this.#messages
    const gone = channel.whyGone(this.ranks[to]!)
    if (gone !== undefined) throw gone
    return this.endpoint.send(this.#group, isCollective, this.ranks[to]!, tag, type, bytes)
  }

  #whySendFailed(to: number, error: unknown): unknown {
    if (error instanceof GroupError) return error
    const gone = this.#closed ?? this.#messages.whyGone(this.ranks[to]!)
    const why = error instanceof Error ? error.message : String(error)
    return gone ?? new GroupError('MemberLost', `Rank ${to} is lost: ${why}`, { rank: to, cause: error })
  }

  /** Nothing comes from a member any more, and nothing is taken by it. */
  #gone(from: number, error: GroupError): void {
    this.#messages.gone(from, error)
    this.#collectives.gone(from, error)
    for (const isCollective of [false, true]) this.endpoint.failSends(this.#group, isCollective, ({ to }) => to === from, error)
  }

  async #openStage(): Promise<Stage | undefined> {
    if (this.size === 1) return undefined
    const memory = await this.endpoint.link.shared(`stage ${this.#group}`, this.ranks, Stage.bytesFor(this.size))
    return memory && new Stage(memory, this.size)
  }

  /** `turn` resolves when operations before it are done with the stage. */
  #callOf(name: OperationName, sequence: number, turn: Promise<void>): Call {
    const tag = tagOf(sequence, name)
    const isFailed = () => this.#isBroken(sequence)
    return {
      rank: this.rank,
      size: this.size,
      send: (to, type, bytes) => {
        if (isFailed()) throw this.#broken!.error
        const { done } = this.#send(true, to, tag, { type, bytes })
        const sent = done?.catch((error) => Promise.reject(this.#whySendFailed(to, error)))
        // Who fails elsewhere in the operation does not look at it any more.
        sent?.catch(() => {})
        return sent
      },
      recv: (from, expected = {}) => {
        if (isFailed()) throw this.#broken!.error
        return this.#recvPart(from, tag, expected)
      },
      stage: async () => {
        await turn
        if (isFailed()) throw this.#broken!.error
        this.#stage ??= this.#openStage()
        return this.#stage
      },
    }
  }

  #recvPart(from: number, tag: number, expected: Expected): Promise<Part> {
    this.#checkOpen()
    const received = new Promise<Part>((resolve, reject) => {
      this.#collectives.post({
        from: this.ranks[from]!,
        tag,
        into: expected.into,
        refuses: (arrival) => refusal(arrival, from, expected),
        resolve: ({ type }, bytes) => resolve({ type, bytes }),
        reject,
      })
    })
    received.catch(() => {})
    return received
  }

  #isBroken(sequence: number): boolean {
    return this.#broken !== undefined && (this.#broken.isAll || isFrom(sequence, this.#broken.sequence))
  }

  /** An operation has failed on this member. */
  #giveUp(name: OperationName, sequence: number, error: unknown): void {
    if (this.#closed !== undefined) return
    const why = error instanceof Error ? error.message : String(error)
    const isLoss = error instanceof GroupError && error.code === 'MemberLost'
    const text = `Rank ${this.rank} gave up ${name}, and with it the collective operations of the group: ${why}`
    this.#breakForAll(sequence, isLoss ? error : new GroupError('Broken', text, { rank: this.rank, cause: error }), isLoss)
  }

  #breakForAll(sequence: number, error: GroupError, isAll: boolean): void {
    if (!this.#break(sequence, error, isAll)) return
    const note: BrokenNote = { sequence, code: error.code, rank: error.rank ?? this.rank, message: error.message }
    this.endpoint.break(this.#group, this.ranks, writeBroken(note))
  }

  /** False if that is known. */
  #break(sequence: number, error: GroupError, isAll: boolean): boolean {
    if (this.#closed !== undefined || (isAll ? this.#broken?.isAll : this.#isBroken(sequence))) return false
    this.#broken = { sequence, isAll, error }
    const isOver = ({ tag }: { tag: number }) => this.#isBroken(sequenceOf(tag))
    this.#collectives.fail(isOver, error)
    this.#collectives.drop(isOver)
    this.endpoint.failSends(this.#group, true, isOver, error)
    this.#over.abort(error)
    return true
  }

  /** A message of a collective operation has come that nothing waits for yet. */
  #unexpected(arrival: Arrival): void {
    const sequence = sequenceOf(arrival.tag)
    if (this.#isBroken(sequence)) this.#collectives.drop((item) => item === arrival)
    else if (isFrom(this.#sequence - 1, sequence)) this.#findMismatch(sequence)
  }

  /** Breaks the group where another member called a different operation in this place, or sends what nobody here awaits. */
  #findMismatch(sequence: number): void {
    if (this.#isBroken(sequence) || this.#closed !== undefined) return
    const name = this.#running.get(sequence)
    const odd = this.#collectives.findWhere(({ tag }) => sequenceOf(tag) === sequence && (name === undefined || operationOf(tag) !== name))
    if (odd === undefined) return
    const rank = this.#rankOf.get(odd.from)!
    const other = operationOf(odd.tag)
    const text =
      name === undefined
        ? `Rank ${rank} sent more in ${other} than rank ${this.rank} awaits: do all call the same operations with the same root and lengths?`
        : `Rank ${rank} called ${other} where rank ${this.rank} called ${name}: all members must call the same operations in the same order.`
    this.#breakForAll(sequence, new GroupError('Broken', text, { rank }), false)
  }
}

function closedError(): GroupError {
  return new GroupError('Closed', 'The group is closed on this member: it can be used no more.')
}
