/** What a machine may do that has not heard of its coordinator for a while (L3, L7). */
import { silentConnectionMs } from '../../protocols/wire.ts'
import type { Unit } from './units.ts'

/** The coordinator's own bounds: shorter silences are common, longer ones are no use to wait for. */
const minWindowMs = 30_000
const maxWindowMs = 600_000

/** Whether the attempt's lease has surely ended: reckoned from when the last answered heartbeat was sent, the coordinator's reckoning began later (L3). */
export function cutOffTooLong(unit: Unit, contactAt: number, now: number): boolean {
  const disconnect = unit.work?.job.disconnect
  if (disconnect === undefined || !disconnect.stopOnClient || unit.phase === 'finished' || unit.phase === 'unstarted') return false
  // As long as it had run when the silence began; reckoned to now, the window would grow with the silence.
  const ranMs = contactAt - (unit.startTime ?? contactAt)
  const windowMs = disconnect.lostAfterMs ?? Math.min(maxWindowMs, Math.max(minWindowMs, ranMs))
  return now - contactAt >= windowMs
}

/**
 * Whether tasks that were granted but not started may have been taken back, because this process was stopped without
 * noticing: others may run them by now, so none is started (L7). They go with the session, and that with its connection.
 */
export function mayBeTakenBack(unstarted: readonly Unit[], link: { contactAt: number; heartbeatMs: number }, now: number): boolean {
  const silentMs = now - link.contactAt
  const leastMs = 2 * link.heartbeatMs
  if (silentMs < leastMs) return false
  return unstarted.some(
    (unit) => silentMs >= Math.max(leastMs, Math.min(silentConnectionMs, unit.work?.job.disconnect.lostAfterMs ?? silentConnectionMs)),
  )
}
