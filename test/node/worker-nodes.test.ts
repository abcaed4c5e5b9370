import { beforeEach, describe, expect, it } from 'vitest'
import { offersTopic } from '../../protocols/offers.ts'
import type { Reservation } from '../../protocols/pools.ts'
import { poolsTopic } from '../../protocols/pools.ts'
import { brief, defaultNode, type FakeCoordinator, grantOf } from '../support/worker/fake-coordinator.ts'
import { type FakeExecutor, until } from '../support/worker/fake-parts.ts'
import { type FakeJournal, type Harness, lent, useHarness } from '../support/worker/harness.ts'

let h: Harness
let coordinator: FakeCoordinator
let executor: FakeExecutor
let journal: FakeJournal

const harness = useHarness()
beforeEach(() => {
  h = harness()
  ;({ coordinator, executor, journal } = h)
})

describe('compute nodes', () => {
  const node: Reservation = { reservationId: 3, ownerEpoch: 1, poolId: 'pool', nodeId: 'p3', size: { ...lent, cores: 1 }, taskSlots: 1 }
  const reserve = (request = node) => coordinator.session!.call('reserve', request)

  it('R1: are on disk before they are granted, and their room is claimed', async () => {
    await h.connected()
    expect(await reserve()).toEqual({ granted: true, draining: false })
    expect(journal.disk.reservations.get(3)).toEqual(node)
    await until(() => coordinator.claims.at(-1)!.nodes.length === 2)
    expect(coordinator.claims.at(-1)!.nodes.map((ask) => [ask.nodeId, ask.room.slots])).toEqual([
      ['n0', 1],
      ['p3', 1],
    ])
    expect(coordinator.topics).toEqual([poolsTopic('mesh'), offersTopic('mesh', 'default'), offersTopic('mesh', 'pool')])
  })

  it('R1: wait for running tasks of the default pool, which gets no new ones meanwhile', async () => {
    await h.connected()
    coordinator.give(grantOf('A'), grantOf('B'))
    const [a, b] = [await executor.program('A'), await executor.program('B')]
    expect(await reserve()).toMatchObject({ granted: false, draining: true })
    const before = coordinator.claims.length
    a.end()
    await until(() => coordinator.reports.length === 1)
    expect(coordinator.claims.slice(before).flatMap((claim) => claim.nodes)).toEqual([])
    expect(await reserve()).toMatchObject({ granted: true })
    b.end()
    await until(() => coordinator.claims.at(-1)!.nodes.some((ask) => ask.nodeId === 'n0' && ask.room.slots === 1))
  })

  it('R1: come back after a restart, and are given back when the welcome does not name them', async () => {
    journal.disk.reservations.set(3, node)
    h.worker = h.newWorker()
    await h.connected()
    expect(coordinator.hellos[0]!.reservations).toEqual([node])
    expect(h.worker.status().reservations).toEqual([])
    expect(journal.disk.reservations.size).toBe(0)
  })

  it('R1: are given back when their work has ended', async () => {
    await h.connected()
    await reserve()
    coordinator.nodes = [defaultNode, node]
    coordinator.session!.note('grant', { grants: [grantOf('A', {}, { nodeId: 'p3' })], jobs: [brief] })
    const a = await executor.program('A')
    coordinator.session!.note('release', { reservationId: 3, now: false })
    await until(() => h.worker.status().reservations.length === 0)
    expect(journal.disk.reservations.size).toBe(1)
    a.end()
    await until(() => journal.disk.reservations.size === 0 && h.settled())
    expect(coordinator.reportOf('A')?.outcome.exitCode).toBe(0)
  })

  it('end their work when they are taken at once', async () => {
    await h.connected()
    await reserve()
    coordinator.session!.note('grant', { grants: [grantOf('A', {}, { nodeId: 'p3' })], jobs: [brief] })
    const a = await executor.program('A')
    coordinator.session!.note('release', { reservationId: 3, now: true })
    await until(() => journal.disk.reservations.size === 0)
    expect(a.killed).toBe(true)
    expect(coordinator.reports).toEqual([])
  })

  it('M1: that are held for a gang are not claimed until the gang came', async () => {
    await h.connected()
    await reserve()
    await until(() => coordinator.claims.at(-1)!.nodes.length === 2)
    coordinator.hold('p3')
    await until(() => coordinator.claims.at(-1)!.nodes.length === 1)
    expect(coordinator.claims.at(-1)!.nodes[0]!.nodeId).toBe('n0')
    const members = [{ peer: 'worker-peer-0001', nodeId: 'p3', name: 'm', address: '10.0.0.1', cores: 1 }]
    const gang = grantOf('G', { multiInstanceSettings: { coordinationCommandLine: 'meet' } }, { nodeId: 'p3', gang: { index: 0, members } })
    executor.instantExit = 0
    coordinator.session!.note('grant', { grants: [gang], jobs: [brief] })
    await until(() => coordinator.reportOf('G') !== undefined)
    await until(() => coordinator.claims.at(-1)!.nodes.length === 2)
  })
})
