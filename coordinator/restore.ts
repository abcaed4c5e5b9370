/** The coordinator's memory from its rows, after a start. Leases are restored as they stood; every one gets a full fresh window (L3). */
import { foldId, type PeerIdText } from '../protocols/ids.ts'
import type { MachineDescription } from '../protocols/model/machine.ts'
import { defaultPoolId } from '../protocols/model/pool.ts'
import type { TaskSpec } from '../protocols/model/task.ts'
import { depend, wholeNumber } from './dependencies.ts'
import { openLease } from './lease.ts'
import { addNumber } from './number-set.ts'
import { enqueue, enqueueArray } from './queue.ts'
import type { JobRow, MachineRow, NodeRow, PoolRow, StatusRow } from './rows.ts'
import {
  addJobToState,
  addMachineToState,
  addNodeToState,
  addPoolToState,
  completed,
  type Job,
  type JobArray,
  type Machine,
  type Node,
  type Place,
  type State,
} from './state.ts'
import { closeTask, leaveTurn, liveTask } from './task-book.ts'
import { makeTask } from './tasks.ts'

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
 * A task of a job that has not ended; `place` is that of a task of an array. Tasks that depend on others are settled by
 * {@link restoreDependencies} once all are in.
 */
export function restoreTask(state: State, job: Job, from: RestoredTask, now: number): void {
  const { spec, status, place } = from
  if (place !== undefined) leaveTurn(place)
  const task = makeTask(job, spec, from.specBytes, status, place)
  if (status?.lease !== undefined) {
    const members = status.lease.map((member) => {
      const machine = machineOf(state, member.machine, member.machine.slice(-8), now)
      return { machine, node: machine.nodes.get(member.nodeId) ?? standIn(state, machine, member.nodeId, now) }
    })
    const ended = new Set(status.lease.flatMap((member, index) => (member.ended === true ? [index] : [])))
    const incarnation = status.lease[0]?.incarnation ?? 0
    openLease(task, { grantTime: status.grantTime ?? now, members, restored: true, incarnation, ended })
  } else if (spec.dependsOn === undefined) enqueue(task, task.epoch > 0, now)
}

export interface RestoredTask {
  spec: TaskSpec
  specBytes: number
  status: StatusRow | undefined
  place?: Place
}

/** A completed task of a job that has not ended. */
export function restoreCompleted(job: Job, id: string, status: StatusRow, place?: Place): void {
  const success = status.result === 'success'
  if (place !== undefined) leaveTurn(place)
  closeTask(job, id, place, completed(status.epoch, success))
  if (success) job.succeeded += 1
  else job.failed += 1
  const n = success && job.row.spec.usesTaskDependencies ? wholeNumber(id) : undefined
  if (n !== undefined) addNumber(job.numbersDone, n)
  if (status.ranOn !== undefined && status.outcome?.exitCode === 0) job.ranOn.add(status.ranOn.machine)
}

/** What a task with parents waits for, now that all tasks of the job are known. */
export function restoreDependencies(job: Job, spec: TaskSpec, now: number): void {
  const task = liveTask(job, foldId(spec.id))
  if (task === undefined || task.lease !== undefined) return
  task.waiting = depend(job, task, spec.dependsOn)
  if (task.waiting === 0) enqueue(task, task.epoch > 0, now)
}

/** An array's turn, now that all tasks of the job are known. */
export function restoreTurn(array: JobArray, now: number): void {
  array.waiting = depend(array.job, array, array.spec.template.dependsOn)
  if (array.waiting === 0) enqueueArray(array, now)
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
