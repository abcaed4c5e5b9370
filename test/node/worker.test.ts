import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest'
import type { Finished, Journal, Remembered } from '../../node/journal.ts'
import type { Worker } from '../../node/worker/contract.ts'
import { createWorker } from '../../node/worker.ts'
import { attemptKey } from '../../protocols/ids.ts'
import { encodeOffer, offersTopic } from '../../protocols/offers.ts'
import type { Reservation } from '../../protocols/pools.ts'
import { attemptOf, brief, coordinatorPeer, defaultNode, FakeCoordinator, grantOf } from '../support/worker/fake-coordinator.ts'
import { FakeDirectories, FakeExecutor, FakeStaging, silentLog, until } from '../support/worker/fake-parts.ts'

const blob = `b${'a'.repeat(30)}`
const lent = { cores: 2, memoryMiB: 4096, gpus: 0 }

/** A disk that survives the worker. */
class FakeJournal implements Journal {
  readonly broken = new Promise<never>(() => {})
  readonly disk = { ownerEpoch: 0, incarnation: 1, reservations: new Map<number, Reservation>(), finished: new Map<string, Finished>() }

  get remembered(): Remembered {
    const { ownerEpoch, incarnation, reservations, finished } = this.disk
    return { ownerEpoch, incarnation, reservations: [...reservations.values()], finished: [...finished.values()] }
  }
  async obeyed(ownerEpoch: number): Promise<void> {
    this.disk.ownerEpoch = ownerEpoch
  }
  async reserve(reservation: Reservation): Promise<void> {
    this.disk.reservations.set(reservation.reservationId, reservation)
  }
  async release(reservationId: number): Promise<void> {
    this.disk.reservations.delete(reservationId)
  }
  async finished(item: Finished): Promise<void> {
    this.disk.finished.set(attemptKey(item.attempt), item)
  }
  acknowledged(attempt: { jobUid: number; task: string; epoch: number }): void {
    this.disk.finished.delete(attemptKey(attempt))
  }
  async close(): Promise<void> {}
}

let coordinator: FakeCoordinator
let executor: FakeExecutor
let staging: FakeStaging
let directories: FakeDirectories
let journal: FakeJournal
let worker: Worker

function newWorker(): Worker {
  return createWorker({
    wire: coordinator.wire,
    meshId: 'mesh',
    coordinator: coordinatorPeer,
    capacity: lent,
    executor,
    staging,
    directories,
    journal,
    log: silentLog,
    now: () => Date.now(),
    random: () => 0,
    machine: () => ({
      name: 'machine',
      class: 'dedicated',
      capacity: lent,
      diskFreeMiB: 1,
      labels: {},
      os: 'linux',
      arch: 'x64',
      version: '0',
      isolation: 'process-group',
      addresses: [],
      nodeRootDir: '/nowhere',
    }),
  })
}

beforeEach(() => {
  coordinator = new FakeCoordinator()
  executor = new FakeExecutor()
  staging = new FakeStaging()
  directories = new FakeDirectories()
  journal = new FakeJournal()
  worker = newWorker()
})
afterEach(async () => {
  await worker.stop()
  vi.useRealTimers()
})

async function connected(): Promise<void> {
  worker.start()
  await until(() => worker.status().connected && coordinator.claims.length > 0)
}

/** Cuts the connection and waits for the next session's hello. */
async function reconnected(): Promise<void> {
  const hellos = coordinator.hellos.length
  coordinator.cut()
  await until(() => coordinator.hellos.length > hellos && worker.status().connected)
}

const inventory = () => coordinator.hellos.at(-1)!.inventory.map((item) => `${item.attempt.task} ${item.state}`)
const settled = () => worker.status().unreportedTasks === 0 && worker.status().runningTasks === 0

