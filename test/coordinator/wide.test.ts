import { describe, expect, it } from 'vitest'
import { explainTask } from '../../coordinator/explain.ts'
import { Scene } from '../support/scene.ts'

const wide = { id: 'wide', requiredSlots: 2 }
const grants = (out: string[]) => out.filter((line) => line.startsWith('grant'))

/** Machines with two slots each, all busy with small tasks of which more come for ever, and a wide task. */
function stream(...machines: string[]) {
  const scene = new Scene()
  const running = new Map<string, string[]>()
  let last = 0
  scene.addJob({ id: 'j' })
  const note = (name: string, out: string[]) => {
    const granted = grants(out).flatMap((line) => [...line.matchAll(/j\/\S+/g)].map(([attempt]) => attempt))
    running.set(name, [...(running.get(name) ?? []), ...granted])
    return granted
  }
  const addSmall = () => {
    last += 1
    scene.addTasks('j', `s${last}`)
  }
  for (const name of machines) {
    scene.hello(name)
    addSmall()
    addSmall()
    note(name, scene.claim(name, { slots: 2 }))
  }
  scene.addTasks('j', wide)
  return {
    scene,
    addSmall,
    /** A second in which each machine ends one task, and asks with all the room that it has then. */
    second: () => {
      scene.tick(1)
      const granted = []
      for (const name of machines) {
        addSmall()
        const [first] = running.get(name) ?? []
        if (first !== undefined) scene.report(name, first, 0)
        running.set(name, running.get(name)!.slice(1))
        if (running.get(name)!.includes('j/wide#1')) continue
        granted.push(...note(name, scene.claim(name, { slots: 2 - running.get(name)!.length, waitMs: 0 })))
      }
      return granted
    },
  }
}

describe('a task that needs more room than is mostly free', () => {
  it('starts, though small ones keep coming', () => {
    const { second } = stream('a')
    const granted = Array.from({ length: 40 }, () => second())
    expect(granted.findIndex((each) => each.includes('j/wide#1'))).toBe(31)
  })

  it('is passed by small ones until it has waited for half a minute', () => {
    const { second } = stream('a')
    for (let n = 0; n < 29; n += 1) expect(second()).toHaveLength(1)
  })

  it('has one node kept free for it, the others go on with small ones', () => {
    const { scene, second } = stream('a', 'b')
    for (let n = 0; n < 30; n += 1) second()
    expect(scene.state.pools.get('default')!.kept?.node.machine.description.name).toBe('a')
    expect(second()).toHaveLength(1)
  })

  it('is waited for on another node when its own is disconnected', () => {
    const { scene, second } = stream('a', 'b')
    for (let n = 0; n < 30; n += 1) second()
    scene.gone('a')
    scene.claim('b', { slots: 1, waitMs: 0 })
    expect(scene.state.pools.get('default')!.kept?.node.machine.description.name).toBe('b')
  })

  it('lets tasks of jobs with a higher priority go first', () => {
    const { scene, second } = stream('a')
    for (let n = 0; n < 30; n += 1) second()
    scene.addJob({ id: 'urgent', priority: 5 })
    scene.addTasks('urgent', 'u')
    expect(grants(scene.claim('a', { slots: 1, waitMs: 0 }))).toEqual(['grant a: urgent/u#1'])
  })

  it('has no node kept free when it is terminated', () => {
    const { scene, second } = stream('a')
    for (let n = 0; n < 30; n += 1) second()
    scene.ask({ kind: 'terminateTask', jobId: 'j', taskId: 'wide' })
    expect(second()).toHaveLength(1)
  })

  it('has no node kept free that runs nothing and yet has no room for it', () => {
    const scene = new Scene()
    scene.hello('a')
    scene.addJob({ id: 'j' })
    scene.addTasks('j', wide)
    scene.tick(31)
    scene.addTasks('j', 's1', 's2')
    for (const small of ['s1', 's2']) {
      expect(grants(scene.claim('a', { slots: 1 }))).toEqual([`grant a: j/${small}#1`])
      scene.report('a', `j/${small}#1`, 0)
    }
  })

  it('is named as what a node is kept free for', () => {
    const { scene, second } = stream('a')
    for (let n = 0; n < 31; n += 1) second()
    const { details } = explainTask(scene.state, scene.state.jobIds.get('j')!, 's33', scene.now)!
    expect(details).toEqual(['a: kept free for a task of job j that needs 2 slots and has waited long'])
  })
})
