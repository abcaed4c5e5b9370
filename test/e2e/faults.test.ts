import { mkdir, open, readdir, readFile } from 'node:fs/promises'
import { join } from 'node:path'
import { describe, expect, it, type TestContext } from 'vitest'
import { batchmesh, MeshLab, type NodeProcess } from './support/mesh-lab.ts'
import { cores, counted, jobOf, lendAll, lendNone, processesWith, sh, submit, succeed, Traces, taskOf, tasksOf } from './support/work.ts'

interface Mesh {
  lab: MeshLab
  traces: Traces
  founder: NodeProcess
  workers: NodeProcess[]
}

/** A founder that runs no tasks, and workers. */
async function mesh(t: TestContext, workers: number, ...args: string[]): Promise<Mesh> {
  const lab = await MeshLab.create(t)
  const founder = await lab.up('founder', { args: lendNone })
  const started: NodeProcess[] = []
  for (let n = 1; n <= workers; n += 1) started.push(await lab.up(`w${n}`, { join: founder, args: [...lendAll, ...args] }))
  return { lab, traces: await Traces.create(lab), founder, workers: started }
}

/** Tasks that say when they start and end, and run 0.2 to 0.5 s. */
async function steps(traces: Traces, count: number) {
  const [starts, ends] = [await traces.file('starts'), await traces.file('ends')]
  return Array.from({ length: count }, (_, n) => ({
    id: `t${n}`,
    commandLine: sh(`echo t${n} >> ${starts}; sleep 0.${2 + (n % 4)}; echo t${n} >> ${ends}`),
  }))
}

/** Only a machine known dead, or the session's end, takes a task back: silence alone does not within a test. */
const patient = { disconnect: { lostAfterMs: 3_600_000 } }

const counts = async (lab: MeshLab, node: NodeProcess | string, jobId: string) => (await jobOf(lab, node, jobId)).counts

describe('the coordinator', () => {
  it('L6: killed in the middle of a job and started again, it lets every task run once', async (t) => {
    const { lab, traces, founder } = await mesh(t, 2)
    await submit(lab, founder, 'j', await steps(traces, 60))
    await lab.until('a part has succeeded', async () => (await counts(lab, founder, 'j')).succeeded >= 10)
    await founder.kill()
    const before = (await traces.lines('ends')).length
    await lab.until('tasks go on without it', async () => (await traces.lines('ends')).length > before)
    await lab.up('founder', { args: lendNone })
    await succeed(lab, 'founder', 'j')
    expect([...counted(await traces.lines('starts')).values()]).toEqual(new Array(60).fill(1))
    const tasks = await tasksOf(lab, 'founder', 'j')
    expect(tasks).toHaveLength(60)
    for (const { executionInfo } of tasks) expect(executionInfo).toMatchObject({ result: 'success', retryCount: 0, requeueCount: 0 })
  })

  it('L6: a task that ended while it was away is reported after, also by a worker that was killed meanwhile', async (t) => {
    const { lab, traces, founder, workers } = await mesh(t, 1)
    const [starts, gate] = [await traces.file('starts'), await traces.file('gate')]
    await submit(lab, founder, 'j', [{ id: 't', commandLine: sh(`echo t >> ${starts}; ${Traces.gate(gate)}; exit 7`) }], patient)
    await lab.until('the task runs', async () => (await traces.lines('starts')).length === 1)
    await founder.kill()
    await traces.open('gate')
    await lab.until('its outcome is in the journal of the worker', async () => (await journalOf(workers[0]!)).includes('finished/'))
    await workers[0]!.kill()
    await lab.up('founder', { args: lendNone })
    await lab.up('w1', { args: lendAll })
    await lab.until('the outcome is reported', async () => (await taskOf(lab, 'founder', 'j/t')).state === 'completed')
    expect((await taskOf(lab, 'founder', 'j/t')).executionInfo).toMatchObject({ exitCode: 7, retryCount: 0, requeueCount: 0 })
    expect(await traces.lines('starts')).toEqual(['t'])
  })
})

/** What the node has written to its journal, as it lies on the disk. */
async function journalOf({ dataDir }: NodeProcess): Promise<string> {
  const names = await readdir(join(dataDir, 'journal'))
  const logs = names.filter((name) => name.endsWith('.log'))
  return (await Promise.all(logs.map((name) => readFile(join(dataDir, 'journal', name), 'latin1')))).join('')
}

