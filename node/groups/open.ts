/** The group over a link: what {@link Group} promises, put together from messages (member.ts) and algorithms (collectives/). */
import {
  checkAnyTag,
  checkArray,
  checkBlocks,
  checkColor,
  checkCounts,
  checkInto,
  checkList,
  checkRank,
  checkSource,
  checkTag,
} from './arguments.ts'
import { allgatherAny, allgatherEqual, allgatherNumbers, sameType } from './collectives/allgather.ts'
import { alltoallAny, alltoallEqual } from './collectives/alltoall.ts'
import { barrier } from './collectives/barrier.ts'
import { bcast } from './collectives/bcast.ts'
import { offsetsOf } from './collectives/blocks.ts'
import type { Call, Part } from './collectives/call.ts'
import { gatherAny, gatherEqual } from './collectives/gather.ts'
import * as reductions from './collectives/reductions.ts'
import { scatter, type ToScatter } from './collectives/scatter.ts'
import { arrayOf, bytesOf, decode, encode, isTypedArray, type TypedArray, typeOf } from './datatypes.ts'
import { Endpoint } from './endpoint.ts'
import type {
  Gathered,
  Group,
  Into,
  Message,
  MessageStatus,
  ReceiveOptions,
  ReduceOptions,
  RootOptions,
  SendOptions,
  SendReceiveOptions,
  Source,
} from './group.ts'
import type { Link } from './link.ts'
import { Member, type Received } from './member.ts'
import type { Operation } from './operations.ts'
import type { Request, WaitOptions } from './wait.ts'

type AnyOperation = Operation | ((lower: never, higher: never) => unknown)

/** The group of all members of a link. Closing it closes the link, and the groups split from it. */
export function openGroup(link: Link): Group {
  const endpoint = new Endpoint(link)
  const ranks = Array.from({ length: link.size }, (_, rank) => rank)
  const made: Member[] = []
  const member = new Member(endpoint, 0, ranks)
  return groupOf(member, made, async () => {
    for (const other of made) other.close()
    await link.close()
  })
}

function groupOf(member: Member, made: Member[], onClose: () => Promise<void>): Group {
  return new LinkedGroup(member, made, onClose) as unknown as Group
}

/** Its methods take whatever there is; what comes of which data is said by the types of {@link Group}. */
class LinkedGroup {
  readonly rank: number
  readonly size: number
  readonly #member: Member
  /** Those that were split from the group of the link. */
  readonly #made: Member[]
  readonly #onClose: () => Promise<void>

  constructor(member: Member, made: Member[], onClose: () => Promise<void>) {
    this.#member = member
    this.#made = made
    this.#onClose = onClose
    this.rank = member.rank
    this.size = member.size
  }

  get signal(): AbortSignal {
    return this.#member.signal
  }

  // Messages. The methods are async so that wrong arguments reject.

  async send(data: unknown, to: number, options: SendOptions = {}): Promise<void> {
    await this.isend(data, to, options).done
  }

  isend(data: unknown, to: number, options: SendOptions = {}): Request<void> {
    const rank = checkRank('to', to, this.size)
    return this.#member.isend(partOf(data), rank, checkTag(options.tag ?? 0), options)
  }

  async recv(options: ReceiveOptions = {}): Promise<Message<unknown>> {
    return await this.irecv(options).done
  }

  irecv(options: ReceiveOptions = {}): Request<Message<unknown>> {
    const into = checkInto(options.into)
    const { signal, timeoutMs } = options
    const target = into && { type: typeOf(into), bytes: bytesOf(into) }
    const request = this.#member.irecv(checkSource(options.from, this.size), checkAnyTag(options.tag), { signal, timeoutMs, into: target })
    const done = request.done.then((received) => messageOf(received, into))
    done.catch(() => {})
    return { ...request, done }
  }

  async probe(options: Source = {}): Promise<MessageStatus> {
    return await this.#member.probe(checkSource(options.from, this.size), checkAnyTag(options.tag), options).done
  }

  iprobe(options: Source = {}): MessageStatus | undefined {
    return this.#member.iprobe(checkSource(options.from, this.size), checkAnyTag(options.tag))
  }

  async sendrecv(data: unknown, to: number, options: SendReceiveOptions): Promise<Message<unknown>> {
    const { from, into, tag, receiveTag, signal, timeoutMs } = options
    const received = this.irecv({ from, tag: receiveTag, into, signal, timeoutMs })
    try {
      const sent = this.isend(data, to, { tag, signal, timeoutMs })
      const [message] = await Promise.all([received.done, sent.done])
      return message
    } catch (error) {
      received.cancel()
      throw error
    }
  }

