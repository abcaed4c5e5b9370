/**
 * Allgather (MPI 4.1, 6.7). Members first tell each other what they bring, where that may differ; then blocks go by Bruck's
 * algorithm or round the ring (blocks.ts).
 */
import { bytesOf, typeOf } from '../datatypes.ts'
import { GroupError } from '../group-error.ts'
import { allgatherBlocks, offsetsOf } from './blocks.ts'
import type { Call, Part } from './call.ts'
import { allgatherOnStage, stageBytes } from './stage.ts'

const byteType = typeOf(new Uint8Array(0))

/** Blocks of the same type and length, one after the other in the order of ranks. */
export async function allgatherEqual(call: Call, { type, bytes }: Part, into?: Uint8Array): Promise<Uint8Array> {
  const length = bytes.byteLength
  const all = into ?? new Uint8Array(length * call.size)
  const stage = call.size > 1 && length >= stageBytes ? await call.stage() : undefined
  if (stage !== undefined) {
    await allgatherOnStage(call, stage, type, bytes, all)
    return all
  }
  all.set(bytes, call.rank * length)
  await allgatherBlocks(
    call,
    type,
    all,
    Array.from({ length: call.size + 1 }, (_, rank) => rank * length),
  )
  return all
}

/** Whatever each brings, by rank. */
export async function allgatherAny(call: Call, part: Part): Promise<Part[]> {
  const { rank, size } = call
  const facts = await allgatherNumbers(call, [part.type, part.bytes.byteLength])
  const types = facts.map(([type]) => type!)
  const offsets = offsetsOf(facts.map(([, length]) => length!))
  const all = new Uint8Array(offsets[size]!)
  all.set(part.bytes, offsets[rank]!)
  // What passes by holds blocks of several types: it counts as bytes.
  await allgatherBlocks(call, byteType, all, offsets)
  return types.map((type, of) => ({ type, bytes: all.subarray(offsets[of]!, offsets[of + 1]!) }))
}

/** Numbers of every member, one row each. */
export async function allgatherNumbers(call: Call, numbers: readonly number[]): Promise<Float64Array[]> {
  const own = Float64Array.from(numbers)
  const all = new Float64Array((await allgatherEqual(call, { type: typeOf(own), bytes: bytesOf(own) })).buffer)
  return Array.from({ length: call.size }, (_, rank) => all.subarray(rank * own.length, (rank + 1) * own.length))
}

/** Refuses parts of several types where one array is to be made of them. */
export function sameType(parts: readonly Part[]): number {
  const odd = parts.findIndex(({ type }) => type !== parts[0]!.type)
  if (odd >= 0) throw new GroupError('DatatypeMismatch', `Rank ${odd} gave an array of another type than rank 0.`, { rank: odd })
  return parts[0]!.type
}
