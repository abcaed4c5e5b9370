/** What machines say: hello, heartbeats, claims, reports, and their silence (L1 to L7). */
import { type Attempt, attemptKey, type PeerIdText } from '../protocols/ids.ts'
import type { Hello, InventoryItem, Report, Verdict, Welcome } from '../protocols/leases.ts'
import { defaultPoolId } from '../protocols/model/pool.ts'
import { beatIntervalMs } from './clock.ts'
import type { WorkerEvent } from './events.ts'
import { attemptOf, hasBegun, leaseOn, markStarted, minWindowMs, openLease, putStatus, windowMs } from './lease.ts'
import { addMachineToState, addNodeToState } from './make-state.ts'
import { park, unpark } from './parking.ts'
import { removeNode } from './pools.ts'
import { dequeue } from './queue.ts'
import { machineKey } from './rows.ts'
import { dismissClaim, repeatClaim, serveClaim } from './settle.ts'
import { epochOf, type Lease, type Machine, type Task } from './state.ts'
import { hasEnded, partEnded, partStarted } from './subtasks.ts'
import { lookUp } from './task-book.ts'
import { finish, giveUp, lostOrPreempted, notLost } from './tasks.ts'
import { answer, log, putMachine, refuse, type Turn } from './turn.ts'

export function onHello(turn: Turn, event: Extract<WorkerEvent, { kind: 'hello' }>): void {
  const { state, now } = turn
  const { hello, peer } = event
  if (hello.ownerEpoch > state.mesh.ownerEpoch) {
    const message = `This coordinator (owner epoch ${state.mesh.ownerEpoch}) has been replaced: the machine obeyed epoch ${hello.ownerEpoch}. Was an old copy of its data started?`
    return refuse(turn, event.replyTo, 'CoordinatorExists', message)
  }
  const machine = state.machines.get(peer) ?? addMachineToState(state, peer, hello.machine, now)
  if (hello.incarnation < machine.incarnation) {
    return refuse(
      turn,
      event.replyTo,
      'InvalidPropertyValue',
      'A newer run of this machine has said hello already; is its data directory used twice?',
    )
  }
  const isNew = machine.session === 0
  machine.description = hello.machine
  machine.roles = event.roles
  machine.session = event.session
  machine.lastHeard = now
  machine.draining = false
  machine.leaving = false
  machine.dead = false
  unpark(machine)
  machine.answeredClaims.clear()
  machine.refusals.clear()
  machine.briefed.clear()
  setDefaultNode(turn, machine)
  const keep = reconcile(turn, machine, hello)
  machine.incarnation = hello.incarnation
  putMachine(turn, machine)
  for (const node of machine.nodes.values()) {
    if (node.row.reservationId === 0) continue
    node.ready = hello.reservations.some((held) => held.reservationId === node.row.reservationId)
    node.askAgainAt = 0
  }
  const nodes = [...machine.nodes.values()]
    .filter((node) => node.slots > 0 && (node.ready || node.row.reservationId === 0))
    .map((node) => ({
      reservationId: node.row.reservationId,
      ownerEpoch: state.mesh.ownerEpoch,
      poolId: node.pool.row.spec.id,
      nodeId: node.row.nodeId,
      size: node.size,
      taskSlots: node.slots,
    }))
  const welcome: Welcome = { ownerEpoch: state.mesh.ownerEpoch, heartbeatMs: beatIntervalMs(state.machines.size), keep, nodes }
  answer(turn, event.replyTo, welcome)
  const deleted = hello.jobs?.filter((uid) => !state.jobs.has(uid)) ?? []
  if (deleted.length > 0) turn.out.push({ kind: 'forget', peer, jobUids: deleted })
  for (const pool of state.pools.values()) {
    pool.dirty = true
    pool.toAllocate = true
  }
  log(turn, 'info', `${machine.description.name} ${isNew ? 'is connected' : 'said hello again'}`, {
    machine: peer,
    cores: hello.machine.capacity.cores,
    kept: keep.length,
  })
}

