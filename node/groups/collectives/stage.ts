/**
 * Collective operations through memory that all members see. A long array goes through it in pieces: each member copies its
 * own in, combines or takes what it needs of all others', and copies what it wants out. Between the steps stands a barrier of
 * messages, so a member that is lost or gives up is heard of as in every other operation.
 */
import { type TypedArray, typeName, typeOf } from '../datatypes.ts'
import { GroupError } from '../group-error.ts'
import type { Reduction } from '../operations.ts'
import { barrier } from './barrier.ts'
import { shares } from './blocks.ts'
import type { Call } from './call.ts'
import { pieceBytes, type Stage } from './stage-memory.ts'

/** From here on arrays go through the stage: below, messages take less time than the barriers. */
export const stageBytes = 32 << 10
/** Steps over the array in pieces that fit, with those of all members there; `use` runs between two barriers. */
async function eachPiece(
  call: Call,
  stage: Stage,
  array: TypedArray,
  { width = 1, gives = true, type = typeOf(array) }: { width?: number; gives?: boolean; type?: number },
  use: (from: number, end: number) => void,
  take: (from: number, end: number) => void,
): Promise<void> {
  const { rank, size } = call
  stage.facts(rank).set([type, array.byteLength])
  const most = Math.floor(pieceBytes / array.BYTES_PER_ELEMENT / width) * width
  for (let from = 0; from < array.length; from += most) {
    const end = Math.min(from + most, array.length)
    if (gives) stage.piece(array, rank, end - from).set(array.subarray(from, end) as never)
    await barrier(call)
    if (from === 0) for (let other = 0; other < size; other += 1) check(stage.facts(other), other, type, array.byteLength)
    use(from, end)
    await barrier(call)
    take(from, end)
  }
}

function check([type, bytes]: Float64Array, rank: number, ownType: number, ownBytes: number): void {
  if (type !== ownType) {
    throw new GroupError('DatatypeMismatch', `Rank ${rank} gave ${typeName(type!)}, this member ${typeName(ownType)}.`, { rank })
  }
  if (bytes !== ownBytes) {
    const text = `Rank ${rank} gave ${bytes} bytes where this member gave ${ownBytes}: do all give arrays of the same length?`
    throw new GroupError('CountMismatch', text, { rank })
  }
}

/** A part of the result, from this element on. */
export interface Wanted {
  array: TypedArray
  from: number
}

/** Each member combines its share of every piece, in the order of ranks; then each takes what it wants of the result. */
export async function reduceOnStage(
  call: Call,
  stage: Stage,
  data: TypedArray,
  { kernel, width }: Reduction,
  wanted: Wanted | undefined,
): Promise<void> {
  const { rank, size } = call
  await eachPiece(
    call,
    stage,
    data,
    { width },
    (from, end) => {
      const offsets = shares(end - from, size, width)
      const share = (of: number) => stage.piece(data, of, end - from).subarray(offsets[rank]!, offsets[rank + 1]!) as TypedArray
      const result = share(size)
      kernel(result, share(0), share(1))
      for (let of = 2; of < size; of += 1) kernel(result, result, share(of))
    },
    (from, end) => {
      if (wanted === undefined) return
      const first = Math.max(from, wanted.from)
      const last = Math.min(end, wanted.from + wanted.array.length)
      if (first >= last) return
      const result = stage.piece(data, size, end - from).subarray(first - from, last - from)
      wanted.array.set(result as never, first - wanted.from)
    },
  )
}

/** The blocks of all, one after the other, as bytes of this type. */
export async function allgatherOnStage(call: Call, stage: Stage, type: number, data: Uint8Array, into: Uint8Array): Promise<void> {
  await eachPiece(
    call,
    stage,
    data,
    { type },
    (from, end) => {
      for (let of = 0; of < call.size; of += 1) into.set(stage.piece(data, of, end - from) as Uint8Array, of * data.length + from)
    },
    () => {},
  )
}

/** The root's bytes, in everybody's of the same length. */
export async function bcastOnStage(call: Call, stage: Stage, array: Uint8Array, root: number): Promise<void> {
  await eachPiece(
    call,
    stage,
    array,
    { gives: call.rank === root },
    (from, end) => {
      if (call.rank !== root) array.set(stage.piece(array, root, end - from) as Uint8Array, from)
    },
    () => {},
  )
}
