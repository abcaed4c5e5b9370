/** Gangs that submitters of a simulated mesh ask for: of random sizes, in jobs that compete, with small tasks beside them. */
import { jobSpecSchema } from '../../protocols/model/job.ts'
import type { TaskSpecInput } from '../../protocols/model/task.ts'
import { scaleOf } from './machines.ts'
import { addArray, array, endless, job, many, pool, type Script, task } from './workload-parts.ts'
import type { World } from './world.ts'

/** Nodes of the pool of gangs: larger meshes have larger ones, and gangs that span them. */
function nodesOf(names: string[]): number {
  return 3 * scaleOf(names.length)
}

function gang(size: number, mpi?: 'openmpi'): Partial<TaskSpecInput> {
  return { multiInstanceSettings: { numberOfInstances: size, coordinationCommandLine: 'start', ...(mpi === undefined ? {} : { mpi }) } }
}

/** Machines have one of two versions of an MPI, so half of the nodes always agree. */
function agreeing(world: World, names: string[]): Partial<TaskSpecInput> {
  return gang(world.between(1, Math.ceil(nodesOf(names) / 2)), 'openmpi')
}

export function gangPool(names: string[]): Script {
  const spec = { id: 'gangs', vmSize: 'cores=1,memory=1GiB', targetDedicatedNodes: nodesOf(names), enableInterNodeCommunication: true }
  return [{ waitMs: 0, request: pool(spec) }]
}

export function gangs(world: World, names: string[]): Script {
  const largest = nodesOf(names)
  const groups = many(world, 2, 4, (id) => {
    const size = world.between(1, world.chance(0.7) ? 3 : largest)
    // Of many members that each fail now and then one always does.
    return task(`g${id}`, { ms: world.between(500, 6000), ends: size <= 3 ? 'flaky' : 'well' }, gang(size))
  })
  const beside = many(world, 5, 15, (id) => task(id, { ms: world.between(100, 2000) }))
  return job(world, { id: 'gangs', poolId: 'gangs', ...endless }, [...groups, ...beside])
}

/** Many of them, of another priority than the others, half of which need nodes that agree. */
export function rivals(world: World, names: string[]): Script {
  const groups = many(world, 3, 8, (id) => {
    const kind = world.chance(0.5) ? agreeing(world, names) : gang(world.between(1, nodesOf(names)))
    return task(id, { ms: world.between(100, 3000) }, kind)
  })
  return job(world, { id: 'rivals', poolId: 'gangs', priority: world.pick([-1, 0, 0, 1]), ...endless }, groups)
}

/** Small tasks that take each node as soon as it is idle, for longer than a gang waits before it holds nodes. */
export function crowd(world: World, names: string[]): Script {
  const count = nodesOf(names) * world.between(8, 15)
  const tasks = array({ ms: world.between(1000, 2500) }, { indexes: [{ start: 1, end: count }] })
  return [
    { waitMs: world.between(0, 30_000), request: { kind: 'addJob', spec: jobSpecSchema.parse({ id: 'crowd', poolId: 'gangs' }) } },
    addArray('crowd', tasks),
    { waitMs: 0, request: { kind: 'closeJob', jobId: 'crowd' } },
  ]
}

/** Long ones, ended by hand while they run. */
export function endedGangs(world: World, names: string[]): Script {
  const jobId = 'ended-gangs'
  const script = job(
    world,
    { id: jobId, poolId: 'gangs' },
    ['a', 'b'].map((id) => task(id, { ms: 90_000 }, gang(world.between(2, nodesOf(names))))),
  )
  const end = (taskId: string): Script[number] => ({
    waitMs: world.between(2000, 15_000),
    request: { kind: 'terminateTask', jobId, taskId },
  })
  return [...script.slice(0, -1), end('a'), end('b'), ...script.slice(-1)]
}

export function gangArray(world: World): Script {
  const groups = array(
    { ms: world.between(300, 2000), ends: 'flaky' },
    { indexes: [{ start: 1, end: world.between(2, 5) }], idPrefix: 'g' },
    gang(world.between(1, 3)),
  )
  return [
    {
      waitMs: world.between(0, 20_000),
      request: { kind: 'addJob', spec: jobSpecSchema.parse({ id: 'gang-array', poolId: 'gangs', ...endless }) },
    },
    addArray('gang-array', groups),
    { waitMs: 0, request: { kind: 'closeJob', jobId: 'gang-array' } },
  ]
}
