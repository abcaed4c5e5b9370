/**
 * Placement: which waiting tasks go to which claims. Ordinary tasks are pulled: a parked claim gets what fits its room.
 * A gang is reserved in one step, all nodes or none (M1): it starts when enough nodes are idle; once it has waited
 * {@link gangAgeMs} the oldest gang of a pool holds nodes, which then get nothing else until it starts, while the
 * other nodes go on with smaller tasks. One gang a pool holds at a time, so gangs cannot block each other.
 */

import { maxGrants } from '../protocols/leases.ts'
import { fits, type Room, take } from '../protocols/model/resources.ts'
import { ageMs } from './clock.ts'
import { isExcluded } from './missing-program.ts'
import { queuedIn, shift } from './queue.ts'
import { suits, wholeOf } from './room.ts'
import type { Job, Kept, Node, Pool, State, Task, TaskClass } from './state.ts'
import { allowance, isSuspect } from './suspects.ts'
import { keepIfAged, keptOn } from './wide.ts'

/** A gang that has waited this long stops others from taking the nodes it needs. */
export const gangAgeMs = 10_000
/** Specs in one answer: a quarter of the frame limit, so that an answer of large specs is never too large. */
const maxAnswerBytes = 16 << 20

/** Jobs of a pool that may have something to give, in the order they are served: priority, then age (Azure). */
export function jobsInOrder(pool: Pool): Job[] {
  const jobs = [...pool.jobs].filter((job) => job.ready > 0)
  return jobs.length < 2 ? jobs : jobs.sort((a, b) => b.row.spec.priority - a.row.spec.priority || a.uid - b.uid)
}

export function readyIn(pool: Pool): number {
  let ready = 0
  for (const job of pool.jobs) ready += job.ready
  return ready
}

export interface Asked {
  node: Node
  room: Room
  prefetchSlots: number
}

/** Takes out of the queues what a machine's nodes get now: first what can start at once, then what it may hold ready. */
export function pick({ state, now }: Moment, asked: Asked, budget: Budget): Task[] {
  const { node } = asked
  const { pool } = node
  const plan: Plan = { state, now, node, budget, picked: [], kept: keptOn(node, now) }
  const jobs = jobsInOrder(pool)
  let room = asked.room
  fill(plan, jobs, ({ slots, demand }) => {
    if (!fits(room, slots, demand)) return false
    room = take(room, slots, demand)
    return true
  })
  if (plan.kept !== undefined) return plan.picked
  // Near the end of the work nobody hoards: what one node holds ready is at most its share of what is left.
  const share = Math.floor(readyIn(pool) / Math.max(1, pool.nodes.size))
  let ahead = Math.min(asked.prefetchSlots, share)
  const whole = wholeOf(node)
  fill(plan, jobs, ({ slots, demand }) => {
    if (slots > ahead || !fits(whole, slots, demand)) return false
    ahead -= slots
    return true
  })
  return plan.picked
}

interface Moment {
  readonly state: State
  readonly now: number
}

interface Budget {
  grants: number
  bytes: number
}

interface Plan extends Moment {
  readonly node: Node
  readonly budget: Budget
  readonly picked: Task[]
  /** The node is kept free: only this queue, and jobs of higher priority than its own, get anything. */
  readonly kept: Kept | undefined
}

function fill({ state, now, node, budget, picked, kept }: Plan, jobs: Job[], takes: (kind: TaskClass) => boolean): void {
  const { machine } = node
  for (const job of jobs) {
    if (kept !== undefined && job !== kept.job && job.row.spec.priority <= kept.job.row.spec.priority) continue
    const cap = job.row.spec.maxParallelTasks
    for (const queue of job.queues.values()) {
      if (queue.class.gang > 0 || !suits(machine, queue.class)) continue
      if (kept !== undefined && job === kept.job && queue !== kept.queue) continue
      if (isExcluded(state, job, queue.class, machine)) continue
      const allowed = isSuspect(state, job, queue.class, machine) ? allowance(job, machine, now) : Number.POSITIVE_INFINITY
      while (queue.size > 0) {
        if (countOf(picked, job, allowed) >= allowed) break
        // What was picked for this job is leased only after the pick, so it is counted here.
        if (budget.grants <= 0 || budget.bytes <= 0) return
        if (cap > 0 && job.leased + countOf(picked, job) >= cap) break
        if (!takes(queue.class)) {
          keepIfAged(node, job, queue, now)
          break
        }
        const task = shift(queue)!
        queue.givenAt = now
        picked.push(task)
        budget.grants -= 1
        budget.bytes -= task.specBytes
      }
    }
  }
}

