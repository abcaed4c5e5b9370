import { beforeEach, describe, expect, it } from 'vitest'
import { type StatusRow, type SubtasksRow, statusKey } from '../../coordinator/rows.ts'
import type { Job } from '../../coordinator/state.ts'
import { createMemoryStore } from '../../coordinator/store.ts'
import { membersOfLease, membersOfPages, pageKeys, viewSubtasks } from '../../coordinator/subtasks.ts'
import { liveTask } from '../../coordinator/task-book.ts'
import type { MeshError } from '../../protocols/errors.ts'
import { readRow } from '../support/rows.ts'
import { Scene } from '../support/scene.ts'
import { startWhole } from '../support/whole-coordinator.ts'

let scene: Scene

const gang = (id: string, size: number) => ({ id, multiInstanceSettings: { numberOfInstances: size, coordinationCommandLine: 'begin' } })

/** Machines of one core, each with the one node of pool `p`, and a gang on all of them. */
function gangOf(...names: string[]): void {
  for (const name of names) scene.hello(name, { cores: 1 })
  scene.addPool({ id: 'p', targetDedicatedNodes: names.length, enableInterNodeCommunication: true })
  scene.grantAll()
  scene.addJob({ id: 'j', poolId: 'p', constraints: { maxTaskRetryCount: 1 } })
  scene.addTasks('j', gang('G', names.length))
}

const pages = () => pageKeys(scene.uidOf('j'), 'g', 1000).flatMap((key) => readRow<SubtasksRow>(scene.rows, key) ?? [])

function shown() {
  const job = scene.state.jobIds.get('j')!
  const lease = liveTask(job, 'g')?.lease
  const members = lease === undefined ? membersOfPages(pages()) : membersOfLease(lease)
  return members === undefined ? [] : viewSubtasks(job, 'G', members)
}

const states = () => shown().map(({ id, state, exitCode, result }) => [id, state, exitCode, result])

beforeEach(() => {
  scene = new Scene()
})

