import { once } from 'node:events'
import { chmod, mkdir, readFile, writeFile } from 'node:fs/promises'
import { createServer, type RequestListener } from 'node:http'
import type { AddressInfo } from 'node:net'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, it, onTestFailed, onTestFinished } from 'vitest'
import { batchmesh, MeshLab, type NodeProcess } from './support/mesh-lab.ts'
import { cores, jobOf, lendAll, lendNone, sh, submit, succeed, Traces, taskOf, tasksOf } from './support/work.ts'

let lab: MeshLab
let traces: Traces
let founder: NodeProcess
let files = 0

beforeAll(async () => {
  lab = await MeshLab.create()
  traces = await Traces.create(lab)
  founder = await lab.up('founder', { args: lendNone })
  for (const name of ['w1', 'w2']) await lab.up(name, { join: founder, args: [...lendAll, '--label', `name=${name}`] })
})
afterAll(() => lab?.close())

/** A file that tasks can append to, of this test alone. */
function trace(): Promise<string> {
  onTestFailed(() => console.error(lab.logs()))
  files += 1
  return traces.file(`trace-${files}`)
}
const linesOf = async (path: string) => (await readFile(path, 'utf8')).split('\n').filter((line) => line !== '')
const logs = async (ref: string, ...more: string[]) => (await lab.cli(founder, ['task', 'logs', ref, ...more])).stdout
const create = (ref: string, line: string, ...more: string[]) => lab.cli(founder, ['task', 'create', ref, '--command-line', line, ...more])
const explain = (...what: string[]) => lab.json(founder, ['explain', ...what]) as Promise<{ summary: string; details: string[] }>
const completed = (ref: string) => lab.until(`${ref} is completed`, async () => (await taskOf(lab, founder, ref)).state === 'completed')

/** A web server for one test; answers its address. */
async function serve(answer: RequestListener): Promise<string> {
  const server = createServer(answer).listen(0, '127.0.0.1')
  onTestFinished(() => void server.close())
  await once(server, 'listening')
  return `http://127.0.0.1:${(server.address() as AddressInfo).port}`
}

