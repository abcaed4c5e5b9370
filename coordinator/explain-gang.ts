/** Why a gang waits: how many nodes it needs at once, and what keeps them apart. Pure. */
import { mpiName } from '../protocols/model/machine.ts'
import { mpiVersion } from './gang-members.ts'
import type { Node, Task, TaskClass } from './state.ts'

/** `able` could have a member, as far as each is concerned; undefined when they are enough together. */
export function gangShortage(able: readonly Node[], { gang, mpi }: TaskClass): string | undefined {
  if (mpi === undefined) return able.length >= gang ? undefined : `it needs ${gang} nodes at once; ${able.length} of the pool fit.`
  const versions = new Map<string, number>()
  for (const { machine } of able) {
    const version = mpiVersion(machine, mpi)
    if (version !== undefined) versions.set(version, (versions.get(version) ?? 0) + 1)
  }
  if ([...versions.values()].some((count) => count >= gang)) return undefined
  const found = [...versions].sort(([, a], [, b]) => b - a).map(([version, count]) => `${count} with ${version}`)
  const has = found.length === 0 ? 'no node of the pool that fits has it' : `the pool has ${enumerated(found)}`
  return gang === 1
    ? `it needs a node with ${mpiName({ flavor: mpi })}; ${has}.`
    : `it needs ${gang} nodes with the same ${mpiName({ flavor: mpi })}; ${has}.`
}

/** Enough nodes are there: how far they are. */
export function gangsTurn(able: readonly Node[], task: Task): string {
  const idle = able.filter((node) => node.leases.size === 0).length
  const held = able.filter((node) => node.heldFor === task).length
  const others = new Set(able.flatMap(({ heldFor }) => (heldFor === undefined || heldFor === task ? [] : [heldFor])))
  const parts = [`of ${able.length} that fit ${idle} ${idle === 1 ? 'is' : 'are'} idle`]
  if (held > 0) parts.push(`${held} ${held === 1 ? 'gets' : 'get'} nothing else until it starts`)
  for (const { job, name, id } of others) parts.push(`some are held for ${job.row.spec.id}/${name ?? id}, which has waited longer`)
  return `it needs ${task.class.gang} ${task.class.gang === 1 ? 'node' : 'nodes at once'}; ${parts.join('; ')}.`
}

function enumerated(words: readonly string[]): string {
  return words.length < 2 ? words.join('') : `${words.slice(0, -1).join(', ')} and ${words.at(-1)}`
}
