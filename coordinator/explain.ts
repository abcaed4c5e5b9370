/** Why something waits: an answer for each task, pool and machine, in words and numbers of this mesh. Pure. */
import { foldId } from '../protocols/ids.ts'
import { mpiName } from '../protocols/model/machine.ts'
import { defaultPoolId } from '../protocols/model/pool.ts'
import { type Capacity, type Demand, fits, labelsMatch } from '../protocols/model/resources.ts'
import { gangShortage, gangsTurn } from './explain-gang.ts'
import { mpiVersion } from './gang-members.ts'
import { isWaiting, olderGangPool } from './gang-pools.ts'
import { isExcluded } from './missing-program.ts'
import { jobsInOrder, readyIn } from './placement.ts'
import { allowsGangs, hasThreads, isWanted, suits, unreserved, wholeOf } from './room.ts'
import {
  type Job,
  type Machine,
  type Node,
  type Pool,
  poolOf,
  type State,
  succeeded,
  type Task,
  type TaskClass,
  type Waiter,
} from './state.ts'
import { describeSuspect, isSuspect } from './suspects.ts'
import { liveTask, lookUp } from './task-book.ts'

export interface Explanation {
  summary: string
  details: string[]
}

export function explainTask(state: State, job: Job, taskId: string, now: number): Explanation | undefined {
  const task = lookUp(job, foldId(taskId))
  // The tasks of a completed job are not in memory after a restart.
  if (task === undefined && job.row.state !== 'active')
    return { summary: `Job ${job.row.spec.id} is ${job.row.state}: nothing of it will run.`, details: [] }
  if (task === undefined) return undefined
  if (typeof task === 'number')
    return { summary: `Task ${taskId} is completed: it ${succeeded(task) ? 'succeeded' : 'failed'}.`, details: [] }
  const name = task.name ?? task.id
  if (task.lease !== undefined) return explainLeased(task, name, now)
  if (job.row.state !== 'active') return { summary: `Task ${name} will not run: job ${job.row.spec.id} is ${job.row.state}.`, details: [] }
  if (task.waiting > 0) return explainWaiting(job, task, name)
  const before = jobsBefore(state, job)
  if (before !== undefined) return { summary: `Task ${name} waits for ${before}.`, details: [] }
  const pool = poolOf(state, job)
  if (pool === undefined)
    return { summary: `Task ${name} waits: there is no pool ${job.row.spec.poolId}. Create it, and the job starts.`, details: [] }
  return explainQueued(state, pool, task, name)
}

/** What a job waits for that depends on others. */
export function jobsBefore(state: State, { row: { waitingFor = [] } }: Job): string | undefined {
  const ids = new Map(waitingFor.map(({ uid, condition }) => [state.jobs.get(uid)?.row.spec.id ?? `number ${uid}`, condition]))
  if (ids.size === 0) return undefined
  const words = [...ids].map(([id, condition]) => (condition === 'afterok' ? `${id} (all its tasks must succeed)` : id))
  return `the end of ${words.length === 1 ? 'job' : 'jobs'} ${words.join(', ')}`
}

function many(count: number, what: string): string {
  return `${count} ${what}${count === 1 ? '' : 's'}`
}

function runningNow(count: number): string {
  return `${many(count, 'task')} of its job ${count === 1 ? 'is' : 'are'} running`
}

function waitingNow(pool: Pool): string {
  const count = readyIn(pool)
  return `${many(count, 'task')} ${count === 1 ? 'is' : 'are'} waiting`
}

function explainLeased(task: Task, name: string, now: number): Explanation {
  const lease = task.lease!
  const { machine } = lease.members[0]!
  const on = machine.description.name
  const details = machine.session === 0 ? [`${on} is not connected; the task is given up when the silence has lasted long enough.`] : []
  if (lease.uploading) return { summary: `Task ${name} has run on ${on} and is storing its outputs.`, details }
  if (lease.startTime === undefined && lease.restored)
    return { summary: `Task ${name} was given to ${on} before the coordinator restarted; ${on} has yet to say how far it is.`, details }
  if (lease.startTime === undefined)
    return { summary: `Task ${name} is on ${on} and about to start: fetching its inputs, or next in line.`, details }
  return { summary: `Task ${name} has been running on ${on} for ${Math.max(0, Math.round((now - lease.startTime) / 1000))} s.`, details }
}