/** The default pool has one node on each machine, as large as what it lends. */
function setDefaultNode(turn: Turn, machine: Machine): void {
  const pool = turn.state.pools.get(defaultPoolId)!
  const nodeId = `tvm-${machine.peer.slice(-12).toLowerCase()}`
  const size = machine.description.capacity
  const slots = Math.min(4096, Math.floor(size.cores))
  const existing = machine.nodes.get(nodeId)
  if (existing !== undefined) {
    existing.size = size
    existing.slots = slots
    return
  }
  const row = {
    reservationId: 0,
    ownerEpoch: turn.state.mesh.ownerEpoch,
    nodeId,
    poolId: pool.row.spec.id,
    machine: machine.peer,
    machineName: machine.description.name,
    allocationTime: turn.now,
    leaving: false,
  }
  addNodeToState(pool, machine, row, size, slots, true)
}

/** L6: what the inventory names goes on if its lease stands or was only given up; what it omits is requeued at once. */
function reconcile(turn: Turn, machine: Machine, hello: Hello): Attempt[] {
  const keep: Attempt[] = []
  const named = new Set(hello.inventory.map((item) => attemptKey(item.attempt)))
  for (const lease of [...machine.leases.values()]) {
    const isNamed = lease.members.every(
      (member, index) =>
        member.machine !== machine ||
        named.has(attemptKey(attemptOf(lease.task, lease.epoch, index))) ||
        (hasEnded(lease, index) && hello.incarnation === machine.incarnation),
    )
    if (isNamed) continue
    // Each machine counts its own starts: the lease tells that of the primary's.
    const incarnation = lease.members[0]!.machine === machine ? lease.incarnation : machine.incarnation
    const began = lease.startTime !== undefined || (lease.restored && incarnation !== hello.incarnation)
    if (!began) lease.restored = false
    giveUp(turn, lease, began ? lostOrPreempted(machine) : 'requeued')
  }
  for (const item of hello.inventory) {
    const job = turn.state.jobs.get(item.attempt.jobUid)
    const task = job === undefined ? undefined : lookUp(job, item.attempt.task)
    if (typeof task === 'number') {
      // Reported, but the machine did not get the answer: it will report again and be told.
      if (epochOf(task) === item.attempt.epoch && item.state === 'finished') keep.push(item.attempt)
      continue
    }
    if (task === undefined || task.epoch !== item.attempt.epoch) continue
    const lease: Lease | undefined = leaseOn(machine, item.attempt) ?? revive(turn, task, machine, item)
    if (lease === undefined) {
      if (task.lastEnd === 'reported' && item.state === 'finished') keep.push(item.attempt)
      continue
    }
    if (item.startTime !== undefined) hasStarted(lease, item.attempt.member, item.startTime)
    // Of a gang only the primary knows whether the program has begun, and it waits for the others, who may still be away.
    if (item.attempt.member === undefined) {
      const isAlone = lease.members.some((member) => member.machine.session === 0)
      lease.restored &&= item.startTime === undefined && isAlone
      lease.uploading = item.state === 'uploading'
    }
    keep.push(item.attempt)
  }
  return keep
}

function hasStarted(lease: Lease, member: number | undefined, startTime: number): void {
  if (member === undefined) markStarted(lease, startTime)
  else partStarted(lease, member, startTime)
}

/** An attempt that was given up but not replaced, and is alive after all (L2). */
function revive(turn: Turn, task: Task, machine: Machine, { attempt, nodeId }: InventoryItem): Lease | undefined {
  const node = machine.nodes.get(nodeId)
  if (task.lease !== undefined || task.lastEnd !== 'lost' || task.lastRan?.machine !== machine.peer || node === undefined) return undefined
  if (task.job.row.state !== 'active' || attempt.member !== undefined) return undefined
  dequeue(task)
  task.lastEnd = undefined
  notLost(task)
  const lease = openLease(task, { grantTime: turn.now, members: [{ machine, node }], restored: false, incarnation: machine.incarnation })
  // On disk again, so that a restart does not give it to another machine (L6).
  putStatus(turn, task, { state: 'running' })
  return lease
}

/** The machine of a live session, or undefined for what a dead one still says. */
function speaking(turn: Turn, peer: PeerIdText, session: number): Machine | undefined {
  const machine = turn.state.machines.get(peer)
  if (machine === undefined || machine.session !== session) return undefined
  machine.lastHeard = turn.now
  return machine
}

