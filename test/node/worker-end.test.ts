import { beforeEach, describe, expect, it } from 'vitest'
import { MeshError } from '../../protocols/errors.ts'
import { certificateTrouble } from '../../protocols/membership.ts'
import { attemptOf, type FakeCoordinator, grantOf } from '../support/worker/fake-coordinator.ts'
import { type FakeDirectories, type FakeExecutor, type FakeStaging, until } from '../support/worker/fake-parts.ts'
import { type FakeJournal, type Harness, useHarness } from '../support/worker/harness.ts'

const blob = `b${'a'.repeat(30)}`

let h: Harness
let coordinator: FakeCoordinator
let executor: FakeExecutor
let staging: FakeStaging
let directories: FakeDirectories
let journal: FakeJournal

const harness = useHarness()
beforeEach(() => {
  h = harness()
  ;({ coordinator, executor, staging, directories, journal } = h)
})

describe('a deleted job', () => {
  it('has no files left on the machine', async () => {
    await h.connected()
    coordinator.session!.note('forget', { jobUid: 7 })
    await until(() => directories.purged.length > 0)
    expect(directories.purged).toEqual([7])
  })

  it('has none left either when its last task ends after its deletion', async () => {
    await h.connected()
    coordinator.give(grantOf('A'), grantOf('B'))
    const [program] = [await executor.program('A'), await executor.program('B')]
    const { jobUid } = attemptOf('a')
    coordinator.session!.note('stop', { attempts: [attemptOf('b')], reason: 'deleted' })
    coordinator.session!.note('forget', { jobUid })
    await until(() => directories.sealed.includes('1/b/1'))
    coordinator.session!.note('stop', { attempts: [attemptOf('a')], reason: 'deleted' })
    await until(() => directories.purged.length === 2)
    expect(program.killed).toBe(true)
    expect(directories.sealed.toSorted()).toEqual(['1/a/1', '1/b/1'])
  })

  it('is named in the next hello while it has files here, so that the machine hears of what it missed', async () => {
    await h.connected()
    coordinator.give(grantOf('A'))
    ;(await executor.program('A')).end(0)
    await until(() => h.settled())
    await h.reconnected()
    expect(coordinator.hellos.map(({ jobs }) => jobs)).toEqual([[], [attemptOf('a').jobUid]])
  })
})

describe('a task with very many outputs', () => {
  const outputsOf = (number: number) => Array.from({ length: number }, (_, at) => ({ path: `${'long/'.repeat(700)}${at}`, blob, size: 1 }))

  it('fails with the reason when their names are more than the coordinator takes', async () => {
    await h.connected()
    staging.outputs = outputsOf(100_000)
    coordinator.give(grantOf('A', { outputFiles: [{ filePattern: '**' }] }))
    ;(await executor.program('A')).end(0)
    await until(() => h.settled())
    const { outcome } = coordinator.reportOf('A')!
    expect(outcome).toMatchObject({ exitCode: 0, failureInfo: { category: 'usererror', code: 'FileUploadMiscError' } })
    expect(outcome.failureInfo!.message).toContain('100000 outputs')
    expect(outcome.outputs).toBeUndefined()
  })

  it('is reported in a request of its own, so that no request is too large', async () => {
    await h.connected()
    staging.outputs = outputsOf(1500)
    const gate = Promise.withResolvers<void>()
    coordinator.reportGate = gate.promise
    const ids = ['A', 'B', 'C', 'D']
    coordinator.give(...ids.map((id) => grantOf(id, { outputFiles: [{ filePattern: '**' }] })))
    for (const id of ids) (await executor.program(id)).end(0)
    await until(() => h.worker.status().unreportedTasks === ids.length)
    gate.resolve()
    await until(() => h.settled())
    expect(coordinator.reportsInRequests).toEqual([1, 1, 1, 1])
  })
})

describe('being told to stop', () => {
  const withFiles = { resourceFiles: [{ filePath: 'in', blob }], outputFiles: [{ filePattern: '*' }] }
  const stopA = () => coordinator.session!.note('stop', { attempts: [attemptOf('a')], reason: 'test' })
  const gone = () => h.worker.status().runningTasks === 0 && executor.lanesOut === 0

  it('ends a task that fetches its files', async () => {
    await h.connected()
    staging.gate = new Promise(() => {})
    coordinator.give(grantOf('A', withFiles))
    await until(() => staging.waiting === 1)
    stopA()
    await until(gone)
    expect(executor.started).toEqual([])
    expect(coordinator.reports).toEqual([])
  })

  it('ends a task that runs', async () => {
    await h.connected()
    coordinator.give(grantOf('A', withFiles))
    const program = await executor.program('A')
    stopA()
    await until(gone)
    expect(program.killed).toBe(true)
    expect(coordinator.reports).toEqual([])
    expect(staging.collected).toEqual([])
  })

  it('ends a task that keeps its outputs', async () => {
    await h.connected()
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
    await h.connected()
    coordinator.reportGate = new Promise(() => {})
    coordinator.give(grantOf('A'))
    ;(await executor.program('A')).end(0)
    await until(() => coordinator.reports.length === 1)
    stopA()
    await until(() => h.settled())
    expect(journal.disk.finished.size).toBe(0)
  })

  it('holds for a grant that is on its way', async () => {
    await h.connected()
    stopA()
    coordinator.give(grantOf('A'), grantOf('B'))
    await executor.program('B')
    expect(executor.started).toEqual(['B'])
  })
})

