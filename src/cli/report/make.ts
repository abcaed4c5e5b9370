/** Gathers what a report says and writes it. */
import { rename, rm, writeFile } from 'node:fs/promises'
import { resolve } from 'node:path'
import { MeshError, toMeshError } from '../../../protocols/errors.ts'
import type { JobView } from '../../../protocols/model/job.ts'
import type { Mesh } from '../../mesh/client.ts'
import type { Context } from '../context.ts'
import { page, type Report } from './page.ts'
import { Tally } from './tally.ts'

export async function makeReport(context: Context, jobId: string, to: string | undefined, signal: AbortSignal): Promise<void> {
  const mesh = await context.mesh()
  const gathered = await gather(mesh, jobId, signal)
  const html = page(gathered)
  if (to === '-') return context.world.stdout.write(html)
  const path = resolve(context.world.cwd, to ?? `${gathered.job.id}-report.html`)
  await write(path, html)
  const { tasks, states, ends } = gathered.tally
  await context.done(`The report on job ${gathered.job.id} is ${path}`, {
    jobId: gathered.job.id,
    file: path,
    tasks,
    ...states,
    attempts: ends,
  })
}

/** Whole or not at all, also where an older one lies. */
async function write(path: string, html: string): Promise<void> {
  const part = `${path}.${process.pid}.part`
  try {
    await writeFile(part, html)
    await rename(part, path)
  } catch (error) {
    await rm(part, { force: true })
    throw new MeshError('InvalidPropertyValue', `The report cannot be written to ${path}: ${(error as Error).message}`, { cause: error })
  }
}

async function gather(mesh: Mesh, jobId: string, signal: AbortSignal): Promise<Report> {
  const { control } = mesh
  const [job, { items: machines }, status] = await Promise.all([
    control.call('getJob', { jobId }, { signal }),
    control.call('listMachines', {}, { signal }),
    control.call('status', {}, { signal }),
  ])
  const { nodes, slots, coresPerSlot } = await poolOf(mesh, job, signal)
  const now = Date.now()
  const tally = new Tally({
    now: job.endTime ?? now,
    nodes,
    machines: new Map(machines.map(({ peer, name }) => [peer, name])),
    coresPerSlot,
  })
  let after: string | undefined
  do {
    const { items, next } = await control.call('listTasks', { jobId, after }, { signal })
    for (const task of items) tally.add(task)
    after = next
  } while (after !== undefined)
  return { job, tally, slots, now, meshId: status.meshId }
}

/** What the pool has now; nothing when it was deleted. */
async function poolOf(mesh: Mesh, { poolId }: JobView, signal: AbortSignal) {
  try {
    const [pool, { items }] = await Promise.all([
      mesh.control.call('getPool', { poolId }, { signal }),
      mesh.control.call('listNodes', { poolId }, { signal }),
    ])
    const nodes = items.map(({ id, machineName, taskSlots }) => ({ id, machine: machineName, slots: taskSlots }))
    // The default pool has nodes of all sizes, with a slot a core.
    const coresPerSlot = pool.nodeSize.cores === 0 ? 1 : pool.nodeSize.cores / pool.taskSlotsPerNode
    const slots = items.reduce((sum, { state, taskSlots }) => sum + (state === 'idle' || state === 'running' ? taskSlots : 0), 0)
    return { nodes, slots, coresPerSlot }
  } catch (error) {
    if (toMeshError(error).code !== 'PoolNotFound') throw error
    return { nodes: [], slots: 0, coresPerSlot: 1 }
  }
}
