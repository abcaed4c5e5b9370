/** When a machine that is cut off ends a task by itself, for jobs that ask for it (`disconnect.stopOnClient`, L7). */
import type { Unit } from './units.ts'

/** The coordinator's own bounds: shorter silences are common, longer ones are no use to wait for. */
const minWindowMs = 30_000
const maxWindowMs = 600_000

/** Whether the attempt's lease has surely ended: reckoned from when the last answered heartbeat was sent, the coordinator's reckoning began later (L3). */
export function cutOffTooLong(unit: Unit, contactAt: number, now: number): boolean {
  const disconnect = unit.work?.job.disconnect
  if (disconnect === undefined || !disconnect.stopOnClient || unit.phase === 'finished' || unit.phase === 'unstarted') return false
  const ranMs = now - (unit.startTime ?? now)
  const windowMs = disconnect.lostAfterMs ?? Math.min(maxWindowMs, Math.max(minWindowMs, ranMs))
  return now - contactAt >= windowMs
}
