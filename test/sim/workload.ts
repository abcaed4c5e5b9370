/** What submitters ask of a simulated mesh, and the machines it has. */

import { jobSpecSchema } from '../../protocols/model/job.ts'
import type { MachineDescription } from '../../protocols/model/machine.ts'
import type { DeallocationOption } from '../../protocols/model/pool.ts'
import { makeMachines, scaleOf } from './machines.ts'
import { crowd, endedGangs, gangArray, gangPool, gangs, rivals } from './workload-gangs.ts'
import { addArray, array, endless, job, many, pool, type Request, type Script, task } from './workload-parts.ts'
import type { World } from './world.ts'

export interface Workload {
  machines: MachineDescription[]
  scripts: Script[]
}

export function makeWorkload(world: World): Workload {
  const machines = makeMachines(world)
  const names = machines.map((machine) => machine.name)
  const makers = [
    small,
    long,
    flaky,
    failing,
    layered,
    gangs,
    rivals,
    crowd,
    endedGangs,
    resized,
    urgent,
    missing,
    terminated,
    wide,
    arrays,
    brokenArray,
    gangArray,
    endedArray,
    inParts,
  ]
  return { machines, scripts: [...pools(world, names), ...makers.map((make) => make(world, names))] }
}

function pools(world: World, names: string[]): Script[] {
  // Larger meshes have larger pools, and gangs that span them.
  const scale = scaleOf(names.length)
  const size = { vmSize: 'cores=1,memory=1GiB' }
  const options: DeallocationOption[] = ['requeue', 'terminate', 'taskcompletion']
  const resize = (targetDedicatedNodes: number): Script[number] => ({
    waitMs: world.between(3000, 20_000),
    request: { kind: 'resizePool', poolId: 'resized', targetDedicatedNodes, nodeDeallocationOption: world.pick(options) },
  })
  return [
    gangPool(names),
    [
      { waitMs: 0, request: pool({ id: 'resized', ...size, targetDedicatedNodes: 2, taskSlotsPerNode: 2 }) },
      resize(0),
      resize(3 * scale),
      resize(1),
    ],
  ]
}

function small(world: World, names: string[]): Script {
  return job(
    world,
    { id: 'small' },
    many(world, 20, Math.max(60, 4 * names.length), (id) => task(id, { ms: world.between(10, 300) })),
  )
}

function long(world: World): Script {
  const disconnect = world.pick([{}, { lostAfterMs: 15_000 }, { stopOnClient: true }, { replace: false }])
  return job(
    world,
    { id: 'long', disconnect },
    many(world, 4, 8, (id) => task(id, { ms: world.between(8000, 40_000) })),
  )
}

function flaky(world: World): Script {
  return job(
    world,
    { id: 'flaky', ...endless },
    many(world, 8, 15, (id) => task(id, { ms: world.between(100, 1500), ends: 'flaky' })),
  )
}

function failing(world: World): Script {
  const script = job(
    world,
    { id: 'failing', constraints: { maxTaskRetryCount: 2 } },
    many(world, 5, 8, (id) => task(id, { ms: world.between(50, 500), ends: id === 't0' ? 'badly' : 'flaky' })),
  )
  const again: Script[number] = { waitMs: 5000, request: { kind: 'reactivateTask', jobId: 'failing', taskId: 't0' } }
  return [...script.slice(0, -1), again, ...script.slice(-1)]
}

/** Two layers by number, a third that waits for all of the second, and one that waits by name. */
function layered(world: World): Script {
  const plan = () => ({ ms: world.between(50, 1000), ends: 'flaky' as const })
  const first = [1, 2, 3, 4].map((n) => task(String(n), plan()))
  const second = [11, 12, 13].map((n) =>
    task(String(n), plan(), { dependsOn: { taskIds: [String(n - 10)], taskIdRanges: [{ start: 3, end: 4 }] } }),
  )
  const last = task('last', plan(), { dependsOn: { taskIdRanges: [{ start: 11, end: 13 }] } })
  const named = task('Named', plan(), { dependsOn: { taskIds: ['LAST', '1'] } })
  // Children may be added before their parents.
  return job(world, { id: 'layered', usesTaskDependencies: true, ...endless }, [named, last, ...second, ...first])
}