describe('subtasks', () => {
  it('are shown as their machines say how far they are', () => {
    gangOf('a', 'b', 'c')
    expect(states()).toEqual([
      [1, 'preparing', undefined, undefined],
      [2, 'preparing', undefined, undefined],
    ])
    scene.started('b', 'j/g#1+1')
    scene.report('c', 'j/g#1+2', 0)
    expect(states()).toEqual([
      [1, 'running', undefined, undefined],
      [2, 'completed', 0, 'success'],
    ])
    expect(shown()[0]).toMatchObject({
      startTime: scene.now,
      nodeInfo: { machine: scene.peer('b'), machineName: 'b', poolId: 'p', taskRootDirectory: 'workitems/j/job-1/g+1' },
    })
  })

  it('that still run when the primary ends are completed without an exit code', () => {
    gangOf('a', 'b')
    scene.started('b', 'j/g#1+1')
    scene.tick(3)
    scene.report('a', 'j/g#1', 0)
    expect(shown()).toMatchObject([{ state: 'completed', startTime: scene.now - 3000, endTime: scene.now }])
    expect(states()).toEqual([[1, 'completed', undefined, undefined]])
  })

  it('a failure is that of the one that failed, and ends the others', () => {
    gangOf('a', 'b', 'c')
    const failureInfo = { category: 'usererror', code: 'FailureExitCode', message: 'it said 3' } as const
    scene.report('b', 'j/g#1+1', 0)
    scene.report('c', 'j/g#1+2', 3, { failureInfo })
    // It is tried again at once, and its new subtasks are shown.
    expect(states()).toEqual([
      [1, 'preparing', undefined, undefined],
      [2, 'preparing', undefined, undefined],
    ])
    scene.started('b', 'j/g#2+1')
    scene.report('c', 'j/g#2+2', 3, { failureInfo })
    expect(scene.status('j', 'g')).toMatchObject({ state: 'completed', result: 'failure' })
    expect(shown()).toMatchObject([
      { id: 1, state: 'completed', exitCode: undefined, nodeInfo: { taskRootDirectory: 'workitems/j/job-1/g.2+1' } },
      { id: 2, state: 'completed', exitCode: 3, result: 'failure', failureInfo },
    ])
  })

  it('L5: what a machine was told that it is recorded is there after a restart', () => {
    gangOf('a', 'b', 'c')
    scene.started('b', 'j/g#1+1')
    scene.report('c', 'j/g#1+2', 0)
    scene.restart()
    scene.hello('a', { inventory: [{ attempt: 'j/g#1' }] })
    expect(states()).toEqual([
      [1, 'preparing', undefined, undefined],
      [2, 'completed', 0, 'success'],
    ])
    // What began is said again.
    scene.hello('b', { inventory: [{ attempt: 'j/g#1+1', startTime: 77 }] })
    scene.hello('c')
    expect(shown()).toMatchObject([
      { state: 'running', startTime: 77 },
      { state: 'completed', exitCode: 0 },
    ])
    scene.report('a', 'j/g#1', 0)
    scene.restart()
    expect(shown()).toMatchObject([{ startTime: 77, state: 'completed', exitCode: undefined }, { exitCode: 0 }])
  })

  it('C1: one that its machine never got is no lost machine, whatever number of starts the others count', () => {
    scene.hello('b', { cores: 1, incarnation: 3 })
    gangOf('a', 'b')
    const { members } = liveTask(scene.state.jobIds.get('j')!, 'g')!.lease!
    scene.restart()
    scene.hello(members[1]!.machine.description.name)
    const row = readRow<StatusRow>(scene.rows, statusKey(scene.uidOf('j'), 'g'))!
    expect([row.state, row.requeueCount, row.losses]).toEqual(['active', 0, undefined])
  })

  it('of an attempt before are forgotten with the next', () => {
    gangOf('a', 'b')
    scene.report('b', 'j/g#1+1', 0)
    scene.report('a', 'j/g#1', 1)
    scene.restart()
    scene.hello('a', { inventory: [{ attempt: 'j/g#2' }] })
    expect(states()).toEqual([[1, 'preparing', undefined, undefined]])
  })

  it('of a gang of 200 take a few rows: one when a member ends, all when the attempt does', () => {
    const names = Array.from({ length: 200 }, (_, i) => `m${i}`)
    gangOf(...names)
    expect(scene.effects.filter((effect) => effect.kind === 'put' && effect.key.startsWith('subt/'))).toEqual([])
    const puts = () => scene.effects.flatMap((effect) => (effect.kind === 'put' ? [effect.key.slice(0, 4)] : []))
    const nameAt = (member: number) => liveTask(scene.state.jobIds.get('j')!, 'g')!.lease!.members[member]!.machine.description.name
    scene.report(nameAt(130), 'j/g#1+130', 0)
    expect(puts()).toEqual(['subt'])
    scene.report(nameAt(0), 'j/g#1', 0)
    expect(puts()).toEqual(['subt', 'subt', 'subt', 'subt', 'stat'])
    expect(shown().map(({ id }) => id)).toEqual(Array.from({ length: 199 }, (_, i) => i + 1))
    expect(shown()[129]).toMatchObject({ exitCode: 0 })
  })

  it('go with their job', () => {
    gangOf('a', 'b')
    scene.report('a', 'j/g#1', 0)
    expect(pages()).toHaveLength(1)
    scene.ask({ kind: 'deleteJob', jobId: 'j' })
    expect([...scene.rows.keys()].filter((key) => key.startsWith('subt/'))).toEqual([])
  })
})

