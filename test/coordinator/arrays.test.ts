import { describe, expect, it } from 'vitest'
import { maxArrays, maxRanges } from '../../coordinator/arrays.ts'
import { explainTask } from '../../coordinator/explain.ts'
import { markAt, pristineCount } from '../../coordinator/task-book.ts'
import { viewCounts, viewPool } from '../../coordinator/view.ts'
import { taskArraySchema } from '../../protocols/model/task-array.ts'
import { Scene } from '../support/scene.ts'

function setup(indexes = [{ start: 0, end: 9 }], maxTaskRetryCount = 0) {
  const scene = new Scene()
  scene.hello('a', { cores: 4 })
  scene.addJob({ id: 'j', constraints: { maxTaskRetryCount } })
  scene.addArray('j', { indexes })
  const job = scene.state.jobIds.get('j')!
  return { scene, job, array: job.arrays[0]! }
}

const counts = (scene: Scene) => {
  const { active, running, succeeded, failed } = viewCounts(scene.state.jobIds.get('j')!)
  return [active, running, succeeded, failed]
}

describe('a task array', () => {
  it('is one row, and its tasks take none until they are claimed', () => {
    const { scene, job } = setup([{ start: 0, end: 999_999 }])
    const rows = [...scene.rows.keys()].filter((key) => !/^(mesh|mach|job)/.test(key))
    expect(rows).toEqual(['arry/0000000001/0000'])
    expect(job.tasks.size).toBe(0)
    expect(counts(scene)).toEqual([1_000_000, 0, 0, 0])
    expect(viewPool(scene.state.pools.get('default')!).pendingTasks).toBe(1_000_000)
  })

  it('says how many tasks it has, and the first and the last id', () => {
    const { scene } = setup()
    expect(
      scene.addArray('j', {
        indexes: [
          { start: 5, end: 14, step: 3 },
          { start: 200, end: 201 },
        ],
        idPrefix: 'F-',
      })[1],
    ).toBe('answer 6 F-0005 F-0201')
  })

  it('gives its tasks in the order of the indexes, after what was there before and before what came later', () => {
    const scene = new Scene()
    scene.hello('a')
    scene.addJob({ id: 'j' })
    scene.addTasks('j', 'first')
    scene.addArray('j', {
      indexes: [
        { start: 7, end: 9, step: 2 },
        { start: 100, end: 100 },
      ],
      idPrefix: 'N',
    })
    scene.addTasks('j', 'last')
    expect(scene.claim('a', { slots: 9 }).at(-1)).toBe('grant a: j/first#1 j/n0007#1 j/n0009#1 j/n0100#1 j/last#1')
  })

  it('keeps of a completed task one mark, and of a failed one that is tried again the task', () => {
    const { scene, job, array } = setup([{ start: 0, end: 9 }], 1)
    scene.claim('a', { slots: 2 })
    scene.report('a', 'j/0000#1', 0)
    scene.report('a', 'j/0001#1', 1)
    expect([...job.tasks.keys()]).toEqual(['0001'])
    expect(markAt(array, 0)).toBe(3)
    expect(counts(scene)).toEqual([9, 0, 1, 0])
    expect(scene.claim('a', { slots: 2 }).at(-1)).toBe('grant a: j/0001#2 j/0002#1')
    scene.report('a', 'j/0001#2', 1)
    expect(counts(scene)).toEqual([8, 0, 1, 1])
    expect([...job.tasks.keys()]).toEqual(['0002'])
  })

  it('L4: a report that comes twice is accepted twice, by the mark', () => {
    const { scene } = setup()
    scene.claim('a')
    expect(scene.report('a', 'j/0000#1', 0).at(-1)).toBe('verdict accepted')
    expect(scene.report('a', 'j/0000#1', 0)).toEqual(['verdict accepted'])
    expect(scene.report('a', 'j/0000#2', 0)).toEqual(['verdict refused'])
  })

  it('L2: a report of a task that had no turn yet is refused', () => {
    const { scene, array } = setup()
    expect(scene.report('a', 'j/0004#1', 0)).toEqual(['verdict refused'])
    expect(pristineCount(array)).toBe(10)
  })

  it('passes over a task that was ended before its turn', () => {
    const { scene, job } = setup([{ start: 0, end: 3 }])
    scene.ask({ kind: 'terminateTask', jobId: 'j', taskId: '0001' })
    expect(scene.status('j', '0001')).toMatchObject({ state: 'completed', epoch: 1, result: 'failure', lastEnd: 'revoked' })
    expect(counts(scene)).toEqual([3, 0, 0, 1])
    expect(job.ready).toBe(3)
    expect(scene.claim('a', { slots: 4 }).at(-1)).toBe('grant a: j/0000#1 j/0002#1 j/0003#1')
    expect(scene.ask({ kind: 'terminateTask', jobId: 'j', taskId: '0001' })).toEqual(['refuse TaskCompleted'])
    expect(scene.ask({ kind: 'terminateTask', jobId: 'j', taskId: '0004' })).toEqual(['refuse TaskNotFound'])
  })

  it('L2: runs a failed task again on request, at the next epoch, wherever its array stands', () => {
    const { scene, array } = setup([{ start: 0, end: 3 }])
    scene.ask({ kind: 'terminateTask', jobId: 'j', taskId: '0002' })
    scene.reactivate('j', '0002')
    expect(counts(scene)).toEqual([4, 0, 0, 0])
    expect(markAt(array, 2)).toBe(0)
    expect(scene.claim('a', { slots: 4 }).at(-1)).toBe('grant a: j/0000#1 j/0001#1 j/0003#1 j/0002#2')
  })

  it('ends a job with its last task, and not before', () => {
    const { scene, job } = setup([{ start: 0, end: 1 }])
    scene.ask({ kind: 'updateJob', jobId: 'j', onAllTasksComplete: 'terminatejob' })
    expect(job.row.state).toBe('active')
    scene.claim('a', { slots: 2 })
    scene.report('a', 'j/0000#1', 0)
    expect(job.row.state).toBe('active')
    scene.report('a', 'j/0001#1', 0)
    expect(job.row).toMatchObject({ state: 'completed', finalCounts: { active: 0, succeeded: 2, failed: 0 } })
  })

  it('stays active and never runs when its job is ended', () => {
    const { scene, job } = setup()
    scene.claim('a', { slots: 2 })
    scene.started('a', 'j/0000#1', 'j/0001#1')
    scene.ask({ kind: 'terminateJob', jobId: 'j' })
    expect(counts(scene)).toEqual([8, 0, 0, 2])
    expect(job.row.finalCounts).toEqual({ active: 8, succeeded: 0, failed: 2 })
    expect(scene.claim('a')).toEqual([])
    expect(explainTask(scene.state, job, '0005', scene.now)!.summary).toBe('Task 0005 will not run: job j is completed.')
  })

  it('goes with its job: no row of it stays', () => {
    const { scene } = setup()
    scene.claim('a')
    scene.ask({ kind: 'deleteJob', jobId: 'j' })
    expect([...scene.rows.keys()].filter((key) => key.includes('0000000001'))).toEqual([])
  })

  it('is explained by task and as a whole', () => {
    const { scene, job } = setup()
    expect(explainTask(scene.state, job, '0003', scene.now)!.summary).toMatch(/^Task 0003 waits for its turn: 10 tasks are waiting/)
    scene.claim('a')
    scene.report('a', 'j/0000#1', 1)
    expect(explainTask(scene.state, job, '0000', scene.now)!.summary).toBe('Task 0000 is completed: it failed.')
    expect(explainTask(scene.state, job, '0010', scene.now)).toBeUndefined()
    expect(job.tasks.size).toBe(0)
    scene.claim('a', { slots: 4, prefetch: 2 })
    expect(explainTask(scene.state, job, '0009', scene.now)!.details).toEqual([
      'a: fits; 4 of 4 slots are taken, 2 tasks are next in line there',
    ])
  })
})