describe('a worker', () => {
  it('L7 C1: killed, only its tasks run again, at once and without spending a retry', async (t) => {
    const { lab, traces, founder, workers } = await mesh(t, 2)
    const gate = await traces.file('gate')
    const tasks = (await steps(traces, 2 * cores)).map((task) => ({
      ...task,
      commandLine: sh(`echo ${task.id} >> ${traces.dir}/starts; ${Traces.gate(gate)}`),
    }))
    await submit(lab, founder, 'j', tasks, patient)
    await lab.until('all run', async () => (await counts(lab, founder, 'j')).running === 2 * cores)
    const there = new Set((await tasksOf(lab, founder, 'j')).filter((task) => task.nodeInfo?.machineName === 'w1').map(({ id }) => id))
    expect(there.size).toBe(cores)
    await workers[0]!.kill()
    await lab.until('its tasks wait again', async () => (await counts(lab, founder, 'j')).active === cores)
    await traces.open('gate')
    await succeed(lab, founder, 'j')
    const starts = counted(await traces.lines('starts'))
    for (const { id, executionInfo, nodeInfo, attempts } of await tasksOf(lab, founder, 'j')) {
      expect(starts.get(id)).toBe(there.has(id) ? 2 : 1)
      expect(executionInfo).toMatchObject({ result: 'success', retryCount: 0, requeueCount: there.has(id) ? 1 : 0 })
      expect(nodeInfo?.machineName).toBe('w2')
      expect(attempts.map(({ end }) => end)).toEqual(there.has(id) ? ['lost', 'success'] : ['success'])
    }
  })

  it('C1: of low priority and killed, it counts as preempted', async (t) => {
    const { lab, traces, founder, workers } = await mesh(t, 1, '--class', 'low-priority')
    const starts = await traces.file('starts')
    await submit(lab, founder, 'j', [{ id: 't', commandLine: sh(`echo t >> ${starts}; sleep 600`) }], patient)
    // Lost before the coordinator has heard of its start, it would count as never begun.
    await lab.until('it is known to run', async () => (await taskOf(lab, founder, 'j/t')).phase === 'executing')
    await workers[0]!.kill()
    await lab.until('it waits again', async () => (await taskOf(lab, founder, 'j/t')).state === 'active')
    const { executionInfo, attempts } = await taskOf(lab, founder, 'j/t')
    expect(executionInfo).toMatchObject({ retryCount: 0, requeueCount: 1 })
    expect(attempts[0]!.end).toBe('preempted')
    const [node] = await lab.json(founder, ['node', 'list', 'default'])
    expect(node).toMatchObject({ state: 'preempted', isDedicated: false })
  })

  it('stopped for a while and continued, it loses nothing', async (t) => {
    const { lab, traces, founder, workers } = await mesh(t, 2)
    await submit(lab, founder, 'j', await steps(traces, 40))
    await lab.until('a part has succeeded', async () => (await counts(lab, founder, 'j')).succeeded >= 5)
    await workers[0]!.kill('SIGSTOP')
    const others = (await counts(lab, founder, 'j')).succeeded
    await lab.until('the other one goes on', async () => (await counts(lab, founder, 'j')).succeeded >= others + 8)
    await workers[0]!.kill('SIGCONT')
    await succeed(lab, founder, 'j')
    expect([...counted(await traces.lines('starts')).values()]).toEqual(new Array(40).fill(1))
    for (const { executionInfo } of await tasksOf(lab, founder, 'j'))
      expect(executionInfo).toMatchObject({ retryCount: 0, requeueCount: 0 })
  })

  it('L2: stopped for longer than its leases, it runs on in vain: each task has one result', async (t) => {
    const { lab, traces, founder, workers } = await mesh(t, 2)
    await submit(lab, founder, 'j', await steps(traces, 24), { disconnect: { lostAfterMs: 1000 } })
    await lab.until('a part has succeeded', async () => (await counts(lab, founder, 'j')).succeeded >= 4)
    await workers[0]!.kill('SIGSTOP')
    await succeed(lab, founder, 'j')
    const ended = await tasksOf(lab, founder, 'j')
    await workers[0]!.kill('SIGCONT')
    await lab.until('it is back', async () => (await lab.json(founder, ['machine', 'show', 'w1'])).runningTasks === 0)
    await succeed(lab, founder, 'j')
    const tasks = await tasksOf(lab, founder, 'j')
    expect(tasks).toEqual(ended)
    const starts = counted(await traces.lines('starts'))
    for (const { id, executionInfo } of tasks) {
      expect(executionInfo.retryCount).toBe(0)
      expect(starts.get(id)).toBeLessThanOrEqual(1 + executionInfo.requeueCount)
    }
    expect(tasks.filter((task) => task.executionInfo.requeueCount > 0).length).toBeLessThanOrEqual(cores)
  })
})

