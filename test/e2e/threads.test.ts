/** Functions as tasks, through the command line, on one node. */
import { readdir, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import type { TaskView } from '../../protocols/model/task.ts'
import { connect } from '../../src/library/connect.ts'
import { childrenIn } from '../node/thread-lab.ts'
import { MeshLab, type NodeProcess } from './support/mesh-lab.ts'
import { cores, lendAll, succeed, taskOf } from './support/work.ts'

let lab: MeshLab
let node: NodeProcess
/** The blob of the module. */
let module: string

/** `go` and whether another task runs are told by files of the job, which are all that functions can read. */
const text = `import { existsSync } from 'node:fs'
const near = (name) => process.env.AZ_BATCH_TASK_DIR + '/../' + name
const until = async (isTrue) => { while (!isTrue()) await new Promise((resolve) => setTimeout(resolve, 20)) }
export const sum = (...numbers) => { console.log('adding', numbers.length); return numbers.reduce((a, b) => a + b, 0) }
export const large = () => new Uint8Array(300_000).fill(7)
export const quiet = () => 1
export const fail = () => { console.error('about to fail'); throw new RangeError('out of bounds') }
export const exit = () => process.exit(5)
export const loop = () => { for (;;); }
export const fill = () => { const kept = []; for (;;) kept.push({ a: [1] }) }
export const wait = async () => { console.log('here'); await until(() => existsSync(near('go'))); return 'healthy' }
export const crash = async () => {
  if (process.env.AZ_BATCH_TASK_DIR.endsWith('crash')) await until(() => existsSync(near('healthy/stdout.txt')))
  process.kill(process.pid, 'SIGABRT')
}
`

beforeAll(async () => {
  lab = await MeshLab.create()
  node = await lab.up('node', { args: lendAll })
  await writeFile(join(lab.root, 'work.mjs'), text)
  module = (await lab.json(node, ['blob', 'put', join(lab.root, 'work.mjs')]))[0].id
})
afterAll(() => lab.close())

if (cores < 2) console.log('skipped: one core runs no two tasks at once')

/** Makes a job whose tasks call the exports of these names. */
async function submit(jobId: string, tasks: Record<string, { export: string; maxHeapMiB?: number; limitMs?: number }>): Promise<void> {
  await lab.json(node, ['job', 'create', jobId, '--json-file', '-'], { stdin: '{}' })
  const specs = Object.entries(tasks).map(([id, { export: name, maxHeapMiB, limitMs }]) => {
    return { id, thread: { module, name: 'work.mjs', export: name, maxHeapMiB }, constraints: { maxWallClockTimeMs: limitMs } }
  })
  await using mesh = await connect({ dataDir: node.dataDir })
  await mesh.tasks.add(jobId, specs)
}

async function ended(ref: string): Promise<TaskView> {
  await lab.until(`${ref} ends`, async () => (await taskOf(lab, node, ref)).state === 'completed')
  return await taskOf(lab, node, ref)
}

/** Lets the tasks of a job go on: a file in its directory. */
async function go(jobId: string): Promise<void> {
  const directory = join(lab.dataDir('node'), 'tasks/workitems', jobId)
  const [job] = await readdir(directory)
  await writeFile(join(directory, job!, 'go'), '')
}

describe('a function as a task', () => {
  it('returns what task show prints; its console is in its logs', async () => {
    await lab.json(node, ['job', 'create', 'one'])
    const file = join(lab.root, 'work.mjs')
    expect((await lab.cli(node, ['task', 'create', 'one/sum', '--module', file, '--export', 'sum', '--args', '[1,2,39]'])).stderr).toBe('')
    await succeed(lab, node, 'one')
    expect((await taskOf(lab, node, 'one/sum')).threadResult).toBe(42)
    expect((await lab.cli(node, ['task', 'logs', 'one/sum'])).stdout).toBe('adding 3\n')
  })

  it('fails with what it threw, with its exit code, at its limit', async () => {
    await submit('ends', {
      fail: { export: 'fail' },
      exit: { export: 'exit' },
      loop: { export: 'loop', limitMs: 500 },
      large: { export: 'large' },
      quiet: { export: 'quiet' },
    })
    const failed = await ended('ends/fail')
    expect(failed).toMatchObject({
      executionInfo: { exitCode: 1, failureInfo: { code: 'ThreadFailed', message: 'RangeError: out of bounds' } },
      threadError: { name: 'RangeError', message: 'out of bounds' },
    })
    expect(failed.stderrTail).toMatch(/^about to fail\nRangeError: out of bounds\n\s+at .*work\.mjs:7:\d+/)
    expect((await ended('ends/exit')).executionInfo).toMatchObject({ exitCode: 5, failureInfo: { code: 'ThreadEnded' } })
    expect((await ended('ends/loop')).executionInfo.failureInfo?.code).toBe('MaxWallClockTimeExpiry')
    const { executionInfo } = await ended('ends/large')
    expect(executionInfo.result).toBe('success')
    // One that never looks for its directory has none; what it printed is empty all the same.
    expect((await ended('ends/quiet')).threadResult).toBe(1)
    expect(await lab.cli(node, ['task', 'logs', 'ends/quiet'])).toMatchObject({ code: 0, stdout: '', stderr: '' })
    expect(await lab.json(node, ['task', 'file', 'list', 'ends/quiet'])).toEqual([])
  })

  it.skipIf(cores < 2)('that fills its heap fails alone', async () => {
    await submit('heap', { healthy: { export: 'wait' }, fill: { export: 'fill', maxHeapMiB: 32 } })
    expect((await ended('heap/fill')).executionInfo).toMatchObject({ exitCode: 137, failureInfo: { code: 'ThreadOutOfMemory' } })
    await go('heap')
    expect((await ended('heap/healthy')).executionInfo).toMatchObject({ result: 'success', retryCount: 0, requeueCount: 0 })
  })

  it.skipIf(cores < 2)('C1: that crashes its process fails; the others run again, which spends no retry', async () => {
    await submit('crash', { healthy: { export: 'wait' }, crash: { export: 'crash' } })
    expect((await ended('crash/crash')).executionInfo).toMatchObject({ exitCode: 134, failureInfo: { code: 'ThreadEnded' } })
    await go('crash')
    const healthy = await ended('crash/healthy')
    expect(healthy.threadResult).toBe('healthy')
    expect(healthy.executionInfo).toMatchObject({ result: 'success', retryCount: 0, requeueCount: 1 })
  })

  it('ends when its job is deleted, with the process that it ran in', async () => {
    await submit('gone', { t: { export: 'wait' } })
    const children = () => childrenIn(join(lab.dataDir('node'), 'tasks/workitems/gone'))
    await lab.until('it runs', () => children().length === 1)
    expect((await lab.cli(node, ['job', 'delete', 'gone', '--yes'])).code).toBe(0)
    await lab.until('its process is gone', () => children().length === 0)
  })

  it('ends with a node that is killed', async () => {
    await submit('killed', { t: { export: 'loop' } })
    await lab.until('it runs', async () => (await taskOf(lab, node, 'killed/t')).state === 'running')
    expect(childrenIn(lab.root).length).toBeGreaterThan(0)
    await node.kill()
    await lab.until('its process is gone', () => childrenIn(lab.root).length === 0)
  })
})
