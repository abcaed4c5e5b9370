import { beforeEach, describe, expect, it } from 'vitest'
import { viewCounts } from '../../coordinator/view.ts'
import { Scene } from '../support/scene.ts'

let scene: Scene

const counts = (id: string) => viewCounts(scene.state.jobIds.get(id)!)
const grantOf = (lines: string[]) => lines.find((line) => line.startsWith('grant'))

beforeEach(() => {
  scene = new Scene()
  scene.hello('a', { cores: 8 })
})

describe('jobs', () => {
  it('a job that asks for it ends with its last task', () => {
    scene.addJob({ id: 'j' })
    scene.addTasks('j', 't')
    scene.ask({ kind: 'updateJob', jobId: 'j', onAllTasksComplete: 'terminatejob' })
    scene.claim('a')
    expect(scene.report('a', 'j/t#1', 0)).toEqual([
      'row j/t completed epoch=1 lastEnd=reported result=success',
      'watch j/t completed epoch=1 end=success',
      'verdict accepted',
      'row job j completed reason=AllTasksComplete',
      'watch j',
    ])
  })

  it('one that was deleted while a machine was away is forgotten there at its next hello, and no other', () => {
    scene.addJob({ id: 'old' })
    scene.addJob({ id: 'there' })
    const [old, there] = ['old', 'there'].map((id) => scene.state.jobIds.get(id)!.row.uid)
    scene.gone('a')
    scene.ask({ kind: 'deleteJob', jobId: 'old' })
    expect(scene.hello('a', { jobs: [old!, there!] }).at(-1)).toBe(`forget a: ${old}`)
    expect(scene.hello('a', { jobs: [there!] }).at(-1)).toMatch(/^welcome/)
  })

  it('an empty one ends at once', () => {
    expect(scene.addJob({ id: 'j', onAllTasksComplete: 'terminatejob' })).toContain('row job j completed reason=AllTasksComplete')
  })

  it('a terminated job completes what runs, leaves the rest active, and takes no more', () => {
    scene.addJob({ id: 'j' })
    scene.addTasks('j', 't1', 't2')
    scene.claim('a')
    scene.started('a', 'j/t1#1')
    scene.ask({ kind: 'terminateJob', jobId: 'j' })
    expect(counts('j')).toEqual({ active: 1, running: 0, completed: 1, succeeded: 0, failed: 1 })
    expect(scene.addTasks('j', 't3')).toEqual(['refuse JobCompleted'])
    expect(scene.claim('a', { waitMs: 0 })).toEqual(['grant a: nothing'])
  })

  it('a terminated job leaves active what a machine holds and has not begun; what it says of it later counts for nothing (L2)', () => {
    scene.addJob({ id: 'j' })
    scene.addTasks('j', 't1')
    scene.claim('a')
    expect(scene.ask({ kind: 'terminateJob', jobId: 'j' })).toContainEqual(expect.stringMatching(/^stop a: j\/t1#1/))
    expect(counts('j')).toEqual({ active: 1, running: 0, completed: 0, succeeded: 0, failed: 0 })
    expect(scene.report('a', 'j/t1#1', 0)).toEqual(['verdict refused'])
    expect(counts('j')).toEqual({ active: 1, running: 0, completed: 0, succeeded: 0, failed: 0 })
  })

  it('its counts are the same after a restart', () => {
    scene.addJob({ id: 'j' })
    scene.addTasks('j', 't1', 't2')
    scene.claim('a')
    scene.ask({ kind: 'terminateJob', jobId: 'j' })
    const before = counts('j')
    scene.restart()
    expect(counts('j')).toEqual(before)
  })

  it('a deleted job frees its id, and its number is never used again (L2)', () => {
    scene.addJob({ id: 'j' })
    scene.addTasks('j', 't')
    scene.claim('a')
    scene.ask({ kind: 'deleteJob', jobId: 'J' })
    expect([...scene.rows.keys()].filter((key) => key.startsWith('spec/') || key.startsWith('stat/'))).toEqual([])
    scene.restart()
    scene.addJob({ id: 'j' })
    expect(scene.uidOf('j')).toBe(2)
  })

  it('wall clock and retention end and delete a job', () => {
    scene.addJob({ id: 'j', constraints: { maxWallClockTimeMs: 5000 }, retentionTimeMs: 3000 })
    expect(scene.tick(5)).toContain('row job j completed reason=MaxWallClockTimeExpiry')
    expect(scene.tick(3)).toContain('purge j')
  })

  it('a job may be added before its pool', () => {
    scene.addJob({ id: 'j', poolId: 'later' })
    scene.addTasks('j', 't')
    scene.addPool({ id: 'Later', targetDedicatedNodes: 1 })
    scene.grantAll()
    expect(grantOf(scene.claim('a', { nodes: [...scene.state.pools.get('later')!.nodes.keys()] }))).toBe('grant a: j/t#1')
  })

  it('ids of tasks are compared without case, and kept as given', () => {
    scene.addJob({ id: 'j' })
    expect(scene.addTasks('j', 'Task', 'tASK').find((line) => line.startsWith('answer'))).toBe('answer Task added, tASK TaskExists')
    scene.claim('a')
    expect(scene.report('a', 'j/TASK#1', 0)).toContain('watch j/Task completed epoch=1 end=success')
  })
})

describe('dependencies', () => {
  beforeEach(() => {
    scene.addJob({ id: 'd', usesTaskDependencies: true })
  })

  it('a task runs when all its parents have succeeded, by id and by range', () => {
    scene.addTasks('d', { id: 'child', dependsOn: { taskIds: ['P'], taskIdRanges: [{ start: 1, end: 2 }] } }, '1', '2', 'p')
    scene.claim('a', { slots: 3 })
    scene.report('a', 'd/1#1', 0)
    scene.report('a', 'd/p#1', 0)
    scene.claim('a')
    expect(grantOf(scene.report('a', 'd/2#1', 0))).toBe('grant a: d/child#1')
  })

  it('numbers with leading zeros fill the same place of a range once', () => {
    scene.addTasks('d', { id: 'child', dependsOn: { taskIdRanges: [{ start: 1, end: 2 }] } }, '1', '01', '02')
    scene.claim('a', { slots: 3 })
    scene.report('a', 'd/1#1', 0)
    scene.report('a', 'd/01#1', 0)
    expect(scene.claim('a', { waitMs: 0 })).toEqual(['grant a: nothing'])
    scene.report('a', 'd/02#1', 0)
    expect(grantOf(scene.claim('a'))).toBe('grant a: d/child#1')
  })

  it('a failed parent blocks its children until it is reactivated and succeeds', () => {
    scene.addTasks('d', { id: 'child', dependsOn: { taskIds: ['p'] } }, 'p')
    scene.claim('a')
    scene.report('a', 'd/p#1', 1)
    expect(scene.claim('a', { waitMs: 0 })).toEqual(['grant a: nothing'])
    scene.reactivate('d', 'p')
    scene.claim('a')
    scene.report('a', 'd/p#2', 0)
    expect(grantOf(scene.claim('a'))).toBe('grant a: d/child#1')
  })

  it('a restart finds what still waits, and what waits no more', () => {
    scene.addTasks(
      'd',
      { id: 'c1', dependsOn: { taskIds: ['p1'] } },
      { id: 'c2', dependsOn: { taskIdRanges: [{ start: 1, end: 2 }] } },
      'p1',
      '1',
      '2',
    )
    scene.claim('a', { slots: 3 })
    scene.report('a', 'd/p1#1', 0)
    scene.report('a', 'd/1#1', 0)
    scene.restart()
    scene.hello('a', { inventory: [{ attempt: 'd/2#1' }] })
    expect(grantOf(scene.claim('a', { slots: 5 }))).toBe('grant a: d/c1#1')
    scene.report('a', 'd/2#1', 0)
    expect(grantOf(scene.claim('a'))).toBe('grant a: d/c2#1')
  })

  it('a task that was ended while it waited waits again when it is reactivated', () => {
    scene.addTasks('d', { id: 'child', dependsOn: { taskIds: ['p'] } }, 'p')
    scene.ask({ kind: 'terminateTask', jobId: 'd', taskId: 'child' })
    scene.reactivate('d', 'child')
    expect(grantOf(scene.claim('a', { slots: 5 }))).toBe('grant a: d/p#1')
    scene.report('a', 'd/p#1', 0)
    expect(grantOf(scene.claim('a'))).toBe('grant a: d/child#2')
  })

  it('a task that depends on itself is refused: it would wait for ever', () => {
    scene.addJob({ id: 'self', usesTaskDependencies: true })
    const refused = (task: Parameters<typeof scene.addTasks>[1]) => scene.addTasks('self', task)[0]
    expect(refused({ id: 'X', dependsOn: { taskIds: ['a', 'x'] } })).toBe('answer X InvalidPropertyValue')
    expect(refused({ id: '007', dependsOn: { taskIdRanges: [{ start: 1, end: 7 }] } })).toBe('answer 007 InvalidPropertyValue')
    expect(refused({ id: '008', dependsOn: { taskIdRanges: [{ start: 1, end: 7 }] } })).not.toContain('InvalidPropertyValue')
  })

  it('are refused where the job does not use them, and where a range runs backwards', () => {
    scene.addJob({ id: 'plain' })
    const backwards = { id: 'x', dependsOn: { taskIdRanges: [{ start: 2, end: 1 }] } }
    expect(scene.addTasks('plain', { id: 'x', dependsOn: { taskIds: ['y'] } })[0]).toBe('answer x TaskDependenciesNotSpecifiedOnJob')
    expect(scene.addTasks('d', backwards)[0]).toBe('answer x InvalidPropertyValue')
  })
})

describe('a missing program', () => {
  beforeEach(() => {
    scene.hello('b', { cores: 8 })
    scene.addJob({ id: 'j' })
    scene.addTasks('j', 't1', 't2', 't3', 't4')
  })

  it('is tried elsewhere, spends no retry, and leaves the machine out after three', () => {
    scene.claim('a', { slots: 3 })
    for (const task of ['t1', 't2', 't3']) scene.report('a', `j/${task}#1`, 127)
    expect(scene.status('j', 't1')).toMatchObject({ state: 'active', retryCount: 0 })
    expect(scene.claim('a', { waitMs: 0, slots: 4 })).toEqual(['grant a: nothing'])
    scene.restart()
    scene.hello('a')
    scene.hello('b')
    expect(scene.claim('a', { waitMs: 0, slots: 4 })).toEqual(['grant a: nothing'])
    expect(grantOf(scene.claim('b', { slots: 4 }))).toContain('j/t4#1')
  })

  it('is an ordinary failure where a program of the job ran before', () => {
    scene.claim('a', { slots: 2 })
    scene.report('a', 'j/t1#1', 0)
    scene.report('a', 'j/t2#1', 127)
    expect(scene.status('j', 't2')).toMatchObject({ state: 'completed', result: 'failure' })
  })

  it('is an ordinary failure where no other machine could run the task', () => {
    scene.hello('big', { cores: 64, labels: { size: 'big' } })
    scene.addTasks('j', { id: 'wide', requiredSlots: 32, resources: { labels: { size: 'big' } } })
    scene.claim('big', { slots: 64 })
    scene.report('big', 'j/wide#1', 127)
    expect(scene.status('j', 'wide')).toMatchObject({ state: 'completed', result: 'failure' })
  })
})

describe('a restart', () => {
  it('gives nothing twice: leases stand until their machines have spoken', () => {
    scene.hello('b')
    scene.addJob({ id: 'j' })
    scene.addTasks('j', 't1', 't2')
    scene.claim('a')
    scene.restart()
    scene.hello('b')
    expect(grantOf(scene.claim('b', { slots: 5 }))).toBe('grant b: j/t2#1')
  })

  it('L2: epochs go on', () => {
    scene.addJob({ id: 'j', constraints: { maxTaskRetryCount: 5 } })
    scene.addTasks('j', 't')
    scene.claim('a')
    scene.report('a', 'j/t#1', 1)
    scene.restart()
    scene.hello('a')
    expect(grantOf(scene.claim('a'))).toBe('grant a: j/t#2')
    expect(scene.status('j', 't')).toMatchObject({ retryCount: 1 })
  })

  it('L2: a late report is accepted or refused as it would have been before', () => {
    scene.addJob({ id: 'j' })
    scene.addTasks('j', 't1', 't2')
    scene.claim('a', { slots: 2 })
    scene.started('a', 'j/t1#1', 'j/t2#1')
    scene.ask({ kind: 'terminateTask', jobId: 'j', taskId: 't2' })
    scene.gone('a', true)
    scene.restart()
    scene.hello('a', { incarnation: 2 })
    expect(scene.report('a', 'j/t1#1', 0).at(-1)).toBe('verdict accepted')
    expect(scene.report('a', 'j/t2#1', 0)).toEqual(['verdict refused'])
  })

  it('a pool has its nodes again when their machines say so', () => {
    scene.addPool({ id: 'p', targetDedicatedNodes: 2 })
    scene.grantAll()
    scene.restart()
    expect(scene.hello('a').find((line) => line.startsWith('welcome'))).toBe(
      'welcome keep [] nodes [tvm-1-achine-a tvm-2-achine-a tvm-er-machine-a]',
    )
  })

  it('a machine holds to the coordinator that started last', () => {
    scene.restart()
    scene.restart()
    expect(scene.state.mesh.ownerEpoch).toBe(3)
  })
})
