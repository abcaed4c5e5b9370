/** What is promised of gangs (M1), seen from outside: throws a Violation when it is broken. */
import type { Effect } from '../../coordinator/events.ts'
import { gangAgeMs } from '../../coordinator/gangs.ts'
import { type StatusRow, type SubtasksRow, statusKey, subtasksKey } from '../../coordinator/rows.ts'
import type { Lease, Node, Pool, State, Task } from '../../coordinator/state.ts'
import { liveEntries } from '../../coordinator/task-book.ts'
import type { Unit } from '../../node/worker/units.ts'
import { decode } from '../../protocols/codec.ts'
import { attemptKey, taskKey } from '../../protocols/ids.ts'
import type { MachineDescription } from '../../protocols/model/machine.ts'
import { type Batch, type Rows, readRow, readTaskSpec } from '../support/rows.ts'
import { Violation, type World } from './world.ts'

/** The longest program of the pool of gangs, with what it waits for, and some time to be told of its end. */
const longestMs = 150_000
/** Within so many heartbeats a machine that is in touch has long been told that an attempt has ended. */
const beatsToStop = 3

interface Held {
  task: Task
  leases: Set<Lease>
}

export class GangOracle {
  readonly #world: World
  /** By peer, as the machines are. */
  readonly #machines: ReadonlyMap<string, MachineDescription>
  readonly #held = new Map<Node, Held>()
  /** Attempts that were given to nodes of gangs: one that was given up may turn out to be alive there (L2). */
  readonly #seen = new Set<string>()
  /** The gang of each pool whose turn is next, and since when. */
  readonly #next = new Map<string, { task: string; since: number }>()
  /** Epochs up to which the attempts of a task have ended. */
  readonly #ended = new Map<string, number>()
  /** Status and first page of those with more than one member that were told to start. */
  readonly #several = new Map<string, string>()
  /** How often a machine was seen to run a member of an ended attempt. */
  readonly #late = new Map<string, number>()

  constructor(world: World, machines: ReadonlyMap<string, MachineDescription>) {
    this.#world = world
    this.#machines = machines
  }

  /** The coordinator's process has started: its memory is another. */
  started(): void {
    this.#held.clear()
    this.#next.clear()
  }

  /** After each turn: what is held for a gang was given to nobody else, and the gang whose turn it is gets its nodes. */
  turned(state: State): void {
    for (const [node, { task, leases }] of this.#held) {
      if (node.heldFor !== task) continue
      for (const lease of node.leases)
        must(
          leases.has(lease) || this.#seen.has(nameOf(lease)) || isBefore(lease.task, task),
          () => `M1: node ${node.row.nodeId} is held for ${task.id} and was given to ${lease.task.id}`,
        )
    }
    this.#held.clear()
    for (const pool of state.pools.values()) {
      if (!pool.row.spec.enableInterNodeCommunication) continue
      for (const node of pool.nodes.values()) {
        for (const lease of node.leases) this.#seen.add(nameOf(lease))
        if (node.heldFor !== undefined) this.#held.set(node, { task: node.heldFor, leases: new Set(node.leases) })
      }
      this.#waits(pool)
    }
  }

  #waits(pool: Pool): void {
    const { now } = this.#world
    const first = firstOf(pool)
    const name = first === undefined ? undefined : taskKey(first.job.uid, first.id)
    const known = this.#next.get(pool.id)
    // Faults take nodes away at any time.
    if (this.#world.hostile || name === undefined || now - first!.readySince < gangAgeMs) this.#next.delete(pool.id)
    else if (known?.task !== name) this.#next.set(pool.id, { task: name, since: now })
    else must(now - known.since < longestMs, () => `M1: gang ${name} of ${first!.class.gang} has been next for ${now - known.since} ms`)
  }

