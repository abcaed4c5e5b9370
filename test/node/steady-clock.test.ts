import { describe, expect, it } from 'vitest'
import { steadyClock } from '../../node/steady-clock.ts'

const hourMs = 3_600_000

/** Clocks of a machine that goes on, sleeps, and whose wall clock is set. */
function machine() {
  const at = { wall: 1_700_000_000_000, monotonic: 5000, up: 90_000 }
  const now = steadyClock({ wall: () => at.wall, monotonic: () => at.monotonic, up: () => Math.floor(at.up / 10) * 10 })
  const pass = (ms: number) => {
    at.wall += ms
    at.monotonic += ms
    at.up += ms
  }
  const sleep = (ms: number) => {
    at.wall += ms
    at.up += ms
  }
  const set = (ms: number) => {
    at.wall += ms
  }
  return { now, pass, sleep, set, start: at.wall }
}

describe('the steady clock', () => {
  it('begins at the time of the wall clock and goes as it does', () => {
    const { now, pass, start } = machine()
    expect(now()).toBe(start)
    pass(1234)
    expect(now()).toBe(start + 1234)
  })

  it.each([hourMs, -5 * hourMs, 1500, 3 * 24 * hourMs])('L3: does not jump when the wall clock is set by %d ms', (by) => {
    const { now, pass, set, start } = machine()
    pass(1000)
    set(by)
    expect(now()).toBe(start + 1000)
    pass(1000)
    expect(now()).toBe(start + 2000)
  })

  it('L7: has gone on when the machine slept', () => {
    const { now, pass, sleep, start } = machine()
    pass(1000)
    sleep(8 * hourMs)
    expect(now()).toBe(start + 1000 + 8 * hourMs)
    pass(1000)
    sleep(hourMs)
    pass(1000)
    expect(now()).toBe(start + 3000 + 9 * hourMs)
  })

  it('has gone on when the machine slept and the wall clock was set at its wake', () => {
    const { now, sleep, set, start } = machine()
    sleep(8 * hourMs)
    set(-20 * hourMs)
    expect(now()).toBe(start + 8 * hourMs)
  })

  it('never goes back', () => {
    const { now, pass, sleep, set } = machine()
    let last = now()
    for (const [what, ms] of [
      [set, -hourMs],
      [sleep, 700],
      [sleep, 2000],
      [set, hourMs],
      [pass, 3],
      [set, -10],
    ] as const) {
      what(ms)
      expect(now()).toBeGreaterThanOrEqual(last)
      last = now()
    }
  })

  it('of this machine goes on by itself', async () => {
    const now = steadyClock()
    const before = now()
    expect(Math.abs(before - Date.now())).toBeLessThan(1000)
    while (now() === before) await new Promise((resolve) => setImmediate(resolve))
    expect(now()).toBeGreaterThan(before)
  })
})
