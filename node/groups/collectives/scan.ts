/**
 * Scans (MPI 4.1, 6.11): by recursive doubling in the order of ranks. In round k a member swaps what the run of 2^k ranks that
 * it is in gives with its counterpart in the neighbouring run; what comes from lower ranks counts for its own result.
 */
import { type Call, exchange } from './call.ts'
import type { Carrier } from './carrier.ts'

/** What the ranks before this one give, undefined at rank 0; with `isInclusive` its own data as well. */
export async function scan<T>(call: Call, carrier: Carrier<T>, data: T, isInclusive: boolean): Promise<T | undefined> {
  const { rank, size } = call
  let before: T | undefined
  let run = data
  for (let distance = 1; distance < size; distance *= 2) {
    const partner = rank ^ distance
    if (partner >= size) continue
    const part = await exchange(call, partner, carrier.encode(run), partner, carrier.expected)
    // Each from bytes of its own: combining changes what it got.
    const received = () => carrier.decode({ type: part.type, bytes: part.bytes.slice() })
    if (partner < rank) {
      const lower = received()
      before = before === undefined ? received() : carrier.combine(lower, before, lower)
      const again = received()
      run = carrier.combine(again, run, again)
    } else {
      const higher = received()
      run = carrier.combine(run, higher, higher)
    }
  }
  if (!isInclusive) return before
  if (before === undefined) return data
  const last = carrier.decode({ ...carrier.encode(before), bytes: carrier.encode(before).bytes.slice() })
  return carrier.combine(before, data, last)
}