describe('a restart', () => {
  it('goes on with an array where it stood', () => {
    const { scene } = setup([{ start: 0, end: 9 }], 3)
    scene.claim('a', { slots: 4 })
    scene.report('a', 'j/0000#1', 0)
    scene.report('a', 'j/0001#1', 1)
    scene.ask({ kind: 'terminateTask', jobId: 'j', taskId: '0007' })
    scene.restart()
    const job = scene.state.jobIds.get('j')!
    expect(counts(scene).map((n, i) => (i < 2 ? undefined : n))).toEqual([undefined, undefined, 1, 1])
    expect([...job.tasks.keys()].sort()).toEqual(['0001', '0002', '0003'])
    scene.hello('a', { inventory: [{ attempt: 'j/0002#1' }, { attempt: 'j/0003#1' }] })
    expect(scene.claim('a', { slots: 9 }).at(-1)).toBe('grant a: j/0001#2 j/0004#1 j/0005#1 j/0006#1 j/0008#1 j/0009#1')
  })

  it('L1: knows of a completed job no tasks, and takes no report for them', () => {
    const { scene } = setup([{ start: 0, end: 0 }])
    scene.ask({ kind: 'updateJob', jobId: 'j', onAllTasksComplete: 'terminatejob' })
    scene.claim('a')
    scene.report('a', 'j/0000#1', 0)
    scene.restart()
    expect(counts(scene)).toEqual([0, 0, 1, 0])
    scene.hello('a')
    expect(scene.report('a', 'j/0000#1', 0)).toEqual(['verdict refused'])
  })
})