describe('a disk', () => {
  const isRoot = process.getuid?.() === 0
  if (!isRoot) console.log('skipped: a disk that is full needs root, to mount one')
  /** Words in front of a node's command that put a directory of its data on a small file system, which only that node sees. */
  async function onSmallDisk(lab: MeshLab, name: string, directory: string): Promise<string[]> {
    const path = join(lab.dataDir(name), directory)
    await mkdir(path, { recursive: true })
    return ['unshare', '--mount', 'sh', '-c', `mount -t tmpfs -o size=1m none ${path} && exec "$0" "$@"`]
  }
  async function fillDisk({ pid, dataDir }: NodeProcess, directory: string): Promise<void> {
    const fill = await open(`/proc/${pid}/root${dataDir}/${directory}/fill`, 'w')
    await expect(fill.writeFile(Buffer.alloc(2 << 20))).rejects.toThrow('ENOSPC')
    await fill.close()
  }

  it.skipIf(!isRoot)('L5: that takes no more of the coordinator’s rows ends it, and what is not on it is not acknowledged', async (t) => {
    const lab = await MeshLab.create(t)
    const founder = await lab.up('founder', { args: lendNone, within: await onSmallDisk(lab, 'founder', 'coordinator') })
    await submit(lab, founder, 'j', [])
    await fillDisk(founder, 'coordinator')
    // More than the rest of the last page of its log.
    const tasks = Array.from({ length: 40 }, (_, n) => ({ id: `t${n}`, commandLine: `echo ${'x'.repeat(1000)}` }))
    const making = lab.spawn([batchmesh, '--data', founder.dataDir, 'task', 'create', 'j', '--json-file', '-'])
    making.child.stdin!.end(JSON.stringify(tasks))
    const { code, stderr } = await founder.exited
    expect(code).toBe(1)
    expect(stderr).toContain('No space left on device')
    // It waits for the node to come back.
    expect(making.stdout()).toBe('')
  })

  it.skipIf(!isRoot)('L5: that takes no more of the journal ends the node, with a sentence, and all that runs there', async (t) => {
    const { lab, traces, founder } = await mesh(t, 0)
    const worker = await lab.up('w1', { join: founder, args: lendAll, within: await onSmallDisk(lab, 'w1', 'journal') })
    await lab.json(founder, [
      'pool',
      'create',
      'p',
      '--vm-size',
      'cores=1,memory=64MiB',
      '--task-slots-per-node',
      '4',
      '--target-dedicated-nodes',
      '1',
    ])
    const [starts, gate] = [await traces.file('starts'), await traces.file('gate')]
    // What they leave in the journal is more than the rest of its last page.
    const work = `echo start >> ${starts}; ${Traces.gate(gate)}; head -c 2000 /dev/zero | tr '\\0' x >&2; exit 1`
    const tag = `86400.${process.pid}`
    const tasks = [0, 1, 2].map((n) => ({ id: `t${n}`, commandLine: sh(work) }))
    await submit(lab, founder, 'j', [...tasks, { id: 'left', commandLine: sh(`echo start >> ${starts}; sleep ${tag}`) }], { poolId: 'p' })
    await lab.until('all run', async () => (await traces.lines('starts')).length === 4)
    await founder.kill()
    await fillDisk(worker, 'journal')
    await traces.open('gate')
    const { code, stderr } = await worker.exited
    expect(code).toBe(1)
    expect(stderr).toMatch(/batchmesh: The node journal cannot be written: .*No space left on device/)
    await lab.until('nothing of it runs', async () => (await processesWith(tag)).length === 0)
  })
})

describe('everything', () => {
  it('L5 L6: killed at once and started again, only what was running runs twice', async (t) => {
    const { lab, traces, founder, workers } = await mesh(t, 2)
    await submit(lab, founder, 'j', await steps(traces, 40))
    await lab.until('a part has succeeded', async () => (await counts(lab, founder, 'j')).succeeded >= 10)
    const done = (await tasksOf(lab, founder, 'j')).filter((task) => task.state === 'completed').map(({ id }) => id)
    await Promise.all([founder, ...workers].map((node) => node.kill()))
    const open = (await traces.lines('starts')).length - (await traces.lines('ends')).length
    await lab.up('founder', { args: lendNone })
    await Promise.all(['w1', 'w2'].map((name) => lab.up(name, { args: lendAll })))
    await succeed(lab, 'founder', 'j')
    const starts = counted(await traces.lines('starts'))
    const tasks = await tasksOf(lab, 'founder', 'j')
    expect(tasks).toHaveLength(40)
    for (const id of done) expect(starts.get(id)).toBe(1)
    for (const { executionInfo } of tasks) expect(executionInfo).toMatchObject({ result: 'success', retryCount: 0 })
    const again = [...starts.values()].reduce((sum, times) => sum + times - 1, 0)
    // Besides what ran, an outcome may not have been on any disk yet.
    expect(again).toBeGreaterThanOrEqual(open)
    expect(again).toBeLessThanOrEqual(open + 2 * cores)
  })
})