describe('what submitters are told of subtasks', () => {
  async function meshWith(size: number) {
    const asked: unknown[] = []
    const mesh = await startWhole(createMemoryStore(), {
      lends: true,
      files: {
        list: ({ attempt }) => {
          asked.push(attempt)
          return { files: [], more: false }
        },
        read: ({ attempt, name }) => {
          asked.push(attempt)
          return { data: Buffer.from(`${name} of ${attempt.member ?? 0}`), size: 20, final: true }
        },
      },
    })
    await mesh.control.call('addPool', {
      id: 'p',
      vmSize: 'cores=1,memory=1GiB',
      targetDedicatedNodes: 3,
      enableInterNodeCommunication: true,
    })
    await mesh.control.call('addJob', { id: 'j', poolId: 'p' })
    await mesh.control.call('addTasks', { jobId: 'j', tasks: [{ ...gang('G', size), commandLine: 'x' }] })
    return { mesh, asked }
  }

  it('a list of them, while they run and after', async () => {
    const { mesh } = await meshWith(3)
    const grants = await mesh.told(3)
    const list = async () => (await mesh.control.call('listSubtasks', { jobId: 'J', taskId: 'g' })).items
    expect((await list()).map(({ id, state }) => [id, state])).toEqual([
      [1, 'preparing'],
      [2, 'preparing'],
    ])
    await mesh.report([grants[1]!], 0)
    await mesh.report([grants[0]!], 0)
    expect((await list()).map(({ id, state, exitCode }) => [id, state, exitCode])).toEqual([
      [1, 'completed', 0],
      [2, 'completed', undefined],
    ])
    await mesh.stop()
  })

  it('none of a task that is no gang, or has not run', async () => {
    const { mesh } = await meshWith(4)
    await mesh.control.call('addTasks', { jobId: 'j', tasks: [{ id: 'plain', commandLine: 'x' }] })
    for (const taskId of ['G', 'plain']) expect(await mesh.control.call('listSubtasks', { jobId: 'j', taskId })).toEqual({ items: [] })
    await expect(mesh.control.call('listSubtasks', { jobId: 'j', taskId: 'none' })).rejects.toMatchObject({ code: 'TaskNotFound' })
    await mesh.stop()
  })

  it('their files are read where they ran, while they run and after', async () => {
    const { mesh, asked } = await meshWith(3)
    const grants = await mesh.told(3)
    const read = async (subtask?: number) => {
      const request = { jobId: 'j', taskId: 'G', name: 'stdout.txt', offset: 0, length: 100, subtask }
      return Buffer.from((await mesh.control.call('readTaskFile', request)).data).toString()
    }
    expect([await read(), await read(0), await read(2)]).toEqual(['stdout.txt of 0', 'stdout.txt of 0', 'stdout.txt of 2'])
    await mesh.report([grants[0]!], 0)
    expect([await read(), await read(1)]).toEqual(['stdout.txt of 0', 'stdout.txt of 1'])
    await mesh.control.call('listTaskFiles', { jobId: 'j', taskId: 'G', subtask: 2 })
    expect(asked.at(-1)).toEqual({ jobUid: 1, task: 'g', epoch: 1, member: 2 })
    await mesh.stop()
  })

  it('a subtask that there is not is refused with the words which there are', async () => {
    const { mesh } = await meshWith(3)
    await mesh.control.call('addTasks', { jobId: 'j', tasks: [{ id: 'plain', commandLine: 'x' }] })
    const refusal = async (taskId: string, subtask: number) => {
      const error = await mesh.control.call('listTaskFiles', { jobId: 'j', taskId, subtask }).catch((reason: unknown) => reason)
      return [(error as MeshError).code, (error as MeshError).message]
    }
    expect(await refusal('G', 3)).toEqual([
      'InvalidPropertyValue',
      'Task G has no subtask 3: with 3 instances they are 1 to 2, and 0 is the primary.',
    ])
    expect(await refusal('plain', 1)).toEqual(['InvalidPropertyValue', 'Task plain has no subtask 1: it is no multi-instance task.'])
    await mesh.stop()
  })
})

