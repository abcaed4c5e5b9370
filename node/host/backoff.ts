/** When to dial again: exponential, with jitter so that a whole mesh does not come back in step. */

const firstMs = 200
/** Longest wait before a peer that is needed is dialled again. */
const capMs = 30_000
/** Longest wait before one is that will come by itself if it can: there may be thousands, many of them gone for good. */
export const patientCapMs = 600_000

/** Wait before the next dial after this many failures in a row (0: at once after a connection that stood); `random` is in [0, 1). */
export function redialDelayMs(failures: number, random: number, mostMs = capMs): number {
  const ceilingMs = Math.min(mostMs, firstMs * 2 ** Math.min(failures, 30))
  // "Equal jitter": never sooner than half, so that a refused dial is not repeated at once.
  return ceilingMs / 2 + (ceilingMs / 2) * random
}