describe('ids of an array', () => {
  it('are refused as a whole when one is taken, by a task, an array, or an array of another prefix', () => {
    const { scene, job } = setup()
    const rows = scene.rows.size
    expect(scene.addArray('j', { indexes: [{ start: 9, end: 20 }] })).toEqual(['refuse TaskExists'])
    scene.addTasks('j', 'Frame-0012')
    expect(scene.addArray('j', { indexes: [{ start: 10, end: 14, step: 2 }], idPrefix: 'fRAME-' })).toEqual(['refuse TaskExists'])
    expect(scene.addArray('j', { indexes: [{ start: 11, end: 15, step: 2 }], idPrefix: 'fRAME-' })[1]).toMatch(/^answer 3 /)
    scene.addArray('j', { indexes: [{ start: 105, end: 105 }], idPrefix: 'a', idDigits: 3 })
    expect(scene.addArray('j', { indexes: [{ start: 5, end: 6 }], idPrefix: 'A1', idDigits: 2 })).toEqual(['refuse TaskExists'])
    expect(scene.addTasks('j', 'A105', 'a106')[2]).toBe('answer A105 TaskExists, a106 added')
    expect(scene.rows.size).toBe(rows + 6)
    expect(job.total).toBe(10 + 1 + 3 + 1 + 1)
  })

  it('are refused when the array comes twice, after its tasks have ended too', () => {
    const { scene } = setup([{ start: 0, end: 0 }])
    scene.claim('a')
    scene.report('a', 'j/0000#1', 0)
    expect(scene.addArray('j', { indexes: [{ start: 0, end: 0 }] })).toEqual(['refuse TaskExists'])
    expect(scene.addTasks('j', '0000')[0]).toBe('answer 0000 TaskExists')
  })

  it('come from a bounded number of arrays a job', () => {
    const { scene, job } = setup()
    for (let n = job.arrays.length; n < maxArrays; n += 1) scene.addArray('j', { indexes: [{ start: 0, end: 0 }], idPrefix: `p${n}-` })
    expect(scene.addArray('j', { indexes: [{ start: 0, end: 0 }], idPrefix: 'q' })).toEqual(['refuse InvalidPropertyValue'])
  })
})

describe('the ranges of a job’s arrays', () => {
  const { template } = taskArraySchema.parse({ indexes: [{ start: 0, end: 0 }], template: { commandLine: 'x' } })
  const count = 100_000
  const add = (scene: Scene, idPrefix: string, first: number) => {
    const indexes = Array.from({ length: count }, (_, i) => ({ start: first + 20 * i, end: first + 20 * i, step: 1 }))
    const array = { indexes, idPrefix, idDigits: 9, template }
    return scene.ask({ kind: 'addTaskArray', jobId: 'j', array, encoded: new Uint8Array(), specBytes: 100 })
  }

  it('are told apart one by one', () => {
    const { scene } = setup()
    add(scene, 'm', 3)
    expect(add(scene, 'm', 4)[1]).toMatch(/^answer 100000 /)
    expect(add(scene, 'm', 3 + 20 * (count - 1))).toEqual(['refuse TaskExists'])
  })

  it('are bounded together', () => {
    const { scene, job } = setup()
    // The one range of the first array counts too.
    for (let n = 0; n < maxRanges / count - 1; n += 1) add(scene, `p${n}-`, 0)
    expect(add(scene, 'q', 0)).toEqual(['refuse InvalidPropertyValue'])
    expect(job.arrays).toHaveLength(maxRanges / count)
  })
})

