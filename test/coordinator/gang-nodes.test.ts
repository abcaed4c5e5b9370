import { beforeEach, describe, expect, it } from 'vitest'
import { explainTask } from '../../coordinator/explain.ts'
import { type HelloInput, Scene, type TaskInput } from '../support/scene.ts'

let scene: Scene
beforeEach(() => {
  scene = new Scene()
})

const openmpi = (version: string): HelloInput => ({ cores: 1, mpi: [{ flavor: 'openmpi', version }] })

/** Machines with as many nodes of pool `p` as they have cores. */
function mesh(machines: Record<string, HelloInput>): void {
  let nodes = 0
  for (const [name, input] of Object.entries(machines)) {
    scene.hello(name, { cores: 1, ...input })
    nodes += input.cores ?? 1
  }
  scene.addPool({ id: 'p', targetDedicatedNodes: nodes, enableInterNodeCommunication: true })
  scene.grantAll()
  scene.addJob({ id: 'j', poolId: 'p', constraints: { maxTaskRetryCount: 5 } })
}

function gang(id: string, numberOfInstances: number, more: { mpi?: 'openmpi' | 'mpich' } = {}): TaskInput {
  return { id, multiInstanceSettings: { numberOfInstances, coordinationCommandLine: 'begin', ...more } }
}

/** The machines that members of a gang were told to start on, as often as it has members there. */
function startedOn(lines: string[]): string {
  return lines.flatMap((line) => /^tell (\w+):/.exec(line)?.[1] ?? []).join(' ')
}

const nodes = () => [...scene.state.pools.get('p')!.nodes.values()]
const heldBy = () => nodes().flatMap((node) => (node.heldFor === undefined ? [] : [`${node.machine.description.name}:${node.heldFor.id}`]))

/** A small task on each node of these machines, which goes on until it is reported. */
function occupy(...names: string[]): void {
  scene.addJob({ id: 'small', poolId: 'p' })
  scene.addTasks('small', ...names.map((name) => `on-${name}`))
  for (const name of names) {
    const node = nodes().find(({ machine }) => machine.description.name === name)!
    scene.claim(name, { nodes: [node.row.nodeId] })
  }
  for (const name of names) scene.started(name, `small/${runningOn(name)}#1`)
}

function runningOn(name: string): string {
  const [lease] = nodes().find(({ machine }) => machine.description.name === name)!.leases
  return lease!.task.id
}

const why = (id: string) => explainTask(scene.state, scene.state.jobIds.get('j')!, id, scene.now)!

describe('a gang that asks for an MPI', () => {
  it('starts on nodes that have it in one version, on the smallest set that is large enough', () => {
    mesh({ a: openmpi('4.1.4'), b: openmpi('4.1.4'), c: openmpi('4.1.4'), d: openmpi('4.1.6'), e: openmpi('4.1.6'), f: {} })
    expect(startedOn(scene.addTasks('j', gang('g', 2, { mpi: 'openmpi' })))).toBe('d e')
    expect(startedOn(scene.addTasks('j', gang('h', 3, { mpi: 'openmpi' })))).toBe('a b c')
  })

  it('waits while no set is large enough, and explain names what there is', () => {
    mesh({ a: openmpi('4.1.4'), b: openmpi('4.1.4'), c: openmpi('4.1.6'), d: { mpi: [{ flavor: 'mpich', version: '4.0.2' }] } })
    expect(startedOn(scene.addTasks('j', gang('g', 3, { mpi: 'openmpi' }), gang('h', 2, { mpi: 'mpich' })))).toBe('')
    scene.tick(20)
    expect(why('g').summary).toBe('Task g waits: it needs 3 nodes with the same Open MPI; the pool has 2 with 4.1.4 and 1 with 4.1.6.')
    expect(why('h').summary).toBe('Task h waits: it needs 2 nodes with the same MPICH; the pool has 1 with 4.0.2.')
    expect(why('g').details).toEqual([
      'a: fits (Open MPI 4.1.4); 0 of 1 slot is taken',
      'b: fits (Open MPI 4.1.4); 0 of 1 slot is taken',
      'c: fits (Open MPI 4.1.6); 0 of 1 slot is taken',
      'd: does not have Open MPI',
    ])
    expect(heldBy()).toEqual([])
  })

  it('where nobody has it explain says so', () => {
    mesh({ a: {}, b: {} })
    scene.addTasks('j', gang('g', 2, { mpi: 'openmpi' }))
    expect(why('g').summary).toBe('Task g waits: it needs 2 nodes with the same Open MPI; no node of the pool that fits has it.')
  })

  it('is known to ask for it after a restart', () => {
    mesh({ a: openmpi('4.1.4'), b: openmpi('4.1.6') })
    scene.addTasks('j', gang('g', 2, { mpi: 'openmpi' }))
    scene.restart()
    scene.hello('a')
    expect(startedOn(scene.hello('b'))).toBe('')
    scene.hello('c', openmpi('4.1.6'))
    scene.ask({ kind: 'resizePool', poolId: 'p', targetDedicatedNodes: 3, nodeDeallocationOption: 'requeue' })
    expect(startedOn(scene.grantAll())).toBe('b c')
  })

  it('M1: holds nodes of one version only, and goes on holding the same', () => {
    mesh({ a: openmpi('4.1.4'), b: openmpi('4.1.4'), c: openmpi('4.1.6'), d: openmpi('4.1.6'), e: openmpi('4.1.6') })
    occupy('a', 'b', 'c', 'd', 'e')
    scene.addTasks('j', gang('g', 2, { mpi: 'openmpi' }))
    scene.tick(11)
    const held = heldBy()
    expect(held).toEqual(['c:g', 'd:g'])
    // Elsewhere nodes become idle, one of each version: neither makes a pair of its own.
    scene.report('a', `small/${runningOn('a')}#1`, 0)
    expect(startedOn(scene.tick(2))).toBe('')
    expect(heldBy()).toEqual(held)
    expect(why('g').summary).toBe(
      'Task g waits for its turn: it needs 2 nodes at once; of 5 that fit 1 is idle; 2 get nothing else until it starts.',
    )
    scene.report('c', `small/${runningOn('c')}#1`, 0)
    expect(startedOn(scene.report('d', `small/${runningOn('d')}#1`, 0))).toBe('c d')
  })
})

