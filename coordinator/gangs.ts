/**
 * Gangs: which waiting ones start, and for which nodes are kept (M1). A gang is reserved in one step, all nodes or none: it starts
 * when enough nodes that can work together are idle. Once it has waited {@link gangAgeMs}, the first gang of a pool that
 * cannot start holds as many nodes as it needs: those get nothing else until it does, while the others go on with smaller tasks.
 * One gang a pool holds at a time, so gangs cannot block each other; it is the oldest of the highest priority, and stays so
 * until it starts, so none of them waits for ever behind its like.
 *
 * A turn costs what there is to decide: of each class the oldest gang is looked at, the next only when that has started; the
 * nodes that a class can use are found once for all that ask for the same; and where fewer are idle than a gang needs
 * that is all that is asked.
 */
import { fits } from '../protocols/model/resources.ts'
import { ageMs, beatIntervalMs } from './clock.ts'
import { chooseHeld, chooseIdle } from './gang-nodes.ts'
import { isExcluded } from './missing-program.ts'
import { oldest, oldestAsEntry, takeOldest } from './queue.ts'
import { allowsGangs, suits, wholeOf } from './room.ts'
import type { Job, Node, Pool, Queue, State, Task } from './state.ts'

/** A gang that has waited this long stops others from taking the nodes it needs. */
export const gangAgeMs = 10_000
/** A gang is not given to a machine that missed a heartbeat: it would most likely be lost as a whole. */
const beatsToTrust = 1.5

export interface GangPlan {
  /** Gangs to start, with their nodes; the tasks are out of their queues. */
  start: { task: Task; nodes: Node[] }[]
  /** Nodes newly held, whose unstarted work should be taken back. */
  newlyHeld: Node[]
}

/** What waits of one class: its turn is that of its oldest gang. */
interface Waiting {
  queue: Queue
  task: Task
}

/**
 * Decides about all gangs of a pool, oldest first within priority. Who holds is decided anew each time, so that a
 * holder that cannot get its nodes any more (one was lost) gives the others back.
 */
export function planGangs(state: State, pool: Pool, now: number): GangPlan {
  const plan: GangPlan = { start: [], newlyHeld: [] }
  if (!allowsGangs(pool)) return plan
  const line = waitingIn(pool)
  const holder = line.length === 0 ? undefined : startAndHold(plan, line, new Nodes(state, pool, now))
  for (const node of pool.nodes.values()) {
    const heldFor = holder?.nodes.has(node) ? holder.task : undefined
    if (heldFor !== undefined && node.heldFor !== heldFor) plan.newlyHeld.push(node)
    node.heldFor = heldFor
  }
  return plan
}

function startAndHold(plan: GangPlan, line: Waiting[], nodes: Nodes): { task: Task; nodes: Set<Node> } | undefined {
  const starting = new Map<Job, number>()
  let holder: { task: Task; nodes: Set<Node> } | undefined
  for (let next = line.shift(); next !== undefined; next = line.shift()) {
    const { queue, task } = next
    const { job } = task
    const cap = job.row.spec.maxParallelTasks
    if (cap > 0 && job.leased + (starting.get(job) ?? 0) >= cap) continue
    const chosen = nodes.toStart(task)
    if (chosen !== undefined) {
      plan.start.push({ task: takeOldest(queue)!, nodes: chosen })
      starting.set(job, (starting.get(job) ?? 0) + 1)
      const after = oldest(queue)
      if (after !== undefined) insert(line, { queue, task: after })
    } else if (holder === undefined && ageMs(task.readySince, nodes.now) >= gangAgeMs) {
      const held = nodes.toHold(task)
      if (held !== undefined) holder = { task: oldestAsEntry(queue)!, nodes: held }
    }
  }
  return holder
}

/** Of each class that waits in a pool the oldest gang, in the order of their turn. */
function waitingIn(pool: Pool): Waiting[] {
  const line: Waiting[] = []
  for (const job of pool.jobs) {
    if (job.ready === 0) continue
    for (const queue of job.queues.values()) {
      const task = queue.class.gang > 0 && queue.size > 0 ? oldest(queue) : undefined
      if (task !== undefined) line.push({ queue, task })
    }
  }
  return line.sort(byTurn)
}

/** Priority, then age. */
function byTurn({ task: a }: Waiting, { task: b }: Waiting): number {
  return b.job.row.spec.priority - a.job.row.spec.priority || a.readySince - b.readySince || a.job.uid - b.job.uid
}

function insert(line: Waiting[], waiting: Waiting): void {
  const at = line.findIndex((other) => byTurn(waiting, other) < 0)
  line.splice(at < 0 ? line.length : at, 0, waiting)
}

/** The nodes of a pool in one turn, and who has taken them. */
class Nodes {
  readonly now: number
  readonly #state: State
  readonly #pool: Pool
  readonly #silentMs: number
  readonly #taken = new Set<Node>()
  /** Idle and not taken. */
  #idle: number
  readonly #usable = new Map<string, readonly Node[]>()

  constructor(state: State, pool: Pool, now: number) {
    this.now = now
    this.#state = state
    this.#pool = pool
    this.#silentMs = beatsToTrust * beatIntervalMs(state.machines.size)
    this.#idle = 0
    for (const node of pool.nodes.values()) if (this.#isIdle(node)) this.#idle += 1
  }

  /** Takes the nodes for a gang that can start now. */
  toStart(task: Task): Node[] | undefined {
    if (task.class.gang > this.#idle) return undefined
    const idle = this.#usableFor(task).filter((node) => !this.#taken.has(node) && this.#isIdle(node))
    const nodes = chooseIdle(idle, task.class)
    for (const node of nodes ?? []) this.#taken.add(node)
    this.#idle -= nodes?.length ?? 0
    return nodes
  }

  /** Takes the nodes that are kept for a gang until it can start. */
  toHold(task: Task): Set<Node> | undefined {
    const usable = this.#usableFor(task)
    if (task.class.gang > usable.length) return undefined
    const nodes = chooseHeld(
      usable.filter((node) => !this.#taken.has(node)),
      task,
    )
    for (const node of nodes ?? []) {
      this.#taken.add(node)
      if (this.#isIdle(node)) this.#idle -= 1
    }
    return nodes === undefined ? undefined : new Set(nodes)
  }

  #isIdle({ leases, machine }: Node): boolean {
    return leases.size === 0 && machine.session !== 0 && ageMs(machine.lastHeard, this.now) <= this.#silentMs
  }

  /** Nodes that could have a member of such a gang, idle or not: the same for all classes that ask for the same of a node. */
  #usableFor({ class: kind, job }: Task): readonly Node[] {
    const { slots, thread, mpi } = kind
    const shape = JSON.stringify([slots, thread, mpi, kind.demand, job.excluded.size > 0 && job.uid])
    let usable = this.#usable.get(shape)
    if (usable === undefined) {
      usable = [...this.#pool.nodes.values()].filter((node) => isUsable(this.#state, node, job, kind))
      this.#usable.set(shape, usable)
    }
    return usable
  }
}

/** Whether a node could have a member of a gang, once it is idle. */
export function isUsable(state: State, node: Node, job: Job, kind: Task['class']): boolean {
  const { machine } = node
  return (
    node.ready &&
    !node.row.leaving &&
    machine.session !== 0 &&
    !machine.draining &&
    fits(wholeOf(node), kind.slots, kind.demand) &&
    suits(machine, kind) &&
    !isExcluded(state, job, kind, machine)
  )
}
