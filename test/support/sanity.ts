/** What holds of the coordinator's memory between any two turns; throws with what does not. */
import { hasBegun } from '../../coordinator/lease.ts'
import { inBook, isCompleted } from '../../coordinator/roll.ts'
import { allowsGangs } from '../../coordinator/room.ts'
import {
  isOpen,
  type Job,
  type JobArray,
  type Lease,
  type Machine,
  type Node,
  type Pool,
  poolOf,
  type State,
  succeeded,
  type Task,
  type Waiter,
} from '../../coordinator/state.ts'
import { markAt, nextMarked, placeOf, pristineCount } from '../../coordinator/task-book.ts'
import { attemptKey, foldId } from '../../protocols/ids.ts'

function must(holds: boolean, what: () => string): void {
  if (!holds) throw new Error(`the coordinator's memory contradicts itself: ${what()}`)
}

export function sanityCheck(state: State): void {
  for (const job of state.jobs.values()) checkJob(state, job)
  for (const machine of state.machines.values()) checkMachine(state, machine)
  for (const pool of state.pools.values()) checkPool(state, pool)
  must(state.jobIds.size === state.jobs.size, () => `${state.jobIds.size} job ids for ${state.jobs.size} jobs`)
  for (const [id, job] of state.jobIds) must(state.jobs.get(job.uid) === job && id === foldId(job.row.spec.id), () => `job id ${id}`)
}

function checkJob(state: State, job: Job): void {
  const { uid, row } = job
  const found = { ready: 0, started: 0, leased: 0, succeeded: 0, failed: 0 }
  const queued = new Map<Task['class'], number>()
  const waits = parentsOf(job)
  const entries = new Set([...job.queues.values()].flatMap((queue) => [...queue.again, ...queue.fresh.slice(queue.head)]))
  for (const [id, task] of job.tasks) {
    must(task.id === id && task.job === job, () => `task ${uid}/${id} is filed under another name`)
    const place = placeOf(job, id)
    must(place?.array === task.place?.array && place?.position === task.place?.position, () => `task ${uid}/${id} is at another place`)
    if (task.queued) {
      found.ready += 1
      queued.set(task.class, (queued.get(task.class) ?? 0) + 1)
      must(task.lease === undefined && task.waiting === 0, () => `task ${uid}/${id} is queued and leased or waiting`)
      must(row.state === 'active', () => `task ${uid}/${id} of an ended job is queued`)
      must(entries.has(task), () => `task ${uid}/${id} is marked as queued but in no queue`)
    }
    if (task.lease !== undefined) {
      found.leased += 1
      if (task.lease.startTime !== undefined) found.started += 1
      must(row.state === 'active', () => `task ${uid}/${id} of an ended job is leased`)
      checkLease(state, task, task.lease)
    } else if (row.state === 'active' && !task.queued) must(task.waiting > 0, () => `task ${uid}/${id} is nowhere`)
    if (row.state === 'active' && task.lease === undefined)
      must(task.waiting === (waits.get(task) ?? 0), () => `task ${uid}/${id} waits for ${task.waiting}, not ${waits.get(task) ?? 0}`)
    must(task.retries >= 0 && task.requeues >= 0 && task.losses >= 0 && task.losses <= task.requeues, () => `counts of ${uid}/${id}`)
    must(task.maxRetries < 0 || task.retries <= task.maxRetries, () => `task ${uid}/${id} has spent ${task.retries} retries`)
  }
  checkRoll(job, found, queued)
  for (const array of job.arrays) {
    const pristine = checkArray(job, array)
    found.succeeded += pristine.succeeded
    found.failed += pristine.failed
    if (array.queued) {
      found.ready += pristineCount(array)
      queued.set(array.class, (queued.get(array.class) ?? 0) + pristineCount(array))
      must(row.state === 'active' && array.waiting === 0, () => `array ${uid}/${array.number} is queued, but waits or its job has ended`)
      must(pristineCount(array) === 0 || entries.has(array), () => `array ${uid}/${array.number} is marked as queued but in no queue`)
    } else if (row.state === 'active' && pristineCount(array) > 0) must(array.waiting > 0, () => `array ${uid}/${array.number} is nowhere`)
    if (row.state === 'active')
      must(array.waiting === (waits.get(array) ?? 0), () => `array ${uid}/${array.number} waits for ${array.waiting}`)
  }
  const total = job.arrays.reduce((sum, { ids }) => sum + ids.count, job.roll.size)
  must(job.total === total, () => `job ${uid} has ${total} tasks and says ${job.total}`)
  for (const queue of job.queues.values())
    must(queue.size === (queued.get(queue.class) ?? 0), () => `queue ${uid}/${queue.class.key} says ${queue.size}`)
  const isRead = !job.forgotten
  for (const key of Object.keys(found) as (keyof typeof found)[])
    must(!isRead || found[key] === job[key], () => `job ${uid} says ${job[key]} ${key}, there are ${found[key]}`)
  must(
    [...job.excluded].sort().join() ===
      row.excluded
        .map((entry) => entry.machine)
        .sort()
        .join(),
    () => `job ${uid}: machines left out`,
  )
}