function explainWaiting(job: Job, task: Task, name: string): Explanation {
  const details: string[] = []
  // One of an array that nothing has happened to waits with its array.
  const waiter: Waiter = task.place !== undefined && liveTask(job, task.id) === undefined ? task.place.array : task
  for (const [parent, children] of job.dependents) {
    if (!children.includes(waiter)) continue
    const known = lookUp(job, parent)
    if (known === undefined) details.push(`${parent} does not exist (yet).`)
    else if (typeof known === 'number') details.push(`${parent} failed: unless it is reactivated and succeeds, this task never runs.`)
    else details.push(`${parent} is not completed.`)
  }
  for (const range of job.rangeWaiters) {
    if (range.waiter === waiter) details.push(`${range.missing} of the tasks ${range.start}-${range.end} have not succeeded.`)
  }
  return { summary: `Task ${name} waits for other tasks.`, details }
}

function explainQueued(state: State, pool: Pool, task: Task, name: string): Explanation {
  const { class: kind, job } = task
  const cap = job.row.spec.maxParallelTasks
  if (cap > 0 && job.leased >= cap)
    return { summary: `Task ${name} waits: ${runningNow(job.leased)}, and the job allows ${cap} at once.`, details: [] }
  if (kind.gang > 0 && !allowsGangs(pool)) {
    const rule = 'a multi-instance task needs a pool with enableInterNodeCommunication and one task slot a node'
    return { summary: `Task ${name} waits: ${rule}, and ${pool.row.spec.id} is not such a pool.`, details: [] }
  }
  const details = [...pool.nodes.values()].filter((node) => node.slots > 0).map((node) => obstacle(state, node, task))
  const nodes = [...pool.nodes.values()].filter((node) => node.ready)
  if (nodes.length === 0) return { summary: `Task ${name} waits: pool ${pool.row.spec.id} has no node. ${shortage(state, pool)}`, details }
  const able = nodes.filter((node) => isAble(state, node, task))
  const lacking = kind.gang > 1 || kind.mpi !== undefined ? gangShortage(able, kind) : able.length === 0 ? wanting(nodes, kind) : undefined
  if (lacking !== undefined) return { summary: `Task ${name} waits: ${lacking}`, details }
  const before = jobsInOrder(pool).filter((other) => other.row.spec.priority > job.row.spec.priority).length
  const order = before > 0 ? ` ${before} ${before === 1 ? 'job of higher priority comes' : 'jobs of higher priority come'} first.` : ''
  if (kind.gang > 0) return { summary: `Task ${name} waits for its turn: ${gangsTurn(able, task)}${order}`, details }
  return {
    summary: `Task ${name} waits for its turn: ${waitingNow(pool)} in pool ${pool.row.spec.id}, and every fitting node is busy.${order}`,
    details,
  }
}

function isAble(state: State, node: Node, task: Task): boolean {
  const { machine } = node
  const { slots, demand } = task.class
  return (
    machine.session !== 0 &&
    !machine.draining &&
    fits(wholeOf(node), slots, demand) &&
    suits(machine, task.class) &&
    !isExcluded(state, task.job, task.class, machine)
  )
}

