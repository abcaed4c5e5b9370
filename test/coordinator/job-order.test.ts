import { beforeEach, describe, expect, it } from 'vitest'
import { explainTask } from '../../coordinator/explain.ts'
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
    expect(explainTask(scene.state, jobOf('second'), 't', scene.now)!.summary).toBe('Task t waits for the end of job first.')
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