describe('a session', () => {
  it('L6: begins with the incarnation and the inventory, and claims the room there is', async () => {
    journal.disk.incarnation = 7
    await connected()
    expect(coordinator.hellos).toMatchObject([{ incarnation: 7, inventory: [], reservations: [], ownerEpoch: 0 }])
    expect(coordinator.claims[0]).toMatchObject({ nodes: [{ nodeId: 'n0', room: { slots: 2, cores: 2 }, prefetchSlots: 0 }] })
    expect(coordinator.claims[0]!.requestId).toBe('7.1')
    expect(journal.disk.ownerEpoch).toBe(1)
  })

  it('runs what it is granted and reports how it ended', async () => {
    await connected()
    coordinator.give(grantOf('A'), grantOf('B'))
    const a = await executor.program('A')
    const b = await executor.program('B')
    await until(() => coordinator.started.length === 2)
    a.end(0)
    b.end(5)
    await until(settled)
    expect(coordinator.reportOf('A')?.outcome.exitCode).toBe(0)
    expect(coordinator.reportOf('B')?.outcome).toMatchObject({ exitCode: 5, failureInfo: { code: 'FailureExitCode' } })
    expect(journal.disk.finished.size).toBe(0)
  })

  it('never runs more at once than its room, whatever is granted', async () => {
    await connected()
    coordinator.give(...['a', 'b', 'c', 'd', 'e'].map((id) => grantOf(id)))
    for (const id of ['a', 'b', 'c', 'd', 'e']) {
      const program = await executor.program(id)
      expect(executor.running.length).toBeLessThanOrEqual(2)
      program.end()
    }
    await until(settled)
    expect(executor.started).toEqual(['a', 'b', 'c', 'd', 'e'])
  })

  it('takes thousands of quick tasks in few claims and reports', async () => {
    coordinator.byRoom = true
    executor.instantExit = 0
    await connected()
    coordinator.give(...Array.from({ length: 3000 }, (_, n) => grantOf(`t${n}`)))
    await until(() => coordinator.reports.length === 3000 && settled())
    expect(coordinator.claims.length).toBeLessThan(300)
    expect(new Set(executor.started).size).toBe(3000)
  })

  it('L4: a grant that comes twice runs once', async () => {
    await connected()
    coordinator.give(grantOf('A'))
    await executor.program('A')
    coordinator.session!.note('grant', { grants: [grantOf('A')], jobs: [] })
    coordinator.give(grantOf('B'))
    await executor.program('B')
    expect(executor.started).toEqual(['A', 'B'])
  })

  it('a task that this version does not understand fails with the reason', async () => {
    await connected()
    coordinator.give({ ...grantOf('A'), spec: new Uint8Array([0xc1]) })
    await until(() => coordinator.reports.length === 1)
    expect(coordinator.reports[0]!.outcome.failureInfo).toMatchObject({ category: 'servererror', code: 'Unknown' })
  })

  it('a deposed coordinator is not obeyed', async () => {
    journal.disk.ownerEpoch = 5
    worker = newWorker()
    worker.start()
    await until(() => coordinator.hellos.length >= 2)
    expect(worker.status().connected).toBe(false)
    expect(coordinator.claims).toEqual([])
    coordinator.ownerEpoch = 6
    await until(() => worker.status().connected)
    expect(journal.disk.ownerEpoch).toBe(6)
  })

  it('is tried again while the coordinator cannot be reached', async () => {
    coordinator.unreachable = true
    worker.start()
    await until(() => coordinator.opens >= 2)
    coordinator.unreachable = false
    await until(() => worker.status().connected)
    expect(coordinator.hellos).toHaveLength(1)
  })
})