function obstacle(state: State, node: Node, task: Task): string {
  const { machine } = node
  const { demand, slots, mpi } = task.class
  const name = machine.description.name
  if (machine.session === 0) return `${name}: not connected`
  if (machine.draining) return `${name}: going down, takes no new tasks`
  if (!node.ready) return `${name}: the node is not granted yet${node.refusal === undefined ? '' : ` (${node.refusal})`}`
  if (!labelsMatch(machine.description.labels, demand.labels)) return `${name}: does not have the labels ${labelText(demand)}`
  if (task.class.thread && !hasThreads(machine)) return `${name}: ${noThreads}`
  if (mpi !== undefined && mpiVersion(machine, mpi) === undefined) return `${name}: does not have ${mpiName({ flavor: mpi })}`
  if (!fits(wholeOf(node), slots, demand)) return `${name}: too small (${sizeText(wholeOf(node))}, ${many(wholeOf(node).slots, 'slot')})`
  if (isExcluded(state, task.job, task.class, machine))
    return `${name}: left out, ${task.job.row.excluded.find((entry) => entry.machine === machine.peer)?.reason}`
  if (isSuspect(state, task.job, task.class, machine)) return `${name}: ${describeSuspect(task.job, machine)}`
  if (node.heldFor === task) return `${name}: held for it; ${slotsOn(node)}`
  if (node.heldFor !== undefined) return `${name}: held for ${node.heldFor.name ?? node.heldFor.id}`
  const { kept } = node.pool
  if (kept?.node === node && kept.queue !== task.job.queues.get(task.class.key))
    return `${name}: kept free for a task of job ${kept.job.row.spec.id} that needs ${many(kept.queue.class.slots, 'slot')} and has waited long`
  const version = mpi === undefined ? '' : ` (${mpiName({ flavor: mpi, version: mpiVersion(machine, mpi) })})`
  return `${name}: fits${version}; ${slotsOn(node)}`
}

/** What a node holds beyond its slots, and does not start yet, takes none of them. */
function slotsOn(node: Node): string {
  let taken = 0
  let ahead = 0
  for (const { task, uploading } of node.leases) {
    if (uploading) continue
    if (taken + task.class.slots <= node.slots) taken += task.class.slots
    else ahead += 1
  }
  const slots = `${taken} of ${many(node.slots, 'slot')} ${node.slots === 1 ? 'is' : 'are'} taken`
  return ahead === 0 ? slots : `${slots}, ${many(ahead, 'task')} ${ahead === 1 ? 'is' : 'are'} next in line there`
}

/** What no node has enough of: "no machine with 8 cores; largest: 4". */
function wanting(nodes: Node[], kind: TaskClass): string {
  const most = (pick: (node: Node) => number) => Math.max(0, ...nodes.map(pick))
  const { demand, slots } = kind
  if ((demand.cores ?? 0) > most((node) => wholeOf(node).cores))
    return `no machine with ${many(demand.cores!, 'core')}; largest: ${most((node) => wholeOf(node).cores)}.`
  if ((demand.memoryMiB ?? 0) > most((node) => wholeOf(node).memoryMiB)) {
    return `no machine with ${demand.memoryMiB} MiB of memory; largest: ${Math.floor(most((node) => wholeOf(node).memoryMiB))}.`
  }
  if ((demand.gpus ?? 0) > most((node) => wholeOf(node).gpus))
    return `no machine with ${many(demand.gpus!, 'GPU')}; most: ${most((node) => wholeOf(node).gpus)}.`
  if (slots > most((node) => wholeOf(node).slots))
    return `no node with ${many(slots, 'task slot')}; most: ${most((node) => wholeOf(node).slots)}.`
  if (demand.labels !== undefined && !nodes.some((node) => labelsMatch(node.machine.description.labels, demand.labels))) {
    return `no machine with the labels ${labelText(demand)}.`
  }
  if (kind.thread && !nodes.some((node) => hasThreads(node.machine)))
    return 'a thread task needs a machine of version 0.2 or later, and the pool has none.'
  return 'no machine that fits is connected and free for this job.'
}

const noThreads = 'runs no thread tasks (that takes version 0.2 or later)'

function labelText(demand: Demand): string {
  return Object.entries(demand.labels ?? {})
    .map(([name, value]) => `${name}=${value}`)
    .join(',')
}

function sizeText(size: Capacity): string {
  return `${many(size.cores, 'core')}, ${Math.floor(size.memoryMiB)} MiB${size.gpus > 0 ? `, ${many(size.gpus, 'GPU')}` : ''}`
}

