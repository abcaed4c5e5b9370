import { beforeEach, describe, expect, it, vi } from 'vitest'
import { steadyClock } from '../../node/steady-clock.ts'
import { encodeOffer, offersTopic } from '../../protocols/offers.ts'
import type { Reservation } from '../../protocols/pools.ts'
import { brief, type FakeCoordinator, grantOf } from '../support/worker/fake-coordinator.ts'
import { type FakeExecutor, until } from '../support/worker/fake-parts.ts'
import { type Harness, lent, useHarness } from '../support/worker/harness.ts'

let h: Harness
let coordinator: FakeCoordinator
let executor: FakeExecutor

const harness = useHarness()
beforeEach(() => {
  h = harness()
  ;({ coordinator, executor } = h)
})

describe('time', () => {
  beforeEach(() => {
    vi.useFakeTimers({ toFake: ['setTimeout', 'clearTimeout', 'Date'] })
  })

  it('L3: a heartbeat goes out each interval that the coordinator says', async () => {
    coordinator.heartbeatMs = 2000
    await h.connected()
    await vi.advanceTimersByTimeAsync(5000)
    await until(() => coordinator.heartbeats.length === 1)
    for (let n = 2; n < 5; n += 1) {
      await vi.advanceTimersByTimeAsync(2000)
      await until(() => coordinator.heartbeats.length === n)
    }
    expect(h.worker.maxLagMs()).toBe(0)
  })

  it('a machine that slept renews its session with an inventory', async () => {
    await h.connected()
    coordinator.give(grantOf('A'))
    await executor.program('A')
    vi.setSystemTime(Date.now() + 3_600_000)
    await vi.advanceTimersByTimeAsync(5000)
    await until(() => !h.worker.status().connected)
    await vi.advanceTimersByTimeAsync(1000)
    await until(() => coordinator.hellos.length === 2)
    expect(h.inventory()).toEqual(['a running'])
    expect(h.worker.maxLagMs()).toBeGreaterThan(3_500_000)
  })

  it.each([5, -5])('L3: a wall clock that is set by %d hours ends neither the session nor a task', async (hours) => {
    h.worker = h.newWorker({ now: steadyClock() })
    coordinator.briefs = [{ ...brief, disconnect: { replace: true, stopOnClient: true, lostAfterMs: 60_000 } }]
    await h.connected()
    coordinator.give(grantOf('A'))
    const a = await executor.program('A')
    vi.setSystemTime(Date.now() + hours * 3_600_000)
    for (let n = 1; n < 4; n += 1) {
      await vi.advanceTimersByTimeAsync(5000)
      await until(() => coordinator.heartbeats.length === n)
    }
    expect(h.worker.status().connected).toBe(true)
    expect(coordinator.hellos).toHaveLength(1)
    expect(a.killed).toBe(false)
  })

  it('L7: a machine that was stopped starts nothing that may have been taken back, before it has said hello again', async () => {
    await h.connected()
    coordinator.give(grantOf('A'), grantOf('B'), grantOf('C'))
    const a = await executor.program('A')
    await executor.program('B')
    // Nothing was heard for so long that the other side may have closed the connection, but no timer has noticed yet.
    vi.setSystemTime(Date.now() + 15_000)
    a.end()
    await until(() => !h.worker.status().connected)
    await vi.advanceTimersByTimeAsync(1000)
    await until(() => coordinator.hellos.length === 2)
    expect(executor.started).toEqual(['A', 'B'])
    expect(h.inventory()).toEqual(['a finished', 'b running'])
  })

  it('L7: a cut-off machine ends tasks of jobs that ask for it, reckoned from the last answered heartbeat, and no others', async () => {
    const cautious = { ...brief, jobUid: 2, disconnect: { replace: true, stopOnClient: true, lostAfterMs: 60_000 } }
    coordinator.briefs.push(cautious)
    await h.connected()
    coordinator.give(grantOf('A'), { ...grantOf('B'), attempt: { jobUid: 2, task: 'b', epoch: 1 } })
    const [a, b] = [await executor.program('A'), await executor.program('B')]
    coordinator.unreachable = true
    coordinator.cut()
    await until(() => !h.worker.status().connected)
    await vi.advanceTimersByTimeAsync(55_000)
    expect(b.killed).toBe(false)
    await vi.advanceTimersByTimeAsync(15_000)
    expect(b.killed).toBe(true)
    expect(a.killed).toBe(false)
  })

  it('L3: the time that a machine is cut off is reckoned from when a heartbeat was sent, not from when it was answered', async () => {
    coordinator.briefs = [{ ...brief, disconnect: { replace: true, stopOnClient: true, lostAfterMs: 60_000 } }]
    coordinator.answersBeats = false
    await h.connected()
    coordinator.give(grantOf('A'))
    const a = await executor.program('A')
    await vi.advanceTimersByTimeAsync(5000)
    await until(() => coordinator.heartbeats.length === 1)
    await vi.advanceTimersByTimeAsync(10_000)
    coordinator.session!.note('beat', { sentAt: coordinator.heartbeats[0]!, heartbeatMs: 5000 })
    // The worker reads in order, so it has the beat when it answers.
    await coordinator.session!.call('retract', { attempts: [] })
    coordinator.unreachable = true
    coordinator.cut()
    await until(() => !h.worker.status().connected)
    await vi.advanceTimersByTimeAsync(coordinator.heartbeats[0]! + 67_000 - Date.now())
    expect(a.killed).toBe(true)
  })

  it('R1: compute nodes end when the coordinator was away for the time they are given', async () => {
    await h.connected()
    const node: Reservation = { reservationId: 3, ownerEpoch: 1, poolId: 'pool', nodeId: 'p3', size: { ...lent, cores: 1 }, taskSlots: 1 }
    await coordinator.session!.call('reserve', node)
    coordinator.unreachable = true
    coordinator.cut()
    await until(() => !h.worker.status().connected)
    await vi.advanceTimersByTimeAsync(29 * 60_000)
    expect(h.worker.status().reservations).toEqual([node])
    await vi.advanceTimersByTimeAsync(2 * 60_000)
    expect(h.worker.status().reservations).toEqual([])
  })

  it('a machine whose claim ran out claims again at once, so that a claim stands as long as it idles', async () => {
    await h.connected()
    const start = Date.now()
    for (let n = 1; n < 6; n += 1) {
      vi.setSystemTime(Date.now() + 20_000)
      coordinator.dismiss()
      await until(() => coordinator.claims.length === n + 1)
    }
    // No heartbeat was answered meanwhile.
    vi.setSystemTime(start)
    coordinator.give(grantOf('A'))
    await executor.program('A')
  })

  it('G1: a machine whose claim was not held sleeps until an offer of its pool wakes it', async () => {
    await h.connected()
    coordinator.dismiss()
    await until(() => coordinator.dismissed === 1)
    await new Promise(setImmediate)
    await new Promise(setImmediate)
    expect(coordinator.claims).toHaveLength(1)
    const topic = offersTopic('mesh', 'default')
    coordinator.gossip(topic, new Uint8Array([1, 2, 3]))
    coordinator.gossip(topic, encodeOffer({ poolId: 'other', pending: 3, ownerEpoch: 1 }))
    await new Promise(setImmediate)
    await new Promise(setImmediate)
    expect(coordinator.claims).toHaveLength(1)
    coordinator.gossip(topic, encodeOffer({ poolId: 'default', pending: 3, ownerEpoch: 1 }))
    await until(() => coordinator.claims.length === 2)
  })

  it('G1: a machine that hears no offer asks again by itself, each time later up to a minute', async () => {
    await h.connected()
    const pausesMs: number[] = []
    for (let n = 1; n < 9; n += 1) {
      const since = Date.now()
      coordinator.dismiss()
      await until(() => coordinator.dismissed === n)
      // A session that fell silent would be made anew, with another claim.
      while (coordinator.claims.length === n) await vi.advanceTimersByTimeAsync(250)
      pausesMs.push(Date.now() - since)
    }
    expect(pausesMs.map((ms) => Math.floor(ms / 1000))).toEqual([1, 2, 4, 8, 16, 32, 60, 60])
  })

  it('L4: a claim without an answer is repeated with its id', async () => {
    // Heartbeats are answered, so the session stands while the claim does not come back.
    await h.connected()
    await vi.advanceTimersByTimeAsync(51_000)
    await until(() => coordinator.claims.length === 2)
    expect(coordinator.claims[1]!.requestId).toBe(coordinator.claims[0]!.requestId)
  })
})