describe('after a cut', () => {
  it('L6: what runs goes on, and is in the inventory', async () => {
    await connected()
    coordinator.give(grantOf('A'))
    const program = await executor.program('A')
    await reconnected()
    expect(inventory()).toEqual(['a running'])
    program.end(0)
    await until(settled)
    expect(coordinator.reports).toHaveLength(1)
  })

  it('L6: what the coordinator does not keep is stopped and not reported', async () => {
    await connected()
    coordinator.give(grantOf('A'), grantOf('B'))
    const [a, b] = [await executor.program('A'), await executor.program('B')]
    coordinator.keep = () => [attemptOf('b')]
    await reconnected()
    await until(() => a.killed)
    b.end()
    await until(settled)
    expect(coordinator.reports.map((report) => report.attempt.task)).toEqual(['b'])
  })

  it('L7: unstarted tasks are dropped, and not in the inventory', async () => {
    await connected()
    coordinator.give(grantOf('A'), grantOf('B'), grantOf('C'))
    const a = await executor.program('A')
    await until(() => worker.status().unstartedTasks === 1)
    await reconnected()
    expect(inventory().sort()).toEqual(['a running', 'b running'])
    expect(worker.status().unstartedTasks).toBe(0)
    a.end()
    await until(() => coordinator.reports.length === 1)
    expect(executor.started).toEqual(['A', 'B'])
  })

  it('L6: a report without an answer is sent again', async () => {
    await connected()
    coordinator.reportGate = new Promise(() => {})
    coordinator.give(grantOf('A'))
    ;(await executor.program('A')).end(0)
    await until(() => coordinator.reports.length === 1)
    expect(journal.disk.finished.size).toBe(1)
    coordinator.reportGate = undefined
    await reconnected()
    expect(inventory()).toEqual(['a finished'])
    await until(settled)
    expect(coordinator.reports.map((report) => report.attempt.task)).toEqual(['a', 'a'])
    expect(journal.disk.finished.size).toBe(0)
  })

  it('L6: an unacknowledged outcome survives a restart of the worker', async () => {
    await connected()
    coordinator.reportGate = new Promise(() => {})
    coordinator.give(grantOf('A'))
    ;(await executor.program('A')).end(3)
    await until(() => coordinator.reports.length === 1)
    await worker.stop()
    coordinator.reportGate = undefined
    journal.disk.incarnation = 2
    worker = newWorker()
    await connected()
    expect(coordinator.hellos.at(-1)).toMatchObject({ incarnation: 2, inventory: [{ state: 'finished', nodeId: 'n0' }] })
    await until(settled)
    expect(coordinator.reports.map((report) => report.outcome.exitCode)).toEqual([3, 3])
  })

  it('L2: a refused outcome is forgotten', async () => {
    await connected()
    coordinator.verdict = () => 'refused'
    coordinator.give(grantOf('A'))
    ;(await executor.program('A')).end(0)
    await until(settled)
    expect(journal.disk.finished.size).toBe(0)
    await reconnected()
    expect(inventory()).toEqual([])
  })

  it('a task that does not fit its node any more is given back by renewing the session', async () => {
    await connected()
    coordinator.give(grantOf('A', { requiredSlots: 3 }))
    await until(() => coordinator.hellos.length === 2)
    expect(inventory()).toEqual([])
    expect(executor.started).toEqual([])
  })
})

describe('being told to stop', () => {
  const withFiles = { resourceFiles: [{ filePath: 'in', blob }], outputFiles: [{ filePattern: '*' }] }
  const stopA = () => coordinator.session!.note('stop', { attempts: [attemptOf('a')], reason: 'test' })
  const gone = () => worker.status().runningTasks === 0 && executor.lanesOut === 0

  it('ends a task that fetches its files', async () => {
    await connected()
    staging.gate = new Promise(() => {})
    coordinator.give(grantOf('A', withFiles))
    await until(() => staging.waiting === 1)
    stopA()
    await until(gone)
    expect(executor.started).toEqual([])
    expect(coordinator.reports).toEqual([])
  })

  it('ends a task that runs', async () => {
    await connected()
    coordinator.give(grantOf('A', withFiles))
    const program = await executor.program('A')
    stopA()
    await until(gone)
    expect(program.killed).toBe(true)
    expect(coordinator.reports).toEqual([])
    expect(staging.collected).toEqual([])
  })

  it('ends a task that keeps its outputs', async () => {
    await connected()
    coordinator.give(grantOf('A', withFiles))
    const program = await executor.program('A')
    staging.gate = new Promise(() => {})
    program.end(0)
    await until(() => coordinator.uploading.length === 1)
    stopA()
    await until(gone)
    expect(coordinator.reports).toEqual([])
    expect(directories.sealed).toEqual(['1/a/1'])
  })

  it('forgets one that is finished but not reported', async () => {
    await connected()
    coordinator.reportGate = new Promise(() => {})
    coordinator.give(grantOf('A'))
    ;(await executor.program('A')).end(0)
    await until(() => coordinator.reports.length === 1)
    stopA()
    await until(settled)
    expect(journal.disk.finished.size).toBe(0)
  })

  it('holds for a grant that is on its way', async () => {
    await connected()
    stopA()
    coordinator.give(grantOf('A'), grantOf('B'))
    await executor.program('B')
    expect(executor.started).toEqual(['B'])
  })
})

describe('retraction', () => {
  it('takes back what has not started, and only that', async () => {
    await connected()
    coordinator.give(grantOf('A'), grantOf('B'), grantOf('C'))
    const a = await executor.program('A')
    await until(() => worker.status().unstartedTasks === 1)
    const { retracted } = await coordinator.session!.call('retract', { attempts: [attemptOf('a'), attemptOf('c'), attemptOf('x')] })
    expect(retracted).toEqual([attemptOf('c'), attemptOf('x')])
    coordinator.session!.note('grant', { grants: [grantOf('X'), grantOf('C')], jobs: [] })
    a.end()
    coordinator.give(grantOf('D'))
    await executor.program('D')
    expect(executor.started).toEqual(['A', 'B', 'D'])
  })
})