function resized(world: World): Script {
  return job(
    world,
    { id: 'resized', poolId: 'resized' },
    many(world, 10, 20, (id) => task(id, { ms: world.between(200, 3000) })),
  )
}

function urgent(world: World): Script {
  const late = world.between(10_000, 30_000)
  return job(
    world,
    { id: 'urgent', priority: 100, maxParallelTasks: 3 },
    many(world, 5, 10, (id) => task(id, { ms: 200 })),
    late,
  )
}

function missing(world: World, names: string[]): Script {
  const on = names.filter((_, i) => i === 0 || i > 2)
  return job(
    world,
    { id: 'missing' },
    many(world, 6, 12, (id) => task(id, { ms: world.between(100, 800), on })),
  )
}

function terminated(world: World): Script {
  const script = job(
    world,
    { id: 'terminated' },
    many(world, 6, 12, (id) => task(id, { ms: world.between(3000, 10_000) })),
  )
  const end = (request: Request): Script[number] => ({ waitMs: world.between(500, 6000), request })
  return [
    ...script.slice(0, -1),
    end({ kind: 'terminateTask', jobId: 'terminated', taskId: 't0' }),
    end({ kind: 'terminateTask', jobId: 'terminated', taskId: 't1' }),
    end({ kind: 'terminateJob', jobId: 'terminated' }),
    end({ kind: 'deleteJob', jobId: 'terminated' }),
    // The id is free again, the number is not.
    ...job(
      world,
      { id: 'terminated' },
      many(world, 1, 5, (id) => task(id, { ms: 100 })),
    ),
  ]
}

/** Tasks that take more than one slot, or only fit on one machine. */
function wide(world: World): Script {
  return job(
    world,
    { id: 'wide' },
    many(world, 6, 12, (id) => {
      const ms = world.between(50, 500)
      const kind = world.between(0, 2)
      if (kind === 0) return task(id, { ms }, { requiredSlots: world.between(2, 3) })
      return kind === 1
        ? task(id, { ms }, { resources: { memoryMiB: 4096 } })
        : task(id, { ms }, { resources: { labels: { site: 'cellar' } } })
    }),
  )
}

/**
 * Added in many parts, of several classes and retry counts in turn, some of them twice, some with parents among those
 * that come later; some are ended and run again before their turn. A cap keeps most of them waiting for long.
 */
function inParts(world: World): Script {
  const jobId = 'in-parts'
  const count = world.between(26, 66)
  const order = world.chance(0.5) ? (n: number) => `P${String(n).padStart(3, '0')}` : (n: number) => `p${(n * 7) % 64}-${n}`
  const of = (n: number) => {
    const slots = world.between(1, 2)
    const more = n < count - 1 && world.chance(0.1) ? { dependsOn: { taskIds: [order(world.between(n + 1, count - 1))] } } : {}
    return task(
      order(n),
      { ms: world.between(50, 800), ends: 'flaky' },
      { requiredSlots: slots, ...(world.chance(0.5) ? endless : {}), ...more },
    )
  }
  const spec = jobSpecSchema.parse({ id: jobId, usesTaskDependencies: true, maxParallelTasks: 4, ...endless })
  const script: Script = [{ waitMs: world.between(0, 20_000), request: { kind: 'addJob', spec } }]
  for (let n = 0; n < count; ) {
    const part = world.between(1, 9)
    const from = Math.max(0, n - world.between(0, 2))
    const tasks = Array.from({ length: Math.min(part, count - n) + n - from }, (_, i) => of(from + i))
    script.push({ waitMs: world.between(0, 500), request: { kind: 'addTasks', jobId, tasks } })
    n += part
    const kind = world.pick(['terminateTask', 'reactivateTask', undefined] as const)
    if (kind !== undefined)
      script.push({ waitMs: 0, request: { kind, jobId, taskId: order(world.between(0, Math.min(n, count - 1) - 1)) } })
  }
  // What was ended by hand may have children.
  for (let n = 0; n < count; n += 1) script.push({ waitMs: 10, request: { kind: 'reactivateTask', jobId, taskId: order(n) } })
  if (world.chance(0.3)) script.push({ waitMs: world.between(0, 5000), request: { kind: 'deleteJob', jobId } })
  else script.push({ waitMs: 0, request: { kind: 'closeJob', jobId } })
  return script
}

