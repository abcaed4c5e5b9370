/** How things are shown: the read model over the state and, for tasks, their rows. Pure. */

import type { MeshStatus } from '../protocols/control.ts'
import { foldId, type PeerIdText } from '../protocols/ids.ts'
import type { JobView, TaskCounts } from '../protocols/model/job.ts'
import type { MachineView } from '../protocols/model/machine.ts'
import { defaultPoolId, type NodeState, type NodeView, type PoolView } from '../protocols/model/pool.ts'
import type { Capacity } from '../protocols/model/resources.ts'
import type { AttemptRecord, TaskSpec, TaskView } from '../protocols/model/task.ts'
import { readyIn } from './placement.ts'
import type { StatusRow } from './rows.ts'
import { type Job, type Lease, liveTasks, type Machine, type Node, type Pool, type State } from './state.ts'
import { rootDirectory } from './subtasks.ts'
import { liveTask } from './task-book.ts'

export function viewCounts(job: Job): TaskCounts {
  const final = job.row.finalCounts
  const live = final === undefined ? liveTasks(job) : final.active
  const { started, succeeded, failed } = job
  return { active: live - started, running: started, completed: succeeded + failed, succeeded, failed }
}

export function viewJob(state: State, job: Job): JobView {
  const { row } = job
  return {
    ...row.spec,
    uid: row.uid,
    state: row.state,
    creationTime: row.creationTime,
    stateTransitionTime: row.stateTransitionTime,
    endTime: row.endTime,
    terminateReason: row.terminateReason,
    submitter: row.submitter === undefined ? undefined : (state.machines.get(row.submitter)?.description.name ?? row.submitter),
    submitterPeer: row.submitter,
    counts: viewCounts(job),
    excludedMachines: row.excluded,
  }
}

function runningOn(node: Node): Lease[] {
  return [...node.leases].filter((lease) => !lease.uploading && (lease.startTime !== undefined || lease.restored))
}

export function viewNode(node: Node): NodeView {
  const running = runningOn(node)
  return {
    id: node.row.nodeId,
    poolId: node.row.poolId,
    machine: node.row.machine,
    machineName: node.machine.description.name,
    state: nodeState(node, running.length),
    isDedicated: node.machine.description.class === 'dedicated',
    size: node.size,
    taskSlots: node.slots,
    runningTasksCount: running.length,
    runningTaskSlotsCount: running.reduce((sum, lease) => sum + lease.task.class.slots, 0),
    allocationTime: node.row.allocationTime,
    heldFor: node.heldFor === undefined ? undefined : `${node.heldFor.job.row.spec.id}/${node.heldFor.name ?? node.heldFor.id}`,
  }
}

function nodeState(node: Node, running: number): NodeState {
  if (node.row.leaving) return 'leavingpool'
  if (!node.ready) return 'creating'
  if (node.machine.session === 0) return node.machine.description.class === 'low-priority' ? 'preempted' : 'unknown'
  if (node.machine.draining) return 'offline'
  return running > 0 ? 'running' : 'idle'
}

export function viewPool(pool: Pool): PoolView {
  const { row } = pool
  const nodes = [...pool.nodes.values()].filter((node) => node.ready && node.slots > 0)
  const dedicated = nodes.filter((node) => node.machine.description.class === 'dedicated').length
  // The default pool has what the mesh has: its targets are its nodes.
  const targets = pool.id === defaultPoolId ? { targetDedicatedNodes: dedicated, targetLowPriorityNodes: nodes.length - dedicated } : {}
  let runningTasks = 0
  for (const job of pool.jobs) runningTasks += job.started
  return {
    ...row.spec,
    ...targets,
    state: row.deleting ? 'deleting' : 'active',
    allocationState: row.allocationState,
    nodeSize: row.size,
    currentDedicatedNodes: dedicated,
    currentLowPriorityNodes: nodes.length - dedicated,
    resizeErrors: row.resizeErrors,
    creationTime: row.creationTime,
    allocationStateTransitionTime: row.allocationStateTransitionTime,
    pendingTasks: readyIn(pool),
    runningTasks,
  }
}

export function reservedOn(machine: Machine): Capacity {
  const sum: Capacity = { cores: 0, memoryMiB: 0, gpus: 0 }
  for (const node of machine.nodes.values()) {
    if (node.row.reservationId === 0 || !node.ready) continue
    sum.cores += node.size.cores
    sum.memoryMiB += node.size.memoryMiB
    sum.gpus += node.size.gpus
  }
  return sum
}

export function viewMachine(state: State, machine: Machine): MachineView {
  return {
    ...machine.description,
    peer: machine.peer,
    roles: [...machine.roles],
    connected: machine.session !== 0,
    reserved: reservedOn(machine),
    runningTasks: [...machine.nodes.values()].reduce((sum, node) => sum + runningOn(node).length, 0),
    lastSeen: machine.lastHeard,
    isCoordinator: machine.peer === state.self,
  }
}

