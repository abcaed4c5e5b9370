/** The attempts that this machine holds, from grant to acknowledged report. */
import { type Attempt, attemptKey, type JobUid } from '../../protocols/ids.ts'
import type { Grant, InventoryItem, JobBrief } from '../../protocols/leases.ts'
import type { Outcome, TaskSpec } from '../../protocols/model/task.ts'
import type { Waiting } from '../intake.ts'
import type { TaskPaths } from '../ports.ts'

/** `unstarted` ones end with the session; all others are in the inventory (L6, L7). */
export type Phase = 'unstarted' | 'fetching' | 'running' | 'uploading' | 'finished'

/** Ends an attempt that has begun. */
export interface Stopper {
  readonly isStopped: boolean
  stop(reason: Error): void
}

export function stopperOf(controller: AbortController): Stopper {
  return {
    get isStopped() {
      return controller.signal.aborted
    },
    stop: (reason) => controller.abort(reason),
  }
}

export interface Unit extends Waiting {
  key: string
  attempt: Attempt
  nodeId: string
  phase: Phase
  /** Absent for one that finished before this process began. */
  work?: { spec: TaskSpec; job: JobBrief; gang?: Grant['gang'] }
  /** Ends it, once it has begun. */
  stopper?: Stopper
  /** A function that does not share a thread with others: a series that it was in broke. */
  isAlone?: boolean
  /** Resolves when nothing of it runs any more. */
  ended?: Promise<void>
  startTime?: number
  paths?: TaskPaths
  outcome?: Outcome
}

export class Units {
  readonly #all = new Map<string, Unit>()
  /** Unstarted ones of each node, in the order granted. */
  readonly #lines = new Map<string, Unit[]>()

  get(attempt: Attempt): Unit | undefined {
    return this.#all.get(attemptKey(attempt))
  }

  /** Whether the attempt is here, and not being ended. */
  has(attempt: Attempt): boolean {
    const unit = this.get(attempt)
    return unit !== undefined && unit.stopper?.isStopped !== true
  }

  add(unit: Unit): void {
    this.#all.set(unit.key, unit)
    if (unit.phase !== 'unstarted') return
    const line = this.#lines.get(unit.nodeId)
    if (line === undefined) this.#lines.set(unit.nodeId, [unit])
    else line.push(unit)
  }

  line(nodeId: string): readonly Unit[] {
    return this.#lines.get(nodeId) ?? []
  }

  /** Whether tasks wait to be started. */
  get isAnyWaiting(): boolean {
    return this.#lines.size > 0
  }

  /** Nodes for which tasks wait. */
  waitedFor(): Iterable<string> {
    return this.#lines.keys()
  }

  /** Takes one out of its node's line, to be started. */
  takeAt(nodeId: string, index: number): Unit {
    const line = this.#lines.get(nodeId)!
    const [unit] = line.splice(index, 1)
    if (line.length === 0) this.#lines.delete(nodeId)
    return unit!
  }

  /** Puts some back that were taken out of the line, in front. */
  putBack(nodeId: string, units: readonly Unit[]): void {
    if (units.length === 0) return
    for (const unit of units) unit.phase = 'unstarted'
    this.#lines.set(nodeId, [...units, ...this.line(nodeId)])
  }

  forget(unit: Unit): void {
    this.#all.delete(unit.key)
    if (unit.phase !== 'unstarted') return
    const at = this.#lines.get(unit.nodeId)?.indexOf(unit) ?? -1
    if (at >= 0) this.takeAt(unit.nodeId, at)
  }

  /** Drops all that have not started, and returns them. */
  dropUnstarted(nodeId?: string): Unit[] {
    const dropped = nodeId === undefined ? [...this.#lines.values()].flat() : [...this.line(nodeId)]
    if (nodeId === undefined) this.#lines.clear()
    else this.#lines.delete(nodeId)
    for (const unit of dropped) this.#all.delete(unit.key)
    return dropped
  }

  all(): Iterable<Unit> {
    return this.#all.values()
  }

  /** Whether there is one of this job. */
  ofJob(jobUid: JobUid): boolean {
    for (const { attempt } of this.#all.values()) if (attempt.jobUid === jobUid) return true
    return false
  }

  get size(): number {
    return this.#all.size
  }

  /** How many have not begun, are on their way, and wait for their report's acknowledgement. */
  counts(): { unstartedTasks: number; runningTasks: number; unreportedTasks: number } {
    const count = { unstarted: 0, running: 0, finished: 0 }
    for (const { phase } of this.#all.values()) count[phase === 'unstarted' || phase === 'finished' ? phase : 'running'] += 1
    return { unstartedTasks: count.unstarted, runningTasks: count.running, unreportedTasks: count.finished }
  }

  inventory(): InventoryItem[] {
    const items: InventoryItem[] = []
    // One that is being ended is not named, so that the coordinator gives it to another machine.
    for (const { attempt, nodeId, phase, startTime, stopper } of this.#all.values())
      if (phase !== 'unstarted' && stopper?.isStopped !== true) items.push({ attempt, nodeId, state: phase, startTime })
    return items
  }
}
