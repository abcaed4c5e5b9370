import { describe, expect, it } from 'vitest'
import { cutOffTooLong } from '../../node/worker/cut-off.ts'
import type { Unit } from '../../node/worker/units.ts'

const minute = 60_000

function running(startTime: number, disconnect: { lostAfterMs?: number; stopOnClient: boolean }): Unit {
  const work = { job: { disconnect: { replace: true, ...disconnect } } } as Unit['work']
  return {
    key: '1/a/1',
    attempt: { jobUid: 1, task: 'a', epoch: 1 },
    nodeId: 'n',
    phase: 'running',
    slots: 1,
    demand: {},
    passed: 0,
    startTime,
    work,
  }
}

describe('a machine that is cut off', () => {
  it('L7: stops a task once the silence is as long as the task had run before it', () => {
    const unit = running(0, { stopOnClient: true })
    const contactAt = 2 * minute
    expect(cutOffTooLong(unit, contactAt, contactAt + 2 * minute - 1)).toBe(false)
    expect(cutOffTooLong(unit, contactAt, contactAt + 2 * minute)).toBe(true)
  })

  it('L7: waits at least 30 s and at most 10 min', () => {
    expect(cutOffTooLong(running(0, { stopOnClient: true }), 1000, 30_999)).toBe(false)
    expect(cutOffTooLong(running(0, { stopOnClient: true }), 1000, 31_000)).toBe(true)
    expect(cutOffTooLong(running(0, { stopOnClient: true }), 60 * minute, 70 * minute)).toBe(true)
  })

  it('L7: goes on with tasks whose job does not ask to stop them', () => {
    expect(cutOffTooLong(running(0, { stopOnClient: false }), minute, 600 * minute)).toBe(false)
  })
})
