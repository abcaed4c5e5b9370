/** What must hold when a round is over: every job deleted, every node up. */
import { readdir, readFile } from 'node:fs/promises'
import { join } from 'node:path'
import { isDeepStrictEqual } from 'node:util'
import type { Mesh } from '../../src/index.ts'
import { endlessWord, persistently } from './jobs.ts'
import type { Machines } from './nodes.ts'
import { parents } from './sampler.ts'

/** Everything settles within this: sessions come back, reservations are given up, directories go. */
export const settleMs = 120_000

/** What of the machines is reserved when nothing runs, by machine. */
export async function reservations(mesh: Mesh): Promise<Record<string, unknown>> {
  return Object.fromEntries((await mesh.machines.list()).map(({ name, reserved }) => [name, reserved]))
}

/** What does not hold: a sentence each, none when all is well. */
export async function broken(machines: Machines, mesh: Mesh, baseline: Record<string, unknown>, round: number): Promise<string[]> {
  const wrong: string[] = []
  const [status, list, pools, nodes, reserved] = await Promise.all([
    mesh.status(),
    mesh.machines.list(),
    mesh.pools.list(),
    mesh.pools.nodes('default'),
    reservations(mesh),
  ])
  const { jobs, tasks } = status
  if (jobs.active + jobs.completed + tasks.active + tasks.running > 0)
    wrong.push(`jobs or tasks are left: ${JSON.stringify({ jobs, tasks })}`)
  for (const { name, connected, runningTasks } of list) {
    if (!connected) wrong.push(`${name} is not connected`)
    if (runningTasks > 0) wrong.push(`${name} is said to run ${runningTasks} tasks`)
  }
  if (list.length !== machines.all.length) wrong.push(`there are ${list.length} machines instead of ${machines.all.length}`)
  if (pools.length !== 1) wrong.push(`pools are left: ${pools.map(({ id }) => id).join(', ')}`)
  if (!isDeepStrictEqual(reserved, baseline)) wrong.push(`reserved is ${JSON.stringify(reserved)} instead of ${JSON.stringify(baseline)}`)
  for (const { machineName, state, runningTaskSlotsCount, heldFor } of nodes)
    if (state !== 'idle' || runningTaskSlotsCount > 0 || heldFor !== undefined)
      wrong.push(`the node of ${machineName} is ${state} with ${runningTaskSlotsCount} slots in use`)
  wrong.push(...(await orphans(machines, round)), ...(await strayFiles(machines)))
  return wrong
}

/** Polls until all holds, or `settleMs` are over; answers what does not hold then. */
export async function settled(ask: () => Promise<string[]>, signal: AbortSignal): Promise<string[]> {
  const deadline = AbortSignal.any([signal, AbortSignal.timeout(settleMs)])
  for (;;) {
    const wrong = await persistently(signal, ask)
    if (wrong.length === 0 || deadline.aborted) return wrong
    await new Promise((resolve) => setTimeout(resolve, 2000))
  }
}

/** Processes of tasks that are over, and of nodes that are dead. */
async function orphans(machines: Machines, round: number): Promise<string[]> {
  const { root } = machines.lab
  const living = new Set(machines.all.flatMap(({ process: node }) => (node === undefined ? [] : [node.pid])))
  const all = await parents()
  const belongs = (pid: number): boolean => living.has(pid) || ((all.get(pid) ?? 0) > 0 && belongs(all.get(pid)!))
  const found: string[] = []
  for (const pid of all.keys()) {
    if (pid === process.pid) continue
    const words = (await readFile(`/proc/${pid}/cmdline`, 'utf8').catch(() => '')).split('\0').filter((word) => word !== '')
    const line = words.join(' ')
    if (words.includes(endlessWord(round)) || line.includes(`${root}/traces/`)) found.push(`process ${pid} of a task is left: ${line}`)
    else if (line.includes(`${root}/`) && !belongs(pid)) found.push(`process ${pid} belongs to no node: ${line}`)
  }
  return found
}

/** Directories of tasks of deleted jobs, and files that are no store's. */
async function strayFiles(machines: Machines): Promise<string[]> {
  const found: string[] = []
  for (const { name, dataDir } of machines.workers) {
    const left = await filesBelow(join(dataDir, 'tasks'))
    if (left.length > 0) found.push(`${name} has ${left.length} files of tasks left, such as ${left[0]}`)
  }
  const traces = await readdir(join(machines.lab.root, 'traces'))
  if (traces.length > 0) found.push(`traces are left: ${traces.join(', ')}`)
  return found
}

async function filesBelow(dir: string): Promise<string[]> {
  const entries = await readdir(dir, { withFileTypes: true, recursive: true }).catch(() => [])
  return entries.filter((entry) => !entry.isDirectory()).map((entry) => join(entry.parentPath, entry.name))
}
