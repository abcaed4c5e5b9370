import { describe, expect, it } from 'vitest'
import { isUnsettled } from '../../coordinator/machine.ts'
import { Scene, type TaskInput } from '../support/scene.ts'

const ids = ['t1', 't2', 't3', 't4', 't5', 't6', 't7']
const retracts = (out: string[]) => out.filter((line) => line.startsWith('retract'))

/** `a` runs t1 and holds t2, t3 and t4 unstarted; `b` runs the other three; nothing is left. */
function hoarding(tasks: TaskInput[] = ids): Scene {
  const scene = new Scene()
  scene.hello('a', { labels: { gpu: 'yes' }, cores: 4 })
  scene.hello('b', { cores: 4 })
  scene.addJob({ id: 'j' })
  scene.addTasks('j', ...tasks.slice(0, 4))
  scene.addTasks('j', ...tasks.slice(4))
  scene.claim('a', { prefetch: 3 })
  scene.started('a', 'j/t1#1')
  scene.claim('b', { slots: 3 })
  return scene
}

describe('tasks that a machine holds unstarted', () => {
  it('are taken back for a machine that waits, as many as it can use', () => {
    const scene = hoarding()
    scene.claim('b')
    expect(retracts(scene.tick(1))).toEqual(['retract a: j/t4#1'])
  })

  it('are taken back up to half of what the machine holds', () => {
    const scene = hoarding()
    scene.claim('b', { slots: 4 })
    expect(retracts(scene.tick(1))).toEqual(['retract a: j/t4#1 j/t3#1'])
  })

  it('are left where they are for a machine that could not run them', () => {
    const scene = hoarding(ids.map((id, n) => (n < 4 ? { id, resources: { labels: { gpu: 'yes' } } } : id)))
    scene.claim('b', { slots: 4 })
    expect(retracts(scene.tick(3))).toEqual([])
  })

  it('are left where they are for a machine that only wants more to hold ready', () => {
    const scene = hoarding()
    scene.claim('b', { slots: 0, prefetch: 4 })
    expect(retracts(scene.tick(3))).toEqual([])
  })

  it('are taken back from several machines at once, for several', () => {
    const scene = new Scene()
    const names = ['a', 'b', 'c', 'd']
    for (const name of names) scene.hello(name)
    scene.addJob({ id: 'j' })
    scene.addTasks('j', ...Array.from({ length: 8 }, (_, n) => `t${n + 1}`))
    for (const name of ['a', 'b']) scene.claim(name, { prefetch: 1 })
    for (const name of ['c', 'd']) scene.claim(name, { slots: 2 })
    for (const name of ['c', 'd']) scene.claim(name, { slots: 1 })
    expect(retracts(scene.tick(1))).toEqual(['retract a: j/t2#1', 'retract b: j/t4#1'])
  })
})

describe('claims that wait', () => {
  it('are served in the order they came', () => {
    const scene = new Scene()
    for (const name of ['a', 'b', 'c']) scene.hello(name)
    for (const name of ['c', 'a', 'b']) scene.claim(name)
    scene.addJob({ id: 'j' })
    expect(scene.addTasks('j', 't1', 't2').filter((line) => line.startsWith('grant'))).toEqual(['grant c: j/t1#1', 'grant a: j/t2#1'])
  })

  it('are served over several turns when they are many', () => {
    const scene = new Scene()
    for (const name of ['a', 'b', 'c']) scene.hello(name, { cores: 512 })
    for (const name of ['a', 'b', 'c']) scene.claim(name, { slots: 512 })
    scene.addJob({ id: 'j' })
    const grants = (out: string[]) => out.filter((line) => line.startsWith('grant')).map((line) => line.slice(0, 7))
    expect(grants(scene.addArray('j', { indexes: [{ start: 0, end: 1999 }] }))).toEqual(['grant a', 'grant b'])
    expect(isUnsettled(scene.state)).toBe(true)
    expect(grants(scene.heartbeat('a'))).toEqual(['grant c'])
    expect(isUnsettled(scene.state)).toBe(false)
  })

  it('are served when a job comes below its limit of parallel tasks', () => {
    const scene = new Scene()
    for (const name of ['a', 'b']) scene.hello(name)
    scene.addJob({ id: 'j', maxParallelTasks: 1 })
    scene.addTasks('j', 't1', 't2')
    scene.claim('a')
    scene.claim('b')
    expect(scene.report('a', 'j/t1#1', 0)).toContain('grant b: j/t2#1')
  })
})