describe('dependencies', () => {
  function linked() {
    const scene = new Scene()
    scene.hello('a', { cores: 8 })
    scene.addJob({ id: 'j', usesTaskDependencies: true })
    return scene
  }

  it('of a template hold the whole array until they are met', () => {
    const scene = linked()
    scene.addArray('j', { indexes: [{ start: 0, end: 2 }], template: { dependsOn: { taskIds: ['parent'] } } })
    scene.addTasks('j', 'parent')
    const job = scene.state.jobIds.get('j')!
    const why = explainTask(scene.state, job, '0001', scene.now)!
    expect([why.summary, ...why.details]).toEqual(['Task 0001 waits for other tasks.', 'parent is not completed.'])
    scene.restart()
    scene.hello('a')
    expect(scene.claim('a', { slots: 8 }).at(-1)).toBe('grant a: j/parent#1')
    scene.report('a', 'j/parent#1', 0)
    expect(scene.claim('a', { slots: 8 }).at(-1)).toBe('grant a: j/0000#1 j/0001#1 j/0002#1')
  })

  it('hold a task of a waiting array that was ended and reactivated, by itself', () => {
    const scene = linked()
    scene.addArray('j', { indexes: [{ start: 0, end: 1 }], template: { dependsOn: { taskIds: ['parent'] } } })
    scene.ask({ kind: 'terminateTask', jobId: 'j', taskId: '0000' })
    scene.reactivate('j', '0000')
    expect(scene.claim('a', { slots: 8 })).toEqual([])
    scene.restart()
    scene.hello('a')
    scene.addTasks('j', 'parent')
    scene.claim('a', { slots: 1 })
    scene.report('a', 'j/parent#1', 0)
    expect(scene.claim('a', { slots: 8 }).at(-1)).toMatch(/^grant a: (j\/0000#2 j\/0001#1|j\/0001#1 j\/0000#2)$/)
  })

  it('of a task may name tasks of an array, by id and by ranges in which leading zeros do not count', () => {
    const scene = linked()
    scene.addArray('j', { indexes: [{ start: 1, end: 3 }] })
    scene.addTasks(
      'j',
      { id: 'named', dependsOn: { taskIds: ['0002'] } },
      { id: 'ranged', dependsOn: { taskIdRanges: [{ start: 1, end: 3 }] } },
    )
    scene.claim('a', { slots: 3 })
    scene.report('a', 'j/0001#1', 0)
    expect(scene.report('a', 'j/0002#1', 0).filter((line) => line.startsWith('row'))).toEqual([
      'row j/0002 completed epoch=1 lastEnd=reported result=success',
    ])
    expect(scene.claim('a', { slots: 8 }).at(-1)).toBe('grant a: j/named#1')
    scene.report('a', 'j/0003#1', 0)
    expect(scene.claim('a', { slots: 8 }).at(-1)).toBe('grant a: j/ranged#1')
    scene.addTasks('j', { id: 'late', dependsOn: { taskIds: ['0001'], taskIdRanges: [{ start: 2, end: 3 }] } })
    expect(scene.claim('a', { slots: 8 }).at(-1)).toBe('grant a: j/late#1')
  })

  it('are refused for a template as for a task', () => {
    const { scene } = setup()
    const refused = scene.addArray('j', { indexes: [{ start: 90, end: 91 }], template: { dependsOn: { taskIds: ['x'] } } })
    expect(refused).toEqual(['refuse TaskDependenciesNotSpecifiedOnJob'])
  })

  it('are refused where they name a task of the same array', () => {
    const { scene } = setup()
    scene.addJob({ id: 'self', usesTaskDependencies: true })
    const add = (dependsOn: { taskIds?: string[]; taskIdRanges?: { start: number; end: number }[] }) =>
      scene.addArray('self', { indexes: [{ start: 0, end: 9, step: 3 }], template: { dependsOn } })[0]
    expect(add({ taskIds: ['0003'] })).toBe('refuse InvalidPropertyValue')
    expect(add({ taskIdRanges: [{ start: 8, end: 20 }] })).toBe('refuse InvalidPropertyValue')
    expect(add({ taskIds: ['0004'], taskIdRanges: [{ start: 10, end: 20 }] })).not.toContain('refuse')
  })
})

describe('an array of gangs', () => {
  it('M1: makes real no more of them than the pool has nodes, and they start in order', () => {
    const scene = new Scene()
    scene.hello('a', { cores: 4 })
    scene.addPool({ id: 'p', targetDedicatedNodes: 4, enableInterNodeCommunication: true })
    scene.grantAll()
    scene.addJob({ id: 'g', poolId: 'p' })
    const template = { multiInstanceSettings: { numberOfInstances: 2, coordinationCommandLine: 'begin' } }
    const said = scene.addArray('g', { indexes: [{ start: 0, end: 9999 }], template })
    expect(said.filter((line) => line.startsWith('tell'))).toEqual(
      ['0000', '0000', '0001', '0001'].map((id, i) => `tell a: g/${id}#1${i % 2 === 1 ? '+1' : ''} of 2`),
    )
    const job = scene.state.jobIds.get('g')!
    expect(job.tasks.size).toBeLessThanOrEqual(2 * 4)
    for (let n = 0; n < 5; n += 1) scene.tick(1)
    expect(job.tasks.size).toBeLessThanOrEqual(2 * 4)
    expect(scene.report('a', 'g/0000#1', 0).filter((line) => line.startsWith('tell'))[0]).toBe('tell a: g/0002#1 of 2')
    expect(viewCounts(job).active).toBe(9999)
  })
})
