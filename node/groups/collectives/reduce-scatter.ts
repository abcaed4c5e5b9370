/**
 * Reduce-scatter (MPI 4.1, 6.10). Long arrays whose operation commutes by pairwise exchange: each member gets its block from
 * each other one (Thakur et al. 2005, 3.4); all else is reduced to rank 0 and scattered.
 */
import { arrayOf, bytesOf, type TypedArray, typeOf } from '../datatypes.ts'
import type { Reduction } from '../operations.ts'
import { type Call, exchange } from './call.ts'
import { like, longBytes } from './halving.ts'
import { reduceArray } from './reduce.ts'
import { scatter } from './scatter.ts'
import { reduceOnStage, stageBytes } from './stage.ts'

/** The own block of the combined arrays; `offsets` are those of all blocks, in elements. */
export async function reduceScatter(call: Call, data: TypedArray, reduction: Reduction, offsets: readonly number[]): Promise<TypedArray> {
  const { rank, size } = call
  const type = typeOf(data)
  const block = (array: TypedArray, of: number) => array.subarray(offsets[of]!, offsets[of + 1]!) as TypedArray
  if (size === 1) return data.slice() as TypedArray
  const stage = data.byteLength >= stageBytes ? await call.stage() : undefined
  if (stage !== undefined) {
    const array = like(data, offsets[rank + 1]! - offsets[rank]!)
    await reduceOnStage(call, stage, data, reduction, { array, from: offsets[rank]! })
    return array
  }
  if (data.byteLength < longBytes || !reduction.isCommutative) {
    const whole = await reduceArray(call, data, reduction, 0)
    const parts = whole && Array.from({ length: size }, (_, of) => ({ type, bytes: bytesOf(block(whole, of)) }))
    const own = await scatter(call, 0, parts && { parts }, { type, bytes: bytesOf(block(data, rank)).byteLength })
    return arrayOf(type, own.bytes)
  }
  const own = block(data, rank).slice() as TypedArray
  const other = own.slice() as TypedArray
  for (let step = 1; step < size; step += 1) {
    const to = (rank + step) % size
    const from = (rank - step + size) % size
    await exchange(call, to, { type, bytes: bytesOf(block(data, to)) }, from, { type, into: bytesOf(other) })
    if (from < rank) reduction.kernel(own, other, own)
    else reduction.kernel(own, own, other)
  }
  return own
}