  /** All members are told to start, on nodes that agree about the MPI that their task asks for. */
  performs(effects: readonly Effect[], disk: Rows): void {
    const gangs = new Map<string, { given: number; size: number }>()
    for (const effect of effects) {
      if (effect.kind !== 'grants') continue
      for (const { attempt, gang } of effect.grants) {
        if (gang === undefined) continue
        const whole = attemptKey({ ...attempt, member: undefined })
        gangs.set(whole, { given: (gangs.get(whole)?.given ?? 0) + 1, size: gang.members.length })
        if (gang.members.length > 1)
          this.#several.set(statusKey(attempt.jobUid, attempt.task), subtasksKey(attempt.jobUid, attempt.task, 0))
        const wanted = readTaskSpec(disk, attempt.jobUid, attempt.task)?.multiInstanceSettings?.mpi
        if (wanted === undefined) continue
        const versions = new Set(gang.members.map(({ peer }) => this.#version(peer, wanted)))
        must(
          versions.size === 1 && gang.mpi?.flavor === wanted && versions.has(gang.mpi.version),
          () => `M1: ${whole} asks for ${wanted} and has the versions ${[...versions].join()}`,
        )
      }
    }
    for (const [key, { given, size }] of gangs)
      must(given === size, () => `M1: ${given} of the ${size} members of ${key} were told to start`)
  }

  #version(peer: string, flavor: string): string {
    return this.#machines.get(peer)?.mpi?.find((mpi) => mpi.flavor === flavor)?.version ?? 'none'
  }

  writes(batch: Batch): void {
    for (const [key, value] of batch) {
      if (!key.startsWith('stat/') || value === undefined) continue
      const { epoch, state } = decode(value) as StatusRow
      this.#ended.set(key, state === 'running' ? epoch - 1 : epoch)
    }
  }

  /** L5: the end of an attempt and that of its members are one. */
  checkDisk(disk: Rows): void {
    for (const [key, pageKey] of this.#several) {
      const status = readRow<StatusRow>(disk, key)
      if (status === undefined) continue
      const page = readRow<SubtasksRow>(disk, pageKey)
      if (status.state === 'running') {
        const wereEnded =
          page?.epoch === status.epoch && page.members.some((part) => part.endTime !== undefined && part.exitCode === undefined)
        must(!wereEnded, () => `L5: ${key} is running, and its members were ended`)
      } else if (status.ranOn !== undefined)
        must(page?.epoch === status.ranOn.epoch, () => `L5: ${key} ended at epoch ${status.ranOn?.epoch}, its members at ${page?.epoch}`)
    }
  }

  /**
   * What a machine has at a heartbeat. A member that it runs on for several beats after its attempt has ended, always in touch
   * with the coordinator, was not told so.
   */
  beats(units: Iterable<Unit>, isInTouch: boolean): void {
    for (const { key, attempt, phase, work } of units) {
      if (work?.gang === undefined || phase !== 'running') continue
      const isLate = isInTouch && (this.#ended.get(statusKey(attempt.jobUid, attempt.task)) ?? 0) >= attempt.epoch
      const times = isLate ? (this.#late.get(key) ?? 0) + 1 : 0
      this.#late.set(key, times)
      must(times < beatsToStop, () => `M1: ${key} runs on, though its attempt has ended`)
    }
  }
}

function must(holds: boolean, what: () => string): void {
  if (!holds) throw new Violation(what())
}

/** Of the gangs that could start if all nodes were idle the one with the highest priority, then the oldest. */
function firstOf(pool: Pool): Task | undefined {
  let first: Task | undefined
  for (const job of pool.jobs)
    for (const task of liveEntries(job)) {
      if (!task.queued || task.class.gang === 0 || !couldStart(pool, task)) continue
      const order = first === undefined ? -1 : first.job.row.spec.priority - job.row.spec.priority || task.readySince - first.readySince
      if (order < 0) first = task
    }
  return first
}

function nameOf({ task, epoch }: Lease): string {
  return attemptKey({ jobUid: task.job.uid, task: task.id, epoch })
}

/** A gang whose turn comes before that of another may start on what the other holds. */
function isBefore(a: Task, b: Task): boolean {
  if (a.class.gang === 0) return false
  return (
    a.job.row.spec.priority > b.job.row.spec.priority ||
    (a.job.row.spec.priority === b.job.row.spec.priority && a.readySince <= b.readySince)
  )
}

function couldStart(pool: Pool, { class: kind }: Task): boolean {
  const counts = new Map<string | undefined, number>()
  for (const { ready, row, machine } of pool.nodes.values()) {
    if (!ready || row.leaving || machine.session === 0 || machine.draining) continue
    const version = kind.mpi === undefined ? undefined : machine.description.mpi?.find(({ flavor }) => flavor === kind.mpi)?.version
    counts.set(version, (counts.get(version) ?? 0) + 1)
  }
  return [...counts.values()].some((count) => count >= kind.gang)
}
