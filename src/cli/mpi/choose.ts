/** Which MPI a program is started with, and whether the mesh has the nodes for it. Pure. */
import { MeshError } from '../../../protocols/errors.ts'
import { type InstalledMpi, type MachineView, type MpiFlavor, mpiFlavorSchema, mpiName } from '../../../protocols/model/machine.ts'
import type { NodeView, PoolView } from '../../../protocols/model/pool.ts'
import { type Asked, nodesThatFit, nodesWith, type Size, sizeOf } from './size.ts'

export interface Choice {
  size: Size
  mpi: InstalledMpi & { flavor: MpiFlavor }
  /** Nodes on machines that stay, and on those that may leave. */
  dedicated: number
  lowPriority: number
  /** All of it is free now. */
  isFree: boolean
}

/** Machines that have one MPI in one version. */
interface Group {
  mpi: Choice['mpi']
  machines: MachineView[]
}

const shownNames = 5

/** Connected machines by the MPI that they have: the one that is known best first, then the one with most cores. */
function groupsOf(machines: readonly MachineView[], wanted: MpiFlavor | undefined): Group[] {
  const groups = new Map<string, Group>()
  for (const machine of machines) {
    if (!machine.connected || machine.capacity.cores <= 0) continue
    for (const { flavor, version } of machine.mpi ?? []) {
      const known = mpiFlavorSchema.safeParse(flavor)
      if (!known.success || (wanted !== undefined && flavor !== wanted)) continue
      const key = `${flavor} ${version}`
      const group = groups.get(key) ?? { mpi: { flavor: known.data, version }, machines: [] }
      groups.set(key, group)
      group.machines.push(machine)
    }
  }
  const order = ({ mpi }: Group) => mpiFlavorSchema.options.indexOf(mpi.flavor)
  return [...groups.values()].sort((a, b) => order(a) - order(b) || coresOf(b.machines) - coresOf(a.machines))
}

function coresOf(machines: readonly MachineView[]): number {
  return machines.reduce((sum, { capacity }) => sum + capacity.cores, 0)
}

/** Nodes for a pool of its own: machines that have the MPI and fit the labels. Throws InvalidPropertyValue where the mesh never has them. */
export function chooseNodes(machines: readonly MachineView[], asked: Asked, wanted: MpiFlavor | undefined): Choice {
  const groups = groupsOf(machines, wanted)
  if (groups.length === 0) throw noMpi(machines, wanted)
  const free = (machine: MachineView) => Math.max(0, machine.capacity.cores - machine.reserved.cores)
  const whole = (machine: MachineView) => machine.capacity.cores
  // What is free now goes before what has to be waited for.
  for (const room of [free, whole])
    for (const { mpi, machines: having } of groups) {
      const { size } = sizeOf(asked, having.map(room))
      if (size === undefined) continue
      const dedicated = having.filter((machine) => machine.class === 'dedicated')
      const stay = Math.min(size.nodes, nodesThatFit(dedicated.map(room), size.cores))
      return { size, mpi, dedicated: stay, lowPriority: size.nodes - stay, isFree: room === free }
    }
  throw tooFew(groups, asked)
}

