/** What the runner makes of a task that took too much: of memory, of processes, of the disk. */
import { beforeEach, describe, expect, it } from 'vitest'
import type { DiskWatch, MemoryLimit } from '../../node/ports.ts'
import { runTask } from '../../node/runner.ts'
import { type TaskSpecInput, taskSpecSchema } from '../../protocols/model/task.ts'
import { attemptOf, brief } from '../support/worker/fake-coordinator.ts'
import { FakeDirectories, FakeExecutor, FakeStaging, FakeThreads, noGangs, silentLog } from '../support/worker/fake-parts.ts'

const node = {
  poolId: 'pool',
  nodeId: 'n0',
  isDedicated: false,
  rootDir: '/r',
  accountName: 'mesh',
  accountUrl: 'https://mesh',
  user: 'batch',
}
let executor: FakeExecutor
let directories: FakeDirectories
let said: string[]
beforeEach(() => {
  executor = new FakeExecutor()
  directories = new FakeDirectories()
  said = []
})

function run(spec: Partial<TaskSpecInput>, { disk, memory }: { disk?: DiskWatch; memory?: MemoryLimit }) {
  const parsed = taskSpecSchema.parse({ id: 'T', commandLine: 'prog', ...spec })
  const parts = {
    executor,
    threads: new FakeThreads(),
    staging: new FakeStaging(),
    directories,
    gangs: noGangs(),
    now: Date.now,
    log: silentLog,
  }
  const watcher = { placed: () => {}, started: () => {}, vacated: () => {}, uploading: () => said.push('uploading') }
  const outcome = runTask(
    { ...parts, ...(disk && { disk }) },
    { attempt: attemptOf('t'), spec: parsed, job: brief, node, memoryMiB: 1000, ...(memory && { memory }) },
    watcher,
    new AbortController().signal,
  )
  return { outcome }
}

describe('a task that fills the disk', () => {
  it('is ended with DiskFull, keeps no outputs, and its lane and its files are given up', async () => {
    let fill: Parameters<DiskWatch['watch']>[1] | undefined
    let watched = 0
    const disk: DiskWatch = {
      watch: (paths, end) => {
        expect(paths).toEqual(['/nowhere/workitems/Job/job-1/t'])
        watched += 1
        fill = end
        return () => {
          if (watched === 1) said.push(`unwatched with ${directories.emptied.length} emptied`)
          watched -= 1
        }
      },
    }
    const { outcome } = run({ outputFiles: [{ filePattern: '**' }] }, { disk })
    await executor.program('T')
    fill!({ category: 'usererror', code: 'DiskFull', message: 'too much' })
    expect(await outcome).toMatchObject({ exitCode: 137, failureInfo: { code: 'DiskFull', message: 'too much' } })
    expect((await outcome)!.outputs).toBeUndefined()
    expect(directories.emptied).toEqual(['/nowhere/workitems/Job/job-1/t'])
    expect(executor.spoilt).toBe(1)
    expect(said).toContain('unwatched with 1 emptied')
    expect(said).not.toContain('uploading')
  })
})

describe('a task', () => {
  it.each([1, 0])('that hit a limit has the failure that its lane names, also with exit code %i', async (exitCode) => {
    const failureInfo = { category: 'usererror', code: 'FailureExitCode', reason: 'MemoryLimitExceeded', message: 'too much' } as const
    const { outcome } = run({}, { memory: { limitMiB: 5, isAsked: true } })
    const program = await executor.program('T')
    expect(program.start.memory).toEqual({ limitMiB: 5, isAsked: true })
    program.end(exitCode, failureInfo)
    expect(await outcome).toMatchObject({ exitCode, failureInfo })
  })
})