export function onGone(turn: Turn, event: Extract<WorkerEvent, { kind: 'gone' }>): void {
  const machine = turn.state.machines.get(event.peer)
  if (machine === undefined || (machine.session !== 0 && machine.session !== event.session)) return
  machine.session = 0
  machine.dead = event.dead
  unpark(machine)
  for (const lease of [...machine.leases.values()]) {
    // A member of a gang that has not begun, while others have, is missing in its machine's next inventory.
    if (event.dead || !hasBegun(lease)) giveUp(turn, lease, lostOrPreempted(machine))
  }
  if (machine.leaving) forgetMachine(turn, machine)
  else if (machine.dead) for (const node of machine.nodes.values()) node.pool.toAllocate = true
  log(
    turn,
    event.dead ? 'warn' : 'info',
    `${machine.description.name} ${event.dead ? 'is gone: its process has ended' : 'is disconnected'}`,
    { machine: event.peer },
  )
}

export function onHeartbeat(turn: Turn, event: Extract<WorkerEvent, { kind: 'heartbeat' }>): void {
  const machine = speaking(turn, event.peer, event.session)
  if (machine === undefined) return
  if (event.diskFreeMiB !== undefined) machine.description = { ...machine.description, diskFreeMiB: event.diskFreeMiB }
  turn.out.push({ kind: 'beat', peer: event.peer, sentAt: event.sentAt, heartbeatMs: beatIntervalMs(turn.state.machines.size) })
}

export function onClaim(turn: Turn, event: Extract<WorkerEvent, { kind: 'claim' }>): void {
  const machine = speaking(turn, event.peer, event.session)
  if (machine === undefined) return refuse(turn, event.replyTo, 'InvalidRequestBody', 'Say hello before claiming.')
  if (machine.answeredClaims.has(event.claim.requestId)) return repeatClaim(turn, machine, event.replyTo, event.claim.requestId)
  dismissClaim(turn, machine)
  park(machine, { replyTo: event.replyTo, claim: event.claim, until: turn.now + event.claim.waitMs })
  serveClaim(turn, machine)
  for (const asked of event.claim.nodes) {
    const node = machine.nodes.get(asked.nodeId)
    // Nothing was there for it: the end of the turn looks whether another machine hoards.
    if (machine.parked !== undefined && node !== undefined) node.pool.dirty = true
  }
  if (machine.parked !== undefined && event.claim.waitMs === 0) dismissClaim(turn, machine)
}

export function onReport(turn: Turn, event: Extract<WorkerEvent, { kind: 'report' }>): void {
  const machine = speaking(turn, event.peer, event.session)
  if (machine === undefined) return refuse(turn, event.replyTo, 'InvalidRequestBody', 'Say hello before reporting.')
  answer(turn, event.replyTo, { verdicts: event.reports.map((report) => takeReport(turn, machine, report)) })
}

function takeReport(turn: Turn, machine: Machine, { attempt, outcome }: Report): Verdict {
  const job = turn.state.jobs.get(attempt.jobUid)
  const task = job === undefined ? undefined : lookUp(job, attempt.task)
  if (task === undefined) return 'refused'
  if (typeof task === 'number') return epochOf(task) === attempt.epoch ? 'accepted' : 'refused'
  if (task.epoch !== attempt.epoch) return 'refused'
  const lease = leaseOn(machine, attempt)
  const isPrimary = attempt.member === undefined
  if (lease !== undefined) {
    const failed = outcome.exitCode !== 0 || outcome.failureInfo !== undefined
    // Of a gang, a subtask that ends well ends nothing; one that fails ends the whole attempt (Azure: multi-instance).
    if (attempt.member !== undefined && !hasEnded(lease, attempt.member)) partEnded(turn, lease, attempt.member, outcome)
    if (attempt.member === undefined || failed) finish(turn, task, outcome, lease, machine, attempt.member)
    return 'accepted'
  }
  if (!isPrimary || task.lease !== undefined || task.lastRan?.machine !== machine.peer) return 'refused'
  if (task.lastEnd === 'reported') return 'accepted'
  // Azure: the tasks that an ended job left active stay so.
  if (task.lastEnd !== 'lost' || task.job.row.state !== 'active') return 'refused'
  notLost(task)
  finish(turn, task, outcome, undefined, machine)
  return 'accepted'
}

