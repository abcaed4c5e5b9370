/**
 * Wide tasks: those that need more room than a node mostly has free, because smaller ones take it as soon as it is there.
 * A class of ordinary tasks of which none was given to a machine for {@link wideAgeMs} has a node kept free for it: the
 * first that asks, and is large enough. That node gets nothing else, but from jobs of higher priority, until one of the
 * class has started, there or elsewhere. One node a pool is kept at a time, so that a pool never stands idle for long.
 */
import { fits } from '../protocols/model/resources.ts'
import { ageMs } from './clock.ts'
import { peek } from './queue.ts'
import { wholeOf } from './room.ts'
import type { Job, Kept, Node, Queue } from './state.ts'

/** Longer than most small tasks: what fits as soon as those end needs no node of its own. */
export const wideAgeMs = 30_000

/** What the node is kept free for, if it still is. */
export function keptOn(node: Node, now: number): Kept | undefined {
  const { kept } = node.pool
  if (kept === undefined || isKept(kept, now)) return kept?.node === node ? kept : undefined
  node.pool.kept = undefined
  return undefined
}

/** Tasks of the queue do not fit now: keeps the node free for them if they have waited for too long. */
export function keepIfAged(node: Node, job: Job, queue: Queue, now: number): void {
  const { pool } = node
  if (pool.kept !== undefined && !isKept(pool.kept, now)) pool.kept = undefined
  const kept = { node, job, queue }
  if (pool.kept === undefined && isKept(kept, now)) pool.kept = kept
  // On a node that runs nothing it will never fit, whatever the coordinator thinks of its size: others may try.
  if (node.leases.size > 0 || pool.kept?.node !== node) return
  pool.kept = undefined
  queue.givenAt = now
}

function isKept({ node, queue }: Kept, now: number): boolean {
  const { machine, pool } = node
  const isThere = pool.nodes.get(node.row.nodeId) === node && machine.session !== 0 && !machine.draining && !node.row.leaving
  if (!isThere || queue.size === 0) return false
  if (!fits(wholeOf(node), queue.class.slots, queue.class.demand)) return false
  const first = peek(queue)
  return first !== undefined && ageMs(Math.max(first.readySince, queue.givenAt), now) >= wideAgeMs
}
