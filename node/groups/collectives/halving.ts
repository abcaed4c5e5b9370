/**
 * The two halves of Rabenseifner's algorithm (Thakur, Rabenseifner, Gropp 2005: Optimization of collective communication
 * operations in MPICH, 3.5), on arrays that are changed in place. Each needs a power of two of members: where there are more,
 * neighbours are folded into one first, and told the result last.
 */
import { bytesOf, constructorOf, type TypedArray, typeOf } from '../datatypes.ts'
import type { Reduction } from '../operations.ts'
import { type Call, exchange, powerBelow } from './call.ts'

/** From here on an array is reduced in shares: before it, the number of messages counts for more than their length. */
export const longBytes = 16 << 10

/** The rank among the members that take part once neighbours are folded; -1 for one that is folded into the next rank. */
export function foldedRank({ rank, size }: Call): number {
  const extra = size - powerBelow(size)
  if (rank >= 2 * extra) return rank - extra
  return rank % 2 === 0 ? -1 : (rank - 1) / 2
}

/** The rank of who takes part as this one. */
export function ownerOf(size: number, folded: number): number {
  const extra = size - powerBelow(size)
  return folded < extra ? 2 * folded + 1 : folded + extra
}

/** Combines what the folded members have into their neighbours'. */
export async function fold(call: Call, work: TypedArray, { kernel }: Reduction): Promise<void> {
  const { rank, size } = call
  if (rank >= 2 * (size - powerBelow(size))) return
  const type = typeOf(work)
  if (rank % 2 === 0) {
    await call.send(rank + 1, type, bytesOf(work))
    return
  }
  const other = like(work, work.length)
  await call.recv(rank - 1, { type, into: bytesOf(other) })
  kernel(work, other, work)
}

/** Tells the folded members what came out. */
export async function unfold(call: Call, work: TypedArray): Promise<void> {
  const { rank, size } = call
  if (rank >= 2 * (size - powerBelow(size))) return
  const type = typeOf(work)
  if (rank % 2 === 0) await call.recv(rank + 1, { type, into: bytesOf(work) })
  else await call.send(rank - 1, type, bytesOf(work))
}

/** Reduces, by halves, to the own share of the array: the one of the folded rank. */
export async function halve(call: Call, work: TypedArray, { kernel }: Reduction, offsets: readonly number[]): Promise<void> {
  const type = typeOf(work)
  const place = foldedRank(call)
  const parts = offsets.length - 1
  const scratch = like(work, Math.ceil(work.length / 2) + 2)
  let first = 0
  let end = parts
  for (let distance = parts / 2; distance >= 1; distance /= 2) {
    const partner = place ^ distance
    const middle = first + distance
    const [kept, given] =
      place < partner
        ? [slice(work, offsets, first, middle), slice(work, offsets, middle, end)]
        : [slice(work, offsets, middle, end), slice(work, offsets, first, middle)]
    if (place < partner) end = middle
    else first = middle
    const other = scratch.subarray(0, kept.length) as TypedArray
    const rank = ownerOf(call.size, partner)
    await exchange(call, rank, { type, bytes: bytesOf(given) }, rank, { type, into: bytesOf(other) })
    if (place < partner) kernel(kept, kept, other)
    else kernel(kept, other, kept)
  }
}

/** Gathers, by doubling, all shares. */
export async function double(call: Call, work: TypedArray, offsets: readonly number[]): Promise<void> {
  const type = typeOf(work)
  const place = foldedRank(call)
  for (let distance = 1; distance < offsets.length - 1; distance *= 2) {
    const own = place - (place % distance)
    const other = own ^ distance
    const part = { type, bytes: bytesOf(slice(work, offsets, own, own + distance)) }
    const rank = ownerOf(call.size, place ^ distance)
    await exchange(call, rank, part, rank, { type, into: bytesOf(slice(work, offsets, other, other + distance)) })
  }
}

function slice(work: TypedArray, offsets: readonly number[], first: number, end: number): TypedArray {
  return work.subarray(offsets[first]!, offsets[end]!) as TypedArray
}

/** A new array of the same type. */
export function like(array: TypedArray, length: number): TypedArray {
  return new (constructorOf(typeOf(array)))(length)
}