describe('compute nodes', () => {
  const node: Reservation = { reservationId: 3, ownerEpoch: 1, poolId: 'pool', nodeId: 'p3', size: { ...lent, cores: 1 }, taskSlots: 1 }
  const reserve = (request = node) => coordinator.session!.call('reserve', request)

  it('R1: are on disk before they are granted, and their room is claimed', async () => {
    await connected()
    expect(await reserve()).toEqual({ granted: true, draining: false })
    expect(journal.disk.reservations.get(3)).toEqual(node)
    await until(() => coordinator.claims.at(-1)!.nodes.length === 2)
    expect(coordinator.claims.at(-1)!.nodes.map((ask) => [ask.nodeId, ask.room.slots])).toEqual([
      ['n0', 1],
      ['p3', 1],
    ])
    expect(coordinator.topics).toEqual([offersTopic('mesh', 'default'), offersTopic('mesh', 'pool')])
  })

  it('R1: wait for running tasks of the default pool, which gets no new ones meanwhile', async () => {
    await connected()
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
    worker = newWorker()
    await connected()
    expect(coordinator.hellos[0]!.reservations).toEqual([node])
    expect(worker.status().reservations).toEqual([])
    expect(journal.disk.reservations.size).toBe(0)
  })

  it('R1: are given back when their work has ended', async () => {
    await connected()
    await reserve()
    coordinator.nodes = [defaultNode, node]
    coordinator.session!.note('grant', { grants: [grantOf('A', {}, { nodeId: 'p3' })], jobs: [brief] })
    const a = await executor.program('A')
    coordinator.session!.note('release', { reservationId: 3, now: false })
    await until(() => worker.status().reservations.length === 0)
    expect(journal.disk.reservations.size).toBe(1)
    a.end()
    await until(() => journal.disk.reservations.size === 0 && settled())
    expect(coordinator.reportOf('A')?.outcome.exitCode).toBe(0)
  })

  it('end their work when they are taken at once', async () => {
    await connected()
    await reserve()
    coordinator.session!.note('grant', { grants: [grantOf('A', {}, { nodeId: 'p3' })], jobs: [brief] })
    const a = await executor.program('A')
    coordinator.session!.note('release', { reservationId: 3, now: true })
    await until(() => journal.disk.reservations.size === 0)
    expect(a.killed).toBe(true)
    expect(coordinator.reports).toEqual([])
  })

  it('M1: that are held for a gang are not claimed until the gang came', async () => {
    await connected()
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
    expect(executor.started).toEqual(['G', 'G'])
    await until(() => coordinator.claims.at(-1)!.nodes.length === 2)
  })
})

describe('going down', () => {
  it('drains: gives back what has not started, and waits for the rest', async () => {
    await connected()
    coordinator.give(grantOf('A'), grantOf('B'), grantOf('C'))
    const [a, b] = [await executor.program('A'), await executor.program('B')]
    await until(() => worker.status().unstartedTasks === 1)
    let drained = false
    const draining = worker.drain().then(() => {
      drained = true
    })
    await until(() => coordinator.returned.length === 1)
    expect(coordinator.returned).toEqual([attemptOf('c')])
    a.end()
    await until(() => coordinator.reports.length === 1)
    expect(drained).toBe(false)
    b.end()
    await draining
    expect(coordinator.reports).toHaveLength(2)
    expect(executor.started).toEqual(['A', 'B'])
  })

  it('drains: a grant that crosses the word is given back', async () => {
    await connected()
    coordinator.give(grantOf('A'))
    const a = await executor.program('A')
    const draining = worker.drain()
    coordinator.session!.note('grant', { grants: [grantOf('B')], jobs: [] })
    await until(() => coordinator.returned.length === 1)
    a.end()
    await draining
    expect(executor.started).toEqual(['A'])
  })

  it('drains: says so again in the next session', async () => {
    await connected()
    coordinator.give(grantOf('A'))
    const a = await executor.program('A')
    const draining = worker.drain()
    await until(() => coordinator.drained === 1)
    const claims = coordinator.claims.length
    await reconnected()
    await until(() => coordinator.drained === 2)
    a.end()
    await draining
    expect(coordinator.claims.slice(claims).flatMap((claim) => claim.nodes)).toEqual([])
  })

  it('stops: what runs is ended and not reported', async () => {
    await connected()
    coordinator.give(grantOf('A'))
    const a = await executor.program('A')
    await worker.stop()
    expect(a.killed).toBe(true)
    expect(coordinator.reports).toEqual([])
    expect(worker.status()).toMatchObject({ connected: false, runningTasks: 0 })
  })
})