describe('a command line', () => {
  it('is run without a shell; the command says so when it looks as if one were expected', async () => {
    await submit(lab, founder, 'plain', [])
    const hinted = await create('plain/a', 'echo $HOME | cat > x')
    expect(hinted.stderr).toContain(`the command line holds "$HOME" but is run without a shell`)
    expect(hinted.stderr).toContain(`sh -c 'echo $HOME | cat > x'`)
    const plain = await create('plain/b', `sh -c 'echo $AZ_BATCH_TASK_ID | tr b B'`)
    expect(plain.stderr).toBe('')
    await succeed(lab, founder, 'plain')
    expect(await logs('plain/a')).toBe('$HOME | cat > x\n')
    expect(await logs('plain/b')).toBe('B\n')
  })

  it('has the environment of its job, of itself, and Azure’s, in a directory of its own', async () => {
    const job = { commonEnvironmentSettings: [{ name: 'A', value: 'job' }, { name: 'B', value: 'job' }] } // biome-ignore format: short
    const environmentSettings = [{ name: 'B', value: 'task' }]
    await submit(
      lab,
      founder,
      'env',
      [{ id: 'T', commandLine: sh('pwd; id -u; env; echo oops >&2; echo x > made'), environmentSettings }],
      job,
    )
    await succeed(lab, founder, 'env')
    const [pwd, uid, ...lines] = (await logs('env/T')).trim().split('\n')
    const env = Object.fromEntries(lines.map((line) => line.split(/=(.*)/s).slice(0, 2)))
    const { nodeInfo } = await taskOf(lab, founder, 'env/T')
    const root = join(lab.dataDir(nodeInfo!.machineName), 'tasks')
    expect(env).toMatchObject({ A: 'job', B: 'task', AZ_BATCH_JOB_ID: 'env', AZ_BATCH_TASK_ID: 'T', AZ_BATCH_POOL_ID: 'default' })
    expect(env).toMatchObject({ AZ_BATCH_NODE_ID: nodeInfo!.nodeId, AZ_BATCH_NODE_ROOT_DIR: root, HOME: pwd })
    expect(env.AZ_BATCH_TASK_DIR).toBe(join(root, nodeInfo!.taskRootDirectory))
    expect(env.AZ_BATCH_TASK_WORKING_DIR).toBe(`${env.AZ_BATCH_TASK_DIR}/wd`)
    expect(pwd).toBe(env.AZ_BATCH_TASK_WORKING_DIR)
    // Where the node is root, a task is not (S1).
    if (process.getuid?.() === 0) expect(Number(uid)).toBeGreaterThan(0)
    const listed = (await lab.json(founder, ['task', 'file', 'list', 'env/T', '--recursive'])) as { name: string }[]
    expect(listed.map(({ name }) => name).toSorted()).toEqual(['stderr.txt', 'stdout.txt', 'wd', 'wd/made'])
    expect(await logs('env/T', '--stderr')).toBe('oops\n')
  })

  it('that names no program fails with a sentence that says so, and spends no retry', async () => {
    await submit(lab, founder, 'missing', [{ id: 't', commandLine: 'no-such-program --x', constraints: { maxTaskRetryCount: 5 } }])
    const waited = await lab.cli(founder, ['job', 'wait', 'missing'])
    expect(waited.code).toBe(1)
    expect(waited.stderr).toContain('no-such-program')
    const { executionInfo } = await taskOf(lab, founder, 'missing/t')
    expect(executionInfo).toMatchObject({
      result: 'failure',
      exitCode: 127,
      retryCount: 0,
      failureInfo: { code: 'CommandProgramNotFound' },
    })
  })
})

describe('files', () => {
  it('local files are uploaded at submit, URLs and blobs are fetched; outputs are kept as blobs', async () => {
    const url = `${await serve((request, response) => response.end(`from ${request.url}\n`))}/data`
    const cwd = join(lab.root, 'inputs')
    await mkdir(cwd)
    await chmod(cwd, 0o755)
    await writeFile(join(cwd, 'local.txt'), 'from here\n')
    await writeFile(join(cwd, 'blob.txt'), 'from the store\n')
    const [blob] = (await lab.json(founder, ['blob', 'put', 'blob.txt'], { cwd })) as { id: string }[]
    await submit(lab, founder, 'files', [])
    const command = ['task', 'create', 'files/t', '--command-line', sh(`cat a/local.txt url blob > all.out; cp url b.out; echo x > c.no`)]
    const resources = ['--resource-files', 'a/local.txt=local.txt', `url=${url}`, `blob=${blob!.id}`]
    const made = await lab.cli(founder, [...command, ...resources, '--outputs', '*.out'], { cwd })
    expect(made).toMatchObject({ code: 0, stderr: '' })
    await succeed(lab, founder, 'files')
    const { outputs } = await taskOf(lab, founder, 'files/t')
    expect(outputs.map(({ path, size }) => [path, size])).toEqual([['all.out', 36], ['b.out', 11]]) // biome-ignore format: short
    const got = await lab.cli(founder, ['blob', 'get', outputs[0]!.blob])
    expect(got.stdout).toBe('from here\nfrom /data\nfrom the store\n')
    const waited = await lab.cli(founder, ['job', 'wait', 'files', '--to', 'got'], { cwd })
    expect(waited.code).toBe(0)
    expect(await readFile(join(cwd, 'got/b.out'), 'utf8')).toBe('from /data\n')
    await lab.cli(founder, ['task', 'file', 'download', 'files/t', 'wd/c.no', '--destination', 'c'], { cwd })
    expect(await readFile(join(cwd, 'c'), 'utf8')).toBe('x\n')
    const none = await lab.cli(founder, ['task', 'file', 'download', 'files/t', 'wd/nothing', '--destination', '-'], { cwd })
    expect(none.code).toBe(1)
    expect(none.stderr).toContain('wd/nothing')
  })

  it('an input that cannot be had fails the task, named', async () => {
    const httpUrl = `${await serve((_, response) => response.writeHead(404).end())}/gone`
    await submit(lab, founder, 'noinput', [{ id: 't', commandLine: 'true', resourceFiles: [{ filePath: 'in.txt', httpUrl }] }])
    await completed('noinput/t')
    const { executionInfo } = await taskOf(lab, founder, 'noinput/t')
    expect(executionInfo).toMatchObject({ result: 'failure', failureInfo: { category: 'usererror' } })
    expect(executionInfo.failureInfo!.message).toContain('in.txt')
    expect(executionInfo.exitCode).toBeUndefined()
  })

  it('logs -f shows what a task writes while it runs, and ends with it', async () => {
    const gate = await trace()
    await submit(lab, founder, 'follow', [{ id: 't', commandLine: sh(`echo first; ${Traces.gate(gate)}; echo last`) }])
    const following = lab.spawn([...cliWords(founder), 'task', 'logs', 'follow/t', '-f'])
    await lab.until('the first line is shown', () => following.stdout() === 'first\n')
    await writeFile(gate, 'open\n')
    expect(await following.exited).toMatchObject({ code: 0, stdout: 'first\nlast\n' })
  })
})

