/**
 * Times of a clock that may be set while the coordinator runs (L3). `now` is the wall clock, for rows tell people and later
 * starts when things happened. So a time that was noted may lie ahead of it, or hours behind: {@link ageMs} takes one that
 * lies ahead for long ago, and {@link isJump} tells when what is counted from a time must be counted anew.
 */

import { heartbeatMs } from '../protocols/leases.ts'

/** How often the shell sends `tick`. */
export const tickMs = 1000
/** A gap between ticks that shows that this process, not its workers, was stopped, or that its clock was set (L3). */
const stallMs = 5 * tickMs

/** How long ago it was. What lies ahead was noted before the clock was set back. */
export function ageMs(since: number, now: number): number {
  return since <= now ? now - since : Number.POSITIVE_INFINITY
}

/** Whether between two ticks this process stood still, its machine slept, or its clock was set. */
export function isJump(lastTick: number, now: number): boolean {
  return ageMs(lastTick, now) > stallMs
}

/** Heartbeats that the coordinator takes in a second at most; beyond that many workers the interval grows. */
const maxBeatsPerSecond = 2000

export function beatIntervalMs(workers: number): number {
  return Math.max(heartbeatMs, Math.ceil((workers / maxBeatsPerSecond) * 1000))
}