describe('time', () => {
  beforeEach(() => {
    vi.useFakeTimers({ toFake: ['setTimeout', 'clearTimeout', 'Date'] })
  })

  it('L3: a heartbeat goes out each interval that the coordinator says', async () => {
    coordinator.heartbeatMs = 2000
    await connected()
    await vi.advanceTimersByTimeAsync(5000)
    await until(() => coordinator.heartbeats.length === 1)
    for (let n = 2; n < 5; n += 1) {
      await vi.advanceTimersByTimeAsync(2000)
      await until(() => coordinator.heartbeats.length === n)
    }
    expect(worker.maxLagMs()).toBe(0)
  })

  it('a machine that slept renews its session with an inventory', async () => {
    await connected()
    coordinator.give(grantOf('A'))
    await executor.program('A')
    vi.setSystemTime(Date.now() + 3_600_000)
    await vi.advanceTimersByTimeAsync(5000)
    await until(() => !worker.status().connected)
    await vi.advanceTimersByTimeAsync(1000)
    await until(() => coordinator.hellos.length === 2)
    expect(inventory()).toEqual(['a running'])
    expect(worker.maxLagMs()).toBeGreaterThan(3_500_000)
  })

  it('L7: a cut-off machine ends tasks of jobs that ask for it, reckoned from the last answered heartbeat, and no others', async () => {
    const cautious = { ...brief, jobUid: 2, disconnect: { replace: true, stopOnClient: true, lostAfterMs: 60_000 } }
    coordinator.briefs.push(cautious)
    await connected()
    coordinator.give(grantOf('A'), { ...grantOf('B'), attempt: { jobUid: 2, task: 'b', epoch: 1 } })
    const [a, b] = [await executor.program('A'), await executor.program('B')]
    coordinator.unreachable = true
    coordinator.cut()
    await until(() => !worker.status().connected)
    await vi.advanceTimersByTimeAsync(55_000)
    expect(b.killed).toBe(false)
    await vi.advanceTimersByTimeAsync(15_000)
    expect(b.killed).toBe(true)
    expect(a.killed).toBe(false)
  })

  it('R1: compute nodes end when the coordinator was away for the time they are given', async () => {
    await connected()
    const node: Reservation = { reservationId: 3, ownerEpoch: 1, poolId: 'pool', nodeId: 'p3', size: { ...lent, cores: 1 }, taskSlots: 1 }
    await coordinator.session!.call('reserve', node)
    coordinator.unreachable = true
    coordinator.cut()
    await until(() => !worker.status().connected)
    await vi.advanceTimersByTimeAsync(29 * 60_000)
    expect(worker.status().reservations).toEqual([node])
    await vi.advanceTimersByTimeAsync(2 * 60_000)
    expect(worker.status().reservations).toEqual([])
  })

  it('G1: a machine that found nothing sleeps until an offer of its pool wakes it', async () => {
    await connected()
    vi.setSystemTime(Date.now() + 20_000)
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

  it('G1: a machine that hears no offer asks again by itself', async () => {
    await connected()
    vi.setSystemTime(Date.now() + 20_000)
    coordinator.dismiss()
    await until(() => coordinator.dismissed === 1)
    await until(() => vi.getTimerCount() > 1)
    await vi.advanceTimersByTimeAsync(61_000)
    await until(() => coordinator.claims.length === 2)
  })

  it('L4: a claim without an answer is repeated with its id', async () => {
    // Heartbeats are answered, so the session stands while the claim does not come back.
    await connected()
    await vi.advanceTimersByTimeAsync(51_000)
    await until(() => coordinator.claims.length === 2)
    expect(coordinator.claims[1]!.requestId).toBe(coordinator.claims[0]!.requestId)
  })
})

describe('files', () => {
  it('of a task are found while it runs and after', async () => {
    await connected()
    coordinator.give(grantOf('A'))
    const a = await executor.program('A')
    expect(worker.findAttempt(attemptOf('a'))).toMatchObject({ running: true, paths: { stdout: a.start.stdoutPath } })
    a.end()
    await until(settled)
    expect(worker.findAttempt(attemptOf('a'))).toMatchObject({ running: false })
    expect(worker.findAttempt(attemptOf('b'))).toBeUndefined()
  })
})