export function explainPool(state: State, pool: Pool): Explanation {
  // A machine that lends nothing has no node that could run anything.
  const nodes = [...pool.nodes.values()].filter((node) => node.slots > 0)
  const granted = nodes.filter((node) => node.ready).length
  const { spec } = pool.row
  const details = nodes.map((node) => {
    if (node.machine.session === 0) return `${node.row.nodeId} on ${node.machine.description.name}: not connected`
    return `${node.row.nodeId} on ${node.machine.description.name}: ${node.ready ? 'granted' : (node.refusal ?? 'asked for, no answer yet')}`
  })
  if (pool.id === defaultPoolId) {
    return { summary: `Pool default is the mesh itself: ${many(granted, 'machine')}; ${waitingNow(pool)}.`, details }
  }
  const target = spec.targetDedicatedNodes + spec.targetLowPriorityNodes
  if (isWaiting(pool)) {
    const held = [...state.jobs.values()].filter((job) => job.row.state === 'active' && poolOf(state, job) === pool)
    const details = held.map((job) => `job ${job.row.spec.id} waits for ${jobsBefore(state, job)}`)
    const until = held.length === 0 ? 'it is there for a job, and there is none' : 'no job of it may run yet'
    return { summary: `Pool ${spec.id} has 0 of ${target} nodes: ${until}.`, details }
  }
  for (const machine of state.machines.values()) {
    const why = nodes.some((node) => node.machine === machine) ? undefined : unfit(pool, machine)
    if (why !== undefined) details.push(`${machine.description.name}: ${why}`)
  }
  if (granted >= target) return { summary: `Pool ${spec.id} has all its ${many(target, 'node')}; ${waitingNow(pool)}.`, details }
  const older = olderGangPool(state, pool)
  const why = older === undefined ? shortage(state, pool) : `Pool ${older.row.spec.id} is older and gets its nodes first.`
  return { summary: `Pool ${spec.id} has ${granted} of ${target} nodes. ${why}`, details }
}

function shortage(state: State, pool: Pool): string {
  if (pool.id === defaultPoolId) return 'No machine that lends capacity is connected.'
  const { size, spec } = pool.row
  if (spec.targetDedicatedNodes + spec.targetLowPriorityNodes === 0) return 'Its target is 0 nodes; resize it.'
  const free = Math.max(
    0,
    ...[...state.machines.values()].filter((machine) => machine.session !== 0).map((machine) => unreserved(machine).cores),
  )
  return free < size.cores
    ? `No machine with ${many(size.cores, 'core')}; largest free: ${free}.`
    : `Asking machines for ${sizeText(size)}.`
}

function unfit(pool: Pool, machine: Machine): string | undefined {
  const { size, spec } = pool.row
  const free = unreserved(machine)
  if (machine.session === 0) return 'not connected'
  if (!labelsMatch(machine.description.labels, spec.labels)) return 'does not have the labels the pool asks for'
  if (!isWanted(machine.description, spec)) return `does not have the MPI the pool asks for (${mpiName(spec.mpi!)})`
  const wanted = machine.description.class === 'dedicated' ? spec.targetDedicatedNodes : spec.targetLowPriorityNodes
  if (wanted === 0) return `is ${machine.description.class}; the pool asks for none of those`
  if (free.cores < size.cores) return `${many(free.cores, 'core')} unreserved; the size needs ${size.cores}`
  if (free.memoryMiB < size.memoryMiB)
    return `${Math.floor(free.memoryMiB)} MiB are unreserved; the size needs ${Math.floor(size.memoryMiB)}`
  if (free.gpus < size.gpus) return `${free.gpus} GPUs are unreserved; the size needs ${size.gpus}`
  return undefined
}

/** Which machines could run such a task in a pool, and what stands in the way of the others. */
export function eligible(
  pool: Pool,
  kind: Pick<TaskClass, 'slots' | 'demand' | 'thread'>,
): { machines: { name: string; slots: number }[]; details: string[] } {
  const machines: { name: string; slots: number }[] = []
  const details: string[] = []
  for (const node of pool.nodes.values()) {
    const { machine } = node
    const { name } = machine.description
    if (node.slots === 0) continue
    if (machine.session === 0) details.push(`${name}: not connected`)
    else if (!labelsMatch(machine.description.labels, kind.demand.labels))
      details.push(`${name}: does not have the labels ${labelText(kind.demand)}`)
    else if (kind.thread && !hasThreads(machine)) details.push(`${name}: ${noThreads}`)
    else if (!fits(wholeOf(node), kind.slots, kind.demand))
      details.push(`${name}: too small (${sizeText(wholeOf(node))}, ${many(wholeOf(node).slots, 'slot')})`)
    else machines.push({ name, slots: node.slots })
  }
  return { machines, details }
}
