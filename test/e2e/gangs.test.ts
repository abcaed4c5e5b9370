import { readFile } from 'node:fs/promises'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import type { PoolView } from '../../protocols/model/pool.ts'
import { MeshLab, type NodeProcess } from './support/mesh-lab.ts'
import { cores, counted, lendAll, lendNone, processesWith, sh, submit, succeed, Traces, taskOf, tasksOf } from './support/work.ts'

let lab: MeshLab
let founder: NodeProcess
let workers: NodeProcess[]
let traces: Traces

/** Many on one machine, and one. */
const small = 'cores=0.02,memory=16MiB'
const whole = `cores=${cores},memory=64MiB`

async function pool(id: string, nodes: number, label: string, size: string): Promise<void> {
  const words = [
    '--vm-size',
    size,
    '--target-dedicated-nodes',
    String(nodes),
    '--enable-inter-node-communication',
    '--label',
    `kind=${label}`,
  ]
  await lab.json(founder, ['pool', 'create', id, ...words])
  await lab.until(`${id} has its nodes`, async () => {
    const { currentDedicatedNodes } = (await lab.json(founder, ['pool', 'show', id])) as PoolView
    return currentDedicatedNodes === nodes
  })
}

beforeAll(async () => {
  lab = await MeshLab.create()
  founder = await lab.up('founder', { args: lendNone })
  workers = []
  // The first machine alone, and three that share a pool.
  for (const [name, kind] of [
    ['w1', 'alone'],
    ['w2', 'some'],
    ['w3', 'some'],
    ['w4', 'some'],
  ] as const)
    workers.push(await lab.up(name, { join: founder, args: [...lendAll, '--label', `kind=${kind}`, '--log-level', 'warn'] }))
  traces = await Traces.create(lab)
  await pool('alone', 40, 'alone', small)
  await pool('some', 3, 'some', whole)
}, 120_000)
afterAll(() => lab?.close())

const gang = (numberOfInstances: number, coordination: string) => ({ numberOfInstances, coordinationCommandLine: sh(coordination) })

describe('a gang', () => {
  it('of four on one machine coordinates, tells all who they are, and uses the services that it left', async () => {
    const seen = await traces.file('seen')
    const coordination = `echo "$AZ_BATCH_HOST_LIST $AZ_BATCH_IS_CURRENT_NODE_MASTER $AZ_BATCH_TASK_SHARED_DIR" >>${seen}
mkfifo ask; (read -r line <ask; echo "$line" >answer) & echo coordinated`
    await submit(
      lab,
      founder,
      'four',
      [
        {
          id: 't',
          commandLine: sh('echo served >ask; until [ -s answer ]; do sleep 0.01; done; cat answer'),
          multiInstanceSettings: gang(4, coordination),
        },
      ],
      { poolId: 'alone' },
    )
    await succeed(lab, founder, 'four')
    const lines = await traces.lines('seen')
    expect(lines.map((line) => line.split(' ')[0])).toEqual(new Array(4).fill('127.0.0.1,127.0.0.1,127.0.0.1,127.0.0.1'))
    expect(lines.filter((line) => line.split(' ')[1] === 'true')).toHaveLength(1)
    const task = await taskOf(lab, founder, 'four/t')
    expect(
      await readFile(
        join(workers[0]!.dataDir, 'tasks', 'workitems', 'four', `job-${uidIn(task.nodeInfo!.taskRootDirectory)}`, 't', 'stdout.txt'),
        'utf8',
      ),
    ).toBe('served\n')
    const subtasks = (await lab.json(founder, ['task', 'subtasks', 'four/t'])) as { id: number; state: string }[]
    expect(subtasks.map(({ id, state }) => `${id} ${state}`)).toEqual(['1 completed', '2 completed', '3 completed'])
  })

  it('ends everywhere when the coordination of a subtask fails, and says so', async () => {
    const coordination = 'case $AZ_BATCH_TASK_DIR in *+2) echo "no way" >&2; exit 9 ;; esac; sleep 7301 &'
    await submit(lab, founder, 'failing', [{ id: 't', commandLine: sh('sleep 7302'), multiInstanceSettings: gang(4, coordination) }], {
      poolId: 'alone',
    })
    expect((await lab.cli(founder, ['job', 'wait', 'failing'])).code).toBe(1)
    const { executionInfo } = await taskOf(lab, founder, 'failing/t')
    expect(executionInfo).toMatchObject({
      result: 'failure',
      exitCode: 9,
      failureInfo: { message: 'Coordination command: The program ended with exit code 9.' },
    })
    await lab.until('nothing of it runs', async () => (await processesWith('7301')).length + (await processesWith('7302')).length === 0)
  })

  it('one of many at once on one machine, none waits for another', async () => {
    const seen = await traces.file('many')
    const together = `echo "$AZ_BATCH_TASK_ID" >>${seen}; until [ $(sort -u ${seen} | wc -l) -eq 10 ]; do sleep 0.05; done`
    const tasks = Array.from({ length: 10 }, (_, n) => ({ id: `g${n}`, commandLine: sh(together), multiInstanceSettings: gang(4, 'true') }))
    await submit(lab, founder, 'many', tasks, { poolId: 'alone' })
    await succeed(lab, founder, 'many')
    expect(counted(await traces.lines('many')).size).toBe(10)
  })

  it('M1: with one machine killed ends everywhere within ten seconds, and is tried again as one', async () => {
    const starts = await traces.file('starts')
    const gate = await traces.file('gate')
    const command = sh(`echo "$AZ_BATCH_NODE_ID" >>${starts}; ${Traces.gate(gate)}`)
    await submit(lab, founder, 'lost', [{ id: 't', commandLine: command, multiInstanceSettings: gang(3, 'sleep 7303 &') }], {
      poolId: 'some',
    })
    await lab.until('it runs', async () => (await traces.lines('starts')).length === 1)
    expect((await processesWith('7303')).length).toBe(3)
    const { nodeInfo } = await taskOf(lab, founder, 'lost/t')
    const victim = workers.slice(1).find(({ name }) => name !== nodeInfo!.machineName)!
    await victim.kill('SIGKILL')
    await lab.until('nothing of it runs', async () => (await processesWith('7303')).length === 0, { deadlineMs: 10_000 })
    await lab.up(victim.name, { args: [...lendAll, '--label', 'kind=some', '--log-level', 'warn'] })
    await lab.until('it runs again', async () => (await traces.lines('starts')).length === 2)
    await traces.open('gate')
    await succeed(lab, founder, 'lost')
    const [task] = await tasksOf(lab, founder, 'lost')
    expect(task!.executionInfo).toMatchObject({ retryCount: 0, requeueCount: 1 })
    await lab.until('nothing of it is left', async () => (await processesWith('7303')).length === 0)
  })
})

function uidIn(directory: string): string {
  return /job-(\d+)/.exec(directory)![1]!
}
