/** What machines and compute nodes have room for when nothing runs: the coordinator's estimate, the machine knows. */
import type { MachineDescription } from '../protocols/model/machine.ts'
import type { PoolSpec } from '../protocols/model/pool.ts'
import { type Capacity, labelsMatch, type Room, roundingSlack } from '../protocols/model/resources.ts'
import { mpiVersion } from './gang-members.ts'
import type { Machine, Node, Pool, TaskClass } from './state.ts'

/** What machines that run thread tasks say of themselves (protocols/model/machine.ts). */
const threads = 'threads'

export function hasThreads(machine: Machine): boolean {
  return machine.description.features?.includes(threads) ?? false
}

/** Whether a machine has what no capacity stands for: the labels and the MPI that a task asks for, and threads for a thread task. */
export function suits(machine: Machine, { demand, thread, mpi }: Pick<TaskClass, 'demand' | 'thread' | 'mpi'>): boolean {
  if (!labelsMatch(machine.description.labels, demand.labels)) return false
  return (!thread || hasThreads(machine)) && (mpi === undefined || mpiVersion(machine, mpi) !== undefined)
}

/** Azure: a multi-instance task needs inter-node communication and one task slot a node. */
export function allowsGangs(pool: Pool): boolean {
  return pool.row.spec.enableInterNodeCommunication && pool.row.spec.taskSlotsPerNode === 1
}

/** Whether a machine can have a node of a pool, as far as that is no matter of room. */
export function isWanted({ labels, mpi: installed = [] }: MachineDescription, { labels: wanted, mpi }: PoolSpec): boolean {
  if (!labelsMatch(labels, wanted)) return false
  return mpi === undefined || installed.some(({ flavor, version }) => flavor === mpi.flavor && version === (mpi.version ?? version))
}

/** What a machine lends and no pool has asked for. */
export function unreserved(machine: Machine): Capacity {
  const free = { ...machine.description.capacity }
  for (const node of machine.nodes.values()) {
    if (node.row.reservationId === 0) continue
    free.cores -= node.size.cores
    free.memoryMiB -= node.size.memoryMiB
    free.gpus -= node.size.gpus
  }
  return free
}

/** The largest task that a node could take. The default pool's node shrinks as other pools reserve parts of its machine. */
export function wholeOf(node: Node): Room {
  if (node.row.reservationId !== 0) return { ...node.size, slots: node.slots }
  const { cores, memoryMiB, gpus } = unreserved(node.machine)
  return {
    cores: Math.max(0, cores),
    memoryMiB: Math.max(0, memoryMiB),
    gpus: Math.max(0, gpus),
    slots: Math.max(0, Math.floor(cores + roundingSlack)),
  }
}
