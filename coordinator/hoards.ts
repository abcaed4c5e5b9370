/**
 * Tasks that are granted and not started, while other machines wait for one: they are taken back, from those that hold
 * most, as many as can be used and at most half of what each holds.
 */
import { fits, type Room, take } from '../protocols/model/resources.ts'
import { ageMs } from './clock.ts'
import { attemptOf } from './lease.ts'
import { isExcluded } from './missing-program.ts'
import { suits } from './room.ts'
import type { Lease, Machine, Pool, State } from './state.ts'
import type { Turn } from './turn.ts'

/** Nothing is taken back in a pool sooner than this after the last time: it looks at all of its nodes. */
const shareEveryMs = 250
/** Unstarted tasks younger than this are about to start anyway. */
const retractAfterMs = 500

/** A machine that waits, and what it could still take. */
interface Hungry {
  machine: Machine
  room: Room
  prefetchSlots: number
}

/** Some machines wait with nothing ready for them: takes back for them what others hold unstarted. */
export function shareUnstarted(turn: Turn, pool: Pool): void {
  if (ageMs(pool.sharedAt, turn.now) < shareEveryMs) return
  const hungry = hungryIn(pool)
  if (hungry.length === 0) return
  pool.sharedAt = turn.now
  for (const { machine, spare } of hoardsOf(turn, pool, new Set(hungry.map((each) => each.machine)))) {
    // Those whose turn would come last.
    const half = spare.slice(Math.floor(spare.length / 2)).reverse()
    retract(
      turn,
      machine,
      half.filter((lease) => isUsed(turn.state, hungry, lease)),
    )
  }
}

/** Machines with empty slots; one that only wants more to hold ready is not hungry. */
function hungryIn(pool: Pool): Hungry[] {
  const hungry: Hungry[] = []
  for (const { row, machine } of pool.parked) {
    const asked = machine.parked!.claim.nodes.find(({ nodeId }) => nodeId === row.nodeId)!
    if (asked.room.slots > 0 && !machine.draining) hungry.push({ machine, room: asked.room, prefetchSlots: asked.prefetchSlots })
  }
  return hungry
}

/** What can be taken back, the largest hoard first. */
function hoardsOf(turn: Turn, pool: Pool, hungry: ReadonlySet<Machine>): { machine: Machine; spare: Lease[] }[] {
  const hoards: { machine: Machine; spare: Lease[] }[] = []
  for (const { machine, leases } of pool.nodes.values()) {
    if (leases.size === 0 || hungry.has(machine)) continue
    const spare = [...leases].filter((lease) => mayRetract(lease) && ageMs(lease.grantTime, turn.now) >= retractAfterMs)
    if (spare.length > 0) hoards.push({ machine, spare })
  }
  return hoards.sort((a, b) => b.spare.length - a.spare.length)
}

/** Whether one of those that wait can take the task; then it counts as given to that one. */
function isUsed(state: State, hungry: Hungry[], { task }: Lease): boolean {
  const { slots, demand } = task.class
  const at = hungry.findIndex(({ machine, room, prefetchSlots }) => {
    if (!fits(room, slots, demand) && prefetchSlots < slots) return false
    return suits(machine, task.class) && !isExcluded(state, task.job, task.class, machine)
  })
  const taker = hungry[at]
  if (taker === undefined) return false
  if (fits(taker.room, slots, demand)) taker.room = take(taker.room, slots, demand)
  else taker.prefetchSlots -= slots
  if (taker.room.slots <= 0 && taker.prefetchSlots <= 0) hungry.splice(at, 1)
  return true
}

/** Asks a machine for tasks that it has not started. */
export function retract(turn: Turn, machine: Machine, leases: Lease[]): void {
  if (leases.length === 0) return
  for (const lease of leases) lease.retractAsked = true
  turn.out.push({ kind: 'retract', peer: machine.peer, attempts: leases.map((lease) => attemptOf(lease.task, lease.epoch)) })
}

/** Not started as far as is known, and not asked for in vain already: then it is fetching its inputs. */
export function mayRetract(lease: Lease): boolean {
  return lease.startTime === undefined && !lease.restored && !lease.retractAsked && lease.members.length === 1
}
