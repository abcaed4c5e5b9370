import { describe, expect, it } from 'vitest'
import { eligible, explainTask } from '../../coordinator/explain.ts'
import { inputsOf } from '../../coordinator/homes.ts'
import { maxLosses } from '../../coordinator/tasks.ts'
import { taskSpecSchema } from '../../protocols/model/task.ts'
import { taskArraySchema } from '../../protocols/model/task-array.ts'
import { Scene } from '../support/scene.ts'

const blob = (letter: string) => `b${letter.repeat(58)}`
const call = { commandLine: '', thread: { module: blob('m') } }

function setup() {
  const scene = new Scene()
  scene.hello('old')
  scene.addJob({ id: 'j', constraints: { maxTaskRetryCount: 1 } })
  scene.addTasks('j', { id: 'f', ...call })
  return { scene, job: scene.state.jobIds.get('j')!, pool: scene.state.pools.get('default')! }
}

const hostLost = { failureInfo: { category: 'servererror' as const, code: 'ThreadHostLost' as const, message: 'the host process died' } }

describe('a thread task', () => {
  it('goes only to machines that say that they run such tasks', () => {
    const { scene } = setup()
    scene.addTasks('j', 'plain')
    expect(scene.claim('old', { slots: 4 }).at(-1)).toBe('grant old: j/plain#1')
    scene.hello('new', { features: ['threads'] })
    expect(scene.claim('new').at(-1)).toBe('grant new: j/f#1')
  })

  it('of an array does so too', () => {
    const { scene } = setup()
    scene.addArray('j', { indexes: [{ start: 0, end: 1 }], template: call })
    expect(scene.claim('old', { slots: 4 })).toEqual([])
    scene.hello('new', { features: ['threads'] })
    expect(scene.claim('new', { slots: 4 }).at(-1)).toBe('grant new: j/f#1 j/0000#1 j/0001#1')
  })

  it('is explained where no machine can run it', () => {
    const { scene, job, pool } = setup()
    const why = explainTask(scene.state, job, 'f', scene.now)!
    expect(why.summary).toBe('Task f waits: a thread task needs a machine of version 0.2 or later, and the pool has none.')
    expect(why.details).toEqual(['old: runs no thread tasks (that takes version 0.2 or later)'])
    const kind = { slots: 1, demand: {}, thread: true }
    expect(eligible(pool, kind)).toEqual({ machines: [], details: ['old: runs no thread tasks (that takes version 0.2 or later)'] })
    scene.hello('new', { features: ['threads'] })
    expect(eligible(pool, kind).machines).toEqual([{ name: 'new', slots: 2 }])
    expect(eligible(pool, { ...kind, thread: false }).machines).toHaveLength(2)
    expect(explainTask(scene.state, job, 'f', scene.now)!.summary).toMatch(/^Task f waits for its turn/)
  })

  it('C1: that lost its host process spends no retry, and its machine is not left out', () => {
    const { scene, job } = setup()
    scene.hello('new', { features: ['threads'] })
    for (let epoch = 1; epoch <= 4; epoch += 1) {
      scene.claim('new')
      expect(scene.report('new', `j/f#${epoch}`, undefined, hostLost).at(-1)).toBe('verdict accepted')
    }
    expect(scene.status('j', 'f')).toMatchObject({ state: 'active', retryCount: 0, requeueCount: 4, losses: 4, lastEnd: 'reported' })
    expect(job.row.excluded).toEqual([])
    // Its own failure still has its retry.
    scene.claim('new')
    scene.report('new', 'j/f#5', 1)
    expect(scene.status('j', 'f')).toMatchObject({ state: 'active', retryCount: 1, losses: 4 })
  })

  it('C1: that keeps losing its host process fails in the end', () => {
    const { scene } = setup()
    scene.hello('new', { features: ['threads'] })
    for (let epoch = 1; epoch <= maxLosses; epoch += 1) {
      scene.claim('new')
      scene.report('new', `j/f#${epoch}`, undefined, hostLost)
    }
    expect(scene.status('j', 'f')).toMatchObject({ state: 'completed', result: 'failure', losses: maxLosses, retryCount: 0 })
  })

  it('that ends its thread with exit code 127 has failed: its program was there', () => {
    const { scene, job } = setup()
    scene.hello('new', { features: ['threads'] })
    scene.hello('newer', { features: ['threads'] })
    scene.claim('new')
    scene.report('new', 'j/f#1', 127)
    expect(scene.status('j', 'f')).toMatchObject({ state: 'active', retryCount: 1, requeueCount: 0 })
    expect(job.misses.size).toBe(0)
  })
})

describe('inputs that are kept at a job’s home', () => {
  it('are those of files, of functions and their arguments, and of a template once', () => {
    const args = { blob: blob('a'), size: 100_000 }
    const spec = taskSpecSchema.parse({ id: 'f', thread: { module: blob('m'), args }, resourceFiles: [{ filePath: 'x', blob: blob('x') }] })
    expect([...inputsOf([spec])].sort()).toEqual([blob('a'), blob('m'), blob('x')])
    const array = taskArraySchema.parse({ indexes: [{ start: 0, end: 9 }], template: { ...call, thread: { module: blob('m') } } })
    expect([...inputsOf([array.template])]).toEqual([blob('m')])
  })
})
