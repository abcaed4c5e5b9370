import { chmodSync, mkdirSync, mkdtempSync, rmSync, symlinkSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest'
import { taskEnvironment } from '../../node/environment.ts'
import { TaskFailure, type TaskPaths } from '../../node/ports.ts'
import { explainExit, readTail } from '../../node/post-mortem.ts'
import { runTask, type Work } from '../../node/runner.ts'
import { outcomeSchema, type TaskSpecInput, taskSpecSchema } from '../../protocols/model/task.ts'
import { attemptOf, brief } from '../support/worker/fake-coordinator.ts'
import { FakeDirectories, FakeExecutor, FakeStaging, FakeThreads, noGangs, silentLog, until } from '../support/worker/fake-parts.ts'

const nodeFacts = {
  poolId: 'pool',
  nodeId: 'n0',
  isDedicated: false,
  rootDir: '/root-dir',
  accountName: 'mesh',
  accountUrl: 'https://mesh',
  user: 'batch',
}
const blob = `b${'a'.repeat(30)}`

let executor: FakeExecutor
let threads: FakeThreads
let staging: FakeStaging
let directories: FakeDirectories
let said: string[]

beforeEach(() => {
  executor = new FakeExecutor()
  threads = new FakeThreads()
  staging = new FakeStaging()
  directories = new FakeDirectories()
  said = []
})

function run(spec: Partial<TaskSpecInput>, extra: Partial<Work> = {}, stop = new AbortController()) {
  const work: Work = {
    attempt: attemptOf('t'),
    spec: taskSpecSchema.parse({ id: 'T', commandLine: 'prog one "two words"', ...spec }),
    job: brief,
    node: nodeFacts,
    memoryMiB: 1000,
    ...extra,
  }
  const outcome = runTask(
    { executor, threads, staging, directories, gangs: noGangs(), now: Date.now, log: silentLog },
    work,
    {
      placed: () => said.push('placed'),
      started: () => said.push('started'),
      vacated: () => said.push(`vacated with ${executor.lanesOut} lanes`),
      uploading: () => said.push('uploading'),
    },
    stop.signal,
  )
  return { outcome, stop }
}

describe('a failure', () => {
  it('is told in words that a report can hold, however long the name of its program is', async () => {
    const { outcome } = run({ commandLine: 'x'.repeat(5000) })
    const program = await executor.program('T')
    program.end(127)
    expect(outcomeSchema.safeParse(await outcome).error).toBeUndefined()
    expect((await outcome)!.failureInfo!.message).toMatch(/^The program "x+…$/)
  })
})

describe('a task', () => {
  it('runs the words of its command line and succeeds with exit code 0', async () => {
    const { outcome } = run({})
    const program = await executor.program('T')
    expect(program.start.argv).toEqual(['prog', 'one', 'two words'])
    expect(program.start.cwd).toBe('/nowhere/workitems/Job/job-1/t/wd')
    program.end(0)
    expect(await outcome).toMatchObject({ exitCode: 0 })
    expect((await outcome)?.failureInfo).toBeUndefined()
    expect(said).toEqual(['placed', 'started', 'vacated with 0 lanes'])
    expect(directories.opened).toEqual(['Job'])
    expect(directories.sealed).toEqual(directories.made)
  })

  it('fails with its exit code', async () => {
    const { outcome } = run({})
    ;(await executor.program('T')).end(3)
    expect(await outcome).toMatchObject({ exitCode: 3, failureInfo: { category: 'usererror', code: 'FailureExitCode' } })
  })

  it('gets its files before it starts', async () => {
    const gate = Promise.withResolvers<void>()
    staging.gate = gate.promise
    const { outcome } = run({ resourceFiles: [{ filePath: 'in.txt', blob }] })
    await until(() => staging.waiting === 1)
    expect(executor.started).toEqual([])
    gate.resolve()
    ;(await executor.program('T')).end()
    await outcome
    expect(staging.staged).toEqual(['in.txt'])
  })

  it('lets go of what it shared with others when nothing of it runs and its outputs are kept, not before', async () => {
    const gate = Promise.withResolvers<void>()
    staging.gate = gate.promise
    const { outcome } = run({ outputFiles: [{ filePattern: '*' }] })
    ;(await executor.program('T')).end()
    await until(() => staging.waiting === 1)
    expect(staging.finished).toEqual([])
    gate.resolve()
    await outcome
    expect(staging.finished).toEqual(['/nowhere/workitems/Job/job-1/t/wd'])
  })

  it('that is stopped lets go of what it shared with others', async () => {
    const { outcome, stop } = run({})
    await executor.program('T')
    stop.abort()
    await outcome
    expect(staging.finished).toEqual(['/nowhere/workitems/Job/job-1/t/wd'])
  })

  it('that cannot have its files fails as staging says, without an exit code', async () => {
    staging.stageError = new TaskFailure({ category: 'usererror', code: 'BlobNotFound', message: 'gone' })
    const outcome = await run({ resourceFiles: [{ filePath: 'in.txt', blob }] }).outcome
    expect(outcome).toMatchObject({ failureInfo: { code: 'BlobNotFound' } })
    expect(outcome?.exitCode).toBeUndefined()
    expect(executor.started).toEqual([])
    expect(said).toEqual(['placed', 'vacated with 0 lanes'])
  })

  it('with an open quote fails without a start', async () => {
    const outcome = await run({ commandLine: 'sh -c "oops' }).outcome
    expect(outcome).toMatchObject({ failureInfo: { category: 'usererror', code: 'CommandLaunchFailed' } })
    expect(executor.started).toEqual([])
  })

  it('is told apart from a fault of the node', async () => {
    staging.stageError = Object.assign(new Error('no space'), { code: 'ENOSPC' })
    const outcome = await run({ resourceFiles: [{ filePath: 'in.txt', blob }] }).outcome
    expect(outcome).toMatchObject({ failureInfo: { category: 'servererror', code: 'DiskFull' } })
  })

  it('starts again in a fresh directory when its lane breaks', async () => {
    executor.breaking = 2
    executor.instantExit = 0
    expect(await run({}).outcome).toMatchObject({ exitCode: 0 })
    expect(directories.made).toHaveLength(3)
    expect(executor.lanesOut).toBe(0)
  })

  it('whose lanes always break fails as a fault of the node', async () => {
    executor.breaking = 100
    expect(await run({}).outcome).toMatchObject({ failureInfo: { category: 'servererror', code: 'Unknown' } })
    expect(directories.made).toHaveLength(3)
  })
})

describe('the outputs of a task', () => {
  it('B2: are kept after its slot is free', async () => {
    const gate = Promise.withResolvers<void>()
    staging.outputs = [{ path: 'out.txt', blob, size: 1 }]
    const { outcome } = run({ outputFiles: [{ filePattern: '*' }] })
    const program = await executor.program('T')
    staging.gate = gate.promise
    program.end(0)
    await until(() => staging.waiting === 1)
    expect(said).toEqual(['placed', 'started', 'vacated with 0 lanes', 'uploading'])
    expect(directories.sealed).toEqual([])
    gate.resolve()
    expect(await outcome).toMatchObject({ exitCode: 0, outputs: [{ path: 'out.txt' }] })
    expect(staging.collected).toEqual([{ wd: '/nowhere/workitems/Job/job-1/t/wd', ended: 'success', home: brief.home }])
  })

  it('of a failed program are kept as a failure, and its exit code is its failure', async () => {
    staging.collectError = new TaskFailure({ category: 'usererror', code: 'FileUploadMiscError', message: 'link' })
    const { outcome } = run({ outputFiles: [{ filePattern: '*' }] })
    ;(await executor.program('T')).end(2)
    expect(await outcome).toMatchObject({ exitCode: 2, failureInfo: { code: 'FailureExitCode' } })
  })

  it('that cannot be kept fail the task; its exit code stays', async () => {
    staging.collectError = new TaskFailure({ category: 'usererror', code: 'FileUploadMiscError', message: 'link' })
    executor.instantExit = 0
    expect(await run({ outputFiles: [{ filePattern: '*' }] }).outcome).toMatchObject({
      exitCode: 0,
      failureInfo: { code: 'FileUploadMiscError' },
    })
  })
})

describe('a stopped task', () => {
  it('has no outcome when it was fetching', async () => {
    staging.gate = new Promise(() => {})
    const { outcome, stop } = run({ resourceFiles: [{ filePath: 'in.txt', blob }] })
    await until(() => staging.waiting === 1)
    stop.abort()
    expect(await outcome).toBeUndefined()
    expect(executor.started).toEqual([])
    expect(executor.lanesOut).toBe(0)
    expect(directories.sealed).toEqual(directories.made)
  })

  it('is killed when it was running', async () => {
    const { outcome, stop } = run({ outputFiles: [{ filePattern: '*' }] })
    const program = await executor.program('T')
    stop.abort()
    expect(await outcome).toBeUndefined()
    expect(program.killed).toBe(true)
    expect(staging.collected).toEqual([])
    expect(said.at(-1)).toBe('vacated with 0 lanes')
  })

  it('gives up its uploads', async () => {
    executor.instantExit = 0
    staging.gate = new Promise(() => {})
    const { outcome, stop } = run({ outputFiles: [{ filePattern: '*' }] })
    await until(() => staging.waiting === 1)
    stop.abort()
    expect(await outcome).toBeUndefined()
    expect(staging.waiting).toBe(0)
  })
})

describe('the wall-clock limit', () => {
  beforeEach(() => {
    vi.useFakeTimers({ toFake: ['setTimeout', 'clearTimeout', 'Date'] })
  })
  afterEach(() => {
    vi.useRealTimers()
  })

  it('kills the program and names itself as the failure', async () => {
    const { outcome } = run({ constraints: { maxWallClockTimeMs: 60_000 } })
    const program = await executor.program('T')
    vi.advanceTimersByTime(59_999)
    expect(executor.running).toHaveLength(1)
    vi.advanceTimersByTime(1)
    expect(await outcome).toMatchObject({ exitCode: 137, failureInfo: { code: 'MaxWallClockTimeExpiry' } })
    expect(program.killed).toBe(true)
  })

  it('holds beyond the longest timer', async () => {
    const limitMs = 30 * 86_400_000
    const { outcome } = run({ constraints: { maxWallClockTimeMs: limitMs } })
    await executor.program('T')
    vi.advanceTimersByTime(limitMs - 1)
    expect(executor.running).toHaveLength(1)
    vi.advanceTimersByTime(1)
    expect(await outcome).toMatchObject({ failureInfo: { code: 'MaxWallClockTimeExpiry' } })
  })

  it('also ends a task that still fetches, and leaves no timer', async () => {
    staging.gate = new Promise(() => {})
    const { outcome } = run({ resourceFiles: [{ filePath: 'in.txt', blob }], constraints: { maxWallClockTimeMs: 1000 } })
    await until(() => staging.waiting === 1)
    vi.advanceTimersByTime(1000)
    const ended = await outcome
    expect(ended).toMatchObject({ failureInfo: { code: 'MaxWallClockTimeExpiry' } })
    expect(ended?.exitCode).toBeUndefined()
    executor.instantExit = 0
    staging.gate = undefined
    await run({ constraints: { maxWallClockTimeMs: 1000 } }, { attempt: attemptOf('u') }).outcome
    expect(vi.getTimerCount()).toBe(0)
  })
})

describe('the environment of a task', () => {
  const paths: TaskPaths = { taskDir: '/t', wd: '/t/wd', stdout: '/t/stdout.txt', stderr: '/t/stderr.txt' }

  it('has the variables of the service, then those of the job, then its own', () => {
    const job = {
      jobId: 'J',
      commonEnvironmentSettings: [
        { name: 'A', value: 'job' },
        { name: 'B', value: 'job' },
      ],
    }
    const env = taskEnvironment(nodeFacts, job, {
      taskId: 'T',
      paths,
      tmpDir: '/t',
      environmentSettings: [
        { name: 'B', value: 'task' },
        { name: 'PATH', value: '/mine' },
      ],
    })
    expect(env).toEqual({
      PATH: '/mine',
      LANG: 'C.UTF-8',
      USER: 'batch',
      LOGNAME: 'batch',
      SHELL: '/bin/sh',
      HOME: '/t/wd',
      TMPDIR: '/t',
      A: 'job',
      B: 'task',
      AZ_BATCH_ACCOUNT_NAME: 'mesh',
      AZ_BATCH_ACCOUNT_URL: 'https://mesh',
      AZ_BATCH_POOL_ID: 'pool',
      AZ_BATCH_NODE_ID: 'n0',
      AZ_BATCH_NODE_IS_DEDICATED: 'false',
      AZ_BATCH_NODE_ROOT_DIR: '/root-dir',
      AZ_BATCH_NODE_SHARED_DIR: '/root-dir/shared',
      AZ_BATCH_NODE_STARTUP_DIR: '/root-dir/startup',
      AZ_BATCH_NODE_MOUNTS_DIR: '/root-dir/fsmounts',
      AZ_BATCH_JOB_ID: 'J',
      AZ_BATCH_TASK_ID: 'T',
      AZ_BATCH_TASK_DIR: '/t',
      AZ_BATCH_TASK_WORKING_DIR: '/t/wd',
    })
  })

  it('of a gang names its members, and the directory that all find at the same place', () => {
    const members = [
      { peer: 'peer-peer-peer-a', nodeId: 'a', name: 'a', address: '10.0.0.1', cores: 2 },
      { peer: 'peer-peer-peer-b', nodeId: 'b', name: 'b', address: '10.0.0.2', cores: 4 },
    ]
    const env = (index: number, sharedDir?: string) =>
      taskEnvironment(nodeFacts, { jobId: 'J' }, { taskId: 'T', paths, tmpDir: '/t', gang: { index, members }, sharedDir })
    expect(env(0, '/tmp/link')).toMatchObject({
      AZ_BATCH_NODE_LIST: '10.0.0.1;10.0.0.2',
      AZ_BATCH_HOST_LIST: '10.0.0.1,10.0.0.2',
      AZ_BATCH_MASTER_NODE: '10.0.0.1:6000',
      AZ_BATCH_IS_CURRENT_NODE_MASTER: 'true',
      AZ_BATCH_TASK_SHARED_DIR: '/tmp/link',
      CCP_NODES: '2 10.0.0.1 2 10.0.0.2 4',
    })
    expect(env(1)).toMatchObject({ AZ_BATCH_IS_CURRENT_NODE_MASTER: 'false', AZ_BATCH_TASK_SHARED_DIR: '/t' })
  })
})

describe('after a failure', () => {
  let root: string
  beforeEach(() => {
    root = mkdtempSync(join(tmpdir(), 'runner-'))
    mkdirSync(join(root, 'wd'))
  })
  afterEach(() => rmSync(root, { recursive: true, force: true }))

  const code = (exitCode: number, program: string) => explainExit(exitCode, program, join(root, 'wd'), '/usr/bin:/bin').code

  it('127 of a program that is not there is CommandProgramNotFound, of a shell that is there an exit code', () => {
    expect(code(127, 'no-such-program')).toBe('CommandProgramNotFound')
    expect(code(127, './missing')).toBe('CommandProgramNotFound')
    expect(code(127, 'sh')).toBe('FailureExitCode')
  })

  it('126 of a file that is no program is CommandLaunchFailed, of a shell an exit code', () => {
    writeFileSync(join(root, 'wd', 'data'), 'just text', { mode: 0o755 })
    writeFileSync(join(root, 'wd', 'script'), '#!/bin/sh\nexit 126\n', { mode: 0o755 })
    expect(code(126, './data')).toBe('CommandLaunchFailed')
    expect(code(126, './script')).toBe('FailureExitCode')
    chmodSync(join(root, 'wd', 'script'), 0o644)
    expect(code(126, './script')).toBe('CommandLaunchFailed')
    expect(code(126, 'sh')).toBe('FailureExitCode')
  })

  it('the signal that ended a program is named', () => {
    expect(explainExit(139, 'sh', root, '/bin').message).toBe('The program ended with exit code 139 (ended by signal 11).')
  })

  it('the end of stderr.txt is told, whole characters only', () => {
    const file = join(root, 'stderr.txt')
    writeFileSync(file, `start${'é'.repeat(20)}`)
    expect(readTail(file, 9)).toBe('éééé')
    expect(readTail(file, 2048)).toBe(`start${'é'.repeat(20)}`)
    expect(readTail(join(root, 'none'), 10)).toBeUndefined()
  })

  it('S1: a link that the task put in place of stderr.txt is not followed', () => {
    writeFileSync(join(root, 'secret'), 'key')
    symlinkSync(join(root, 'secret'), join(root, 'stderr.txt'))
    expect(readTail(join(root, 'stderr.txt'), 2048)).toBeUndefined()
  })
})
