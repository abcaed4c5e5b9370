/**
 * Which of the nodes that could have a gang get it. Their machines must agree about MPI where the gang asks for it, and do so
 * as far as they can where it does not; where several sets agree, a gang starts on the smallest, so that the largest is
 * there for the largest gangs. Within a set it takes the fewest machines: members on one machine speak through its memory.
 */
import type { MpiFlavor } from '../protocols/model/machine.ts'
import { mpiVersion } from './gang-members.ts'
import type { Machine, Node, Task, TaskClass } from './state.ts'

/** Nodes to start a gang on, of those that are idle. */
export function chooseIdle(idle: Node[], kind: TaskClass): Node[] | undefined {
  const size = kind.gang
  const [best] = agreeing(idle, kind)
    .filter((set) => set.length >= size)
    .sort((a, b) => a.length - b.length)
  return best === undefined ? undefined : packed(best, size)
}

/** Nodes to keep for a gang, of those that could have it once they are idle: first those that it holds, then the least to wait for. */
export function chooseHeld(usable: Node[], task: Task): Node[] | undefined {
  const size = task.class.gang
  const isHeld = (node: Node) => node.heldFor === task
  const isIdle = (node: Node) => node.leases.size === 0
  const [best] = agreeing(usable, task.class)
    .filter((set) => set.length >= size)
    .map((set) => ({ set, held: set.filter(isHeld).length, idle: set.filter(isIdle).length }))
    .sort((a, b) => b.held - a.held || b.idle - a.idle || b.set.length - a.set.length)
  return best?.set.sort((a, b) => Number(isHeld(b)) - Number(isHeld(a)) || a.leases.size - b.leases.size).slice(0, size)
}

/** Sets of nodes whose machines have one MPI. A gang that asks for none may have all nodes, if no such set is large enough. */
function agreeing(nodes: Node[], { gang, mpi, thread }: TaskClass): Node[][] {
  if (thread) return [nodes]
  const sets = new Map<string, Node[]>()
  for (const node of nodes) {
    const version = mpi === undefined ? anyMpi(node.machine) : mpiVersion(node.machine, mpi)
    if (version === undefined) continue
    const set = sets.get(version)
    if (set === undefined) sets.set(version, [node])
    else set.push(node)
  }
  const found = [...sets.values()]
  return mpi === undefined && !found.some((set) => set.length >= gang) ? [nodes] : found
}

/** The MPI that counts where a gang asks for none. */
function anyMpi(machine: Machine): string {
  const flavors: MpiFlavor[] = ['openmpi', 'mpich']
  for (const flavor of flavors) {
    const version = mpiVersion(machine, flavor)
    if (version !== undefined) return `${flavor} ${version}`
  }
  return 'none'
}

/** So many of the nodes on as few machines as can be: whole machines first, and at last the one that is just large enough. */
function packed(nodes: Node[], size: number): Node[] {
  const machines = new Map<Machine, Node[]>()
  for (const node of nodes) {
    const those = machines.get(node.machine)
    if (those === undefined) machines.set(node.machine, [node])
    else those.push(node)
  }
  const largestFirst = [...machines.values()].sort((a, b) => b.length - a.length)
  const chosen: Node[] = []
  let at = 0
  for (; size - chosen.length > largestFirst[at]!.length; at += 1) chosen.push(...largestFirst[at]!)
  const wanted = size - chosen.length
  const enough = largestFirst.slice(at).filter((those) => those.length >= wanted)
  const least = enough.at(-1)!.length
  return [...chosen, ...enough.find((those) => those.length === least)!.slice(0, wanted)]
}
