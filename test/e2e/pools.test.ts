import { readFile, writeFile } from 'node:fs/promises'
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it, onTestFailed, type TestContext } from 'vitest'
import type { NodeView, PoolView } from '../../protocols/model/pool.ts'
import type { TaskView } from '../../protocols/model/task.ts'
import { MeshLab, type NodeProcess } from './support/mesh-lab.ts'
import { cores, counted, jobOf, lendAll, lendNone, sh, submit, succeed, Traces, taskOf, tasksOf } from './support/work.ts'

let lab: MeshLab
let founder: NodeProcess
let workers: NodeProcess[]
let traces: Traces
let tests = 0
let gate: string
let starts: string

async function start(t?: TestContext): Promise<void> {
  lab = await MeshLab.create(t)
  founder = await lab.up('founder', { args: lendNone })
  workers = []
  for (const name of ['w1', 'w2'])
    workers.push(await lab.up(name, { join: founder, args: [...lendAll, '--label', `name=${name}`, '--log-level', 'warn'] }))
  traces = await Traces.create(lab)
}

/** Files of one test alone. */
async function fresh(): Promise<void> {
  onTestFailed(() => console.error(lab.logs()))
  tests += 1
  gate = await traces.file(`gate-${tests}`)
  starts = await traces.file(`starts-${tests}`)
}

/** One mesh for the tests of a block; what each leaves is removed after it. */
function share(): void {
  beforeAll(() => start())
  beforeEach(fresh)
  afterEach(async () => {
    for (const { id } of (await lab.json(founder, ['job', 'list'])) as { id: string }[]) await lab.cli(founder, ['job', 'delete', id])
    for (const id of ['p', 'q']) await lab.cli(founder, ['pool', 'delete', id])
    await lab.until('all is given back', async () => {
      const machines = (await lab.json(founder, ['machine', 'list'])) as { reserved: { cores: number } }[]
      const jobs = (await lab.json(founder, ['job', 'list'])) as unknown[]
      return jobs.length === 0 && machines.every(({ reserved }) => reserved.cores === 0)
    })
  })
  afterAll(() => lab?.close())
}

const small = ['--vm-size', 'cores=1,memory=256MiB']
const poolOf = (id: string) => lab.json(founder, ['pool', 'show', id]) as Promise<PoolView>
const nodesOf = (id: string) => lab.json(founder, ['node', 'list', id]) as Promise<NodeView[]>
const create = (id: string, nodes: number, ...more: string[]) =>
  lab.json(founder, ['pool', 'create', id, ...small, '--target-dedicated-nodes', String(nodes), ...more])
const resize = (id: string, nodes: number, ...more: string[]) =>
  lab.json(founder, ['pool', 'resize', id, '--target-dedicated-nodes', String(nodes), ...more])
const steady = (id: string, nodes: number) =>
  lab.until(`${id} has ${nodes} nodes`, async () => {
    const { allocationState, currentDedicatedNodes } = await poolOf(id)
    return allocationState === 'steady' && currentDedicatedNodes === nodes
  })
const running = (job: string, count: number) =>
  lab.until(`${count} tasks of ${job} run`, async () => (await jobOf(lab, founder, job)).counts.running === count)
/** Tasks that run until the gate is opened. */
const holding = (count: number) =>
  Array.from({ length: count }, (_, n) => ({ id: `t${n}`, commandLine: sh(`echo t${n} >> ${starts}; ${Traces.gate(gate)}`) }))
/** How often each task has started. */
const startsOf = async () => counted((await readFile(starts, 'utf8')).split('\n').filter((line) => line !== ''))
const explain = (...what: string[]) => lab.json(founder, ['explain', ...what]) as Promise<{ summary: string; details: string[] }>

