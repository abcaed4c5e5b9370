/**
 * Pools: how many compute nodes there should be, and on which machines they are reserved. The machine decides (R1);
 * this side asks, remembers what it asked for, and asks again. A pool that lost a node gets another as soon as a machine
 * fits: unlike in Azure that goes on after the resize has ended, because machines of a mesh come and go.
 */
import { foldId } from '../protocols/ids.ts'
import { defaultPoolId } from '../protocols/model/pool.ts'
import { holds } from '../protocols/model/resources.ts'
import { capacityOfVmSize } from '../protocols/model/vm-sizes.ts'
import { ageMs } from './clock.ts'
import type { ControlEvent, WorkerEvent } from './events.ts'
import { isWaiting, olderGangPool } from './gang-pools.ts'
import { addNodeToState, addPoolToState } from './make-state.ts'
import { unparkNode } from './parking.ts'
import { isWanted, unreserved } from './room.ts'
import { type NodeRow, nodeKey, poolKey } from './rows.ts'
import type { Machine, Node, Pool } from './state.ts'
import { giveUp, terminateTask } from './tasks.ts'
import { answer, log, putNode, putPool, refuse, type Turn } from './turn.ts'

/** A machine that refused is not asked again for this pool sooner. */
const askAgainMs = 5000
/** A machine that is draining for the pool is asked this often. */
const drainPollMs = 500
/** A node whose machine is silent this long is replaced elsewhere; its own tasks are kept by their leases meanwhile. */
const replaceAfterMs = 120_000

export function onAddPool(turn: Turn, event: Extract<ControlEvent, { kind: 'addPool' }>): void {
  const { spec } = event
  if (turn.state.pools.has(foldId(spec.id))) return refuse(turn, event.replyTo, 'PoolExists', `The pool ${spec.id} exists already.`)
  const size = capacityOfVmSize(spec.vmSize)
  // Azure: at most four slots a core, 256 in all.
  const mostSlots = Math.min(256, Math.max(1, Math.floor(4 * size.cores)))
  if (spec.taskSlotsPerNode > mostSlots) {
    const message = `taskSlotsPerNode is ${spec.taskSlotsPerNode}; a node of ${size.cores} ${size.cores === 1 ? 'core' : 'cores'} may have at most ${mostSlots}.`
    return refuse(turn, event.replyTo, 'InvalidPropertyValue', message)
  }
  const resizing = spec.targetDedicatedNodes + spec.targetLowPriorityNodes > 0
  const pool = addPoolToState(turn.state, {
    spec,
    size,
    creationTime: turn.now,
    allocationState: resizing ? 'resizing' : 'steady',
    allocationStateTransitionTime: turn.now,
    resizeDeadline: turn.now + spec.resizeTimeoutMs,
    resizeErrors: [],
    deallocation: 'requeue',
    deleting: false,
  })
  putPool(turn, pool)
  allocate(turn, pool)
  answer(turn, event.replyTo, { poolId: spec.id })
}

export function onResizePool(turn: Turn, event: Extract<ControlEvent, { kind: 'resizePool' }>): void {
  const pool = changeable(turn, event.poolId, event.replyTo)
  if (pool === undefined) return
  const { row } = pool
  row.spec = {
    ...row.spec,
    targetDedicatedNodes: event.targetDedicatedNodes ?? row.spec.targetDedicatedNodes,
    targetLowPriorityNodes: event.targetLowPriorityNodes ?? row.spec.targetLowPriorityNodes,
  }
  row.deallocation = event.nodeDeallocationOption
  row.resizeDeadline = turn.now + (event.resizeTimeoutMs ?? row.spec.resizeTimeoutMs)
  row.resizeErrors = []
  setAllocation(turn, pool, 'resizing')
  allocate(turn, pool)
  answer(turn, event.replyTo, { poolId: row.spec.id })
}

