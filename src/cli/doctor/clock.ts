/** The clock: against the coordinator's, and whether the system keeps it in step. Certificates live a day. */
import { certificateLifeMs } from '../../../protocols/membership.ts'
import { showDuration } from '../format.ts'
import { type Check, ok, problem, warning } from './check.ts'
import { said } from './system.ts'

const name = 'clock'
/** What ntp keeps by far; more says that nobody does. */
const smallMs = 5000
/** A certificate that is renewed with a third of its life left is refused from here on by a clock that is ahead by so much. */
const largeMs = certificateLifeMs / 24

/** The coordinator's clock minus this one's. */
export interface Skew {
  skewMs: number
  /** How far the answer's travel may have put it wrong. */
  withinMs: number
}

/** What the clocks' difference means. `synced`: what the system says of itself; undefined where it says nothing. */
export function judgeClock(skew: Skew | undefined, synced: boolean | undefined): Check {
  const todo = 'Keep the time: timedatectl set-ntp true, or install chrony.'
  const unsynced = synced === false ? 'the system does not keep it in step with a time server' : undefined
  if (skew !== undefined) {
    const apart = Math.abs(skew.skewMs)
    const found = `${showDuration(apart)} ${skew.skewMs > 0 ? 'behind' : 'ahead of'} the coordinator’s`
    if (apart >= largeMs + skew.withinMs)
      return problem(name, `${found}: membership certificates, which live a day, are refused when clocks differ by hours`, todo)
    if (apart >= smallMs + skew.withinMs) return warning(name, found, todo)
  }
  const agreed = skew === undefined ? [] : ['agrees with the coordinator’s']
  if (unsynced !== undefined) return warning(name, [...agreed, unsynced].join(', but '), todo)
  const says = synced === true ? ['kept by a time server'] : ['whether a time server keeps it cannot be told here']
  return ok(name, [...agreed, ...says].join(', '))
}

export async function checkClock(skew: Skew | undefined): Promise<Check> {
  const answer = (await said('timedatectl', 'show', '--property=NTPSynchronized', '--value'))?.trim()
  return judgeClock(skew, answer === 'yes' ? true : answer === 'no' ? false : undefined)
}