describe('a pool', () => {
  share()

  it('takes machines of the mesh, spread, and gives them back', async () => {
    await create('p', 2)
    await steady('p', 2)
    const nodes = await nodesOf('p')
    expect(nodes.map(({ machineName }) => machineName).toSorted()).toEqual(['w1', 'w2'])
    for (const node of nodes) expect(node).toMatchObject({ state: 'idle', taskSlots: 1, size: { cores: 1, memoryMiB: 256 } })
    expect((await lab.json(founder, ['machine', 'show', 'w1'])).reserved).toEqual({ cores: 1, memoryMiB: 256, gpus: 0 })
    await submit(lab, founder, 'j', [{ id: 't', commandLine: sh('echo $AZ_BATCH_POOL_ID $AZ_BATCH_NODE_ID') }], { poolId: 'p' })
    await succeed(lab, founder, 'j')
    const [pool, node] = (await lab.cli(founder, ['task', 'logs', 'j/t'])).stdout.trim().split(' ')
    expect(pool).toBe('p')
    expect(nodes.map(({ id }) => id)).toContain(node)
    expect((await lab.cli(founder, ['pool', 'delete', 'p'])).code).toBe(0)
    await lab.until('w1 has all back', async () => (await lab.json(founder, ['machine', 'show', 'w1'])).reserved.cores === 0)
    expect((await lab.cli(founder, ['pool', 'show', 'p'])).stderr).toBe('batchmesh: There is no pool p.\n')
  })

  it('that cannot have its nodes says so when its resize has timed out, and takes them when they come', async () => {
    await create('p', 2 * cores + 1, '--resize-timeout', '2s')
    await steady('p', 2 * cores)
    const { resizeErrors } = await poolOf('p')
    expect(resizeErrors).toMatchObject([{ code: 'AllocationTimedout' }])
    const why = await explain('p')
    expect(why.summary).toBe(`Pool p has ${2 * cores} of ${2 * cores + 1} nodes. No machine with 1 core; largest free: 0.`)
    expect(why.details).toContain('founder: 0 cores unreserved; the size needs 1')
    const w3 = await lab.up('w3', { join: founder, args: ['--lend-cpus', '1'] })
    await lab.until('w3 has a node', async () =>
      (await nodesOf('p')).some(({ machineName, state }) => machineName === 'w3' && state === 'idle'),
    )
    expect((await explain('p')).summary).toBe(`Pool p has all its ${2 * cores + 1} nodes; 0 tasks are waiting.`)
    await w3.down()
  })

  it('runs as many tasks on a node as it has slots', async () => {
    await create('p', 1, '--task-slots-per-node', '4')
    await steady('p', 1)
    await submit(lab, founder, 'j', holding(5), { poolId: 'p' })
    await running('j', 4)
    expect(await nodesOf('p')).toMatchObject([{ state: 'running', taskSlots: 4, runningTasksCount: 4, runningTaskSlotsCount: 4 }])
    const [waiting] = (await tasksOf(lab, founder, 'j')).filter(({ state }) => state === 'active')
    expect((await explain(`j/${waiting!.id}`)).details).toEqual([expect.stringMatching(/^w\d: fits; 4 of 4 slots are taken$/)])
    await writeFile(gate, 'open\n')
    await succeed(lab, founder, 'j')
  })

  it('has only machines with its labels', async () => {
    await create('p', cores + 1, '--label', 'name=w2', '--resize-timeout', '2s')
    await steady('p', cores)
    expect(new Set((await nodesOf('p')).map(({ machineName }) => machineName))).toEqual(new Set(['w2']))
    expect((await explain('p')).details).toContain('w1: does not have the labels the pool asks for')
  })

  it('is refused with what is wrong', async () => {
    await create('p', 0)
    const refusals: [string[], number, string][] = [
      [['create', 'p', ...small], 1, 'The pool p exists already.'],
      [
        ['create', 'q', '--vm-size', 'huge'],
        2,
        'The VM size huge is not known. Use an Azure name such as standard_d2s_v3, or cores=2,memory=4GiB.',
      ],
      [['create', 'q', ...small, '--task-slots-per-node', '5'], 2, 'taskSlotsPerNode is 5; a node of 1 core may have at most 4.'],
      [['resize', 'nope', '--target-dedicated-nodes', '1'], 1, 'There is no pool nope.'],
      [['delete', 'default'], 1, 'The pool "default" is the mesh itself: it has every machine, and is neither resized nor deleted.'],
    ]
    for (const [words, code, message] of refusals)
      expect(await lab.cli(founder, ['pool', ...words])).toEqual({ code, stdout: '', stderr: `batchmesh: ${message}\n` })
  })
})