describe('C1: a gang that loses a member', () => {
  const lost = { category: 'servererror', code: 'MachineLost', reason: 'MemberLost', message: 'c fell silent' } as const
  const apart = { category: 'servererror', code: 'Unknown', reason: 'MembersUnreachable', message: 'a does not reach c' } as const

  it.each([
    ['the primary', 'a', 'j/g#1'],
    ['another member', 'b', 'j/g#1+1'],
  ])('ends everywhere and is tried again, without a retry spent, when %s says so', (_, who, attempt) => {
    gangOf('a', 'b', 'c')
    scene.started('a', 'j/g#1')
    const out = scene.report(who, attempt, undefined, { failureInfo: lost })
    expect(out.filter((line) => line.startsWith('stop'))).toHaveLength(2)
    expect(out.at(-3)).toBe('tell a: j/g#2 of 3')
    expect(scene.status('j', 'g')).toMatchObject({ retryCount: 0, requeueCount: 1, losses: 1, history: [{ end: 'lost' }] })
    // Said again, it gets the same answer (L4) only while the attempt was not replaced.
    expect(scene.report(who, attempt, undefined, { failureInfo: lost })).toEqual(['verdict refused'])
  })

  it('counts it as preempted when a low-priority member is gone', () => {
    scene.hello('a', { cores: 1 })
    scene.hello('b', { cores: 1, class: 'low-priority' })
    scene.addPool({ id: 'p', targetDedicatedNodes: 1, targetLowPriorityNodes: 1, enableInterNodeCommunication: true })
    scene.grantAll()
    scene.addJob({ id: 'j', poolId: 'p' })
    scene.addTasks('j', gang('G', 2))
    const { members } = liveTask(scene.state.jobIds.get('j')!, 'g')!.lease!
    const low = members.findIndex(({ machine }) => machine.description.name === 'b')
    const [own, other] = low === 0 ? ['j/g#1+1', 'j/g#1'] : ['j/g#1', 'j/g#1+1']
    scene.started('a', own)
    scene.started('b', other)
    if (low === 0) scene.started('b', 'j/g#1')
    scene.gone('b')
    scene.report('a', own, undefined, { failureInfo: lost })
    expect(scene.status('j', 'g')).toMatchObject({ state: 'active', requeueCount: 1, history: [{ end: 'preempted' }] })
    expect(scene.status('j', 'g')?.losses).toBeUndefined()
  })

  /** A gang of two, and as many nodes beside it, so that there are others that could run it. */
  function withSpares(): Job {
    gangOf('a', 'b')
    scene.hello('c', { cores: 1 })
    scene.hello('d', { cores: 1 })
    scene.ask({ kind: 'resizePool', poolId: 'p', targetDedicatedNodes: 4, nodeDeallocationOption: 'requeue' })
    scene.grantAll()
    return scene.state.jobIds.get('j')!
  }
  const primary = (job: Job) => liveTask(job, 'g')!.lease!.members[0]!.machine.description.name
  const heldAgainst = (job: Job) => [...job.excluded, ...job.failing.keys(), ...job.misses.keys()]

  it('takes it for the task after ten times, and holds nothing against the machine that says it', () => {
    const job = withSpares()
    for (let epoch = 1; epoch <= 10; epoch += 1) scene.report(primary(job), `j/g#${epoch}`, undefined, { failureInfo: lost })
    expect(scene.status('j', 'g')).toMatchObject({ state: 'completed', result: 'failure', losses: 10, outcome: { failureInfo: lost } })
    expect(heldAgainst(job)).toEqual([])
  })

  it.each(['usererror', 'servererror'] as const)('fails at once where members do not reach each other (%s)', (category) => {
    const job = withSpares()
    const failureInfo = { ...apart, category }
    scene.report(primary(job), 'j/g#1', undefined, { failureInfo })
    expect(scene.status('j', 'g')).toMatchObject({ state: 'completed', result: 'failure', retryCount: 0, outcome: { failureInfo } })
    expect(heldAgainst(job)).toEqual([])
  })

  it('an ordinary task cannot claim it', () => {
    scene.hello('a')
    scene.addJob({ id: 'j' })
    scene.addTasks('j', 't')
    scene.claim('a')
    scene.report('a', 'j/t#1', 1, { failureInfo: { ...lost, message: '' } })
    expect(scene.status('j', 't')).toMatchObject({ state: 'completed', result: 'failure' })
  })
})