describe('a gang that asks for no MPI', () => {
  it('prefers nodes that agree', () => {
    mesh({ a: openmpi('4.1.4'), b: openmpi('4.1.6'), c: openmpi('4.1.6'), d: {} })
    expect(startedOn(scene.addTasks('j', gang('g', 2)))).toBe('b c')
  })

  it('takes any rather than waiting', () => {
    mesh({ a: openmpi('4.1.4'), b: openmpi('4.1.6'), c: {} })
    expect(startedOn(scene.addTasks('j', gang('g', 3)))).toBe('a b c')
  })

  it('of functions looks for no MPI at all', () => {
    const features = ['threads']
    mesh({ a: { features, cores: 3 }, b: { ...openmpi('4.1.6'), features, cores: 2 }, c: { ...openmpi('4.1.6'), features, cores: 1 } })
    const thread = { module: `b${'a'.repeat(58)}`, name: 'work.js', export: 'default' }
    expect(startedOn(scene.addTasks('j', { id: 'g', commandLine: '', thread, multiInstanceSettings: { numberOfInstances: 3 } }))).toBe(
      'a a a',
    )
  })
})

describe('the nodes of a gang', () => {
  it.each([
    [1, 'c'],
    [2, 'b b'],
    [3, 'a a a'],
    [4, 'a a a a'],
    [5, 'a a a a c'],
    [6, 'a a a a b b'],
  ])('of %i are on the fewest machines, the last of them just large enough: %s', (size, machines) => {
    mesh({ a: { cores: 4 }, b: { cores: 2 }, c: { cores: 1 }, d: { cores: 1 } })
    expect(startedOn(scene.addTasks('j', gang('g', size)))).toBe(machines)
  })

  it('are on no machine that missed a heartbeat, until it speaks again', () => {
    mesh({ a: {}, b: {} })
    scene.silence('b')
    scene.tick(9)
    expect(startedOn(scene.addTasks('j', gang('g', 2)))).toBe('')
    expect(startedOn(scene.heartbeat('b'))).toBe('')
    expect(startedOn(scene.tick(1))).toBe('a b')
  })
})

describe('M1: no gang waits for ever', () => {
  it('behind one of its own class that is tried again and again', () => {
    mesh({ a: {}, b: {} })
    scene.addTasks('j', gang('bad', 2))
    scene.tick(1)
    scene.addTasks('j', gang('good', 2))
    scene.tick(1)
    expect(startedOn(scene.report('a', 'j/bad#1', 1))).toBe('a b')
    expect(scene.status('j', 'good')).toMatchObject({ state: 'running' })
  })

  it('behind small tasks, also when it is one of an array', () => {
    mesh({ a: {}, b: {} })
    occupy('a', 'b')
    scene.addArray('j', { indexes: [{ start: 1, end: 50 }], template: { multiInstanceSettings: { numberOfInstances: 2 } } })
    scene.tick(11)
    for (let turn = 0; turn < 3; turn += 1) {
      expect(heldBy()).toEqual(['a:0001', 'b:0001'])
      scene.tick(1)
    }
    scene.report('a', `small/${runningOn('a')}#1`, 0)
    expect(startedOn(scene.report('b', `small/${runningOn('b')}#1`, 0))).toBe('a b')
    expect(scene.status('j', '0001')).toMatchObject({ state: 'running' })
    // Those behind it are not made real before their turn.
    expect([...scene.state.jobIds.get('j')!.tasks.keys()]).toEqual(['0001'])
  })

  it('behind smaller gangs that came later', () => {
    mesh({ a: {}, b: {}, c: {} })
    occupy('a', 'b')
    scene.addTasks('j', gang('wide', 3))
    scene.tick(11)
    // Node c is idle, but held.
    expect(startedOn(scene.addTasks('j', gang('small', 1)))).toBe('')
    expect(why('small').summary).toBe(
      'Task small waits for its turn: it needs 1 node; of 3 that fit 1 is idle; some are held for j/wide, which has waited longer.',
    )
    scene.report('a', `small/${runningOn('a')}#1`, 0)
    expect(startedOn(scene.report('b', `small/${runningOn('b')}#1`, 0))).toBe('a b c')
  })
})
