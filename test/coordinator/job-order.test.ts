import { beforeEach, describe, expect, it } from 'vitest'
import type { Event } from '../../coordinator/events.ts'
import { explainPool, explainTask } from '../../coordinator/explain.ts'
import { step } from '../../coordinator/machine.ts'
import { queueState } from '../../coordinator/queue-state.ts'
import { jobSpecSchema } from '../../protocols/model/job.ts'
import { Scene } from '../support/scene.ts'

let scene: Scene

const grantOf = (lines: string[]) => lines.find((line) => line.startsWith('grant'))
const jobOf = (id: string) => scene.state.jobIds.get(id)!
const ends = (id: string) => scene.ask({ kind: 'updateJob', jobId: id, onAllTasksComplete: 'terminatejob' })

/** A job with one task that follows others. */
function follow(id: string, ...dependsOnJobs: { jobId: string; condition: 'afterok' | 'afterany' }[]): string[] {
  const added = scene.addJob({ id, dependsOnJobs })
  if (jobOf(id)?.row.state === 'active') scene.addTasks(id, 't')
  return added
}

function runs(id: string, exitCode: number): void {
  scene.claim('a')
  scene.report('a', `${id}/t#1`, exitCode)
}

beforeEach(() => {
  scene = new Scene()
  scene.hello('a', { cores: 1 })
  scene.addJob({ id: 'first' })
  scene.addTasks('first', 't')
  ends('first')
})