describe('a pool that shrinks', () => {
  share()

  /** A pool of two nodes with a task on each, then of one. Answers the tasks when the shrinking has taken effect. */
  async function shrunk(option: string, until: (tasks: TaskView[]) => boolean): Promise<TaskView[]> {
    await create('p', 2)
    await steady('p', 2)
    await submit(lab, founder, 'j', holding(2), { poolId: 'p' })
    await running('j', 2)
    await resize('p', 1, '--node-deallocation-option', option)
    await lab.until('it has taken effect', async () => until(await tasksOf(lab, founder, 'j')))
    return await tasksOf(lab, founder, 'j')
  }
  const inState = (tasks: TaskView[], state: string) => tasks.filter((task) => task.state === state)

  it('C1: requeues the tasks of the nodes that it gives back, and spends no retry', async () => {
    const tasks = await shrunk('requeue', (all) => inState(all, 'active').length === 1)
    await steady('p', 1)
    const [again] = inState(tasks, 'active')
    await writeFile(gate, 'open\n')
    await succeed(lab, founder, 'j')
    expect((await taskOf(lab, founder, `j/${again!.id}`)).executionInfo).toMatchObject({ retryCount: 0, requeueCount: 1, exitCode: 0 })
    expect((await startsOf()).get(again!.id)).toBe(2)
  })

  it('terminates them, if told so', async () => {
    const tasks = await shrunk('terminate', (all) => inState(all, 'completed').length === 1)
    const [ended] = inState(tasks, 'completed')
    expect(ended!.executionInfo).toMatchObject({ result: 'failure', retryCount: 0, failureInfo: { code: 'TaskEnded' } })
    await writeFile(gate, 'open\n')
    await lab.until('the other one succeeds', async () => (await jobOf(lab, founder, 'j')).counts.succeeded === 1)
    expect((await startsOf()).get(ended!.id)).toBe(1)
  })

  it('waits for their end, if told so', async () => {
    await shrunk('taskcompletion', (all) => inState(all, 'running').length === 2)
    expect((await poolOf('p')).allocationState).toBe('resizing')
    expect((await nodesOf('p')).map(({ state }) => state).toSorted()).toEqual(['leavingpool', 'running'])
    await writeFile(gate, 'open\n')
    await succeed(lab, founder, 'j')
    await steady('p', 1)
    expect([...(await startsOf()).values()]).toEqual([1, 1])
    expect(await nodesOf('p')).toHaveLength(1)
  })

  it('deleted, it lets its jobs wait for a pool of its name', async () => {
    await create('p', 1)
    await submit(lab, founder, 'j', holding(1), { poolId: 'p' })
    await running('j', 1)
    await lab.json(founder, ['pool', 'delete', 'p'])
    expect((await explain('j/t0')).summary).toBe('Task t0 waits: there is no pool p. Create it, and the job starts.')
    await create('p', 1)
    await running('j', 1)
    await writeFile(gate, 'open\n')
    await succeed(lab, founder, 'j')
    expect((await taskOf(lab, founder, 'j/t0')).executionInfo).toMatchObject({ retryCount: 0, requeueCount: 1 })
  })
})

describe('the nodes of a pool', () => {
  beforeEach(async (t) => {
    await start(t)
    await fresh()
  })

  it('are replaced as soon as their machine is known dead', async () => {
    await create('p', 1, '--label', 'name=w1')
    await create('q', 1)
    await steady('p', 1)
    await steady('q', 1)
    // The roomier machine got the second pool's node.
    expect(await nodesOf('q')).toMatchObject([{ machineName: cores > 1 ? 'w2' : expect.any(String) }])
    const [node] = await nodesOf('q')
    const [dead, other] = node!.machineName === 'w1' ? [workers[0]!, 'w2'] : [workers[1]!, 'w1']
    await dead.kill()
    await lab.until(
      'q has a node elsewhere',
      async () => (await nodesOf('q')).some(({ machineName, state }) => machineName === other && state === 'idle'),
      {
        deadlineMs: 60_000,
      },
    )
    expect(await nodesOf('q')).toHaveLength(1)
  })

  it('R1: stay the same when the coordinator starts again, and their tasks run on', async () => {
    await create('p', 2)
    await steady('p', 2)
    const before = (await nodesOf('p')).map(({ id }) => id)
    await submit(lab, founder, 'j', holding(2), { poolId: 'p' })
    await running('j', 2)
    await founder.kill()
    founder = await lab.up('founder', { args: lendNone })
    await lab.until('all are back', async () => (await nodesOf('p')).every(({ state }) => state === 'running'))
    expect((await nodesOf('p')).map(({ id }) => id)).toEqual(before)
    await writeFile(gate, 'open\n')
    await succeed(lab, founder, 'j')
    expect([...(await startsOf()).values()]).toEqual([1, 1])
  })
})
