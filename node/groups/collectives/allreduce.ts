/**
 * Allreduce (MPI 4.1, 6.9.6). Short arrays, values, and what does not commute by recursive doubling: log2(size) rounds in which
 * neighbouring runs of ranks swap what they have. Long arrays by Rabenseifner's algorithm: reduced by halves to a share
 * each, then gathered by doubling; round a ring where the number of members is no power of two and the shares are long
 * (Thakur, Rabenseifner, Gropp 2005, 3.6). Through shared memory, where all members see such (stage.ts). All members get the same bits: no element is computed in two different ways.
 */
import { bytesOf, type TypedArray, typeOf } from '../datatypes.ts'
import type { Reduction } from '../operations.ts'
import { ring, shares } from './blocks.ts'
import { type Call, exchange, powerBelow } from './call.ts'
import { arrays, type Carrier } from './carrier.ts'
import { double, fold, foldedRank, halve, like, longBytes, ownerOf, unfold } from './halving.ts'
import { reduceOnStage, stageBytes } from './stage.ts'

/** Where a share is this long, the steps round the ring cost less than folding members, which sends the whole array twice more. */
const ringShareBytes = 32 << 10

/** Recursive doubling, in the order of ranks. */
export async function allreduceTree<T>(call: Call, carrier: Carrier<T>, data: T): Promise<T> {
  const { rank, size } = call
  const extra = size - powerBelow(size)
  const isFolded = rank < 2 * extra
  let own = data
  const send = (to: number) => {
    const { type, bytes } = carrier.encode(own)
    return call.send(to, type, bytes)
  }
  const receive = async (from: number) => carrier.decode(await call.recv(from, carrier.expected))
  if (isFolded && rank % 2 === 0) {
    await send(rank + 1)
    return receive(rank + 1)
  }
  if (isFolded) {
    const received = await receive(rank - 1)
    own = carrier.combine(received, own, received)
  }
  const place = foldedRank(call)
  for (let distance = 1; distance < powerBelow(size); distance *= 2) {
    const partner = place ^ distance
    const other = ownerOf(size, partner)
    const received = carrier.decode(await exchange(call, other, carrier.encode(own), other, carrier.expected))
    own = partner < place ? carrier.combine(received, own, received) : carrier.combine(own, received, received)
  }
  if (isFolded) await send(rank - 1)
  return own
}

/** An array of its own, or `data` itself where there is but one member. */
export async function allreduceArray(call: Call, data: TypedArray, reduction: Reduction, into?: TypedArray): Promise<TypedArray> {
  const { size } = call
  const isShort = data.byteLength < longBytes || data.length < size * reduction.width
  const stage = size > 1 && data.byteLength >= stageBytes ? await call.stage() : undefined
  if (stage !== undefined) {
    const target = into ?? like(data, data.length)
    await reduceOnStage(call, stage, data, reduction, { array: target, from: 0 })
    return target
  }
  if (size === 1 || isShort || !reduction.isCommutative) return allreduceTree(call, arrays(data, reduction), data)
  const work = into ?? like(data, data.length)
  if (work !== data) work.set(data as never)
  const isPower = powerBelow(size) === size
  if (!isPower && data.byteLength / size >= ringShareBytes) await allreduceRing(call, work, reduction)
  else {
    const offsets = shares(work.length, powerBelow(size), reduction.width)
    await fold(call, work, reduction)
    if (foldedRank(call) >= 0) {
      await halve(call, work, reduction, offsets)
      await double(call, work, offsets)
    }
    await unfold(call, work)
  }
  return work
}

/** Each share goes round once to be reduced, and once more to be told (Patarasuk, Yuan 2009). */
async function allreduceRing(call: Call, work: TypedArray, { kernel, width }: Reduction): Promise<void> {
  const { rank, size } = call
  const type = typeOf(work)
  const offsets = shares(work.length, size, width)
  const share = (index: number) => {
    const at = (index + 2 * size) % size
    return work.subarray(offsets[at]!, offsets[at + 1]!) as TypedArray
  }
  const scratch = like(work, Math.ceil(work.length / size) + width)
  for (let step = 0; step < size - 1; step += 1) {
    const own = share(rank - step - 1)
    const other = scratch.subarray(0, own.length) as TypedArray
    const part = { type, bytes: bytesOf(share(rank - step)) }
    await exchange(call, (rank + 1) % size, part, (rank - 1 + size) % size, { type, into: bytesOf(other) })
    kernel(own, other, own)
  }
  const bytes = offsets.map((offset) => offset * work.BYTES_PER_ELEMENT)
  await ring(call, type, bytesOf(work), bytes, rank + 1)
}