/** Each entry is pristine and in exactly one run, in the book, or completed; each is found by its id. */
function checkRoll(job: Job, found: { ready: number; succeeded: number; failed: number }, queued: Map<Task['class'], number>): void {
  const { roll, uid } = job
  const runs = [...job.queues.values()].flatMap((queue) => queue.fresh.slice(queue.head).filter((entry) => 'end' in entry))
  let inBooks = 0
  for (let n = 0; n < roll.size; n += 1) {
    const id = foldId(roll.idAt(n))
    const mark = roll.markAt(n)
    must(roll.find(id) === n, () => `${uid}/${id} is number ${n}, and found as ${roll.find(id)}`)
    must(job.tasks.has(id) === (mark === inBook), () => `${uid}/${id} has the mark ${mark}`)
    if (mark === inBook) inBooks += 1
    if (isCompleted(mark)) found[succeeded(mark) ? 'succeeded' : 'failed'] += 1
    if (mark !== 0 || job.row.state !== 'active') continue
    const kind = roll.kindAt(n).class
    const holding = runs.filter((run) => run.class === kind && run.next <= n && n < run.end)
    must(holding.length === 1, () => `${uid}/${id} is pristine and in ${holding.length} runs`)
    found.ready += 1
    queued.set(kind, (queued.get(kind) ?? 0) + 1)
  }
  const own = [...job.tasks.values()].filter((task) => task.place === undefined).length
  must(own === inBooks, () => `job ${uid} has ${own} tasks in the book, ${inBooks} in the roll`)
}

/** Each position is pristine, in the book, or marked; what was passed over is not pristine. */
function checkArray(job: Job, array: JobArray): { succeeded: number; failed: number } {
  const found = { succeeded: 0, failed: 0 }
  const what = `array ${job.uid}/${array.number}`
  const touched: number[] = []
  for (const task of job.tasks.values()) {
    if (task.place?.array !== array) continue
    touched.push(task.place.position)
    must(markAt(array, task.place.position) === 0, () => `${what}: task ${task.id} is completed and in the book`)
  }
  for (let at = nextMarked(array, 0, Boolean); at < array.ids.count; at = nextMarked(array, at + 1, Boolean)) {
    touched.push(at)
    found[succeeded(markAt(array, at)) ? 'succeeded' : 'failed'] += 1
  }
  const behind = touched.filter((position) => position < array.cursor).length
  must(behind === array.cursor, () => `${what}: of ${array.cursor} positions passed over only ${behind} had their turn`)
  must(array.ahead === touched.length - behind, () => `${what} says ${array.ahead} ahead, there are ${touched.length - behind}`)
  return found
}

function parentsOf(job: Job): Map<Waiter, number> {
  const waits = new Map<Waiter, number>()
  const count = (waiter: Waiter) => waits.set(waiter, (waits.get(waiter) ?? 0) + 1)
  for (const children of job.dependents.values()) children.forEach(count)
  for (const waiter of job.rangeWaiters) count(waiter.waiter)
  return waits
}