export function onStarted(turn: Turn, event: Extract<WorkerEvent, { kind: 'started' }>): void {
  const machine = speaking(turn, event.peer, event.session)
  if (machine === undefined) return
  for (const { startTime, ...attempt } of event.attempts) {
    const lease = leaseOn(machine, attempt)
    if (lease !== undefined) hasStarted(lease, attempt.member, startTime)
  }
  const jobs = new Set(event.attempts.map((attempt) => attempt.jobUid))
  for (const jobUid of jobs) turn.out.push({ kind: 'changed', jobUid })
}

export function onUploading(turn: Turn, event: Extract<WorkerEvent, { kind: 'uploading' }>): void {
  const machine = speaking(turn, event.peer, event.session)
  for (const attempt of event.attempts) {
    const lease = machine === undefined ? undefined : leaseOn(machine, attempt)
    if (lease !== undefined && attempt.member === undefined) lease.uploading = true
  }
}

/**
 * Attempts that the machine gives back, because it was asked to or because it goes down. When it goes down that includes
 * what it ran: their processes are gone, so nothing has to be waited for (L7).
 */
export function onReturned(turn: Turn, event: Extract<WorkerEvent, { kind: 'retracted' | 'draining' }>): void {
  const machine = speaking(turn, event.peer, event.session)
  if (machine === undefined) return
  const attempts = event.kind === 'draining' ? event.returned : event.attempts
  if (event.kind === 'draining') {
    machine.draining = true
    // Said once is enough: a later note may only return what crossed the first.
    machine.leaving ||= event.leaving
    dismissClaim(turn, machine)
  }
  for (const attempt of attempts) {
    const lease = leaseOn(machine, attempt)
    if (lease === undefined) continue
    if (lease.startTime === undefined && !lease.restored) giveUp(turn, lease, 'requeued')
    else if (event.kind === 'draining') giveUp(turn, lease, machine.description.class === 'low-priority' ? 'preempted' : 'requeued')
  }
}

/** A machine that left the mesh, or was sent away: nothing of it stays. */
export function forgetMachine(turn: Turn, machine: Machine): void {
  dismissClaim(turn, machine)
  for (const lease of [...machine.leases.values()]) giveUp(turn, lease, lostOrPreempted(machine), 'the machine has left the mesh')
  for (const node of [...machine.nodes.values()]) {
    if (node.row.reservationId === 0) node.pool.nodes.delete(node.row.nodeId)
    else removeNode(turn, node, 'the machine has left the mesh')
  }
  turn.state.machines.delete(machine.peer)
  turn.out.push({ kind: 'del', key: machineKey(machine.peer) })
}

/** Every lease gets a full window, and what waits for a time waits from now on: nobody was silent, this clock has jumped (L3). */
export function countAnew(turn: Turn): void {
  for (const machine of turn.state.machines.values()) {
    machine.lastHeard = turn.now
    machine.refusals.clear()
    if (machine.parked !== undefined) machine.parked.until = turn.now + machine.parked.claim.waitMs
    for (const node of machine.nodes.values()) node.askAgainAt = 0
  }
}

/**
 * Ends leases of silent machines and claims that have waited long enough. A session that nothing came from for as long
 * as a short lease lasts is over, whether or not its connection has noticed: nothing new is given to it. The machine
 * finds its heartbeats unanswered and says hello again.
 */
export function expire(turn: Turn): void {
  const beatMs = beatIntervalMs(turn.state.machines.size)
  for (const machine of turn.state.machines.values()) {
    if (machine.parked !== undefined && turn.now >= machine.parked.until) dismissClaim(turn, machine)
    const silentMs = turn.now - machine.lastHeard
    if (machine.session !== 0 && silentMs > Math.max(minWindowMs, 6 * beatMs))
      onGone(turn, { kind: 'gone', peer: machine.peer, session: machine.session, dead: false })
    if (silentMs < 1000 || machine.leases.size === 0) continue
    for (const lease of [...machine.leases.values()]) {
      if (silentMs <= windowMs(lease, machine.lastHeard, beatMs)) continue
      log(
        turn,
        'warn',
        `no word from ${machine.description.name} for ${Math.round(silentMs / 1000)} s: task ${lease.task.id} is given up there`,
        {
          machine: machine.peer,
          job: lease.task.job.row.spec.id,
          task: lease.task.id,
        },
      )
      giveUp(turn, lease, lostOrPreempted(machine))
    }
  }
}
