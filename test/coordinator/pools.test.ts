import { beforeEach, describe, expect, it, vi } from 'vitest'
import type { Event } from '../../coordinator/events.ts'
import { explainPool } from '../../coordinator/explain.ts'
import { endTurn, step } from '../../coordinator/machine.ts'
import { isWanted } from '../../coordinator/room.ts'
import type { MachineDescription } from '../../protocols/model/machine.ts'
import { poolSpecSchema } from '../../protocols/model/pool.ts'
import { Scene } from '../support/scene.ts'

let scene: Scene

const pool = () => scene.state.pools.get('p')!
const nodes = () => [...pool().nodes.values()].map((node) => `${node.row.reservationId}:${node.machine.description.name}`)
const resize = (target: number, option: 'requeue' | 'terminate' | 'taskcompletion' = 'requeue') =>
  scene.ask({ kind: 'resizePool', poolId: 'p', targetDedicatedNodes: target, nodeDeallocationOption: option })

beforeEach(() => {
  scene = new Scene()
  scene.hello('a', { cores: 2 })
  scene.hello('b', { cores: 2 })
})

describe('M1: pools for the gangs of one job each', () => {
  const whole = { enableInterNodeCommunication: true, poolLifetimeOption: 'job' } as const
  const sizes = () => [...scene.state.pools.values()].flatMap(({ id, nodes: { size } }) => (id === 'default' ? [] : [`${id} ${size}`]))
  const add = (id: string, targetDedicatedNodes: number, vmSize = 'cores=1,memory=1GiB') => {
    scene.addPool({ id, targetDedicatedNodes, vmSize, ...whole })
    scene.addJob({ id: `j${id}`, poolId: id })
    scene.grantAll()
  }

  it('get their nodes one after the other, so that none waits for a part that another has', () => {
    add('p', 3)
    expect(sizes()).toEqual(['p 3'])
    add('q', 3)
    add('r', 1)
    // The first is whole; of the others the older one comes first, though there is room for the other.
    expect(sizes()).toEqual(['p 3', 'q 1', 'r 0'])
    expect(explainPool(scene.state, scene.state.pools.get('r')!).summary).toBe(
      'Pool r has 0 of 1 nodes. Pool q is older and gets its nodes first.',
    )
    scene.ask({ kind: 'terminateJob', jobId: 'jp', terminateReason: 'Done' })
    for (let seconds = 0; seconds < 3; seconds += 1) {
      scene.grantAll()
      scene.tick(1)
    }
    expect(sizes()).toEqual(['q 3', 'r 1'])
  })

  it('wait for none that is larger than the mesh', () => {
    add('p', 1, 'cores=3,memory=1GiB')
    add('q', 1)
    expect(sizes()).toEqual(['p 0', 'q 1'])
  })
})