export function onDeletePool(turn: Turn, event: Extract<ControlEvent, { kind: 'deletePool' }>): void {
  const pool = changeable(turn, event.poolId, event.replyTo)
  if (pool === undefined) return
  removePool(turn, pool)
  answer(turn, event.replyTo, {})
}

/** Azure: running tasks are requeued; their jobs wait for a pool of that name. */
function removePool(turn: Turn, pool: Pool): void {
  for (const node of [...pool.nodes.values()]) removeNode(turn, node, 'the pool is deleted', 'requeue')
  turn.state.pools.delete(pool.id)
  turn.out.push({ kind: 'del', key: poolKey(pool.id) })
}

/** A job of this pool has ended: the pool may have been there for it alone. */
export function removeIfJobless(turn: Turn, pool: Pool): void {
  if (pool.row.spec.poolLifetimeOption !== 'job' || pool.jobs.size > 0) return
  // One that waits for another job is not among the pool's yet.
  const isNamed = [...turn.state.jobs.values()].some(({ row }) => row.state === 'active' && foldId(row.spec.poolId) === pool.id)
  if (!isNamed) removePool(turn, pool)
}

/**
 * Pools of a job that never came, or had ended before its pool was made: whoever made them died between the two, or the job
 * could not start any more. They are given as long as they would have for their nodes.
 */
export function removeForsaken(turn: Turn): void {
  const { state, now } = turn
  const waiting = [...state.pools.values()].filter(
    (pool) => isWaiting(pool) && ageMs(pool.row.creationTime, now) >= pool.row.spec.resizeTimeoutMs,
  )
  if (waiting.length === 0) return
  const named = new Set<string>()
  for (const { row } of state.jobs.values()) if (row.state === 'active') named.add(foldId(row.spec.poolId))
  for (const pool of waiting) if (!named.has(pool.id)) removePool(turn, pool)
}

/** A job of the pool may run from now on. */
export function startAllocating(turn: Turn, pool: Pool): void {
  pool.toAllocate = true
  if (pool.row.spec.poolLifetimeOption !== 'job' || pool.row.allocationState !== 'resizing' || pool.nodes.size > 0) return
  // It could ask for no node until now.
  pool.row.resizeDeadline = turn.now + pool.row.spec.resizeTimeoutMs
  putPool(turn, pool)
}

function changeable(turn: Turn, poolId: string, replyTo: number): Pool | undefined {
  const pool = turn.state.pools.get(foldId(poolId))
  if (pool === undefined) refuse(turn, replyTo, 'PoolNotFound', `There is no pool ${poolId}.`)
  else if (pool.id === defaultPoolId) {
    refuse(
      turn,
      replyTo,
      'OperationNotValidOnPool',
      'The pool "default" is the mesh itself: it has every machine, and is neither resized nor deleted.',
    )
  } else return pool
  return undefined
}

function setAllocation(turn: Turn, pool: Pool, to: Pool['row']['allocationState']): void {
  if (pool.row.allocationState !== to) pool.row.allocationStateTransitionTime = turn.now
  pool.row.allocationState = to
  putPool(turn, pool)
}

/** Once a turn, however many machines said hello in it: each time looks at all nodes of the pool. */
export function allocateMarked(turn: Turn): void {
  for (const pool of turn.state.pools.values()) {
    if (!pool.toAllocate) continue
    pool.toAllocate = false
    allocate(turn, pool)
  }
}

