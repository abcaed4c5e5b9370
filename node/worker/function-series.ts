/**
 * Slots in which functions follow each other. A task that is nothing but a function (function-call.ts) takes a slot and a
 * thread, and the thread then gets the next tasks of its node's line as long as they are of the same kind: as many ahead
 * as it calls in some 20 ms, so that it never waits for the node. Order and room are what they would be one by one.
 *
 * What is with a thread and has not begun can be taken back, exactly: it then stands in front of the line again, or is
 * dropped where it must not begin any more (L7).
 */
import type { Outcome } from '../../protocols/model/task.ts'
import { type NodeFacts, sharedEnvironment } from '../environment.ts'
import { callsAhead, nextMean } from '../intake.ts'
import type { Seat, Series, ThreadExecutor } from '../ports.ts'
import { heapOf } from '../task-failure.ts'
import type { ComputeNodes } from './compute-nodes.ts'
import { type CallEnds, type CallParts, FunctionCall, isPlain } from './function-call.ts'
import type { Unit, Units } from './units.ts'

export interface SeriesParts extends CallParts {
  threads: ThreadExecutor
  units: Units
  nodes: ComputeNodes
  facts: (unit: Unit) => NodeFacts
  /** Whether tasks of a node may begin now. */
  mayBegin: (nodeId: string) => boolean
  finished(unit: Unit, outcome: Outcome): void
  /** It was stopped or dropped: nothing of it is wanted any more. */
  gone(unit: Unit, isDropped: boolean): void
  /** A slot is free. */
  vacated: (nodeId: string) => void
}

export class FunctionSeries {
  readonly #parts: SeriesParts
  readonly #slots = new Set<Slot>()
  readonly #calls = new Map<Unit, FunctionCall>()
  #emptied: (() => void) | undefined

  constructor(parts: SeriesParts) {
    this.#parts = parts
  }

  /** Takes a task that has just got a slot, if it is one for a series. */
  begin(unit: Unit): boolean {
    if (unit.isAlone === true || !isPlain(unit.work!)) return false
    const slot = new Slot(this.#parts, this.#calls, unit, () => {
      this.#slots.delete(slot)
      if (this.#slots.size === 0) this.#emptied?.()
    })
    this.#slots.add(slot)
    return true
  }

