/**
 * Claims that wait for a task: one a machine, and for each pool the nodes that they ask for, in the order they came. A
 * turn looks at those only, so that it costs what waits and not what the mesh has.
 */
import type { Machine, Node, ParkedClaim } from './state.ts'

export function park(machine: Machine, claim: Omit<ParkedClaim, 'nodes'>): void {
  const nodes = claim.claim.nodes.flatMap(({ nodeId }) => machine.nodes.get(nodeId) ?? [])
  machine.parked = { ...claim, nodes }
  for (const node of nodes) node.pool.parked.add(node)
}

/** Takes a machine's claim out, answered or not. */
export function unpark(machine: Machine): ParkedClaim | undefined {
  const { parked } = machine
  machine.parked = undefined
  for (const node of parked?.nodes ?? []) node.pool.parked.delete(node)
  return parked
}

/** The node is no longer its machine's: a claim for others stays. */
export function unparkNode(node: Node): void {
  node.pool.parked.delete(node)
}