function checkLease(state: State, task: Task, lease: Lease): void {
  const key = attemptKey({ jobUid: task.job.uid, task: task.id, epoch: lease.epoch })
  must(lease.task === task && lease.epoch === task.epoch, () => `the lease of ${key} is of another attempt`)
  must(lease.members.length === Math.max(1, task.class.gang), () => `${key} has ${lease.members.length} members`)
  must(new Set(lease.members.map((member) => member.node)).size === lease.members.length, () => `${key} has a node twice`)
  for (const { machine, node } of lease.members) {
    must(state.machines.get(machine.peer) === machine, () => `${key} is on a machine that is forgotten`)
    must(machine.leases.get(key) === lease && node.leases.has(lease), () => `${key} is not in the books of its machine`)
    must(node.machine === machine && machine.nodes.get(node.row.nodeId) === node, () => `${key} is on a node that is gone`)
  }
}

function checkMachine(state: State, machine: Machine): void {
  const { peer } = machine
  for (const [key, lease] of machine.leases) {
    must(state.jobs.get(lease.task.job.uid) === lease.task.job, () => `${peer} has a lease of a deleted job, ${key}`)
    must(lease.task.lease === lease, () => `${peer} has a second lease of the attempt, ${key}`)
    must(machine.session !== 0 || hasBegun(lease), () => `L7: ${key} is unstarted and ${peer} has no session`)
  }
  for (const [id, node] of machine.nodes) {
    must(node.machine === machine && node.row.nodeId === id, () => `node ${id} of ${peer}`)
    must(node.pool.nodes.get(id) === node, () => `node ${id} of ${peer} is not in its pool`)
  }
  must(machine.parked === undefined || machine.session !== 0, () => `${peer} has a claim but no session`)
  for (const node of machine.parked?.nodes ?? [])
    must(machine.nodes.get(node.row.nodeId) !== node || node.pool.parked.has(node), () => `the claim of ${peer} is not in its pool`)
}

function checkPool(state: State, pool: Pool): void {
  checkParked(pool)
  const held = new Map<Task, number>()
  for (const node of pool.nodes.values()) {
    must(node.pool === pool && state.machines.get(node.machine.peer) === node.machine, () => `node ${node.row.nodeId}`)
    checkNode(node)
    if (node.heldFor !== undefined) held.set(node.heldFor, (held.get(node.heldFor) ?? 0) + 1)
  }
  must(held.size <= 1, () => `M1: several gangs hold nodes of ${pool.id}`)
  for (const [task, nodes] of held)
    must(
      task.queued && task.class.gang === nodes && allowsGangs(pool) && poolOf(state, task.job) === pool,
      () => `M1: ${nodes} nodes of ${pool.id} are held for ${task.id}, which is not waiting for them`,
    )
  for (const job of state.jobs.values()) {
    const belongs = isOpen(job.row) && poolOf(state, job) === pool
    must(pool.jobs.has(job) === belongs, () => `job ${job.uid} and pool ${pool.id}`)
  }
  for (const job of state.jobs.values())
    for (const { uid } of job.row.state === 'active' ? (job.row.waitingFor ?? []) : [])
      must(
        state.jobs.get(uid)?.row.state === 'active' && state.jobs.get(uid)!.followers.has(job),
        () => `job ${job.uid} waits for job ${uid}`,
      )
  for (const job of pool.jobs) must(state.jobs.get(job.uid) === job, () => `pool ${pool.id} has a deleted job`)
}

function checkParked(pool: Pool): void {
  for (const node of pool.parked) {
    must(pool.nodes.get(node.row.nodeId) === node, () => `a claim waits in ${pool.id} for a node that is gone`)
    must(node.machine.parked?.nodes.includes(node) === true, () => `a claim waits in ${pool.id} that ${node.machine.peer} does not have`)
  }
}

function checkNode(node: Node): void {
  for (const lease of node.leases) must(lease.task.lease === lease, () => `node ${node.row.nodeId} has an ended lease`)
}