  // Collective operations.

  barrier(options: WaitOptions = {}): Promise<void> {
    return this.#member.run('barrier', options, barrier)
  }

  bcast(data: unknown, options: RootOptions & Into<TypedArray> = {}): Promise<unknown> {
    return this.#member.run('bcast', options, async (call) => {
      const root = this.#root(options)
      const into = checkInto(options.into)
      if (this.rank !== root) {
        const part = await bcast(call, root, undefined, into && { type: typeOf(into), into: bytesOf(into) })
        return into ?? decode(part.type, part.bytes)
      }
      await bcast(call, root, partOf(data))
      return data
    })
  }

  scatter(data: unknown, options: RootOptions & Into<TypedArray> = {}): Promise<unknown> {
    return this.#member.run('scatter', options, async (call) => {
      if (this.rank !== this.#root(options)) return this.#scattered(call, options)
      if (isTypedArray(data)) {
        const array = checkArray('data', data)
        checkBlocks(array, this.size)
        return this.#scattered(call, options, { equal: partOf(array) })
      }
      return this.#scattered(call, options, { parts: checkList(data, this.size).map(partOf) })
    })
  }

  scatterv(data: unknown, counts: ArrayLike<number> | undefined, options: RootOptions & Into<TypedArray> = {}): Promise<unknown> {
    return this.#member.run('scatter', options, (call) => {
      if (this.rank !== this.#root(options)) return this.#scattered(call, options)
      const array = checkArray('data', data)
      const offsets = offsetsOf(checkCounts(counts, this.size, array))
      const parts = Array.from({ length: this.size }, (_, rank) => partOf(array.subarray(offsets[rank]!, offsets[rank + 1]!)))
      return this.#scattered(call, options, { parts })
    })
  }

  gather(data: unknown, options: RootOptions & Into<TypedArray> = {}): Promise<unknown> {
    return this.#member.run('gather', options, async (call) => {
      const root = this.#root(options)
      const part = partOf(data)
      if (!isTypedArray(data)) return (await gatherAny(call, part, root))?.map(({ type, bytes }) => decode(type, bytes))
      const into = this.rank === root ? checkInto(options.into, part.type, data.length * this.size) : undefined
      const all = await gatherEqual(call, part, root, into && bytesOf(into))
      return all && (into ?? arrayOf(part.type, all))
    })
  }

  gatherv(data: TypedArray, options: RootOptions = {}): Promise<Gathered<TypedArray> | undefined> {
    return this.#member.run('gatherv', options, async (call) => {
      const part = partOf(checkArray('data', data))
      const parts = await gatherAny(call, part, this.#root(options), part.type)
      return parts && joined(parts)
    })
  }

  allgather(data: unknown, options: WaitOptions & Into<TypedArray> = {}): Promise<unknown> {
    return this.#member.run('allgather', options, async (call) => {
      const part = partOf(data)
      if (!isTypedArray(data)) return (await allgatherAny(call, part)).map(({ type, bytes }) => decode(type, bytes))
      const into = checkInto(options.into, part.type, data.length * this.size)
      const all = await allgatherEqual(call, part, into && bytesOf(into))
      return into ?? arrayOf(part.type, all)
    })
  }

  allgatherv(data: TypedArray, options: WaitOptions = {}): Promise<Gathered<TypedArray>> {
    return this.#member.run('allgatherv', options, async (call) => {
      return joined(await allgatherAny(call, partOf(checkArray('data', data))))
    })
  }

  alltoall(data: unknown, options: WaitOptions & Into<TypedArray> = {}): Promise<unknown> {
    return this.#member.run('alltoall', options, async (call) => {
      if (!isTypedArray(data)) {
        const parts = await alltoallAny(call, checkList(data, this.size).map(partOf))
        return parts.map(({ type, bytes }, from) => (from === this.rank ? copyOf({ type, bytes }) : decode(type, bytes)))
      }
      const array = checkArray('data', data)
      checkBlocks(array, this.size)
      const type = typeOf(array)
      const into = checkInto(options.into, type, array.length)
      // Blocks come while others still have to leave.
      const given = into?.buffer === array.buffer ? (array.slice() as TypedArray) : array
      const target = into ?? arrayOf(type, new Uint8Array(array.byteLength))
      await alltoallEqual(call, partOf(given), bytesOf(target))
      return target
    })
  }

  reduce(data: unknown, operation: AnyOperation, options: ReduceOptions & RootOptions & Into<TypedArray> = {}): Promise<unknown> {
    return this.#member.run('reduce', options, (call) => reductions.reduce(call, data, operation, options, this.#root(options)))
  }

  allreduce(data: unknown, operation: AnyOperation, options: ReduceOptions & Into<TypedArray> = {}): Promise<unknown> {
    return this.#member.run('allreduce', options, (call) => reductions.allreduce(call, data, operation, options))
  }

  reduceScatter(
    data: TypedArray,
    operation: AnyOperation,
    options: ReduceOptions & Into<TypedArray> & { counts?: ArrayLike<number> | undefined } = {},
  ): Promise<TypedArray> {
    return this.#member.run('reduceScatter', options, async (call) => {
      const array = checkArray('data', data)
      const counts =
        options.counts === undefined
          ? Array.from({ length: this.size }, () => checkBlocks(array, this.size))
          : checkCounts(options.counts, this.size, array)
      return reductions.reduceScatter(call, array, operation, options, counts)
    })
  }

  scan(data: unknown, operation: AnyOperation, options: ReduceOptions & Into<TypedArray> = {}): Promise<unknown> {
    return this.#member.run('scan', options, (call) => reductions.scan(call, data, operation, options, true))
  }

  exscan(data: unknown, operation: AnyOperation, options: ReduceOptions & Into<TypedArray> = {}): Promise<unknown> {
    return this.#member.run('exscan', options, (call) => reductions.scan(call, data, operation, options, false))
  }

  split(color: number | undefined, key = 0, options: WaitOptions = {}): Promise<Group | undefined> {
    return this.#member.run('split', options, async (call) => {
      checkColor(color, key)
      const { endpoint, ranks } = this.#member
      const rows = await allgatherNumbers(call, [color ?? Number.NaN, key, endpoint.drawGroup()])
      const mine = rows
        .map(([of, by, drawn], rank) => ({ color: of!, key: by!, drawn: drawn!, rank }))
        .filter((row) => row.color === color)
        .sort((a, b) => a.key - b.key || a.rank - b.rank)
      if (mine.length === 0) return undefined
      const member = new Member(
        endpoint,
        mine[0]!.drawn,
        mine.map(({ rank }) => ranks[rank]!),
      )
      if (this.#member.isClosed) member.close()
      this.#made.push(member)
      return groupOf(member, this.#made, async () => {})
    })
  }

  async dup(options: WaitOptions = {}): Promise<Group> {
    return (await this.split(0, this.rank, options))!
  }

  async close(): Promise<void> {
    if (this.#member.isClosed) return
    this.#member.close()
    const at = this.#made.indexOf(this.#member)
    if (at >= 0) this.#made.splice(at, 1)
    await this.#onClose()
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.close()
  }

  #root({ root = 0 }: RootOptions): number {
    return checkRank('root', root, this.size)
  }

  async #scattered(call: Call, options: RootOptions & Into<TypedArray>, data?: ToScatter): Promise<unknown> {
    const into = checkInto(options.into)
    const own = await scatter(call, this.#root(options), data, into && { type: typeOf(into), into: bytesOf(into) })
    if (into === undefined) return data === undefined ? decode(own.type, own.bytes) : copyOf(own)
    const array = arrayOf(own.type, own.bytes)
    checkInto(into, own.type, array.length)
    bytesOf(into).set(own.bytes)
    return into
  }
}

function partOf(data: unknown): Part {
  return encode(isTypedArray(data) ? checkArray('data', data) : data)
}

/** What the member gave itself, apart from what it gave. */
function copyOf({ type, bytes }: Part): unknown {
  return decode(type, bytes.slice())
}

function joined(parts: readonly Part[]): Gathered<TypedArray> {
  const type = sameType(parts)
  const all = new Uint8Array(parts.reduce((sum, { bytes }) => sum + bytes.byteLength, 0))
  let at = 0
  for (const { bytes } of parts) {
    all.set(bytes, at)
    at += bytes.byteLength
  }
  return { data: arrayOf(type, all), counts: parts.map(({ bytes }) => arrayOf(type, bytes).length) }
}

function messageOf({ from, tag, type, bytes }: Received, into: TypedArray | undefined): Message<unknown> {
  const data = into === undefined ? decode(type, bytes) : bytes.byteLength === into.byteLength ? into : arrayOf(type, bytes)
  return { data, from, tag }
}
