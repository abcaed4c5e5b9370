/**
 * Pools that are there for the gangs of a job: a part of their nodes is worth nothing to them. Two of which each had a part
 * of what there is would wait for each other, so they get their nodes one after the other, the oldest first (M1).
 */
import { roundingSlack } from '../protocols/model/resources.ts'
import { isWanted } from './room.ts'
import type { Machine, Pool, State } from './state.ts'

/** Whether the pool is there for jobs that all wait for others. */
export function isWaiting({ row, jobs }: Pool): boolean {
  return row.spec.poolLifetimeOption === 'job' && jobs.size === 0
}

/** The pool that gets its nodes before this one, if one does. */
export function olderGangPool(state: State, pool: Pool): Pool | undefined {
  if (!wantsAllOrNone(pool)) return undefined
  for (const other of state.pools.values())
    if (other !== pool && wantsAllOrNone(other) && !isWaiting(other) && isOlder(other, pool) && couldBeWhole(state, other)) return other
  return undefined
}

function wantsAllOrNone({ row }: Pool): boolean {
  return row.spec.poolLifetimeOption === 'job' && row.spec.enableInterNodeCommunication && row.allocationState === 'resizing'
}

function isOlder(a: Pool, b: Pool): boolean {
  return a.row.creationTime < b.row.creationTime || (a.row.creationTime === b.row.creationTime && a.id < b.id)
}

/** One that is larger than the mesh keeps nobody waiting. */
function couldBeWhole(state: State, { row }: Pool): boolean {
  const most = { dedicated: 0, 'low-priority': 0 }
  for (const machine of state.machines.values())
    if (machine.session !== 0 && isWanted(machine.description, row.spec)) most[machine.description.class] += nodesOn(machine, row.size)
  return most.dedicated >= row.spec.targetDedicatedNodes && most['low-priority'] >= row.spec.targetLowPriorityNodes
}

function nodesOn({ description: { capacity } }: Machine, size: Pool['row']['size']): number {
  const times = (['cores', 'memoryMiB', 'gpus'] as const).map((kind) =>
    size[kind] === 0 ? Number.POSITIVE_INFINITY : capacity[kind] / size[kind],
  )
  return Math.floor(Math.min(...times) + roundingSlack)
}
