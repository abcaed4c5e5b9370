/** The end of a turn: waiting tasks meet waiting claims, gangs get their nodes, sleepers get an offer. */
import { attemptKey, foldId } from '../protocols/ids.ts'
import type { JobBrief } from '../protocols/leases.ts'
import { offerIntervalMs } from '../protocols/offers.ts'
import { ageMs } from './clock.ts'
import type { GrantRef } from './events.ts'
import { commonMpi, gangMembers } from './gang-members.ts'
import { planGangs } from './gangs.ts'
import { mayRetract, retract, shareUnstarted } from './hoards.ts'
import { attemptOf, grant } from './lease.ts'
import { unpark } from './parking.ts'
import { newBudget, pick, readyIn } from './placement.ts'
import type { Job, Lease, Machine, Node, Pool, State } from './state.ts'
import type { Turn } from './turn.ts'

/** The claims that are left wait for the next turn, so that heartbeats are answered between the two. */
const grantsPerTurn = 1024
/** A machine repeats a claim that was not answered in time, and may have made a few newer ones by then. */
const claimsRemembered = 8

export function settle(turn: Turn): void {
  for (const pool of turn.state.pools.values()) {
    if (!pool.dirty) continue
    pool.dirty = false
    startGangs(turn, pool)
    serveClaims(turn, pool)
    if (readyIn(pool) > 0) offer(turn, pool)
  }
}

function startGangs(turn: Turn, pool: Pool): void {
  const plan = planGangs(turn.state, pool, turn.now)
  for (const { task, nodes } of plan.start) {
    const lease = grant(
      turn,
      task,
      nodes.map((node) => ({ machine: node.machine, node })),
    )
    const members = gangMembers(lease.members)
    // All members dial the primary, and it alone dials them: 500 grants need not name the addresses of 500 machines each.
    const toOthers = members.map((member, index) => (index === 0 ? member : { ...member, addresses: undefined }))
    const mpi = task.class.thread
      ? undefined
      : commonMpi(
          lease.members.map(({ machine }) => machine),
          task.class.mpi,
        )
    lease.members.forEach(({ machine, node }, index) => {
      const ref: GrantRef = {
        attempt: attemptOf(task, task.epoch, index),
        nodeId: node.row.nodeId,
        gang: { index, members: index === 0 ? members : toOthers, mpi },
      }
      turn.out.push({ kind: 'grants', peer: machine.peer, grants: [ref], jobs: briefs(turn.state, machine, [task.job]), held: [] })
    })
  }
  const byMachine = new Map<Machine, Lease[]>()
  for (const node of plan.newlyHeld) byMachine.set(node.machine, [...(byMachine.get(node.machine) ?? []), ...node.leases])
  for (const [machine, leases] of byMachine) retract(turn, machine, leases.filter(mayRetract))
}

function serveClaims(turn: Turn, pool: Pool): void {
  let left = grantsPerTurn
  for (const { machine } of pool.parked) {
    if (readyIn(pool) === 0) break
    if (left <= 0) {
      pool.dirty = true
      return
    }
    left -= serveClaim(turn, machine)
  }
  if (pool.parked.size > 0 && readyIn(pool) === 0) shareUnstarted(turn, pool)
}

/** Answers a parked claim if there is anything for it, and says how many tasks it got. A machine's nodes may be of several pools. */
export function serveClaim(turn: Turn, machine: Machine): number {
  const parked = machine.parked
  if (parked === undefined) return 0
  const budget = newBudget()
  const grants: GrantRef[] = []
  const jobs = new Set<Job>()
  const held: string[] = []
  for (const { nodeId, room, prefetchSlots } of parked.claim.nodes) {
    const node = machine.nodes.get(nodeId)
    if (node === undefined || !node.ready || node.row.leaving || machine.draining) continue
    // The claim may be older than the gang that has the node, or will have it (M1).
    if (node.heldFor !== undefined || hasGang(node)) {
      held.push(nodeId)
      continue
    }
    for (const task of pick(turn, { node, room, prefetchSlots }, budget)) {
      grant(turn, task, [{ machine, node }])
      grants.push({ attempt: attemptOf(task, task.epoch), nodeId })
      jobs.add(task.job)
    }
  }
  if (grants.length === 0) return 0
  unpark(machine)
  rememberClaim(
    machine,
    parked.claim.requestId,
    grants.map((ref) => attemptKey(ref.attempt)),
  )
  turn.out.push({ kind: 'grants', replyTo: parked.replyTo, peer: machine.peer, grants, jobs: briefs(turn.state, machine, jobs), held })
  return grants.length
}

function hasGang(node: Node): boolean {
  for (const lease of node.leases) if (lease.task.class.gang > 0) return true
  return false
}

function rememberClaim(machine: Machine, requestId: string, grants: string[]): void {
  machine.answeredClaims.set(requestId, grants)
  const [oldest] = machine.answeredClaims.keys()
  if (machine.answeredClaims.size > claimsRemembered) machine.answeredClaims.delete(oldest!)
}

/** Answers a parked claim with nothing: its time is up, or a newer one has come. */
export function dismissClaim(turn: Turn, machine: Machine): void {
  const parked = unpark(machine)
  if (parked === undefined) return
  const held = parked.claim.nodes.map((asked) => asked.nodeId).filter((id) => machine.nodes.get(id)?.heldFor !== undefined)
  turn.out.push({ kind: 'grants', replyTo: parked.replyTo, peer: machine.peer, grants: [], jobs: [], held })
}

/** The same answer to the same claim, as far as its leases still stand (L4). */
export function repeatClaim(turn: Turn, machine: Machine, replyTo: number, requestId: string): void {
  const grants: GrantRef[] = []
  const jobs = new Set<Job>()
  for (const key of machine.answeredClaims.get(requestId) ?? []) {
    const lease = machine.leases.get(key)
    if (lease === undefined) continue
    const nodeId = lease.members.find((member) => member.machine === machine)!.node.row.nodeId
    grants.push({ attempt: attemptOf(lease.task, lease.epoch), nodeId })
    jobs.add(lease.task.job)
  }
  turn.out.push({ kind: 'grants', replyTo, peer: machine.peer, grants, jobs: [...jobs].map((job) => briefOf(turn.state, job)), held: [] })
}

function offer(turn: Turn, pool: Pool): void {
  if (ageMs(pool.lastOfferAt, turn.now) < offerIntervalMs) return
  pool.lastOfferAt = turn.now
  turn.out.push({ kind: 'offer', poolId: pool.row.spec.id, pending: readyIn(pool) })
}

function briefs(state: State, machine: Machine, jobs: Iterable<Job>): JobBrief[] {
  const fresh: JobBrief[] = []
  for (const job of jobs) {
    if (machine.briefed.has(job.uid)) continue
    machine.briefed.add(job.uid)
    fresh.push(briefOf(state, job))
  }
  return fresh
}

function briefOf(state: State, job: Job): JobBrief {
  const { spec } = job.row
  return {
    jobUid: job.uid,
    jobId: spec.id,
    poolId: state.pools.get(foldId(spec.poolId))?.row.spec.id ?? spec.poolId,
    commonEnvironmentSettings: spec.commonEnvironmentSettings,
    home: spec.home ?? state.self,
    disconnect: spec.disconnect,
  }
}
