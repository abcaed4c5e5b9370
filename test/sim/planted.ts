/** Bugs put in on purpose, each to be found by the simulation. They change what goes into the core and comes out of it, or the shell; the core itself is as it is. */
import type { Effect, Event } from '../../coordinator/events.ts'
import type { MachineRow } from '../../coordinator/rows.ts'
import { machineKey } from '../../coordinator/rows.ts'
import { epochOf, type State } from '../../coordinator/state.ts'
import { liveTask, lookUp } from '../../coordinator/task-book.ts'
import type { Verdict } from '../../protocols/leases.ts'
import type { Capacity } from '../../protocols/model/resources.ts'
import { type Rows, readRow } from '../support/rows.ts'

export interface Planted {
  /** Another event than the one that happened. */
  event?(event: Event, state: State): Event
  /** Other effects than the core's; `event` is absent at the end of a turn. */
  effects?(effects: Effect[], event: Event | undefined, state: State): Effect[]
  /** After a start of the coordinator. */
  restored?(state: State, disk: Rows): void
  /** Effects are performed before the rows are on the disk. */
  speaksFirst?: boolean
  /** What a machine thinks that it lends. */
  lends?: (capacity: Capacity) => Capacity
  /** The disk says that it has synced, and has not. */
  skipsSync?: boolean
  /** A crash may leave a part of a batch on the disk. */
  tearsBatches?: boolean
  /** The coordinator crashes, and nothing else happens: most of all where a crash is what it takes. */
  crashesOnly?: boolean
  /** The own row of a deleted job goes before those of its tasks. */
  purgesJobFirst?: boolean
  /** A worker keeps unstarted grants when its session ends. */
  keepsUnstarted?: boolean
}

export const bugs: Record<string, Planted> = {
  'acknowledges before it has synced': { speaksFirst: true },
  'takes a report whatever its epoch': {
    event(event, state) {
      if (event.kind !== 'report') return event
      const reports = event.reports.map((report) => {
        const job = state.jobs.get(report.attempt.jobUid)
        const task = job === undefined ? undefined : lookUp(job, report.attempt.task)
        const epoch = task === undefined ? 0 : typeof task === 'number' ? epochOf(task) : task.epoch
        if (typeof task === 'object') task.lastRan = { machine: event.peer, machineName: '', nodeId: '', epoch }
        return { ...report, attempt: { ...report.attempt, epoch: Math.max(1, epoch) } }
      })
      return { ...event, reports }
    },
  },
  'grants a lease twice': {
    effects(effects) {
      const grants = effects.filter((effect) => effect.kind === 'grants' && effect.grants.some((grant) => grant.gang === undefined))
      const [first, second] = grants as Extract<Effect, { kind: 'grants' }>[]
      if (first !== undefined && second !== undefined) second.grants.push(first.grants[0]!)
      return effects
    },
  },
  'gives no fresh window after a restart': {
    restored(state, disk) {
      for (const machine of state.machines.values())
        machine.lastHeard = readRow<MachineRow>(disk, machineKey(machine.peer))?.lastSeen ?? machine.lastHeard
    },
  },
  'requeues nothing that an inventory omits': {
    event(event, state) {
      const machine = event.kind === 'hello' ? state.machines.get(event.peer) : undefined
      if (event.kind !== 'hello' || machine === undefined) return event
      const named = new Set(event.hello.inventory.map((item) => JSON.stringify(item.attempt)))
      const omitted = [...machine.leases.values()]
        .map((lease) => ({
          attempt: { jobUid: lease.task.job.uid, task: lease.task.id, epoch: lease.epoch },
          nodeId: lease.members[0]!.node.row.nodeId,
          state: 'running' as const,
          startTime: lease.grantTime,
        }))
        .filter((item) => !named.has(JSON.stringify(item.attempt)))
      return { ...event, hello: { ...event.hello, inventory: [...event.hello.inventory, ...omitted] } }
    },
  },
  'accepts the report of a terminated task': {
    effects(effects, event, state) {
      if (event?.kind !== 'report') return effects
      return effects.map((effect) => {
        if (effect.kind !== 'answer') return effect
        const { verdicts } = effect.body as { verdicts: Verdict[] }
        const isCompleted = (index: number) => {
          const { jobUid, task } = event.reports[index]!.attempt
          const job = state.jobs.get(jobUid)
          return job !== undefined && typeof lookUp(job, task) === 'number'
        }
        return { ...effect, body: { verdicts: verdicts.map((verdict, index) => (isCompleted(index) ? 'accepted' : verdict)) } }
      })
    },
  },
  'starts a part of a gang': {
    effects(effects) {
      const last = effects.findLastIndex(
        (effect) => effect.kind === 'grants' && effect.grants.some((grant) => (grant.gang?.index ?? 0) > 0),
      )
      return effects.filter((_, index) => index !== last)
    },
  },
  'gives held nodes to others': {
    event(event, state) {
      if (event.kind === 'claim') for (const pool of state.pools.values()) for (const node of pool.nodes.values()) node.heldFor = undefined
      return event
    },
  },
  'lets the members of an ended gang run on': {
    effects: (effects) => effects.filter((effect) => effect.kind !== 'stop' || effect.attempts.every(({ member }) => member === undefined)),
  },
  'takes one version of MPI for another': {
    event(event) {
      if (event.kind !== 'hello') return event
      const machine = { ...event.hello.machine, mpi: [{ flavor: 'openmpi', version: '4.1.4' }] }
      return { ...event, hello: { ...event.hello, machine } }
    },
  },
  'reserves beyond the capacity': {
    lends: (capacity) => ({ ...capacity, cores: capacity.cores * 2, memoryMiB: capacity.memoryMiB * 2 }),
  },
  'starts what was granted in a session before': { keepsUnstarted: true },
  'answers before its disk has synced': { skipsSync: true },
  'finds a part of a batch after a crash': { tearsBatches: true, crashesOnly: true },
  'forgets a deleted job before its tasks are gone': { purgesJobFirst: true },
  'forgets to write the row of an array': {
    effects: (effects) => effects.filter((effect) => effect.kind !== 'put' || !effect.key.startsWith('arry/')),
  },
  'forgets to write the roll of a request': {
    effects: (effects) => effects.filter((effect) => effect.kind !== 'put' || !effect.key.startsWith('roll/')),
  },
  'spends a retry on a lost machine': {
    effects(effects, _event, state) {
      for (const effect of effects) {
        if (effect.kind !== 'changed' || (effect.event?.attemptEnd !== 'lost' && effect.event?.attemptEnd !== 'preempted')) continue
        const job = state.jobs.get(effect.jobUid)
        const task = job === undefined ? undefined : liveTask(job, effect.event.taskId.toLowerCase())
        if (task !== undefined) task.retries += 1
      }
      return effects
    },
  },
}
