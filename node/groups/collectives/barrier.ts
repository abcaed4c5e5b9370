/**
 * Barrier (MPI 4.1, 6.3), by dissemination: in round k every member tells the one 2^k ranks after it, and hears from the one
 * 2^k before; after ceil(log2 size) rounds each has heard, at first or second hand, from all (Hensgen, Finkel, Manber 1988).
 */
import { valueType } from '../datatypes.ts'
import { type Call, exchange } from './call.ts'

const nothing = { type: valueType, bytes: new Uint8Array(0) }

export async function barrier(call: Call): Promise<void> {
  const { rank, size } = call
  for (let distance = 1; distance < size; distance *= 2) {
    await exchange(call, (rank + distance) % size, nothing, (rank - distance + size) % size, { type: valueType })
  }
}