/** Nodes of a pool that is there. Throws InvalidPropertyValue or OperationNotValidOnPool where it never has them. */
export function chooseInPool(
  pool: PoolView,
  nodes: readonly NodeView[],
  machines: readonly MachineView[],
  asked: Asked,
  wanted: MpiFlavor | undefined,
): Omit<Choice, 'dedicated' | 'lowPriority'> {
  if (!pool.enableInterNodeCommunication || pool.taskSlotsPerNode !== 1)
    throw new MeshError(
      'OperationNotValidOnPool',
      `Pool ${pool.id} is not for MPI: that takes one with --enable-inter-node-communication and one task slot a node. Without --pool a temporary one is made.`,
    )
  const target = pool.targetDedicatedNodes + pool.targetLowPriorityNodes
  const found = nodes.map(({ machine }) => machines.find(({ peer }) => peer === machine)).filter((machine) => machine !== undefined)
  // A pool that has just been made has no node yet.
  const holders = nodes.length === 0 ? machines : found
  const groups = groupsOf([...new Set(holders)], wanted)
  if (groups.length === 0) throw noMpi(holders, wanted, `of pool ${pool.id} `)
  let best: { mpi: Choice['mpi']; size: Size; most: number } | undefined
  for (const { mpi, machines: having } of groups) {
    const most = found.filter((holder) => having.includes(holder)).length
    // What is not granted yet may still come, on a machine that has it too.
    const places = Math.min(target, most + Math.max(0, target - nodes.length))
    const cores = Array.from({ length: places }, () => pool.nodeSize.cores)
    const isOpen = asked.ranks === undefined && asked.nodes === undefined
    const { size } = sizeOf(isOpen ? { ...asked, nodes: Math.max(1, places) } : asked, cores, nodesWith)
    if (size !== undefined) return { size, mpi, isFree: most >= size.nodes }
    if (best === undefined || most > best.most) best = { mpi, most, size: sizeOf(asked, cores, nodesWith).least }
  }
  const { mpi, size, most } = best!
  const has = `${count(target, 'node')} of ${count(pool.nodeSize.cores, 'core')}, ${most} of them with ${mpiName(mpi)}`
  throw new MeshError('InvalidPropertyValue', `Pool ${pool.id} has ${has}; ${needed(size, asked)}.`)
}

function noMpi(machines: readonly MachineView[], wanted: MpiFlavor | undefined, whose = ''): MeshError {
  const connected = machines.filter((machine) => machine.connected)
  const what = wanted === undefined ? 'an MPI' : mpiName({ flavor: wanted })
  const others = [...new Set(connected.flatMap(({ mpi }) => (mpi ?? []).map(({ flavor, version }) => named(flavor, version))))]
  const instead = others.length === 0 ? '' : ` There is ${others.join(', ')}.`
  return new MeshError(
    'InvalidPropertyValue',
    `None of the ${count(connected.length, 'connected machine')} ${whose}has ${what}.${instead} Install it there, on Debian with "apt install ${wanted === 'mpich' ? 'mpich' : 'openmpi-bin'}"; a node sees it at its next start.`,
  )
}

function named(flavor: string, version: string): string {
  const known = mpiFlavorSchema.safeParse(flavor)
  return known.success ? mpiName({ flavor: known.data, version }) : `${flavor} ${version}`
}

function tooFew(groups: readonly Group[], asked: Asked): MeshError {
  // Machines with several kinds of MPI are named once.
  const first = groups[0]!
  const others = groups.slice(1).filter(({ machines }) => machines.some((machine) => !first.machines.includes(machine)))
  const told = [first, ...others]
  const sentences = told.map(({ mpi, machines }) => {
    const names = machines.slice(0, shownNames).map(({ name, capacity }) => `${name} with ${count(capacity.cores, 'core')}`)
    const more = machines.length > shownNames ? ` and ${machines.length - shownNames} more` : ''
    return `${count(machines.length, 'machine')} ${machines.length === 1 ? 'has' : 'have'} ${mpiName(mpi)} (${names.join(', ')}${more})`
  })
  const largest = first.machines.map(({ capacity }) => capacity.cores)
  const { least } = sizeOf(asked, largest)
  const room = nodesThatFit(largest, least.cores)
  const holds = asked.nodes === undefined ? '' : `, with room for ${count(room, 'node')} of ${count(least.cores, 'core')}`
  const split = told.length > 1 ? ' All nodes of a program must have the same.' : ''
  return new MeshError(
    'InvalidPropertyValue',
    `${sentences.join('; ')}${holds}; ${needed(least, asked)}.${split} Fewer ranks or nodes (-n, --nodes) fit, or several ranks a core (--cpus 0.5).`,
  )
}

function needed(size: Size, asked: Asked): string {
  if (asked.nodes !== undefined) return `${count(size.nodes, 'node')} ${size.nodes === 1 ? 'is' : 'are'} needed`
  return `${count(size.ranks * asked.coresPerRank, 'core')} are needed for ${count(size.ranks, 'rank')}`
}

function count(number: number, what: string): string {
  const rounded = Math.round(number * 100) / 100
  return `${rounded} ${what}${rounded === 1 ? '' : 's'}`
}
