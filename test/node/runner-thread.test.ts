/** The runner with a function instead of a command line. */
import { beforeEach, describe, expect, it } from 'vitest'
import { type Called, TaskFailure } from '../../node/ports.ts'
import { runTask, type Work } from '../../node/runner.ts'
import { reportable } from '../../node/worker/outcome-size.ts'
import { type TaskSpecInput, taskSpecSchema } from '../../protocols/model/task.ts'
import { attemptOf, brief } from '../support/worker/fake-coordinator.ts'
import { FakeDirectories, FakeExecutor, FakeStaging, FakeThreads, noGangs, silentLog, until } from '../support/worker/fake-parts.ts'

const blob = `b${'a'.repeat(30)}`
const nodeFacts = {
  poolId: 'pool',
  nodeId: 'n0',
  isDedicated: false,
  rootDir: '/root-dir',
  accountName: 'mesh',
  accountUrl: 'https://mesh',
  user: 'batch',
}

let executor: FakeExecutor
let threads: FakeThreads
let staging: FakeStaging
let said: string[]

beforeEach(() => {
  executor = new FakeExecutor()
  threads = new FakeThreads()
  staging = new FakeStaging()
  said = []
})

function run(spec: Partial<TaskSpecInput> = {}, memoryMiB = 1000) {
  const stop = new AbortController()
  const work: Work = {
    attempt: attemptOf('t'),
    spec: taskSpecSchema.parse({ id: 'T', thread: { module: blob, export: 'f' }, ...spec }),
    job: brief,
    node: nodeFacts,
    memoryMiB,
  }
  const outcome = runTask(
    { executor, threads, staging, directories: new FakeDirectories(), gangs: noGangs(), now: Date.now, log: silentLog },
    work,
    {
      placed: () => said.push('placed'),
      started: () => said.push('started'),
      vacated: () => said.push(`vacated with ${threads.seatsOut} seats`),
      uploading: () => said.push('uploading'),
    },
    stop.signal,
  )
  return { outcome, stop }
}

const returned = (value: Called['value']) => () => ({ value })

describe('a function', () => {
  it('is called in a thread, with its environment, and its value is the outcome', async () => {
    threads.outcome = returned({ bytes: new Uint8Array([1]) })
    const { outcome } = run({ resourceFiles: [{ filePath: 'in.txt', blob }] })
    expect(await outcome).toMatchObject({ exitCode: 0, threadResult: { bytes: new Uint8Array([1]) } })
    expect((await outcome)!.failureInfo).toBeUndefined()
    expect(threads.calls[0]).toMatchObject({ thread: { module: blob, export: 'f' }, env: { AZ_BATCH_TASK_ID: 'T' } })
    expect(staging.staged).toEqual(['in.txt'])
    expect(executor.lanesOut).toBe(0)
    expect(said).toEqual(['placed', 'started', 'vacated with 0 seats'])
  })

  it('gets large arguments as a file, and its large value is kept at the home of its job', async () => {
    threads.outcome = returned({ file: '.result' })
    const { outcome } = run({ thread: { module: blob, args: { blob, size: 100_000 } } })
    expect((await outcome)?.threadResult).toEqual({ blob: `b${'r'.repeat(30)}`, size: 7 })
    expect(staging.staged).toEqual(['.args'])
    expect(staging.kept).toEqual([{ name: '.result', dir: '/nowhere/workitems/Job/job-1/t', home: brief.home }])
    expect(said.at(-1)).toBe('uploading')
  })

  it('B2: whose value cannot be kept fails', async () => {
    threads.outcome = returned({ file: '.result' })
    staging.collectError = new TaskFailure({ category: 'usererror', code: 'FileUploadMiscError', message: 'a link' })
    expect(await run().outcome).toMatchObject({ exitCode: 0, failureInfo: { code: 'FileUploadMiscError' } })
  })

  it('that failed says how, and its outputs are those of a failure', async () => {
    const failureInfo = { category: 'usererror', code: 'ThreadFailed', message: 'Error: x' } as const
    threads.outcome = () => ({ exitCode: 1, failureInfo, error: { name: 'Error', message: 'x' } })
    const { outcome } = run({ outputFiles: [{ filePattern: '*' }] })
    expect(await outcome).toMatchObject({ exitCode: 1, failureInfo, threadError: { name: 'Error', message: 'x' } })
    expect(staging.collected[0]).toMatchObject({ ended: 'failure' })
  })

  it('whose process was lost has no exit code', async () => {
    const info = { category: 'servererror', code: 'ThreadHostLost', message: 'lost' } as const
    threads.outcome = () => {
      throw new TaskFailure(info)
    }
    const outcome = await run().outcome
    expect(outcome).toMatchObject({ failureInfo: info })
    expect(outcome!.exitCode).toBeUndefined()
  })

  it('starts again when its process broke, three times at most', async () => {
    let left = 2
    threads.outcome = () => {
      left -= 1
      if (left >= 0) throw new Error('it broke')
      return { value: { bytes: new Uint8Array() } }
    }
    expect(await run().outcome).toMatchObject({ exitCode: 0 })
    left = 3
    expect(await run().outcome).toMatchObject({ failureInfo: { category: 'servererror', code: 'Unknown' } })
  })

  it('is ended at its limit, and without an outcome when it is stopped', async () => {
    expect(await run({ constraints: { maxWallClockTimeMs: 1 } }).outcome).toMatchObject({
      exitCode: 137,
      failureInfo: { code: 'MaxWallClockTimeExpiry' },
    })
    const { outcome, stop } = run()
    await until(() => threads.calls.length === 2)
    stop.abort()
    expect(await outcome).toBeUndefined()
    expect(threads.seatsOut).toBe(0)
  })

  it.each([
    [1000, undefined, 960],
    [10, undefined, 64],
    [1000, 33, 33],
  ])('may have of %i MiB of memory, asking for %s, a heap of %i', async (memoryMiB, maxHeapMiB, heapMiB) => {
    threads.outcome = returned({ bytes: new Uint8Array() })
    await run({ thread: { module: blob, maxHeapMiB } }, memoryMiB).outcome
    expect(threads.calls[0]?.heapMiB).toBe(heapMiB)
  })

  it('is reported with its value, which counts for the size of a report', () => {
    const times = { startTime: 0, endTime: 0 }
    const outputs = Array.from({ length: 80_000 }, (_, at) => ({ path: `${at}`.padEnd(80), blob, size: 1 }))
    expect(reportable({ exitCode: 0, ...times, outputs }).failureInfo).toBeUndefined()
    const large = { exitCode: 0, ...times, outputs, threadResult: { bytes: new Uint8Array(2 << 20) } }
    expect(reportable(large).failureInfo).toMatchObject({ code: 'FileUploadMiscError' })
  })
})