describe('a machine that was removed from the mesh', () => {
  const refusedAs = (trouble: string | undefined) => new MeshError('AuthenticationFailed', trouble)
  const certificate = { mesh: 'm', peer: 'p', roles: [], serial: 1, issuedAt: 0, expires: 1 }

  it('S1: ends what it runs, and asks no more for a long time', async () => {
    await h.connected()
    coordinator.give(grantOf('A'))
    const program = await executor.program('A')
    coordinator.refusal = refusedAs(certificateTrouble(certificate, { mesh: 'm', peer: 'p', now: 0, revoked: new Set(['p']) }))
    const before = coordinator.opens
    coordinator.cut()
    await until(() => program.killed && executor.lanesOut === 0)
    expect(coordinator.opens).toBe(before + 1)
    expect(h.worker.status()).toMatchObject({ connected: false, runningTasks: 0, reservations: [] })
    expect(coordinator.reports).toEqual([])
  })

  it('runs on when it is refused for what may pass, and tries again', async () => {
    await h.connected()
    coordinator.give(grantOf('A'))
    const program = await executor.program('A')
    coordinator.refusal = refusedAs(certificateTrouble(certificate, { mesh: 'm', peer: 'p', now: 2, revoked: new Set() }))
    const before = coordinator.opens
    coordinator.cut()
    await until(() => coordinator.opens > before + 1)
    expect(program.killed).toBe(false)
    coordinator.refusal = undefined
    await until(() => h.worker.status().connected)
    program.end(0)
    await until(() => h.settled())
    expect(coordinator.reports).toHaveLength(1)
  })
})

describe('retraction', () => {
  it('takes back what has not started, and only that', async () => {
    await h.connected()
    coordinator.give(grantOf('A'), grantOf('B'), grantOf('C'))
    const a = await executor.program('A')
    await until(() => h.worker.status().unstartedTasks === 1)
    const { retracted } = await coordinator.session!.call('retract', { attempts: [attemptOf('a'), attemptOf('c'), attemptOf('x')] })
    expect(retracted).toEqual([attemptOf('c'), attemptOf('x')])
    coordinator.session!.note('grant', { grants: [grantOf('X'), grantOf('C')], jobs: [] })
    a.end()
    coordinator.give(grantOf('D'))
    await executor.program('D')
    expect(executor.started).toEqual(['A', 'B', 'D'])
  })
})

describe('going down', () => {
  it('drains: gives back what has not started, and waits for the rest', async () => {
    await h.connected()
    coordinator.give(grantOf('A'), grantOf('B'), grantOf('C'))
    const [a, b] = [await executor.program('A'), await executor.program('B')]
    await until(() => h.worker.status().unstartedTasks === 1)
    let drained = false
    const draining = h.worker.drain().then(() => {
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
    await h.connected()
    coordinator.give(grantOf('A'))
    const a = await executor.program('A')
    const draining = h.worker.drain()
    coordinator.session!.note('grant', { grants: [grantOf('B')], jobs: [] })
    await until(() => coordinator.returned.length === 1)
    a.end()
    await draining
    expect(executor.started).toEqual(['A'])
  })

  it('drains: says so again in the next session', async () => {
    await h.connected()
    coordinator.give(grantOf('A'))
    const a = await executor.program('A')
    const draining = h.worker.drain()
    await until(() => coordinator.drained === 1)
    const claims = coordinator.claims.length
    await h.reconnected()
    await until(() => coordinator.drained === 2)
    a.end()
    await draining
    expect(coordinator.claims.slice(claims).flatMap((claim) => claim.nodes)).toEqual([])
  })

  it('L7: stops: what runs is ended, not reported, and given back', async () => {
    await h.connected()
    coordinator.give(grantOf('A'))
    const a = await executor.program('A')
    await h.worker.stop()
    expect(a.killed).toBe(true)
    expect(coordinator.reports).toEqual([])
    await until(() => coordinator.returned.length === 1)
    expect(coordinator.returned).toEqual([attemptOf('A')])
    expect(h.worker.status()).toMatchObject({ connected: false, runningTasks: 0 })
  })
})
