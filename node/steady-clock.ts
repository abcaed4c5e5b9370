/**
 * A clock for waiting and for silence: it goes on while the machine sleeps, and nobody sets it. The wall clock can be set by
 * hours; Node's monotonic clock stands still on Linux while the machine sleeps. Where the two part, the system says how long
 * it has been up, sleep included. It begins at the time of the wall clock, so its times can be shown.
 */
import { uptime } from 'node:os'

/** Wall and monotonic clock part by this much only when one was set or the machine slept. */
const partedMs = 1000

export interface Clocks {
  /** Ms since 1970, as it is set. */
  wall: () => number
  /** Ms; may stand still while the machine sleeps. */
  monotonic: () => number
  /** Ms, sleep included; coarse, and dear to ask. */
  up: () => number
}

const system: Clocks = {
  wall: () => Date.now(),
  monotonic: () => performance.now(),
  // Elsewhere than on Linux the monotonic clock counts sleep itself, and the time that the system is up follows the wall clock.
  up: process.platform === 'linux' ? () => uptime() * 1000 : () => performance.now(),
}

/** Ms since 1970 by the wall clock as it was at this call. */
export function steadyClock({ wall, monotonic, up }: Clocks = system): () => number {
  const start = { wall: wall(), monotonic: monotonic(), up: up() }
  let apart = start.wall - start.monotonic
  let sleptMs = 0
  return () => {
    const at = monotonic()
    const nowApart = wall() - at
    if (Math.abs(nowApart - apart) > partedMs) {
      apart = nowApart
      const missed = up() - start.up - (at - start.monotonic)
      if (missed > sleptMs + partedMs) sleptMs = missed
    }
    return start.wall + (at - start.monotonic) + sleptMs
  }
}