describe('reservations', () => {
  it('R1: asks no machine for more than it lends', () => {
    scene.addPool({ id: 'p', targetDedicatedNodes: 9 })
    expect(nodes()).toEqual(['1:a', '2:b', '3:a', '4:b'])
  })

  it('R1: gives a machine’s cores away to the last fraction', () => {
    scene.addPool({ id: 'p', targetDedicatedNodes: 80, vmSize: 'cores=0.05,memory=1MiB' })
    expect(nodes()).toHaveLength(80)
  })

  it('packs where the pool asks for that', () => {
    scene.addPool({ id: 'p', targetDedicatedNodes: 2, nodeFillType: 'pack' })
    expect(nodes()).toEqual(['1:a', '2:a'])
  })

  it('takes only machines of the class and labels asked for', () => {
    scene.hello('c', { class: 'low-priority', labels: { gpu: 'old' } })
    scene.hello('d', { class: 'low-priority', labels: { gpu: 'new' } })
    scene.addPool({ id: 'p', targetLowPriorityNodes: 2, labels: { gpu: 'new' } })
    expect(nodes()).toEqual(['1:d', '2:d'])
  })

  it('a machine that refuses is left alone for five seconds, not asked again at once', () => {
    scene.addPool({ id: 'p', vmSize: 'cores=2,memory=1GiB', targetDedicatedNodes: 3 })
    expect(scene.reserved('a', 1, false, { reason: 'busy' })).toEqual(['del node/1', 'release a: node 1'])
    expect(scene.tick(4).filter((line) => line.startsWith('reserve a'))).toEqual([])
    expect(scene.tick(2).filter((line) => line.startsWith('reserve a'))).toEqual(['reserve a: node 3 of p'])
  })

  it('a machine that drains is asked again for the same node', () => {
    scene.addPool({ id: 'p', targetDedicatedNodes: 1 })
    expect(scene.reserved('a', 1, false, { draining: true })).toEqual([])
    expect(scene.tick(1)).toEqual(['reserve a: node 1 of p'])
  })

  it('a node granted after it was given up is released', () => {
    scene.addPool({ id: 'p', targetDedicatedNodes: 1 })
    resize(0)
    expect(scene.reserved('a', 1, true)).toEqual(['release a: node 1'])
  })

  it('a node that is given up before it was granted is not asked for any more', () => {
    scene.addPool({ id: 'p', targetDedicatedNodes: 1 })
    scene.tick(6)
    expect(resize(0).filter((line) => line.startsWith('reserve'))).toEqual([])
  })

  it('a resize that cannot be met ends at its deadline with the reasons', () => {
    scene.addPool({ id: 'p', vmSize: 'cores=2,memory=1GiB', targetDedicatedNodes: 3, resizeTimeoutMs: 60_000 })
    scene.grantAll()
    expect(pool().row.allocationState).toBe('resizing')
    scene.tick(61)
    expect(pool().row).toMatchObject({ allocationState: 'steady', resizeErrors: [{ code: 'AllocationTimedout' }] })
    // The mesh goes on looking: a machine that comes later is taken.
    expect(scene.hello('c', { cores: 2 })).toContain('reserve c: node 3 of p')
  })

  it('a node whose machine stays away is replaced', () => {
    scene.addPool({ id: 'p', targetDedicatedNodes: 1 })
    scene.grantAll()
    scene.gone('a')
    expect(scene.tick(130)).toContain('reserve b: node 2 of p')
    expect(nodes()).toEqual(['2:b'])
  })

  it('a machine that comes back without its node is asked for it again, with the same number', () => {
    scene.addPool({ id: 'p', targetDedicatedNodes: 1 })
    scene.grantAll()
    scene.gone('a')
    expect(scene.hello('a', { reservations: [] })).toContain('reserve a: node 1 of p')
  })
})

describe('a shrinking pool', () => {
  beforeEach(() => {
    scene.addPool({ id: 'p', targetDedicatedNodes: 2 })
    scene.grantAll()
    scene.addJob({ id: 'j', poolId: 'p' })
    scene.addTasks('j', 't')
    scene.claim('a', { nodes: [...pool().nodes.keys()].slice(0, 1) })
    scene.started('a', 'j/t#1')
  })

  it('gives idle nodes back first', () => {
    resize(1)
    expect(nodes()).toEqual(['1:a'])
  })

  it('requeue: stops what runs and runs it again, which is no loss', () => {
    expect(resize(0)).toContain('stop a: j/t#1 (the pool has shrunk)')
    expect(scene.status('j', 't')).toMatchObject({ state: 'active', requeueCount: 1, retryCount: 0, lastEnd: 'revoked' })
    expect(scene.report('a', 'j/t#1', 0)).toEqual(['verdict refused'])
  })

  it('terminate: completes what runs as ended', () => {
    resize(0, 'terminate')
    expect(scene.status('j', 't')).toMatchObject({ state: 'completed', outcome: { failureInfo: { code: 'TaskEnded' } } })
  })

  it('taskcompletion: waits for what runs, and gives the node nothing more', () => {
    resize(0, 'taskcompletion')
    expect(nodes()).toEqual(['1:a'])
    scene.addTasks('j', 't2')
    expect(scene.claim('a', { nodes: [...pool().nodes.keys()], waitMs: 0 })).toEqual(['grant a: nothing'])
    scene.report('a', 'j/t#1', 0)
    expect(scene.tick(1)).toEqual(expect.arrayContaining(['del node/1', 'release a: node 1']))
  })

  it('a deleted pool leaves its jobs waiting for a pool of that name', () => {
    scene.ask({ kind: 'deletePool', poolId: 'P' })
    expect(scene.status('j', 't')).toMatchObject({ state: 'active' })
    scene.addPool({ id: 'p', targetDedicatedNodes: 1 })
    scene.grantAll()
    expect(scene.claim('a', { nodes: [...pool().nodes.keys()] }).at(-1)).toBe('grant a: j/t#2')
  })
})

