/** The coordinator's memory from its rows, after a start. Leases are restored as they stood; every one gets a full fresh window (L3). */
import { foldId, type PeerIdText } from '../protocols/ids.ts'
import type { MachineDescription } from '../protocols/model/machine.ts'
import { defaultPoolId } from '../protocols/model/pool.ts'
import type { TaskSpec } from '../protocols/model/task.ts'
import { depend, wholeNumber } from './dependencies.ts'
import { openLease } from './lease.ts'
import { addJobToState, addMachineToState, addNodeToState, addPoolToState } from './make-state.ts'
import { addNumber } from './number-set.ts'
import { enqueue, enqueueArray, enqueueEntry } from './queue.ts'
import { inBook, isCompleted, type Mark } from './roll.ts'
import { readRollRow } from './roll-rows.ts'
import type { JobRow, MachineRow, NodeRow, PoolRow, RollRow, StatusRow, SubtasksRow } from './rows.ts'
import { completed, type Job, type Lease, type Machine, type Node, type Place, type State, type Task } from './state.ts'
import { endedParts, pageKeys } from './subtasks.ts'
import { closeTask, enroll, leaveTurn, liveEntries, liveTask, ownMark, partsOf, placeOf, putTask } from './task-book.ts'

export function restorePool(state: State, row: PoolRow): void {
  addPoolToState(state, row)
}

export function restoreMachine(state: State, peer: PeerIdText, row: MachineRow, now: number): void {
  const machine = addMachineToState(state, peer, row.description, now)
  machine.roles = row.roles
  machine.incarnation = row.incarnation
}

export function restoreNode(state: State, row: NodeRow, now: number): void {
  const pool = state.pools.get(foldId(row.poolId))
  if (pool === undefined) return
  addNodeToState(pool, machineOf(state, row.machine, row.machineName, now), row, pool.row.size, pool.row.spec.taskSlotsPerNode, false)
}

export function restoreJob(state: State, row: JobRow): Job {
  const job = addJobToState(state, row, row.state === 'completed')
  if (row.finalCounts !== undefined) {
    job.succeeded = row.finalCounts.succeeded
    job.failed = row.finalCounts.failed
  }
  return job
}

/**
 * A job that has not ended, from its rows: its arrays are there already (boot.ts). First comes what its roll says, then
 * the status rows, then the specs of tasks that wait for others; at the end everything that may run has its turn: what
 * ran before, then all else in the order of submission.
 */
export class JobRestore {
  readonly #state: State
  readonly #job: Job
  readonly #now: number
  /** Folded ids of tasks of the roll whose parents only their specs tell. */
  readonly #dependent = new Set<string>()

  constructor(state: State, job: Job, now: number) {
    this.#state = state
    this.#job = job
    this.#now = now
  }