  /** Has those of these returned that have not begun; resolves when it is known which have. */
  async takeBack(units: readonly Unit[]): Promise<void> {
    const fetching = units.filter(({ phase }) => phase === 'fetching')
    const calls = fetching.map((unit) => this.#calls.get(unit)).filter((call) => call !== undefined)
    for (const call of calls) call.settled ??= Promise.withResolvers()
    for (const slot of this.#slots) slot.takeBack(calls)
    for (const { settled } of calls) await settled?.promise
  }

  /** The session has ended, or the machine takes no more: what has not begun is dropped (L7). */
  drop(): void {
    const calls = [...this.#calls.values()].filter(({ unit }) => unit.phase === 'fetching')
    for (const call of calls) call.isDropped = true
    for (const slot of this.#slots) slot.takeBack(calls)
  }

  /** The coordinator keeps the lease of one that was to be dropped. */
  keep(unit: Unit): void {
    const call = this.#calls.get(unit)
    if (call !== undefined) call.isDropped = false
  }

  /** Resolves when nothing of it runs any more. */
  async end(): Promise<void> {
    if (this.#slots.size === 0) return
    await new Promise<void>((resolve) => {
      this.#emptied = resolve
    })
  }
}

/** A slot of a node, and its thread. */
class Slot implements CallEnds {
  readonly #parts: SeriesParts
  readonly #calls: Map<Unit, FunctionCall>
  readonly #closed: () => void
  /** The slot is entered in the ledger under its key; all others are of its kind. */
  readonly #first: Unit
  readonly #handed = new Set<FunctionCall>()
  #returned: FunctionCall[] = []
  #seat: Seat | undefined
  #series: Series | undefined
  #isSettling = false
  /** Calls that ended since the last look, and how long they took together. */
  #ended = 0
  #ranMs = 0
  #meanCallMs: number | undefined

  constructor(parts: SeriesParts, calls: Map<Unit, FunctionCall>, first: Unit, closed: () => void) {
    this.#parts = parts
    this.#calls = calls
    this.#first = first
    this.#closed = closed
    void this.#open()
  }

  async #open(): Promise<void> {
    const { threads, directories, nodes, facts } = this.#parts
    const unit = this.#first
    const { spec, job } = unit.work!
    const opening = new AbortController()
    unit.phase = 'fetching'
    unit.stopper = {
      isStopped: false,
      stop(reason) {
        Object.assign(this, { isStopped: true })
        opening.abort(reason)
      },
    }
    let error: unknown
    try {
      directories.openJob(unit.attempt.jobUid, job.jobId)
      this.#seat = await threads.seat(job)
      opening.signal.throwIfAborted()
      const common = job.commonEnvironmentSettings
      const { memoryMiB, memory } = nodes.ledger.memoryOf(unit.nodeId, unit)
      const request = {
        thread: spec.thread!,
        heapMiB: heapOf(spec.thread!, memoryMiB),
        memory,
        env: sharedEnvironment(facts(unit), job),
        ...(common === undefined ? {} : { common }),
      }
      this.#series = await this.#seat.series(request, opening.signal)
    } catch (reason) {
      error = reason
    }
    const call = this.#enter(unit)
    if (opening.signal.aborted) {
      call.isStopped = true
      call.failed(opening.signal.reason)
    } else if (error !== undefined) call.failed(error)
    else if (!this.#hand([call])) call.returned()
  }

  #enter(unit: Unit): FunctionCall {
    const call = new FunctionCall(unit, this.#seat?.owner, this.#parts, this)
    unit.phase = 'fetching'
    unit.stopper = call
    this.#calls.set(unit, call)
    this.#handed.add(call)
    return call
  }

  /** False if the process is gone: its end tells of what it had. */
  #hand(calls: readonly FunctionCall[]): boolean {
    try {
      this.#series!.add(calls)
      return true
    } catch {
      this.#series = undefined
      return false
    }
  }

  takeBack(calls: readonly FunctionCall[]): void {
    this.#series?.takeBack(calls.filter((call) => this.#handed.has(call)))
  }

  stop(call: FunctionCall): void {
    this.#series?.stop(call)
  }

  vacated(call: FunctionCall, ranMs: number): void {
    this.#handed.delete(call)
    this.#ended += 1
    this.#ranMs += ranMs
    this.#meanCallMs = nextMean(this.#meanCallMs, ranMs)
    this.#settle()
  }

  over(call: FunctionCall, outcome: Outcome | undefined): void {
    this.#calls.delete(call.unit)
    call.unit.stopper = undefined
    if (outcome === undefined) this.#parts.gone(call.unit, false)
    else this.#parts.finished(call.unit, outcome)
  }

  returned(call: FunctionCall): void {
    this.#handed.delete(call)
    this.#returned.push(call)
    this.#settle()
  }

  /** Once a turn of the loop: what came back goes where it belongs, and the thread gets more. */
  #settle(): void {
    if (this.#isSettling) return
    this.#isSettling = true
    setImmediate(() => {
      this.#isSettling = false
      const returned = this.#returned
      this.#returned = []
      this.#putBack(returned)
      // Who asked for them is to have them before they go to a thread again.
      if (returned.some(({ settled }) => settled !== undefined)) return this.#settle()
      this.#count()
      this.#refill()
      if (this.#handed.size === 0) this.#close()
    })
  }

  #putBack(returned: readonly FunctionCall[]): void {
    const back: Unit[] = []
    for (const call of returned) {
      const { unit } = call
      this.#calls.delete(unit)
      unit.stopper = undefined
      if (call.isStopped || call.isDropped) this.#parts.gone(unit, call.isDropped)
      else back.push(unit)
    }
    this.#parts.units.putBack(this.#first.nodeId, back)
    for (const { settled } of returned) settled?.resolve()
  }

  /** How long those that ended had the slot: without the gaps, or what waits for the coordinator would ask for less and less ahead. */
  #count(): void {
    if (this.#ended === 0) return
    this.#parts.nodes.ran(this.#first.nodeId, this.#ranMs / this.#ended, this.#ended)
    this.#ended = 0
    this.#ranMs = 0
  }

  #refill(): void {
    const { units, mayBegin } = this.#parts
    const { nodeId } = this.#first
    if (this.#series === undefined || !mayBegin(nodeId)) return
    const most = this.#series.isAlone() ? 1 : callsAhead(this.#meanCallMs)
    // Half of it at a time: fewer and larger frames.
    if (this.#handed.size * 2 > most) return
    const more: FunctionCall[] = []
    while (this.#handed.size < most) {
      const next = units.line(nodeId)[0]
      if (next === undefined || !isSameKind(next, this.#first)) break
      more.push(this.#enter(units.takeAt(nodeId, 0)))
    }
    if (more.length > 0 && !this.#hand(more)) for (const call of more) this.returned(call)
  }

  #close(): void {
    const { nodes, vacated } = this.#parts
    this.#closed()
    this.#seat?.release()
    nodes.ledger.end(this.#first.key, this.#first.nodeId)
    vacated(this.#first.nodeId)
  }
}

/** Whether a task can follow another in its slot and thread. */
function isSameKind(unit: Unit, first: Unit): boolean {
  const [work, other] = [unit.work!, first.work!]
  if (unit.isAlone === true || work.job !== other.job || !isPlain(work)) return false
  const [one, two] = [work.spec.thread!, other.spec.thread!]
  const isSameFunction =
    one.module === two.module && one.name === two.name && one.export === two.export && one.maxHeapMiB === two.maxHeapMiB
  const [need, room] = [unit.demand, first.demand]
  const isSameNeed = need.cores === room.cores && need.memoryMiB === room.memoryMiB && need.gpus === room.gpus
  return isSameFunction && isSameNeed && unit.slots === first.slots
}