describe('pools', () => {
  it('the default pool is neither resized nor deleted', () => {
    expect(scene.ask({ kind: 'deletePool', poolId: 'default' })).toEqual(['refuse OperationNotValidOnPool'])
  })

  it('ids are compared without case', () => {
    scene.addPool({ id: 'Pool' })
    expect(scene.addPool({ id: 'pOOL' })).toEqual(['refuse PoolExists'])
  })

  it('a node has at most four slots a core', () => {
    expect(scene.addPool({ id: 'p', taskSlotsPerNode: 5 })).toEqual(['refuse InvalidPropertyValue'])
    expect(scene.addPool({ id: 'p', taskSlotsPerNode: 4 }).at(-1)).toBe('answer p')
  })

  it('an unknown size is refused', () => {
    expect(scene.addPool({ id: 'p', vmSize: 'enormous' })).toEqual(['refuse InvalidPropertyValue'])
  })
})

describe('a turn in which many machines say hello', () => {
  it('looks at a pool’s nodes as often as one in which a single machine does', () => {
    const scene = new Scene()
    const hellos: Event[] = []
    scene.onStep = (event) => {
      if (event?.kind === 'hello') hellos.push(event)
    }
    for (let n = 0; n < 20; n += 1) scene.hello(`m${n}`)
    scene.addPool({ id: 'p', targetDedicatedNodes: 20 })
    scene.grantAll()
    const walks = vi.spyOn(scene.state.pools.get('p')!.nodes, 'values')
    const walksOf = (events: readonly Event[]) => {
      walks.mockClear()
      for (const event of events) step(scene.state, event, scene.now)
      endTurn(scene.state, scene.now)
      return walks.mock.calls.length
    }
    const once = walksOf(hellos.slice(0, 1))
    expect(once).toBeGreaterThan(0)
    expect(walksOf(hellos)).toBe(once)
  })
})

describe('what a pool asks of machines', () => {
  it.each([
    [{ flavor: 'openmpi' }, true],
    [{ flavor: 'openmpi', version: '4.1.4' }, true],
    [{ flavor: 'openmpi', version: '5.0.0' }, false],
    [{ flavor: 'mpich' }, false],
    [undefined, true],
  ] as const)('MPI %j: a machine with Open MPI 4.1.4 is wanted: %s', (mpi, expected) => {
    const machine = { labels: {}, mpi: [{ flavor: 'openmpi', version: '4.1.4' }] } as unknown as MachineDescription
    expect(isWanted(machine, poolSpecSchema.parse({ id: 'p', vmSize: 'cores=1', mpi }))).toBe(expected)
  })

  it('an MPI is not found on a machine that says nothing of any', () => {
    const machine = { labels: {} } as unknown as MachineDescription
    expect(isWanted(machine, poolSpecSchema.parse({ id: 'p', vmSize: 'cores=1', mpi: { flavor: 'openmpi' } }))).toBe(false)
  })
})

describe('a pool that lives as long as its job', () => {
  const ends = (jobId: string) => scene.ask({ kind: 'terminateJob', jobId })

  beforeEach(() => {
    scene.addJob({ id: 'j', poolId: 'p' })
    scene.addPool({ id: 'p', targetDedicatedNodes: 2, poolLifetimeOption: 'job' })
    scene.grantAll()
  })

  it('is deleted when the job ends, and its nodes are given back', () => {
    expect(nodes()).toHaveLength(2)
    expect(
      ends('j')
        .filter((line) => /^(del|release)/.test(line))
        .sort(),
    ).toEqual(['del node/1', 'del node/2', 'del pool/p', 'release a: node 1', 'release b: node 2'])
    expect(scene.state.pools.has('p')).toBe(false)
  })

  it('stays while another job of it is active', () => {
    scene.addJob({ id: 'k', poolId: 'p' })
    ends('j')
    expect(scene.state.pools.has('p')).toBe(true)
    ends('k')
    expect(scene.state.pools.has('p')).toBe(false)
  })

  it('is deleted after its time for nodes when there is no job: that ended before, or never came', () => {
    scene.addJob({ id: 'k', poolId: 'q' })
    ends('k')
    for (const id of ['q', 'r']) scene.addPool({ id, targetDedicatedNodes: 1, poolLifetimeOption: 'job', resizeTimeoutMs: 10_000 })
    scene.addJob({ id: 'waits', poolId: 'r', dependsOnJobs: [{ jobId: 'j', condition: 'afterany' }] })
    scene.tick(9)
    expect(scene.state.pools.has('q')).toBe(true)
    scene.tick(2)
    expect([...scene.state.pools.keys()]).toEqual(['default', 'p', 'r'])
    expect(scene.rows.has('pool/q')).toBe(false)
  })

  it('is the only kind that goes with a job', () => {
    scene.addPool({ id: 'q' })
    scene.addJob({ id: 'k', poolId: 'q' })
    ends('k')
    expect(scene.state.pools.has('q')).toBe(true)
  })
})