/** Arrays that wait for each other and for single tasks, tasks that wait for them, and some that are ended before their turn. */
function arrays(world: World): Script {
  const jobId = 'arrays'
  const flaky = () => ({ ms: world.between(50, 600), ends: 'flaky' as const })
  const count = world.between(20, 50)
  const touch = (kind: 'terminateTask' | 'reactivateTask', taskId: string): Script[number] => ({
    waitMs: world.between(0, 3000),
    request: { kind, jobId, taskId },
  })
  const late = (n: number) => `R${String(count - n).padStart(4, '0')}`
  return [
    {
      waitMs: world.between(0, 20_000),
      request: { kind: 'addJob', spec: jobSpecSchema.parse({ id: jobId, usesTaskDependencies: true, ...endless }) },
    },
    addArray(jobId, array(flaky(), { indexes: [{ start: 0, end: count }], idPrefix: 'R' })),
    addArray(
      jobId,
      array(
        flaky(),
        {
          indexes: [
            { start: 1, end: 9, step: 2 },
            { start: 20, end: 24 },
          ],
        },
        { dependsOn: { taskIds: ['r0000', 'single'] } },
      ),
    ),
    // The same ids under another prefix.
    addArray(jobId, array(flaky(), { indexes: [{ start: 2, end: 5 }], idPrefix: 'r000', idDigits: 1 })),
    touch('terminateTask', late(0)),
    touch('terminateTask', late(1)),
    {
      waitMs: 0,
      request: {
        kind: 'addTasks',
        jobId,
        tasks: [
          task('single', flaky()),
          task('after', flaky(), { dependsOn: { taskIds: ['R0003'], taskIdRanges: [{ start: 20, end: 24 }] } }),
        ],
      },
    },
    touch('reactivateTask', late(0)),
    touch('terminateTask', '0023'),
    touch('reactivateTask', '0023'),
    addArray(jobId, array(flaky(), { indexes: [{ start: 0, end: 5 }], idPrefix: 'more-' }), world.between(0, 10_000)),
    touch('reactivateTask', '0023'),
    { waitMs: 0, request: { kind: 'closeJob', jobId } },
  ]
}

/** Most of its tasks fail, and spend their retries first. */
function brokenArray(world: World): Script {
  const jobId = 'broken-array'
  const spec = jobSpecSchema.parse({ id: jobId, constraints: { maxTaskRetryCount: 1 } })
  const tasks = array(
    { ms: world.between(20, 200), ends: world.chance(0.5) ? 'badly' : 'flaky' },
    { indexes: [{ start: 5, end: world.between(10, 40), step: 3 }] },
  )
  return [
    { waitMs: world.between(0, 20_000), request: { kind: 'addJob', spec } },
    addArray(jobId, tasks),
    { waitMs: world.between(0, 5000), request: { kind: 'reactivateTask', jobId, taskId: '0005' } },
    { waitMs: 0, request: { kind: 'closeJob', jobId } },
  ]
}

/** Ended while most of it has not had its turn, and half the time deleted. */
function endedArray(world: World): Script {
  const jobId = 'ended-array'
  const end: Script = [{ waitMs: world.between(500, 10_000), request: { kind: 'terminateJob', jobId } }]
  if (world.chance(0.5)) end.push({ waitMs: world.between(0, 5000), request: { kind: 'deleteJob', jobId } })
  return [
    { waitMs: world.between(0, 20_000), request: { kind: 'addJob', spec: jobSpecSchema.parse({ id: jobId }) } },
    addArray(jobId, array({ ms: world.between(500, 3000) }, { indexes: [{ start: 0, end: 60 }] })),
    ...end,
  ]
}