/** A machine by its peer id, the end of it, or its name; undefined when none or several fit. */
export function findMachine(state: State, text: string): Machine | undefined {
  const exact = state.machines.get(text as PeerIdText)
  if (exact !== undefined) return exact
  const fit = [...state.machines.values()].filter(
    (machine) => machine.description.name === text || (text.length >= 6 && machine.peer.endsWith(text)),
  )
  return fit.length === 1 ? fit[0] : undefined
}

/** A task from its rows, with what only memory knows of it: whether its program has begun. */
export function viewTask(state: State, job: Job, spec: TaskSpec, creationTime: number, status: StatusRow | undefined): TaskView {
  const lease = liveTask(job, foldId(spec.id))?.lease
  // The row is what is durable: a lease of a later epoch than the row's is not shown yet (L5).
  const shown = lease !== undefined && status?.epoch === lease.epoch ? lease : undefined
  const { outcome } = status ?? {}
  const started = shown?.startTime
  const isCompleted = status?.state === 'completed'
  return {
    ...spec,
    jobId: job.row.spec.id,
    state: isCompleted ? 'completed' : shown !== undefined && (started !== undefined || shown.restored) ? 'running' : 'active',
    phase: shown === undefined ? undefined : phaseOf(shown),
    creationTime,
    stateTransitionTime: started ?? status?.stateTransitionTime ?? creationTime,
    executionInfo: {
      startTime: started ?? outcome?.startTime,
      endTime: shown === undefined ? outcome?.endTime : undefined,
      exitCode: shown === undefined ? outcome?.exitCode : undefined,
      result: status?.result,
      failureInfo: shown === undefined ? outcome?.failureInfo : undefined,
      retryCount: status?.retryCount ?? 0,
      requeueCount: status?.requeueCount ?? 0,
    },
    nodeInfo: nodeInfo(state, job, spec, status),
    outputs: outcome?.outputs ?? [],
    stderrTail: outcome?.stderrTail,
    threadResult: outcome?.threadResult,
    threadError: outcome?.threadError,
    attempts: attempts(status, shown),
  }
}

/** After a restart of the coordinator it is not known until the machine says it. */
function phaseOf({ uploading, startTime, restored }: Lease): TaskView['phase'] {
  if (uploading) return 'uploading'
  if (startTime !== undefined) return 'executing'
  return restored ? undefined : 'fetching'
}

function nodeInfo(state: State, job: Job, spec: TaskSpec, status: StatusRow | undefined): TaskView['nodeInfo'] {
  const where = status?.lease?.[0] ?? status?.ranOn
  if (where === undefined) return undefined
  const name = state.machines.get(where.machine)?.description.name ?? status?.ranOn?.machineName ?? where.machine
  const epoch = status?.lease === undefined ? status!.ranOn!.epoch : status.epoch
  return {
    poolId: job.row.spec.poolId,
    nodeId: where.nodeId,
    machine: where.machine,
    machineName: name,
    taskRootDirectory: rootDirectory(job, spec.id, epoch),
  }
}

function attempts(status: StatusRow | undefined, lease: Lease | undefined): AttemptRecord[] {
  if (status === undefined) return []
  const list = [...(status.history ?? [])]
  const where = status.lease?.[0] ?? status.ranOn
  const lastIsInHistory = list.at(-1)?.epoch === status.epoch
  if (where === undefined || lastIsInHistory) return list
  const record: AttemptRecord = { epoch: status.epoch, machine: where.machine, nodeId: where.nodeId, grantTime: status.grantTime ?? 0 }
  if (status.state === 'completed') {
    record.startTime = status.outcome?.startTime
    record.endTime = status.outcome?.endTime
    record.exitCode = status.outcome?.exitCode
    record.end = status.result === 'success' ? 'success' : status.lastEnd === 'revoked' ? 'terminated' : 'failure'
  } else record.startTime = lease?.startTime
  return [...list, record]
}

export function viewStatus(
  state: State,
  meshId: string,
  started: { startTime: number; version: string; name: string },
  lagMs: number,
): MeshStatus {
  const connected = [...state.machines.values()].filter((machine) => machine.session !== 0)
  const tasks: TaskCounts = { active: 0, running: 0, completed: 0, succeeded: 0, failed: 0 }
  let active = 0
  for (const job of state.jobs.values()) {
    if (job.row.state === 'active') active += 1
    const counts = viewCounts(job)
    for (const key of Object.keys(tasks) as (keyof TaskCounts)[]) tasks[key] += counts[key]
  }
  const sum = (pick: (capacity: Capacity) => number) => connected.reduce((total, machine) => total + pick(machine.description.capacity), 0)
  return {
    meshId,
    coordinator: {
      peer: state.self,
      name: started.name,
      version: started.version,
      startTime: started.startTime,
      ownerEpoch: state.mesh.ownerEpoch,
    },
    machines: { connected: connected.length, known: state.machines.size },
    capacity: { cores: sum((c) => c.cores), memoryMiB: sum((c) => c.memoryMiB), gpus: sum((c) => c.gpus) },
    pools: state.pools.size,
    jobs: { active, completed: state.jobs.size - active },
    tasks,
    heartbeatLagMs: lagMs,
  }
}