/** Counts only where it matters. */
function countOf(picked: Task[], job: Job, allowed = 0): number {
  if (allowed === Number.POSITIVE_INFINITY) return 0
  let n = 0
  for (const task of picked) if (task.job === job) n += 1
  return n
}

export function newBudget(): Budget {
  return { grants: maxGrants, bytes: maxAnswerBytes }
}

/** Azure: a multi-instance task needs inter-node communication and one task slot a node. */
export function allowsGangs(pool: Pool): boolean {
  return pool.row.spec.enableInterNodeCommunication && pool.row.spec.taskSlotsPerNode === 1
}

export interface GangPlan {
  /** Gangs to start, with their nodes; the tasks are out of their queues. */
  start: { task: Task; nodes: Node[] }[]
  /** Nodes newly held, whose unstarted work should be taken back. */
  newlyHeld: Node[]
}

/**
 * Decides about all gangs of a pool, oldest first within priority. Who holds is decided anew each time, so that a
 * holder that cannot get its nodes any more (one was lost) gives the others back.
 */
export function planGangs(state: State, pool: Pool, now: number): GangPlan {
  const plan: GangPlan = { start: [], newlyHeld: [] }
  if (!allowsGangs(pool)) return plan
  const waiting: Task[] = []
  for (const job of jobsInOrder(pool)) {
    for (const queue of job.queues.values()) if (queue.class.gang > 0) waiting.push(...queuedIn(queue, pool.nodes.size))
  }
  waiting.sort((a, b) => b.job.row.spec.priority - a.job.row.spec.priority || a.readySince - b.readySince)
  const taken = new Set<Node>()
  const starting = new Map<Job, number>()
  let holder: { task: Task; nodes: Set<Node> } | undefined
  for (const task of waiting) {
    const { job } = task
    const cap = job.row.spec.maxParallelTasks
    if (cap > 0 && job.leased + (starting.get(job) ?? 0) >= cap) continue
    const usable = [...pool.nodes.values()].filter((node) => !taken.has(node) && isUsable(state, node, task))
    const idle = usable.filter((node) => node.leases.size === 0)
    const size = task.class.gang
    if (idle.length >= size) {
      const nodes = preferHeld(idle, task).slice(0, size)
      for (const node of nodes) taken.add(node)
      starting.set(job, (starting.get(job) ?? 0) + 1)
      plan.start.push({ task, nodes })
    } else if (holder === undefined && ageMs(task.readySince, now) >= gangAgeMs && usable.length >= size) {
      holder = { task, nodes: new Set(preferHeld(usable, task).slice(0, size)) }
      for (const node of holder.nodes) taken.add(node)
    }
  }
  for (const node of pool.nodes.values()) {
    const heldFor = holder?.nodes.has(node) ? holder.task : undefined
    if (heldFor !== undefined && node.heldFor !== heldFor) plan.newlyHeld.push(node)
    node.heldFor = heldFor
  }
  return plan
}

/** Nodes already held first, then those with the least to finish. */
function preferHeld(nodes: Node[], task: Task): Node[] {
  return nodes.sort((a, b) => Number(b.heldFor === task) - Number(a.heldFor === task) || a.leases.size - b.leases.size)
}

function isUsable(state: State, node: Node, task: Task): boolean {
  const { machine } = node
  return (
    node.ready &&
    !node.row.leaving &&
    machine.session !== 0 &&
    !machine.draining &&
    fits(wholeOf(node), task.class.slots, task.class.demand) &&
    suits(machine, task.class) &&
    !isExcluded(state, task.job, task.class, machine)
  )
}
