import { beforeEach, describe, expect, it } from 'vitest'
import { attemptOf, type FakeCoordinator, grantOf } from '../support/worker/fake-coordinator.ts'
import { type FakeExecutor, until } from '../support/worker/fake-parts.ts'
import { type FakeJournal, type Harness, useHarness } from '../support/worker/harness.ts'

let h: Harness
let coordinator: FakeCoordinator
let executor: FakeExecutor
let journal: FakeJournal

const harness = useHarness()
beforeEach(() => {
  h = harness()
  ;({ coordinator, executor, journal } = h)
})

describe('a session', () => {
  it('L6: begins with the incarnation and the inventory, and claims the room there is', async () => {
    journal.disk.incarnation = 7
    await h.connected()
    expect(coordinator.hellos).toMatchObject([{ incarnation: 7, inventory: [], reservations: [], ownerEpoch: 0 }])
    expect(coordinator.claims[0]).toMatchObject({ nodes: [{ nodeId: 'n0', room: { slots: 2, cores: 2 }, prefetchSlots: 0 }] })
    expect(coordinator.claims[0]!.requestId).toBe('7.1')
    expect(journal.disk.ownerEpoch).toBe(1)
  })

  it('runs what it is granted and reports how it ended', async () => {
    await h.connected()
    coordinator.give(grantOf('A'), grantOf('B'))
    const a = await executor.program('A')
    const b = await executor.program('B')
    await until(() => coordinator.started.length === 2)
    a.end(0)
    b.end(5)
    await until(() => h.settled())
    expect(coordinator.reportOf('A')?.outcome.exitCode).toBe(0)
    expect(coordinator.reportOf('B')?.outcome).toMatchObject({ exitCode: 5, failureInfo: { code: 'FailureExitCode' } })
    expect(journal.disk.finished.size).toBe(0)
  })

  it('never runs more at once than its room, whatever is granted', async () => {
    await h.connected()
    coordinator.give(...['a', 'b', 'c', 'd', 'e'].map((id) => grantOf(id)))
    for (const id of ['a', 'b', 'c', 'd', 'e']) {
      const program = await executor.program(id)
      expect(executor.running.length).toBeLessThanOrEqual(2)
      program.end()
    }
    await until(() => h.settled())
    expect(executor.started).toEqual(['a', 'b', 'c', 'd', 'e'])
  })

  it('takes thousands of quick tasks in few claims and reports', async () => {
    coordinator.byRoom = true
    executor.instantExit = 0
    await h.connected()
    coordinator.give(...Array.from({ length: 3000 }, (_, n) => grantOf(`t${n}`)))
    await until(() => coordinator.reports.length === 3000 && h.settled())
    expect(coordinator.claims.length).toBeLessThan(300)
    expect(new Set(executor.started).size).toBe(3000)
  })

  it('L4: a grant that comes twice runs once', async () => {
    await h.connected()
    coordinator.give(grantOf('A'))
    await executor.program('A')
    coordinator.session!.note('grant', { grants: [grantOf('A')], jobs: [] })
    coordinator.give(grantOf('B'))
    ;(await executor.program('B')).end()
    ;(await executor.program('A')).end()
    await until(() => h.settled())
    expect(executor.started).toEqual(['A', 'B'])
    expect(coordinator.reports.map((report) => report.attempt.task).sort()).toEqual(['a', 'b'])
  })

  it('a task that this version does not understand fails with the reason', async () => {
    await h.connected()
    coordinator.give({ ...grantOf('A'), spec: new Uint8Array([0xc1]) })
    await until(() => coordinator.reports.length === 1)
    expect(coordinator.reports[0]!.outcome.failureInfo).toMatchObject({ category: 'servererror', code: 'Unknown' })
  })

  it('a deposed coordinator is not obeyed', async () => {
    journal.disk.ownerEpoch = 5
    h.worker = h.newWorker()
    h.worker.start()
    await until(() => coordinator.hellos.length >= 2)
    expect(h.worker.status().connected).toBe(false)
    expect(coordinator.claims).toEqual([])
    coordinator.ownerEpoch = 6
    await until(() => h.worker.status().connected)
    expect(journal.disk.ownerEpoch).toBe(6)
  })

  it('what a deposed coordinator says before it is known to be deposed is not done', async () => {
    const outcome = { exitCode: 0, startTime: 1, endTime: 2 }
    await journal.finished({ attempt: attemptOf('a'), nodeId: 'n0', outcome })
    journal.disk.ownerEpoch = 5
    h.worker = h.newWorker()
    coordinator.onHello = () => coordinator.session!.note('stop', { attempts: [attemptOf('a')], reason: 'test' })
    h.worker.start()
    await until(() => coordinator.hellos.length >= 2)
    expect(h.worker.status().unreportedTasks).toBe(1)
    coordinator.onHello = () => {}
    coordinator.ownerEpoch = 5
    await until(() => h.settled())
    expect(coordinator.reportOf('a')?.outcome).toEqual(outcome)
  })

  it('is tried again while the coordinator cannot be reached', async () => {
    coordinator.unreachable = true
    h.worker.start()
    await until(() => coordinator.opens >= 2)
    coordinator.unreachable = false
    await until(() => h.worker.status().connected)
    expect(coordinator.hellos).toHaveLength(1)
  })
})

