/**
 * Alltoall (MPI 4.1, 6.8): short equal blocks by Bruck's algorithm in log2(size) rounds, all else by pairwise exchange, one
 * partner at a time (Bruck et al. 1997; Thakur et al. 2005, 3.3).
 */
import { type Call, type Expected, exchange, type Part } from './call.ts'

/** Blocks up to this long are worth being sent several times, from this many members on (as in MPICH). */
const bruckBytes = 256
const bruckSize = 8

/** Equal blocks, one a rank, into `into`, which is not the same memory. */
export async function alltoallEqual(call: Call, { type, bytes }: Part, into: Uint8Array): Promise<void> {
  const { size } = call
  const length = bytes.byteLength / size
  if (length <= bruckBytes && size >= bruckSize) return alltoallBruck(call, { type, bytes }, into)
  const block = (array: Uint8Array, rank: number) => array.subarray(rank * length, (rank + 1) * length)
  await pairwise(
    call,
    (rank) => ({ type, bytes: block(bytes, rank) }),
    (rank) => ({ type, into: block(into, rank) }),
    (rank, part) => {
      if (rank === call.rank) block(into, rank).set(part.bytes)
    },
  )
}

/** Whatever there is for each rank; gives what each had for this one. */
export async function alltoallAny(call: Call, parts: readonly Part[]): Promise<Part[]> {
  const received: Part[] = []
  await pairwise(
    call,
    (rank) => parts[rank]!,
    () => ({}),
    (rank, part) => {
      received[rank] = part
    },
  )
  return received
}

async function pairwise(
  call: Call,
  partFor: (rank: number) => Part,
  expectedFrom: (rank: number) => Expected,
  take: (rank: number, part: Part) => void,
): Promise<void> {
  const { rank, size } = call
  take(rank, partFor(rank))
  for (let step = 1; step < size; step += 1) {
    const from = (rank - step + size) % size
    const to = (rank + step) % size
    take(from, await exchange(call, to, partFor(to), from, expectedFrom(from)))
  }
}

/** Block i, counted from the own rank, travels 2^k ranks on in round k if bit k of i is set. */
async function alltoallBruck(call: Call, { type, bytes }: Part, into: Uint8Array): Promise<void> {
  const { rank, size } = call
  const length = bytes.byteLength / size
  const block = (array: Uint8Array, index: number) => array.subarray(index * length, (index + 1) * length)
  const work = new Uint8Array(bytes.byteLength)
  for (let index = 0; index < size; index += 1) block(work, index).set(block(bytes, (rank + index) % size))
  for (let distance = 1; distance < size; distance *= 2) {
    const moved = Array.from({ length: size }, (_, index) => index).filter((index) => (index & distance) !== 0)
    const packed = new Uint8Array(moved.length * length)
    for (const [at, index] of moved.entries()) block(packed, at).set(block(work, index))
    const other = new Uint8Array(packed.length)
    await exchange(call, (rank + distance) % size, { type, bytes: packed }, (rank - distance + size) % size, { type, into: other })
    for (const [at, index] of moved.entries()) block(work, index).set(block(other, at))
  }
  for (let index = 0; index < size; index += 1) block(into, (rank - index + size) % size).set(block(work, index))
}
