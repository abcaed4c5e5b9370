/** The entries of the coordinator's memory as they are when they come in (state.ts). */
import { foldId, type PeerIdText } from '../protocols/ids.ts'
import type { MachineDescription } from '../protocols/model/machine.ts'
import { defaultPoolId } from '../protocols/model/pool.ts'
import type { Capacity } from '../protocols/model/resources.ts'
import { Roll } from './roll.ts'
import type { JobRow, MeshRow, NodeRow, PoolRow } from './rows.ts'
import { isOpen, type Job, type Machine, type Node, type Pool, poolOf, type State } from './state.ts'

export function newState(self: PeerIdText, mesh: MeshRow, now: number, chance: Uint32Array): State {
  const state: State = { self, chance, mesh, machines: new Map(), pools: new Map(), jobs: new Map(), jobIds: new Map(), lastTick: now }
  addPoolToState(state, {
    spec: {
      id: defaultPoolId,
      vmSize: 'machine',
      targetDedicatedNodes: 0,
      targetLowPriorityNodes: 0,
      taskSlotsPerNode: 1,
      nodeFillType: 'spread',
      enableInterNodeCommunication: false,
      resizeTimeoutMs: 900_000,
    },
    size: { cores: 0, memoryMiB: 0, gpus: 0 },
    creationTime: now,
    allocationState: 'steady',
    allocationStateTransitionTime: now,
    resizeDeadline: 0,
    resizeErrors: [],
    deallocation: 'requeue',
    deleting: false,
  })
  return state
}

export function addPoolToState(state: State, row: PoolRow): Pool {
  const id = foldId(row.spec.id)
  const pool: Pool = {
    id,
    row,
    nodes: new Map(),
    jobs: new Set(),
    parked: new Set(),
    sharedAt: 0,
    dirty: true,
    lastOfferAt: 0,
    toAllocate: false,
  }
  state.pools.set(id, pool)
  for (const job of state.jobs.values()) if (foldId(job.row.spec.poolId) === id && isOpen(job.row)) pool.jobs.add(job)
  return pool
}

export function addJobToState(state: State, row: JobRow, forgotten = false): Job {
  const job: Job = {
    uid: row.uid,
    row,
    tasks: new Map(),
    roll: new Roll(state.chance),
    arrays: [],
    arraysByShape: new Map(),
    total: 0,
    forgotten,
    queues: new Map(),
    ready: 0,
    started: 0,
    leased: 0,
    succeeded: 0,
    failed: 0,
    dependents: new Map(),
    rangeWaiters: [],
    numbersDone: new Map(),
    misses: new Map(),
    ranOn: new Set(),
    failing: new Map(),
    followers: new Set(),
    excluded: new Set(row.excluded.map((entry) => entry.machine)),
  }
  state.jobs.set(row.uid, job)
  state.jobIds.set(foldId(row.spec.id), job)
  if (isOpen(row)) poolOf(state, job)?.jobs.add(job)
  if (row.state === 'active') for (const { uid } of row.waitingFor ?? []) state.jobs.get(uid)?.followers.add(job)
  return job
}

/** A machine that is not known yet; `hello` fills it in. */
export function addMachineToState(state: State, peer: PeerIdText, description: MachineDescription, now: number): Machine {
  const machine: Machine = {
    peer,
    roles: [],
    description,
    incarnation: 0,
    session: 0,
    lastHeard: now,
    draining: false,
    leaving: false,
    dead: false,
    nodes: new Map(),
    leases: new Map(),
    briefed: new Set(),
    answeredClaims: new Map(),
    refusals: new Map(),
  }
  state.machines.set(peer, machine)
  return machine
}

export function addNodeToState(pool: Pool, machine: Machine, row: NodeRow, size: Capacity, slots: number, ready: boolean): Node {
  const node: Node = { row, pool, machine, size, slots, ready, askAgainAt: 0, leases: new Set() }
  pool.nodes.set(row.nodeId, node)
  machine.nodes.set(row.nodeId, node)
  return node
}
