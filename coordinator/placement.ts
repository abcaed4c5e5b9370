/** Placement: which waiting tasks go to which claims. Ordinary tasks are pulled: a parked claim gets what fits its room. */

import { maxGrants } from '../protocols/leases.ts'
import { fits, type Room, take } from '../protocols/model/resources.ts'
import { isExcluded } from './missing-program.ts'
import { shift } from './queue.ts'
import { suits, wholeOf } from './room.ts'
import type { Job, Kept, Node, Pool, State, Task, TaskClass } from './state.ts'
import { allowance, isSuspect } from './suspects.ts'
import { keepIfAged, keptOn } from './wide.ts'

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
