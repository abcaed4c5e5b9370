/** The worker with tasks that are nothing but functions: a slot's thread gets the next ones ahead. */
import { beforeEach, describe, expect, it } from 'vitest'
import type { SeriesCall } from '../../node/ports.ts'
import { TaskFailure } from '../../node/ports.ts'
import { attemptOf, type FakeCoordinator, grantOf } from '../support/worker/fake-coordinator.ts'
import { type FakeSeries, until } from '../support/worker/fake-parts.ts'
import { type Harness, useHarness } from '../support/worker/harness.ts'

const blob = `b${'a'.repeat(30)}`

let h: Harness
let coordinator: FakeCoordinator

const harness = useHarness()
beforeEach(async () => {
  h = harness()
  coordinator = h.coordinator
  await h.connected()
})

const give = (...ids: string[]) => coordinator.give(...ids.map((id) => functionOf(id)))
const functionOf = (id: string, extra = {}) => grantOf(id, { commandLine: '', thread: { module: blob }, ...extra })
const numbers = (count: number) => Array.from({ length: count }, (_, n) => `f${n}`)

async function seriesOf(count: number): Promise<FakeSeries[]> {
  await until(() => h.threads.series.filter(({ waiting }) => waiting.length > 0).length >= count)
  return h.threads.series
}

function end(call: SeriesCall, ranMs = 0): void {
  call.ended({ exitCode: 0, killed: false, startTime: 1000, endTime: 1000 + ranMs, value: { bytes: new Uint8Array([1]) } })
}

const waiting = (series: FakeSeries) => series.waiting.map(({ taskId }) => taskId)

/** Lets one slot's thread learn that its calls are short; the other slot is at `first`. */
async function quick(count: number): Promise<{ busy: SeriesCall; series: FakeSeries }> {
  give(...numbers(count))
  const [one, two] = await seriesOf(2)
  const busy = one!.next()
  end(two!.next())
  await until(() => two!.waiting.length > 1)
  return { busy, series: two! }
}

