/** Bytes in blocks, one a member, in the order of ranks: offsets[r] to offsets[r + 1] is that of rank r. */
import { type Call, exchange } from './call.ts'

/** Blocks this long in all go by Bruck's algorithm, larger ones round the ring (as in MPICH: Thakur et al. 2005, 3.1). */
const bruckBytes = 80 << 10

/** Equal shares of some elements, or as equal as can be, in units of `width`. */
export function shares(length: number, parts: number, width = 1): number[] {
  const units = length / width
  return Array.from({ length: parts + 1 }, (_, part) => Math.floor((units * part) / parts) * width)
}

/** Blocks of these lengths. */
export function offsetsOf(lengths: ArrayLike<number>): number[] {
  const offsets = [0]
  for (let index = 0; index < lengths.length; index += 1) offsets.push(offsets[index]! + lengths[index]!)
  return offsets
}

/** Every member brings its block in place and gets all others. */
export async function allgatherBlocks(call: Call, type: number, bytes: Uint8Array, offsets: readonly number[]): Promise<void> {
  if (call.size === 1) return
  if (bytes.byteLength <= bruckBytes) await bruck(call, type, bytes, offsets)
  else await ring(call, type, bytes, offsets, call.rank)
}

/**
 * Bruck et al. 1997: in round k a member sends all that it has to the one 2^k ranks before it, so that what it has doubles.
 * It has the blocks from its own on, in the order of ranks.
 */
async function bruck(call: Call, type: number, bytes: Uint8Array, offsets: readonly number[]): Promise<void> {
  const { rank, size } = call
  const total = offsets[size]!
  /** Bytes of `count` blocks from that of this rank on, round the end. */
  const lengthFrom = (first: number, count: number) => {
    const end = first + count
    return end <= size ? offsets[end]! - offsets[first]! : total - offsets[first]! + offsets[end - size]!
  }
  const packed = new Uint8Array(total)
  packed.set(bytes.subarray(offsets[rank]!, offsets[rank + 1]!))
  for (let has = 1; has < size; has *= 2) {
    const count = Math.min(has, size - has)
    const to = (rank - has + size) % size
    const from = (rank + has) % size
    const at = lengthFrom(rank, has)
    const part = { type, bytes: packed.subarray(0, lengthFrom(rank, count)) }
    await exchange(call, to, part, from, { type, into: packed.subarray(at, at + lengthFrom(from, count)) })
  }
  const first = total - offsets[rank]!
  bytes.set(packed.subarray(0, first), offsets[rank]!)
  bytes.set(packed.subarray(first), 0)
}

/** Round the ring: each passes on to the next rank the block that it got last; at first the one of rank `own`. */
export async function ring(call: Call, type: number, bytes: Uint8Array, offsets: readonly number[], own: number): Promise<void> {
  const { rank, size } = call
  const block = (index: number) => {
    const at = (index + 2 * size) % size
    return bytes.subarray(offsets[at]!, offsets[at + 1]!)
  }
  for (let step = 0; step < size - 1; step += 1) {
    const part = { type, bytes: block(own - step) }
    await exchange(call, (rank + 1) % size, part, (rank - 1 + size) % size, { type, into: block(own - step - 1) })
  }
}
