/** How many ranks go on how many nodes, from what was asked for and what machines have. Pure. */
import { MeshError } from '../../../protocols/errors.ts'

/** What was asked for. At least one of the two is there. */
export interface Asked {
  ranks?: number | undefined
  nodes?: number | undefined
  /** Cores for each rank; may be a fraction. */
  coresPerRank: number
}

export interface Size {
  ranks: number
  nodes: number
  /** Ranks on each node; the last may have fewer. */
  ranksPerNode: number
  /** Cores of each node. */
  cores: number
}

/** Longest gang that a task may ask for (protocols/model/task.ts). */
export const maxNodes = 100_000

/** A size for a number of nodes. */
function sized(ranks: number, nodes: number, coresPerRank: number): Size {
  const ranksPerNode = Math.ceil(ranks / nodes)
  return { ranks, nodes, ranksPerNode, cores: ranksPerNode * coresPerRank }
}

/** How many nodes of so many cores there is room for. */
type Fit = (places: readonly number[], cores: number) => number

/** On machines, each with so many cores: one may have several nodes. */
export function nodesThatFit(machines: readonly number[], cores: number): number {
  // A sum of fractions may miss a whole number by a hair.
  return machines.reduce((sum, has) => sum + Math.floor(has / cores + 1e-9), 0)
}

/** Among nodes that are there, each with so many cores. */
export function nodesWith(nodes: readonly number[], cores: number): number {
  return nodes.filter((has) => has + 1e-9 >= cores).length
}

/**
 * The nodes for a program: as many as were asked for; else as few as have room for the ranks. Without a number of ranks, one
 * for each core that so many equal nodes can have. Undefined where places with `cores` cores each have no room for it;
 * `least` then says what was looked for.
 */
export function sizeOf(asked: Asked, cores: readonly number[], fit: Fit = nodesThatFit): { size: Size | undefined; least: Size } {
  const { ranks, nodes, coresPerRank } = asked
  if (ranks !== undefined && nodes !== undefined) {
    if (nodes > ranks) throw usage(`--nodes ${nodes} is more than the ${ranks} ranks of -n: each node gets at least one.`)
    const least = sized(ranks, nodes, coresPerRank)
    return { size: fit(cores, least.cores) >= nodes ? least : undefined, least }
  }
  if (ranks !== undefined) {
    const most = Math.min(ranks, maxNodes, fit(cores, coresPerRank))
    for (let count = 1; count <= most; count += 1) {
      const size = sized(ranks, count, coresPerRank)
      // So many ranks a node may leave the last nodes without any: 4 ranks on 3 nodes are 2 on 2.
      if (Math.ceil(ranks / size.ranksPerNode) === count && fit(cores, size.cores) >= count) return { size, least: size }
    }
    return { size: undefined, least: sized(ranks, ranks, coresPerRank) }
  }
  const count = nodes!
  // The most ranks a node: what the `count`-th of the places could have, machine by machine.
  for (let perNode = Math.floor(Math.max(0, ...cores) / coresPerRank + 1e-9); perNode >= 1; perNode -= 1) {
    const size = sized(perNode * count, count, coresPerRank)
    if (fit(cores, size.cores) >= count) return { size, least: size }
  }
  return { size: undefined, least: sized(count, count, coresPerRank) }
}

function usage(message: string): MeshError {
  return new MeshError('InvalidPropertyValue', message)
}