/** Brings a pool towards its targets: asks machines, gives nodes back, ends a resize. */
function allocate(turn: Turn, pool: Pool): void {
  if (pool.id === defaultPoolId) return
  const { spec } = pool.row
  // Nodes that a job will need when others have ended could be those that the others need.
  if (isWaiting(pool)) {
    for (const node of [...pool.nodes.values()]) removeNode(turn, node, 'no job of its pool may run yet')
    return
  }
  if (olderGangPool(turn.state, pool) !== undefined) {
    for (const node of [...pool.nodes.values()]) if (node.leases.size === 0) removeNode(turn, node, 'an older pool gets its nodes first')
    // Its own time begins when it may ask.
    pool.row.resizeDeadline = turn.now + spec.resizeTimeoutMs
    return
  }
  for (const node of [...pool.nodes.values()]) {
    if (node.machine.session === 0 && turn.now - node.machine.lastHeard > replaceAfterMs && node.leases.size === 0)
      removeNode(turn, node, 'its machine is away')
    else if (node.machine.dead && node.leases.size === 0) replaceDead(turn, node)
    else if (node.row.leaving && node.leases.size === 0) removeNode(turn, node, 'the pool has shrunk')
  }
  const met = [
    allocateClass(turn, pool, 'dedicated', spec.targetDedicatedNodes),
    allocateClass(turn, pool, 'low-priority', spec.targetLowPriorityNodes),
  ]
  if (pool.row.allocationState !== 'resizing') return
  if (met.every(Boolean)) {
    // Azure: nodes whose tasks may still end are a part of the resize.
    if (![...pool.nodes.values()].some((node) => node.row.leaving)) setAllocation(turn, pool, 'steady')
  } else if (turn.now >= pool.row.resizeDeadline) {
    const waiting = [...pool.nodes.values()].flatMap((node) => (node.ready ? [] : [node.refusal ?? 'no answer yet']))
    const refused = [...turn.state.machines.values()].flatMap((machine) => machine.refusals.get(pool.id)?.reason ?? [])
    const reasons = [...new Set([...waiting, ...refused])].join('; ')
    const message = `Desired number of nodes could not be allocated: ${reasons || 'no further machine of the mesh fits this size'}.`
    pool.row.resizeErrors = [{ code: 'AllocationTimedout', message }]
    setAllocation(turn, pool, 'steady')
  }
}

function allocateClass(turn: Turn, pool: Pool, kind: 'dedicated' | 'low-priority', target: number): boolean {
  const mine = [...pool.nodes.values()].filter((node) => node.machine.description.class === kind && !node.row.leaving)
  if (mine.length > target) {
    // Idle nodes and those not granted yet go first.
    mine.sort((a, b) => Number(a.ready) - Number(b.ready) || a.leases.size - b.leases.size)
    for (const node of mine.splice(0, mine.length - target)) shed(turn, node)
  }
  for (const node of mine) if (!node.ready) ask(turn, node)
  for (let missing = target - mine.length; missing > 0; missing -= 1) {
    const machine = candidate(turn, pool, kind)
    if (machine === undefined) break
    ask(turn, newNode(turn, pool, machine))
  }
  return (
    [...pool.nodes.values()].filter((node) => node.machine.description.class === kind && !node.row.leaving && node.ready).length === target
  )
}

/** The machine for one more node: the one with fewest nodes of the pool (spread) or most (pack), then the roomiest. */
function candidate(turn: Turn, pool: Pool, kind: 'dedicated' | 'low-priority'): Machine | undefined {
  let best: { machine: Machine; nodes: number; cores: number } | undefined
  const sign = pool.row.spec.nodeFillType === 'pack' ? -1 : 1
  for (const machine of turn.state.machines.values()) {
    const { description } = machine
    if (machine.session === 0 || machine.draining || description.class !== kind || !isWanted(description, pool.row.spec)) continue
    if (turn.now < (machine.refusals.get(pool.id)?.until ?? 0)) continue
    const free = unreserved(machine)
    if (!holds(free, pool.row.size)) continue
    const nodes = [...machine.nodes.values()].filter((node) => node.pool === pool).length
    if (best === undefined || sign * (nodes - best.nodes) < 0 || (nodes === best.nodes && free.cores > best.cores)) {
      best = { machine, nodes, cores: free.cores }
    }
  }
  return best?.machine
}

/** A machine that is known dead need not be waited for, but it keeps its node until there is another: it may start again. */
function replaceDead(turn: Turn, node: Node): void {
  const { pool } = node
  const other = candidate(turn, pool, node.machine.description.class)
  if (other === undefined) return
  removeNode(turn, node, 'its machine has ended')
  ask(turn, newNode(turn, pool, other))
}

