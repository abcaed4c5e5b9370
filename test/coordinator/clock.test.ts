/** The coordinator's wall clock is set by hours while machines go on as before (L3). */
import { beforeEach, describe, expect, it } from 'vitest'
import { Scene } from '../support/scene.ts'

const hourS = 3600
let scene: Scene

beforeEach(() => {
  scene = new Scene()
  scene.set(24 * hourS)
  scene.hello('a')
  scene.addJob({ id: 'j' })
  scene.addTasks('j', 't')
  scene.claim('a')
  scene.started('a', 'j/t#1')
  scene.tick(5)
})

describe.each([
  ['ahead', 5 * hourS],
  ['back', -5 * hourS],
])('L3: a clock that is set %s by hours', (_, jumpS) => {
  it('ends no lease of a machine that goes on', () => {
    scene.set(jumpS)
    expect(scene.tick(60)).toEqual([])
    expect(scene.report('a', 'j/t#1', 0)).toContain('verdict accepted')
  })

  it('gives a silent machine a full window, and no more', () => {
    scene.silence('a')
    scene.set(jumpS)
    expect(scene.tick(25).join('\n')).not.toContain('given up')
    // Reckoned from when the task says that it began, it may be the longest window.
    expect(scene.tick(600).join('\n')).toContain('row j/t active')
  })

  it('lets a claim wait as long as it asked to', () => {
    scene.claim('a', { id: 'c2', waitMs: 20_000 })
    scene.set(jumpS)
    expect(scene.tick(15)).toEqual([])
    expect(scene.tick(10)).toEqual(['grant a: nothing'])
  })

  it('M1: holds nodes for a gang that has waited long enough, and asks machines for nodes', () => {
    scene.hello('b')
    scene.hello('c')
    scene.addPool({
      id: 'p',
      vmSize: 'cores=1,memory=1GiB',
      targetDedicatedNodes: 2,
      enableInterNodeCommunication: true,
    })
    scene.grantAll()
    const nodes = [...scene.state.pools.get('p')!.nodes.values()]
    expect(nodes.map(({ ready }) => ready)).toEqual([true, true])
    scene.addJob({ id: 'g', poolId: 'p' })
    scene.addTasks('g', 'small')
    const { row, machine } = nodes[0]!
    scene.claim(scene.nameOf(machine.peer), { nodes: [row.nodeId] })
    scene.addTasks('g', { id: 'gang', multiInstanceSettings: { numberOfInstances: 2, coordinationCommandLine: 'true' } })
    scene.set(jumpS)
    scene.tick(11)
    expect(nodes.map(({ heldFor }) => heldFor?.id)).toEqual(['gang', 'gang'])
    scene.ask({ kind: 'resizePool', poolId: 'p', targetDedicatedNodes: 3, nodeDeallocationOption: 'requeue' })
    expect(scene.state.pools.get('p')!.nodes.size).toBe(3)
  })
})

describe('a start of the coordinator', () => {
  it('L3 L6: with a clock that is hours older gives restored leases a full window, and goes on with them', () => {
    scene.restart(-5 * hourS)
    expect(scene.tick(25).join('\n')).not.toContain('active')
    scene.hello('a', { inventory: [{ attempt: 'j/t#1', state: 'running' }] })
    expect(scene.tick(60)).toEqual([])
    expect(scene.report('a', 'j/t#1', 0)).toContain('verdict accepted')
  })

  it('L3: with an older clock takes back what no machine names when the window is over', () => {
    scene.restart(-5 * hourS)
    expect(scene.tick(40).join('\n')).toContain('row j/t active')
  })
})