const cliWords = (node: NodeProcess) => [batchmesh, '--data', node.dataDir]

describe('the life of a task', () => {
  it('C1: it runs again after failures as often as it is told, and its end is told', async () => {
    const tries = await trace()
    const line = sh(`echo try >> ${tries}; echo "try $(wc -l < ${tries})" >&2; [ $(wc -l < ${tries}) -ge 3 ]`)
    await submit(lab, founder, 'retry', [{ id: 'well', commandLine: line, constraints: { maxTaskRetryCount: 2 } }])
    await succeed(lab, founder, 'retry')
    const well = await taskOf(lab, founder, 'retry/well')
    expect(well.executionInfo).toMatchObject({ exitCode: 0, retryCount: 2, requeueCount: 0 })
    expect(well.attempts.map(({ end, exitCode }) => [end, exitCode])).toEqual([['failure', 1], ['failure', 1], ['success', 0]]) // biome-ignore format: short
    await writeFile(tries, '')
    await submit(lab, founder, 'retry-job', [{ id: 'ill', commandLine: sh(`echo try >> ${tries}; echo sorry >&2; exit 3`) }], {
      constraints: { maxTaskRetryCount: 1 },
    })
    await completed('retry-job/ill')
    expect(await linesOf(tries)).toHaveLength(2)
    const ill = await taskOf(lab, founder, 'retry-job/ill')
    expect(ill.executionInfo).toMatchObject({ exitCode: 3, retryCount: 1, result: 'failure', failureInfo: { code: 'FailureExitCode' } })
    expect(ill.stderrTail).toBe('sorry\n')
    const { executionInfo: info } = ill
    expect(info.endTime).toBeGreaterThanOrEqual(info.startTime!)
  })

  it('a task over its wall-clock limit is ended and says so', async () => {
    const starts = await trace()
    const line = sh(`echo start >> ${starts}; sleep 600`)
    await submit(lab, founder, 'limit', [{ id: 't', commandLine: line, constraints: { maxWallClockTime: 'PT1S', maxTaskRetryCount: 3 } }])
    await completed('limit/t')
    const { executionInfo } = await taskOf(lab, founder, 'limit/t')
    expect(executionInfo).toMatchObject({ result: 'failure', retryCount: 0, failureInfo: { code: 'MaxWallClockTimeExpiry' } })
    expect(await linesOf(starts)).toHaveLength(1)
  })

  it('a stopped task is ended wherever it is, and can be run again', async () => {
    const starts = await trace()
    const line = sh(`echo start >> ${starts}; [ $(wc -l < ${starts}) -gt 1 ] || sleep 600`)
    await submit(lab, founder, 'stopping', [{ id: 't', commandLine: line, constraints: { maxTaskRetryCount: 3 } }])
    await lab.until('it runs', async () => (await linesOf(starts)).length === 1)
    expect((await lab.cli(founder, ['task', 'stop', 'stopping/t'])).code).toBe(0)
    await completed('stopping/t')
    expect((await taskOf(lab, founder, 'stopping/t')).executionInfo).toMatchObject({
      result: 'failure',
      failureInfo: { code: 'TaskEnded' },
    })
    await lab.cli(founder, ['task', 'reactivate', 'stopping/t'])
    await lab.until('it ran again', async () => (await taskOf(lab, founder, 'stopping/t')).executionInfo.result === 'success')
    expect(await linesOf(starts)).toHaveLength(2)
  })

  it('dependencies by ids and ranges are kept, and a failed parent’s child is explained', async () => {
    const order = await trace()
    const say = (id: string, after?: object, exit = 0) => ({
      id,
      commandLine: sh(`echo ${id} >> ${order}; exit ${exit}`),
      ...(after === undefined ? {} : { dependsOn: after }),
    })
    const tasks = [
      say('last', { taskIds: ['mid'] }),
      say('mid', { taskIdRanges: [{ start: 1, end: 3 }], taskIds: ['prep'] }),
      say('never', { taskIds: ['bad'] }),
      ...['1', '2', '3', 'prep'].map((id) => say(id)),
      say('bad', undefined, 1),
    ]
    await submit(lab, founder, 'deps', tasks, { usesTaskDependencies: true })
    await completed('deps/last')
    await completed('deps/bad')
    const said = await linesOf(order)
    expect(said.filter((id) => id !== 'bad').slice(-2)).toEqual(['mid', 'last'])
    expect(said).not.toContain('never')
    const why = await explain('deps/never')
    expect(why.summary).toBe('Task never waits for other tasks.')
    expect(why.details).toEqual(['bad failed: unless it is reactivated and succeeds, this task never runs.'])
    const refused = await lab.cli(founder, ['task', 'create', 'plain/x', '--command-line', 'true', '--depends-on', 'a'])
    expect(refused).toMatchObject({ code: 2 })
    expect(refused.stderr).toContain('usesTaskDependencies')
  })
})