describe('a job that depends on another', () => {
  it('starts nothing until that has ended', () => {
    follow('second', { jobId: 'first', condition: 'afterok' })
    expect(grantOf(scene.claim('a'))).toMatch(/first\/t/)
    expect(explainTask(scene.state, jobOf('second'), 't', scene.now)!.summary).toBe(
      'Task t waits for the end of job first (all its tasks must succeed).',
    )
    expect(scene.claim('a').some((line) => line.includes('second/t'))).toBe(false)
    expect(scene.report('a', 'first/t#1', 0).some((line) => line.startsWith('grant a') && line.includes('second/t'))).toBe(true)
  })

  it('with afterok it ends when that fails, and so do those that depend on it', () => {
    follow('second', { jobId: 'first', condition: 'afterok' })
    follow('third', { jobId: 'second', condition: 'afterok' })
    runs('first', 1)
    for (const id of ['second', 'third'])
      expect(jobOf(id).row).toMatchObject({ state: 'completed', terminateReason: 'DependencyNeverSatisfied' })
  })

  it('with afterany it starts however that ends', () => {
    follow('second', { jobId: 'first', condition: 'afterany' })
    scene.ask({ kind: 'terminateJob', jobId: 'first' })
    expect(grantOf(scene.claim('a'))).toMatch(/second\/t/)
  })

  it('waits for all of several', () => {
    scene.addJob({ id: 'other' })
    follow('second', { jobId: 'first', condition: 'afterok' }, { jobId: 'other', condition: 'afterany' })
    runs('first', 0)
    expect(scene.claim('a', { waitMs: 0 })).toEqual(['grant a: nothing'])
    scene.ask({ kind: 'terminateJob', jobId: 'other' })
    expect(grantOf(scene.claim('a'))).toMatch(/second\/t/)
  })

  it('looks at what has ended before it was added', () => {
    runs('first', 0)
    follow('good', { jobId: 'first', condition: 'afterok' })
    expect(grantOf(scene.claim('a'))).toMatch(/good\/t/)
    expect(follow('bad', { jobId: 'good', condition: 'afterok' })).not.toContain('refuse JobNotFound')
    scene.report('a', 'good/t#1', 2)
    ends('good')
    expect(jobOf('bad').row.terminateReason).toBe('DependencyNeverSatisfied')
  })

  it('is refused where there is no such job', () => {
    expect(scene.addJob({ id: 'lost', dependsOnJobs: [{ jobId: 'nowhere', condition: 'afterok' }] })).toEqual(['refuse JobNotFound'])
  })

  it('a pool of its own gets no nodes before, which the other may need', () => {
    scene.addJob({ id: 'second', poolId: 'p', dependsOnJobs: [{ jobId: 'first', condition: 'afterany' }] })
    expect(
      scene.addPool({ id: 'p', targetDedicatedNodes: 1, poolLifetimeOption: 'job' }).filter((line) => line.startsWith('reserve')),
    ).toEqual([])
    expect(scene.tick(20).filter((line) => line.startsWith('reserve'))).toEqual([])
    expect(scene.ask({ kind: 'terminateJob', jobId: 'first' })).toContain('reserve a: node 1 of p')
  })

  it('with afterok ends when the other never had its turn, though nothing of that failed', () => {
    runs('first', 1)
    scene.addJob({ id: 'second', dependsOnJobs: [{ jobId: 'first', condition: 'afterok' }] })
    expect(jobOf('second').row.finalCounts).toEqual({ active: 0, succeeded: 0, failed: 0 })
    follow('third', { jobId: 'second', condition: 'afterok' })
    expect(jobOf('third').row.terminateReason).toBe('DependencyNeverSatisfied')
  })

  it('without tasks is not done before the other has ended', () => {
    scene.addJob({ id: 'barrier', onAllTasksComplete: 'terminatejob', dependsOnJobs: [{ jobId: 'first', condition: 'afterany' }] })
    follow('last', { jobId: 'barrier', condition: 'afterok' })
    expect(jobOf('barrier').row.state).toBe('active')
    runs('first', 1)
    expect(jobOf('barrier').row.terminateReason).toBe('AllTasksComplete')
    expect(grantOf(scene.claim('a'))).toMatch(/last\/t/)
  })

  it('ends with the first of a line of 20,000', () => {
    const { state, now } = scene
    for (let n = 1; n <= 20_000; n += 1) {
      const spec = jobSpecSchema.parse({ id: `n${n}`, dependsOnJobs: [{ jobId: n === 1 ? 'first' : `n${n - 1}`, condition: 'afterok' }] })
      step(state, { kind: 'addJob', replyTo: n, spec } as Event, now)
    }
    step(state, { kind: 'deleteJob', replyTo: 0, jobId: 'first' }, now)
    expect(jobOf('n20000').row.state).toBe('completed')
  })

  it('that is deleted is forgotten by the one that it waited for', () => {
    follow('second', { jobId: 'first', condition: 'afterok' })
    scene.ask({ kind: 'deleteJob', jobId: 'second' })
    expect(jobOf('first').followers.size).toBe(0)
  })

  it('says so when it is asked as a whole, with or without tasks', () => {
    scene.addJob({ id: 'second', dependsOnJobs: [{ jobId: 'first', condition: 'afterany' }] })
    const details = () => queueState(scene.state, jobOf('second'), scene.now).details
    expect(details()).toEqual(['All of it waits for the end of job first.'])
    scene.addTasks('second', 't')
    expect(details()).toEqual(['All of it waits for the end of job first.'])
  })

  it('gives the nodes of its own pool back while it waits, and its pool says why it has none', () => {
    const own = (id: string, more: object) => scene.addJob({ id, poolId: 'p', ...more })
    own('now', {})
    scene.addPool({ id: 'p', targetDedicatedNodes: 1, poolLifetimeOption: 'job' })
    scene.grantAll()
    own('later', { dependsOnJobs: [{ jobId: 'first', condition: 'afterany' }] })
    scene.ask({ kind: 'terminateJob', jobId: 'now' })
    expect(scene.tick(1)).toContain('release a: node 1')
    expect(explainPool(scene.state, scene.state.pools.get('p')!)).toEqual({
      summary: 'Pool p has 0 of 1 nodes: no job of it may run yet.',
      details: ['job later waits for the end of job first'],
    })
    expect(scene.ask({ kind: 'terminateJob', jobId: 'first' })).toContain('reserve a: node 2 of p')
  })

  it('leaves its own pool the whole time to get nodes', () => {
    scene.addJob({ id: 'second', poolId: 'p', dependsOnJobs: [{ jobId: 'first', condition: 'afterany' }] })
    scene.addPool({ id: 'p', targetDedicatedNodes: 1, poolLifetimeOption: 'job', resizeTimeoutMs: 10_000 })
    scene.tick(20)
    scene.ask({ kind: 'terminateJob', jobId: 'first' })
    scene.tick(2)
    const { row } = scene.state.pools.get('p')!
    expect([row.allocationState, row.resizeErrors]).toEqual(['resizing', []])
  })

  it('still waits after a restart of the coordinator', async () => {
    follow('second', { jobId: 'first', condition: 'afterok' })
    scene.restart()
    scene.hello('a')
    expect(jobOf('second').row.waitingFor).toHaveLength(1)
    expect(grantOf(scene.claim('a'))).toMatch(/first\/t/)
    scene.report('a', 'first/t#1', 0)
    expect(grantOf(scene.claim('a'))).toMatch(/second\/t/)
  })
})