  /** In the order of submission. */
  addRoll(row: RollRow): void {
    for (const { id, kind, isDependent } of readRollRow(this.#job, row)) {
      enroll(this.#job, id, kind)
      if (isDependent) this.#dependent.add(foldId(id))
    }
  }

  addStatus(id: string, status: StatusRow): void {
    const job = this.#job
    const n = job.roll.find(id)
    const place = n === undefined ? placeOf(job, id) : undefined
    if (place !== undefined) leaveTurn(place)
    else if (n === undefined) return
    if (status.state === 'completed') return restoreCompleted(job, id, status, place)
    const parts = place === undefined ? { id: job.roll.idAt(n!), ...job.roll.kindAt(n!) } : partsOf(place)
    const task = putTask(job, { ...parts, status, place })
    if (status.lease !== undefined) restoreLease(this.#state, task, status, this.#now)
  }

  /** Gangs whose attempt stands: {@link addSubtasks} takes in what the pages of their members say. */
  *gangs(): Generator<{ id: string; keys: string[] }> {
    const { uid } = this.#job
    for (const { id, lease } of liveEntries(this.#job))
      if (lease !== undefined && lease.members.length > 1) yield { id, keys: pageKeys(uid, id, lease.members.length) }
  }

  addSubtasks(id: string, pages: readonly SubtasksRow[]): void {
    const { lease } = liveTask(this.#job, id)!
    for (const [member, part] of endedParts(pages, lease!.epoch)) lease!.parts.set(member, part)
  }

  /** Of these tasks {@link finish} needs the specs. */
  wanted(): string[] {
    return [...this.#dependent].filter((id) => !isCompleted(ownMark(this.#job, id)) && liveTask(this.#job, id)?.lease === undefined)
  }

  finish(dependent: Iterable<TaskSpec>): void {
    const job = this.#job
    const now = this.#now
    const parents = new Map<string, TaskSpec['dependsOn']>()
    for (const { id, dependsOn } of dependent) {
      const folded = foldId(id)
      parents.set(folded, dependsOn)
      if (liveTask(job, folded) === undefined) putTask(job, { id, ...job.roll.kindAt(job.roll.find(folded)!) })
    }
    for (const task of liveEntries(job)) {
      if (task.lease !== undefined) continue
      task.waiting = depend(job, task, task.place === undefined ? parents.get(task.id) : task.place.array.spec.template.dependsOn)
      if (task.waiting === 0 && task.epoch > 0) enqueue(task, true, now)
    }
    let next = 0
    for (const array of job.arrays) {
      next = this.#enqueueRoll(next, array.after)
      array.waiting = depend(job, array, array.spec.template.dependsOn)
      if (array.waiting === 0) enqueueArray(array, now)
    }
    this.#enqueueRoll(next, job.roll.size)
  }

  /** What never ran of the roll from `from` to before `end`, in its order; answers how far that was. */
  #enqueueRoll(from: number, end: number): number {
    const { roll } = this.#job
    let n = roll.nextMarked(from, isLive)
    for (; n < Math.min(end, roll.size); n = roll.nextMarked(n + 1, isLive)) {
      const task = roll.markAt(n) === inBook ? liveTask(this.#job, foldId(roll.idAt(n))) : undefined
      if (task === undefined) enqueueEntry(this.#job, n, this.#now)
      else if (task.epoch === 0 && task.waiting === 0) enqueue(task, false, this.#now)
    }
    return n
  }
}

const isLive = (mark: Mark) => !isCompleted(mark)

function restoreLease(state: State, task: Task, status: StatusRow, now: number): void {
  const members = status.lease!.map((member) => {
    const machine = machineOf(state, member.machine, member.machine.slice(-8), now)
    return { machine, node: machine.nodes.get(member.nodeId) ?? standIn(state, machine, member.nodeId, now) }
  })
  const parts: Lease['parts'] = new Map(status.lease!.flatMap(({ ended }, member) => (ended === true ? [[member, { endTime: now }]] : [])))
  const incarnation = status.lease![0]?.incarnation ?? 0
  openLease(task, { grantTime: status.grantTime ?? now, members, restored: true, incarnation, parts })
}

function restoreCompleted(job: Job, id: string, status: StatusRow, place: Place | undefined): void {
  const success = status.result === 'success'
  closeTask(job, id, place, completed(status.epoch, success))
  if (success) job.succeeded += 1
  else job.failed += 1
  const n = success && job.row.spec.usesTaskDependencies ? wholeNumber(id) : undefined
  if (n !== undefined) addNumber(job.numbersDone, n)
  if (status.ranOn !== undefined && status.outcome?.exitCode === 0) job.ranOn.add(status.ranOn.machine)
}

/** Stands for a machine that is known only by name until it says hello. */
function machineOf(state: State, peer: PeerIdText, name: string, now: number): Machine {
  return state.machines.get(peer) ?? addMachineToState(state, peer, unknownMachine(name), now)
}

/** The default pool's nodes have no rows: they come back with their machines. */
function standIn(state: State, machine: Machine, nodeId: string, now: number): Node {
  const pool = state.pools.get(defaultPoolId)!
  const row: NodeRow = {
    reservationId: 0,
    ownerEpoch: state.mesh.ownerEpoch,
    nodeId,
    poolId: pool.row.spec.id,
    machine: machine.peer,
    machineName: machine.description.name,
    allocationTime: now,
    leaving: false,
  }
  const { capacity } = machine.description
  return addNodeToState(pool, machine, row, capacity, Math.floor(capacity.cores), true)
}

function unknownMachine(name: string): MachineDescription {
  return {
    name,
    class: 'dedicated',
    capacity: { cores: 0, memoryMiB: 0, gpus: 0 },
    diskFreeMiB: 0,
    labels: {},
    os: '',
    arch: '',
    version: '',
    isolation: 'process-group',
    addresses: [],
    nodeRootDir: '',
  }
}