describe('where a task runs', () => {
  if (cores < 2) console.log('skipped: one core has no slots to share')
  it('labels, cores, memory and GPUs that it asks for are kept, or what is missing is said', async () => {
    await submit(lab, founder, 'where', [
      { id: 'w2', commandLine: 'true', resources: { labels: { name: 'w2' } } },
      { id: 'cores', commandLine: 'true', resources: { cores: 512 } },
      { id: 'memory', commandLine: 'true', resources: { memoryMiB: 1 << 30 } },
      { id: 'gpus', commandLine: 'true', resources: { gpus: 99 } },
      { id: 'label', commandLine: 'true', resources: { labels: { name: 'w9' } } },
      { id: 'slots', commandLine: 'true', requiredSlots: 200 },
    ])
    await completed('where/w2')
    expect((await taskOf(lab, founder, 'where/w2')).nodeInfo?.machineName).toBe('w2')
    const summaries = []
    for (const id of ['cores', 'memory', 'gpus', 'label', 'slots']) summaries.push((await explain(`where/${id}`)).summary)
    expect(summaries).toEqual([
      `Task cores waits: no machine with 512 cores; largest: ${cores}.`,
      expect.stringMatching(/^Task memory waits: no machine with 1073741824 MiB of memory; largest: \d+\.$/),
      expect.stringMatching(/^Task gpus waits: no machine with 99 GPUs; most: \d+\.$/),
      'Task label waits: no machine with the labels name=w9.',
      `Task slots waits: no node with 200 task slots; most: ${cores}.`,
    ])
    expect((await lab.cli(founder, ['job', 'stop', 'where'])).code).toBe(0)
    expect((await explain('where/cores')).summary).toContain('job where is completed')
  })

  it.skipIf(cores < 2)('tasks that take more slots share a machine with fewer others', async () => {
    const running = await trace()
    // Each says how many run beside it on its machine when it ends.
    const beside = (id: string) => sh(`d=$AZ_BATCH_NODE_ID; echo + ${id} $d >> ${running}; sleep 0.3; echo - ${id} $d >> ${running}`)
    const tasks = Array.from({ length: 8 }, (_, n) => ({ id: `t${n}`, commandLine: beside(`t${n}`), requiredSlots: cores }))
    await submit(lab, founder, 'slots', tasks)
    await succeed(lab, founder, 'slots')
    const busy = new Map<string, number>()
    for (const line of await linesOf(running)) {
      const [sign, , node] = line.split(' ')
      busy.set(node!, (busy.get(node!) ?? 0) + (sign === '+' ? 1 : -1))
      expect(busy.get(node!)).toBeLessThanOrEqual(1)
    }
  })

  it('a machine where the program does not exist is left out for the job, said so, and no retry is spent', async () => {
    const gate = await trace()
    const line = sh(`case $AZ_BATCH_NODE_ROOT_DIR in */w1/*) exit 127 ;; esac; ${Traces.gate(gate)}`)
    const tasks = Array.from({ length: 4 * cores + 4 }, (_, n) => ({ id: `t${n}`, commandLine: line }))
    await submit(lab, founder, 'left', tasks, { constraints: { maxTaskRetryCount: 0 } })
    await lab.until('w1 is left out', async () => (await jobOf(lab, founder, 'left')).excludedMachines.length > 0)
    const { excludedMachines } = await jobOf(lab, founder, 'left')
    expect(excludedMachines.map(({ name, reason }) => [name, reason])).toEqual([
      ['w1', 'its program was not found there (exit code 127, 3 times)'],
    ])
    // Some wait on w2 already; of another it is said why only that machine can have it.
    const reason = 'w1: left out, its program was not found there (exit code 127, 3 times)'
    await lab.until('what waits is explained', async () => {
      const waiting = (await tasksOf(lab, founder, 'left')).filter(({ state }) => state === 'active')
      const whys = await Promise.all(waiting.map(({ id }) => explain(`left/${id}`)))
      return whys.some(({ summary, details }) => summary.includes('every fitting node is busy') && details.includes(reason))
    })
    await writeFile(gate, 'open\n')
    await succeed(lab, founder, 'left')
    for (const { executionInfo, nodeInfo } of await tasksOf(lab, founder, 'left')) {
      expect(executionInfo).toMatchObject({ exitCode: 0, retryCount: 0 })
      expect(nodeInfo?.machineName).toBe('w2')
    }
  })
})