describe('after a cut', () => {
  it('L6: what runs goes on, and is in the inventory', async () => {
    await h.connected()
    coordinator.give(grantOf('A'))
    const program = await executor.program('A')
    await h.reconnected()
    expect(h.inventory()).toEqual(['a running'])
    program.end(0)
    await until(() => h.settled())
    expect(coordinator.reports).toHaveLength(1)
  })

  it('L6: what the coordinator does not keep is stopped and not reported', async () => {
    await h.connected()
    coordinator.give(grantOf('A'), grantOf('B'))
    const [a, b] = [await executor.program('A'), await executor.program('B')]
    coordinator.keep = () => [attemptOf('b')]
    await h.reconnected()
    await until(() => a.killed)
    b.end()
    await until(() => h.settled())
    expect(coordinator.reports.map((report) => report.attempt.task)).toEqual(['b'])
  })

  it('L7: unstarted tasks are dropped, and not in the inventory', async () => {
    await h.connected()
    coordinator.give(grantOf('A'), grantOf('B'), grantOf('C'))
    const a = await executor.program('A')
    await until(() => h.worker.status().unstartedTasks === 1)
    await h.reconnected()
    expect(h.inventory().sort()).toEqual(['a running', 'b running'])
    expect(h.worker.status().unstartedTasks).toBe(0)
    a.end()
    await until(() => coordinator.reports.length === 1)
    expect(executor.started).toEqual(['A', 'B'])
  })

  it('L6: a report without an answer is sent again', async () => {
    await h.connected()
    coordinator.reportGate = new Promise(() => {})
    coordinator.give(grantOf('A'))
    ;(await executor.program('A')).end(0)
    await until(() => coordinator.reports.length === 1)
    expect(journal.disk.finished.size).toBe(1)
    coordinator.reportGate = undefined
    await h.reconnected()
    expect(h.inventory()).toEqual(['a finished'])
    await until(() => h.settled())
    expect(coordinator.reports.map((report) => report.attempt.task)).toEqual(['a', 'a'])
    expect(journal.disk.finished.size).toBe(0)
  })

  it('L6: an unacknowledged outcome survives a restart of the worker', async () => {
    await h.connected()
    coordinator.reportGate = new Promise(() => {})
    coordinator.give(grantOf('A'))
    ;(await executor.program('A')).end(3)
    await until(() => coordinator.reports.length === 1)
    await h.worker.stop()
    coordinator.reportGate = undefined
    journal.disk.incarnation = 2
    h.worker = h.newWorker()
    await h.connected()
    expect(coordinator.hellos.at(-1)).toMatchObject({ incarnation: 2, inventory: [{ state: 'finished', nodeId: 'n0' }] })
    await until(() => h.settled())
    expect(coordinator.reports.map((report) => report.outcome.exitCode)).toEqual([3, 3])
  })

  it('L2: a refused outcome is forgotten', async () => {
    await h.connected()
    coordinator.verdict = () => 'refused'
    coordinator.give(grantOf('A'))
    ;(await executor.program('A')).end(0)
    await until(() => h.settled())
    expect(journal.disk.finished.size).toBe(0)
    await h.reconnected()
    expect(h.inventory()).toEqual([])
  })

  it('L7: a task that does not fit its node any more is given back by renewing the session, before anything else starts', async () => {
    await h.connected()
    coordinator.give(grantOf('A', { requiredSlots: 3 }), grantOf('B'))
    await until(() => coordinator.hellos.length === 2)
    expect(h.inventory()).toEqual([])
    expect(executor.started).toEqual([])
  })
})

describe('files', () => {
  it('of a task are found while it runs and after', async () => {
    await h.connected()
    coordinator.give(grantOf('A'))
    const a = await executor.program('A')
    expect(h.worker.findAttempt(attemptOf('a'))).toMatchObject({ running: true, paths: { stdout: a.start.stdoutPath } })
    a.end()
    await until(() => h.settled())
    expect(h.worker.findAttempt(attemptOf('a'))).toMatchObject({ running: false })
    expect(h.worker.findAttempt(attemptOf('b'))).toBeUndefined()
  })
})