function newNode(turn: Turn, pool: Pool, machine: Machine): Node {
  const { mesh } = turn.state
  const reservationId = mesh.nextReservationId
  mesh.nextReservationId += 1
  turn.out.push({ kind: 'put', key: 'mesh', value: { ...mesh } })
  const row: NodeRow = {
    reservationId,
    ownerEpoch: mesh.ownerEpoch,
    nodeId: `tvm-${reservationId}-${machine.peer.slice(-8).toLowerCase()}`,
    poolId: pool.row.spec.id,
    machine: machine.peer,
    machineName: machine.description.name,
    allocationTime: turn.now,
    leaving: false,
  }
  const node = addNodeToState(pool, machine, row, pool.row.size, pool.row.spec.taskSlotsPerNode, false)
  putNode(turn, node)
  return node
}

function ask(turn: Turn, node: Node): void {
  if (node.machine.session === 0 || turn.now < node.askAgainAt) return
  node.askAgainAt = turn.now + askAgainMs
  const { reservationId, poolId, nodeId } = node.row
  const reservation = { reservationId, ownerEpoch: turn.state.mesh.ownerEpoch, poolId, nodeId, size: node.size, taskSlots: node.slots }
  turn.out.push({ kind: 'reserve', peer: node.machine.peer, reservation })
}

export function onReserved(turn: Turn, event: Extract<WorkerEvent, { kind: 'reserved' }>): void {
  const machine = turn.state.machines.get(event.peer)
  const node = [...(machine?.nodes.values() ?? [])].find((candidate) => candidate.row.reservationId === event.reservationId)
  if (node === undefined) {
    // The node was given up while the machine was being asked.
    if (event.granted) turn.out.push({ kind: 'release', peer: event.peer, reservationId: event.reservationId, now: true })
    return
  }
  node.refusal = event.granted ? undefined : `${node.machine.description.name}: ${event.reason ?? 'refused'}`
  if (event.granted) {
    node.ready = true
    node.machine.refusals.delete(node.pool.id)
    node.pool.dirty = true
    log(turn, 'info', `pool ${node.row.poolId} has a node on ${node.machine.description.name}`, {
      pool: node.row.poolId,
      node: node.row.nodeId,
    })
  } else if (event.draining) node.askAgainAt = turn.now + drainPollMs
  else {
    node.machine.refusals.set(node.pool.id, { until: turn.now + askAgainMs, reason: node.refusal! })
    removeNode(turn, node, event.reason ?? 'refused')
  }
  node.pool.toAllocate = true
}

/** Takes a node out of a shrinking pool as the pool's deallocation option says. */
function shed(turn: Turn, node: Node): void {
  const option = node.pool.row.deallocation
  if (option !== 'taskcompletion' || node.leases.size === 0)
    return removeNode(turn, node, 'the pool has shrunk', option === 'terminate' ? 'terminate' : 'requeue')
  node.row.leaving = true
  putNode(turn, node)
}

export function removeNode(turn: Turn, node: Node, reason: string, tasks: 'requeue' | 'terminate' = 'requeue'): void {
  for (const lease of [...node.leases]) {
    if (tasks === 'terminate') terminateTask(turn, lease.task, `The task was ended because ${reason}.`)
    else giveUp(turn, lease, 'requeued', reason)
  }
  node.pool.nodes.delete(node.row.nodeId)
  // It may have been one of those that a gang held.
  node.pool.dirty = true
  node.machine.nodes.delete(node.row.nodeId)
  unparkNode(node)
  turn.out.push({ kind: 'del', key: nodeKey(node.row.reservationId) })
  if (node.machine.session !== 0)
    turn.out.push({ kind: 'release', peer: node.machine.peer, reservationId: node.row.reservationId, now: true })
  log(turn, 'info', `pool ${node.row.poolId} gives up its node on ${node.machine.description.name}: ${reason}`, { node: node.row.nodeId })
}