describe('a job', () => {
  it('waits for a pool that does not exist yet; one of higher priority goes first', async () => {
    const [gate, order] = [await trace(), await trace()]
    const say = (job: string, n: number) => ({ id: `${n}`, commandLine: sh(`${Traces.gate(gate)}; echo ${job} >> ${order}`) })
    for (const [id, priority] of [['low', -5], ['high', 5]] as const) // biome-ignore format: short
      await submit(lab, founder, id, [0, 1, 2, 3].map((n) => say(id, n)), { poolId: 'later', priority }) // biome-ignore format: short
    expect((await explain('low/3')).summary).toBe('Task 3 waits: there is no pool later. Create it, and the job starts.')
    expect((await explain('low')).summary).toBe('Job low is active: 4 tasks active, 0 running, 0 succeeded, 0 failed.')
    const unknown = await lab.cli(founder, ['explain', 'later'])
    expect(unknown).toMatchObject({ code: 1, stderr: 'batchmesh: There is no pool and no job later. A task is named JOB/TASK.\n' })
    await lab.json(founder, ['pool', 'create', 'later', '--vm-size', 'cores=1,memory=64MiB', '--target-dedicated-nodes', '1'])
    await lab.until('it is busy', async () => (await jobOf(lab, founder, 'high')).counts.running === 1)
    const why =
      'Task 3 waits for its turn: 7 tasks are waiting in pool later, and every fitting node is busy. 1 job of higher priority comes first.'
    expect((await explain('low/3')).summary).toBe(why)
    await writeFile(gate, 'open\n')
    for (const job of ['high', 'low']) await succeed(lab, founder, job)
    expect(await linesOf(order)).toEqual([...new Array(4).fill('high'), ...new Array(4).fill('low')])
    expect((await lab.cli(founder, ['pool', 'delete', 'later'])).code).toBe(0)
  })

  it('with maxParallelTasks runs no more at once, and says so', async () => {
    const [gate, parallel] = [await trace(), await trace()]
    const commandLine = sh(`echo + >> ${parallel}; ${Traces.gate(gate)}; sleep 0.1; echo - >> ${parallel}`)
    await submit(lab, founder, 'bounded', ['0', '1', '2', '3'].map((id) => ({ id, commandLine })), { maxParallelTasks: 1 }) // biome-ignore format: short
    await lab.until('one runs', async () => (await linesOf(parallel)).length === 1)
    const waiting = (await tasksOf(lab, founder, 'bounded')).find(({ state }) => state === 'active')!.id
    const why = `Task ${waiting} waits: 1 task of its job is running, and the job allows 1 at once.`
    expect((await explain(`bounded/${waiting}`)).summary).toBe(why)
    await writeFile(gate, 'open\n')
    await succeed(lab, founder, 'bounded')
    expect((await linesOf(parallel)).join('')).toBe('+-'.repeat(4))
  })

  it('that is stopped ends what runs and starts nothing more; deleted, its outputs are kept by nothing any more', async () => {
    const starts = await trace()
    await submit(lab, founder, 'halt', [
      { id: 'out', commandLine: sh(`echo ${starts} > kept`), outputFiles: [{ filePattern: 'kept' }] },
      ...Array.from({ length: 3 * cores }, (_, n) => ({ id: `t${n}`, commandLine: sh(`echo t${n} >> ${starts}; sleep 600`) })),
    ])
    await completed('halt/out')
    const [kept] = (await taskOf(lab, founder, 'halt/out')).outputs
    await lab.until('every slot is busy', async () => (await linesOf(starts)).length === 2 * cores)
    expect((await lab.cli(founder, ['job', 'stop', 'halt', '--terminate-reason', 'enough'])).code).toBe(0)
    await lab.until('it has ended', async () => (await jobOf(lab, founder, 'halt')).state === 'completed')
    expect((await jobOf(lab, founder, 'halt')).terminateReason).toBe('enough')
    await lab.until('nothing runs', async () => (await lab.json(founder, ['status'])).mesh.tasks.running === 0)
    expect(await linesOf(starts)).toHaveLength(2 * cores)
    const pins = async () => ((await lab.json(founder, ['blob', 'stat', kept!.blob])) as { pins: string[] }).pins
    expect(await pins()).not.toEqual([])
    expect((await lab.cli(founder, ['job', 'delete', 'halt'])).code).toBe(0)
    await lab.until('it is gone', async () => (await lab.cli(founder, ['job', 'show', 'halt'])).code === 1)
    await lab.until(
      'its output is free',
      async () => (await lab.cli(founder, ['blob', 'stat', kept!.blob])).code !== 0 || (await pins()).length === 0,
    )
    const gone = await lab.cli(founder, ['task', 'show', 'halt/out'])
    expect(gone.stderr).toContain('There is no job halt.')
  })
})