describe('functions in series', () => {
  it('go to a thread ahead, in order, once it is known that they are short, and make no directory', async () => {
    const { busy, series } = await quick(10)
    expect(waiting(series)).toEqual(['f2', 'f3', 'f4', 'f5', 'f6', 'f7', 'f8', 'f9'])
    while (series.waiting.length > 0) end(series.next())
    end(busy)
    await until(() => h.settled())
    expect(coordinator.reports).toHaveLength(10)
    expect(coordinator.reportOf('f5')?.outcome).toEqual({
      exitCode: 0,
      startTime: 1000,
      endTime: 1000,
      noFiles: true,
      threadResult: { bytes: new Uint8Array([1]) },
    })
    expect({ made: h.directories.made, seats: h.threads.seatsOut }).toEqual({ made: [], seats: 0 })
    expect(h.threads.series).toHaveLength(2)
  })

  it('go one at a time where they take long', async () => {
    give(...numbers(5))
    const [one, two] = await seriesOf(2)
    end(one!.next(), 5000)
    await until(() => one!.waiting.length > 0)
    expect([waiting(one!), waiting(two!)]).toEqual([['f2'], ['f1']])
  })

  it('share a thread only with their kind, and nothing overtakes what came before', async () => {
    coordinator.give(
      functionOf('a'),
      functionOf('b'),
      functionOf('c'),
      functionOf('other', { thread: { module: blob, export: 'other' } }),
      functionOf('d'),
    )
    const [one, two] = await seriesOf(2)
    one!.next()
    end(two!.next())
    await until(() => two!.waiting.length > 0)
    expect(waiting(two!)).toEqual(['c'])
    end(two!.next())
    const three = (await seriesOf(1)).at(-1)!
    expect(three.request.thread.export).toBe('other')
    expect(waiting(three)).toEqual(['other'])
  })

  it('stand in front of the line again when they are returned, in their order', async () => {
    const { series, busy } = await quick(6)
    const [, ...behind] = [series.next(), ...series.waiting.splice(0)]
    for (const call of behind) call.returned()
    end(busy)
    await until(() => h.threads.series.some(({ waiting: calls }) => calls.length > 0))
    expect(h.threads.series.flatMap(waiting)[0]).toBe('f3')
  })

  it('have a directory once they look for it, which is closed at their end', async () => {
    give('f')
    const [series] = await seriesOf(1)
    const call = series!.next()
    expect(h.worker.findAttempt(attemptOf('f'))).toEqual({ paths: undefined, running: true })
    call.place()
    expect(h.worker.findAttempt(attemptOf('f'))?.paths?.taskDir).toBe('/nowhere/workitems/Job/job-1/f')
    end(call)
    await until(() => h.settled())
    expect(h.directories.sealed).toEqual(['1/f/1'])
    expect(coordinator.reportOf('f')?.outcome.noFiles).toBeUndefined()
  })

  it('are said to have started only when they go on for a moment, and their limit counts from their start', async () => {
    coordinator.give(functionOf('f', { constraints: { maxWallClockTimeMs: 30 } }))
    const [series] = await seriesOf(1)
    const call = series!.next()
    const startTime = Date.now()
    call.began(startTime)
    await until(() => coordinator.started.length === 1)
    expect(coordinator.started[0]).toMatchObject({ task: 'f', startTime })
    await until(() => h.settled())
    expect(series!.stopped).toEqual([call])
    expect(coordinator.reportOf('f')?.outcome).toMatchObject({ exitCode: 137, failureInfo: { code: 'MaxWallClockTimeExpiry' } })
  })

  it('that are stopped are ended where they are, and not reported', async () => {
    const { series } = await quick(4)
    coordinator.session!.note('stop', { attempts: [attemptOf('f3')], reason: 'no more' })
    await until(() => series.stopped.length === 1)
    expect(series.stopped.map(({ taskId }) => taskId)).toEqual(['f3'])
    await until(() => h.worker.findAttempt(attemptOf('f3')) === undefined)
    expect(coordinator.reportOf('f3')).toBeUndefined()
  })

  it('L7: that have not begun when the session ends do not begin any more; the others go on', async () => {
    const { series, busy } = await quick(5)
    const running = series.next()
    await h.reconnected()
    expect(series.waiting).toEqual([])
    expect(h.inventory()).toEqual(expect.arrayContaining(['f0 fetching', 'f2 fetching']))
    expect(h.inventory().join()).not.toMatch(/f[34]/)
    end(running)
    end(busy)
    await until(() => h.settled())
    expect(coordinator.reports.map(({ attempt }) => attempt.task).sort()).toEqual(['f0', 'f1', 'f2'])
  })

  it('are given back, if they have not begun, when the coordinator asks for them', async () => {
    const { series } = await quick(5)
    const running = series.next()
    const { retracted } = await coordinator.session!.call('retract', { attempts: ['f3', 'f4'].map((id) => attemptOf(id)) })
    expect(retracted.map(({ task }) => task)).toEqual(['f3', 'f4'])
    expect(series.waiting).toEqual([])
    expect((await coordinator.session!.call('retract', { attempts: [attemptOf('f9')] })).retracted).toHaveLength(1)
    const asked = coordinator.session!.call('retract', { attempts: [attemptOf('f2')] })
    running.began(Date.now())
    expect((await asked).retracted).toEqual([])
    expect((await coordinator.session!.call('retract', { attempts: [attemptOf('f2')] })).retracted).toEqual([])
  })

  it('are answered for when the coordinator asks for one whose process is lost meanwhile', async () => {
    const { series } = await quick(4)
    const running = series.next()
    let retracted: unknown
    void coordinator.session!.call('retract', { attempts: [attemptOf('f2')] }).then((answer) => (retracted = answer.retracted))
    await until(() => series.asked.includes(running))
    series.isGone = true
    running.failed(new TaskFailure({ category: 'servererror', code: 'ThreadHostLost', message: 'lost' }))
    await until(() => retracted !== undefined)
    expect(retracted).toEqual([])
  })

  it('that have not begun are given back when the machine goes down', async () => {
    const { series, busy } = await quick(5)
    const running = series.next()
    const drained = h.worker.drain()
    await until(() => coordinator.returned.length === 2)
    expect(coordinator.returned.map(({ task }) => task).sort()).toEqual(['f3', 'f4'])
    end(running)
    end(busy)
    await drained
  })

  it('of which one ended the process by itself are lost or start again, each alone', async () => {
    const { series, busy } = await quick(5)
    const lost = new TaskFailure({ category: 'servererror', code: 'ThreadHostLost', message: 'lost' })
    const [first, ...behind] = [series.next(), ...series.waiting.splice(0)]
    series.isGone = true
    for (const call of behind) call.returned()
    first!.failed(lost)
    const other = (await seriesOf(1)).at(-1)!
    other.alone = true
    expect(waiting(other)).toEqual(['f3'])
    end(other.next())
    await until(() => other.waiting.length > 0)
    expect(waiting(other)).toEqual(['f4'])
    end(other.next())
    end(busy)
    await until(() => h.settled())
    expect(coordinator.reportOf('f2')?.outcome).toMatchObject({ failureInfo: { code: 'ThreadHostLost' } })
    expect(coordinator.reports).toHaveLength(5)
  })

  it('whose lane broke start again by themselves', async () => {
    h.threads.outcome = () => ({ value: { bytes: new Uint8Array([2]) } })
    give('f')
    const [series] = await seriesOf(1)
    series!.next().failed(new Error('it broke'))
    await until(() => h.settled())
    expect(h.threads.calls).toHaveLength(1)
    expect(coordinator.reportOf('f')?.outcome.threadResult).toEqual({ bytes: new Uint8Array([2]) })
  })

  it('B2: keep a large value at the home of their job, with their slot free', async () => {
    give('f')
    const [series] = await seriesOf(1)
    const call = series!.next()
    call.place()
    call.ended({ exitCode: 0, killed: false, startTime: 1, endTime: 2, value: { file: '.result' } })
    await until(() => h.settled())
    expect(h.staging.kept).toMatchObject([{ name: '.result', dir: '/nowhere/workitems/Job/job-1/f' }])
    expect(coordinator.reportOf('f')?.outcome.threadResult).toMatchObject({ size: 7 })
  })

  it('with files of their own run by themselves', async () => {
    h.threads.outcome = () => ({ value: { bytes: new Uint8Array() } })
    coordinator.give(
      functionOf('in', { resourceFiles: [{ filePath: 'x', blob }] }),
      functionOf('out', { outputFiles: [{ filePattern: '*' }] }),
    )
    await until(() => coordinator.reports.length === 2)
    expect({ series: h.threads.series.length, made: h.directories.made }).toEqual({ series: 0, made: ['1/in/1', '1/out/1'] })
  })
})
