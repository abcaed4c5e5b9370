/**
 * Reduce (MPI 4.1, 6.9.1): up a binomial tree; a long array is reduced in shares, which the root then gathers (Rabenseifner's
 * algorithm, as in Thakur et al. 2005, 3.5). What does not commute is combined in the order of ranks.
 */
import { bytesOf, type TypedArray, typeOf } from '../datatypes.ts'
import type { Reduction } from '../operations.ts'
import { shares } from './blocks.ts'
import { binomial, type Call, fromRoot } from './call.ts'
import { arrays, type Carrier } from './carrier.ts'
import { gatherBlocks } from './gather.ts'
import { fold, foldedRank, halve, like, longBytes, ownerOf } from './halving.ts'
import { reduceOnStage, stageBytes } from './stage.ts'

/** The combined data at the root; undefined elsewhere. */
export async function reduceTree<T>(anyCall: Call, carrier: Carrier<T>, data: T, root: number): Promise<T | undefined> {
  // A tree over ranks counted from the root would combine the last ranks before the first ones.
  const top = carrier.isCommutative ? root : 0
  const call = fromRoot(anyCall, top)
  const { parent, children } = binomial(call.rank, call.size)
  let own = data
  // The nearest child first: its subtree is the smallest, and holds the ranks that follow.
  for (const child of children.toReversed()) {
    const received = carrier.decode(await call.recv(child, carrier.expected))
    own = carrier.combine(own, received, received)
  }
  const part = carrier.encode(own)
  if (parent >= 0) await call.send(parent, part.type, part.bytes)
  if (top === root) return parent < 0 ? own : undefined
  if (anyCall.rank === 0) await anyCall.send(root, part.type, part.bytes)
  return anyCall.rank === root ? carrier.decode(await anyCall.recv(0, carrier.expected)) : undefined
}

/** Into `target`, an array of its own, at the root. */
export async function reduceArray(call: Call, array: TypedArray, reduction: Reduction, root: number): Promise<TypedArray | undefined> {
  const stage = call.size > 1 && array.byteLength >= stageBytes ? await call.stage() : undefined
  if (stage !== undefined) {
    const target = call.rank === root ? like(array, array.length) : undefined
    await reduceOnStage(call, stage, array, reduction, target && { array: target, from: 0 })
    return target
  }
  if (!reduction.isCommutative || array.byteLength < longBytes || call.size < 4) {
    return reduceTree(call, arrays(array, reduction), array, root)
  }
  const work = array.slice() as TypedArray
  await fold(call, work, reduction)
  const place = foldedRank(call)
  const parts = 2 ** Math.floor(Math.log2(call.size))
  const offsets = shares(work.length, parts, reduction.width)
  if (place >= 0) await halve(call, work, reduction, offsets)
  // Blocks of the ranks that have one, as bytes.
  const owners = Array.from({ length: parts }, (_, part) => ownerOf(call.size, part))
  const bytes = offsets.map((offset) => offset * work.BYTES_PER_ELEMENT)
  await gatherBlocks(call, typeOf(work), bytesOf(work), bytes, owners, root)
  return call.rank === root ? work : undefined
}
