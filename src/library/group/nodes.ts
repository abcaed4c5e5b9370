/** The nodes of a pool that is made for one group. Pure. */
import { MeshError } from '../../../protocols/errors.ts'
import type { MachineView } from '../../../protocols/model/machine.ts'
import type { PoolSpecInput } from '../../../protocols/model/pool.ts'
import { labelsMatch } from '../../../protocols/model/resources.ts'
import type { GroupOptions } from './options.ts'

/** Where a mesh has fewer cores than a group has members, they share: four a core at most, as many as Azure Batch allows task slots. */
const sharesOfCore = [1, 1 / 2, 1 / 4]

type Machine = Pick<MachineView, 'connected' | 'capacity' | 'reserved' | 'class' | 'labels' | 'features'>
type Wanted = Pick<GroupOptions, 'size' | 'cores' | 'memoryMiB' | 'gpus' | 'labels'>

/**
 * A pool with a node for each member, as large as can be given at once; if there is nothing left, as the machines could
 * give without what other pools have reserved. Throws InvalidPropertyValue where they have too few cores even so.
 */
export function poolOfGroup(id: string, wanted: Wanted, machines: readonly Machine[]): PoolSpecInput {
  const { size, gpus = 0, labels } = wanted
  const able = machines.filter(
    (machine) => machine.connected && machine.features?.includes('threads') && labelsMatch(machine.labels, labels),
  )
  const cores = wanted.cores ?? shareFor(size, able.map(freeCores)) ?? shareFor(size, able.map(allCores))
  if (cores === undefined) throw tooLarge(size, able)
  const perCoreMiB = Math.min(
    ...able.filter((machine) => allCores(machine) >= cores).map((machine) => machine.capacity.memoryMiB / allCores(machine)),
  )
  // Without a machine that would do, the pool waits for one.
  const memoryMiB = wanted.memoryMiB ?? (Number.isFinite(perCoreMiB) ? Math.floor(perCoreMiB * cores) : 0)
  const preemptible = nodesOf(able.filter((machine) => machine.class === 'low-priority').map(allCores), cores)
  const lasting = nodesOf(able.filter((machine) => machine.class === 'dedicated').map(allCores), cores)
  // Machines that may leave at any time only where the others are not enough.
  const targetLowPriorityNodes = Math.min(Math.max(0, size - lasting), preemptible)
  return {
    id,
    vmSize: `cores=${cores},memory=${memoryMiB}MiB,gpus=${gpus}`,
    targetDedicatedNodes: size - targetLowPriorityNodes,
    targetLowPriorityNodes,
    enableInterNodeCommunication: true,
    // Members on one machine speak through its memory.
    nodeFillType: 'pack',
    poolLifetimeOption: 'job',
    ...(labels === undefined ? {} : { labels }),
  }
}

const allCores = ({ capacity }: Machine): number => capacity.cores
const freeCores = ({ capacity, reserved }: Machine): number => capacity.cores - reserved.cores

function shareFor(size: number, cores: readonly number[]): number | undefined {
  return sharesOfCore.find((share) => nodesOf(cores, share) >= size)
}

function nodesOf(cores: readonly number[], share: number): number {
  return cores.reduce((nodes, own) => nodes + Math.floor(own / share), 0)
}

function tooLarge(size: number, machines: readonly Machine[]): MeshError {
  const most = nodesOf(machines.map(allCores), sharesOfCore.at(-1)!)
  const has = most === 0 ? 'No machine that is connected can run one' : `Its machines have room for ${most} members at most, four a core`
  return new MeshError(
    'InvalidPropertyValue',
    `A group of ${size} is more than the mesh can hold. ${has}. Add machines, or say how much of a core each member is to have (cores).`,
  )
}
