/**
 * The worker: how this machine claims tasks, runs them and reports how they ended. A shell around the ledger (R1) and the
 * intake, which decide; the rooms in worker/ each keep one conversation with the coordinator.
 *
 *   grant --> unstarted --> fetching --> running --> uploading --> finished --> (acknowledged, forgotten)
 *               |  retract, end of the session            |
 *               +--> forgotten                             stop: ended, forgotten
 *
 * L5/L6, on outcomes: an outcome is reported in the same turn of the loop in which its row goes to the journal, not after
 * the row's fsync. A report is no promise of the machine's: if it arrives, the coordinator has the outcome on its own disk;
 * if it does not, a crash before the fsync loses as much as it would have with the report held back for that fsync. From
 * the fsync on, the outcome is reported after every restart until it is acknowledged.
 */
import { MeshError } from '../protocols/errors.ts'
import { type Attempt, attemptKey } from '../protocols/ids.ts'
import type { ClaimAnswer, Grant, Hello, JobBrief, Welcome } from '../protocols/leases.ts'
import type { MachineDescription } from '../protocols/model/machine.ts'
import { noDemand } from '../protocols/model/resources.ts'
import type { Outcome } from '../protocols/model/task.ts'
import { type Reservation, reservationTtlMs } from '../protocols/pools.ts'
import type { NodeFacts } from './environment.ts'
import { heldRetryMs } from './intake.ts'
import type { FindAttempt } from './ports.ts'
import { Claimer } from './worker/claimer.ts'
import { ComputeNodes } from './worker/compute-nodes.ts'
import type { Worker, WorkerOptions, WorkerStatus } from './worker/contract.ts'
import { cutOffTooLong, mayBeTakenBack } from './worker/cut-off.ts'
import { FunctionSeries } from './worker/function-series.ts'
import { readGrant } from './worker/grants.ts'
import { KeptJobs } from './worker/kept-jobs.ts'
import { Link } from './worker/link.ts'
import { nodeFacts } from './worker/node-facts.ts'
import { OfferListener } from './worker/offer-listener.ts'
import { ordersOf } from './worker/orders.ts'
import { reportable } from './worker/outcome-size.ts'
import { Refused } from './worker/refused.ts'
import { type LeaseSession, Reporter } from './worker/reporter.ts'
import { finderOf, runUnit } from './worker/unit-run.ts'
import { type Unit, Units } from './worker/units.ts'

export function createWorker(options: WorkerOptions): Worker {
  return new Shell(options)
}

class Shell implements Worker {
  readonly findAttempt: FindAttempt
  readonly #options: WorkerOptions
  readonly #now: () => number
  readonly #random: () => number
  readonly #units = new Units()
  readonly #nodes: ComputeNodes
  readonly #link: Link
  readonly #claimer: Claimer
  readonly #reporter: Reporter
  readonly #offers: OfferListener
  readonly #series: FunctionSeries
  readonly #briefs = new Map<number, JobBrief>()
  readonly #refused = new Refused()
  readonly #kept: KeptJobs
  #machine: MachineDescription // as it described itself at the last connection
  #claims = 0
  #draining = false
  #leaving = false
  #stopping = false
  #emptied: (() => void) | undefined

  constructor(options: WorkerOptions) {
    this.#options = options
    this.#now = options.now ?? Date.now
    this.#random = options.random ?? Math.random
    const { journal, log, wire, coordinator, directories } = options
    this.findAttempt = finderOf(this.#units, directories)
    const common = { meshId: options.meshId, now: this.#now, random: this.#random, log }
    this.#machine = options.machine()
    this.#kept = new KeptJobs(options, this.#units, this.#briefs)
    this.#reporter = new Reporter({ log, isBusy: () => this.#units.isAnyWaiting, verdict: (unit) => this.#acknowledged(unit) })
    this.#offers = new OfferListener(wire, options.meshId, (poolId) => {
      this.#nodes.unholdPool(poolId)
      this.#claimer.wake()
    })
    this.#nodes = new ComputeNodes({ lent: options.capacity, units: this.#units, journal, offers: this.#offers, now: this.#now, log })
    this.#claimer = new Claimer({
      ...common,
      plan: () => (this.#draining || this.#stopping ? [] : this.#nodes.plan()),
      answered: (answer) => this.#answered(answer),
      nextId: () => `${journal.remembered.incarnation}.${++this.#claims}`,
    })
    this.#link = new Link({
      ...common,
      wire,
      coordinator,
      hello: () => this.#hello(),
      welcomed: (session, welcome) => this.#welcomed(session, welcome),
      lost: () => this.#lost(),
      live: () => this.#pump(),
      removed: () => this.#removed(),
      handlers: ordersOf(log, {
        retract: (attempts) => this.#retract(attempts),
        reserve: (request) => this.#reserve(request),
        beat: (sentAt, heartbeatMs) => this.#link.beat(sentAt, heartbeatMs),
        grant: (grants, jobs) => this.#accept(grants, jobs),
        stop: (attempts, reason) => this.#stopped(attempts, reason),
        release: (reservationId, isNow) => this.#release(reservationId, isNow),
        forget: (jobUid) => this.#kept.remove(jobUid),
      }),
      tick: (now) => this.#tick(now),
      diskFreeMiB: () => options.machine().diskFreeMiB,
    })
    this.#series = new FunctionSeries({
      ...options,
      now: Date.now,
      units: this.#units,
      nodes: this.#nodes,
      facts: (unit) => this.#facts(unit),
      mayBegin: (nodeId) => this.#mayBegin(nodeId),
      started: (unit) => this.#reporter.started(unit),
      uploading: (unit) => this.#reporter.uploading(unit),
      finished: (unit, outcome) => this.#finish(unit, outcome),
      gone: (unit, isDropped) => {
        this.#forget(unit)
        if (isDropped && this.#draining) this.#giveBack([unit.attempt])
      },
      vacated: (nodeId) => this.#roomFor(nodeId),
    })
    // Outcomes that the last start of this machine left to report.
    for (const { attempt, nodeId, outcome } of journal.remembered.finished)
      this.#units.add({ key: attemptKey(attempt), attempt, nodeId, phase: 'finished', outcome, slots: 0, demand: noDemand, passed: 0 })
  }

  start(): void {
    this.#link.open()
  }

  // --- session ---------------------------------------------------------------------------------------------------

  #hello(): Hello {
    this.#reporter.inventoried()
    this.#machine = this.#options.machine()
    return {
      machine: this.#machine,
      incarnation: this.#options.journal.remembered.incarnation,
      inventory: this.#units.inventory(),
      reservations: this.#nodes.ledger.reservations(),
      ownerEpoch: this.#nodes.ledger.ownerEpoch,
      jobs: this.#kept.list(),
    }
  }

  async #welcomed(session: LeaseSession, welcome: Welcome): Promise<void> {
    const { ledger } = this.#nodes
    const known = ledger.ownerEpoch
    if (!ledger.obey(welcome.ownerEpoch))
      throw new MeshError(
        'CoordinatorExists',
        `The coordinator says owner epoch ${welcome.ownerEpoch}, but ${known} was obeyed: it is deposed.`,
      )
    if (welcome.ownerEpoch > known) await this.#options.journal.obeyed(welcome.ownerEpoch)
    if (session.isClosed) return
    const keep = new Set(welcome.keep.map(attemptKey))
    for (const unit of [...this.#units.all()])
      if (keep.has(unit.key)) this.#series.keep(unit)
      else if (unit.phase !== 'unstarted') this.#end(unit, 'the coordinator does not know it')
    // Ended between the hello and its answer: only a new inventory takes it out of the coordinator's books.
    const ended = welcome.keep.find((attempt) => !this.#units.has(attempt))
    if (ended !== undefined) return this.#link.renew(`${attemptKey(ended)} has been ended here`)
    this.#nodes.welcomed(welcome.nodes)
    this.#reporter.connect(session)
    for (const unit of this.#units.all()) if (unit.phase === 'finished') this.#reporter.finished(unit)
    if (this.#draining) session.note('draining', { returned: [], leaving: this.#leaving })
    else this.#claimer.connect(session)
  }

  /** L7: what has not started ends with the session; what runs goes on. */
  #lost(): void {
    this.#claimer.disconnect()
    this.#reporter.disconnect()
    this.#units.dropUnstarted()
    this.#series.drop()
    this.#refused.clear()
    this.#nodes.reap()
    this.#checkEmpty()
  }

  #removed(): void {
    for (const unit of [...this.#units.all()]) if (unit.phase !== 'finished') this.#end(unit, 'the machine was removed from the mesh')
    this.#nodes.releaseAll()
    this.#options.removed?.()
  }

  #tick(now: number): void {
    if (this.#link.session === undefined) {
      for (const unit of [...this.#units.all()])
        if (cutOffTooLong(unit, this.#link.contactAt, now)) this.#end(unit, 'the machine is cut off')
      if (now - this.#link.contactAt > reservationTtlMs) this.#nodes.releaseAll()
    } else if (this.#options.machine().mpi !== this.#machine.mpi) this.#link.renew('the MPI of the machine is known now')
    // A want that lapsed opens room.
    if (this.#nodes.ledger.lapse(now)) this.#claimer.poke()
  }

  async #reserve(request: Reservation): Promise<{ granted: boolean; draining: boolean; reason?: string }> {
    if (this.#draining) return { granted: false, draining: false, reason: 'the machine is going down' }
    return await this.#nodes.reserve(request).finally(() => this.#claimer.poke())
  }

  #release(reservationId: number, now: boolean): void {
    const nodeId = this.#nodes.release(reservationId)
    if (nodeId === undefined) return
    if (now)
      for (const unit of [...this.#units.all()])
        if (unit.nodeId === nodeId && unit.phase !== 'finished') this.#end(unit, 'its compute node is taken away')
    this.#nodes.reap()
    this.#claimer.poke()
  }

  // --- grants -----------------------------------------------------------------------------------------------------

  #answered(answer: ClaimAnswer): void {
    this.#nodes.hold(answer.held)
    if (answer.held.length > 0) setTimeout(() => this.#claimer.poke(), heldRetryMs).unref()
    this.#accept(answer.grants, answer.jobs)
  }

  #accept(grants: readonly Grant[], jobs: readonly JobBrief[]): void {
    for (const job of jobs) this.#briefs.set(job.jobUid, job)
    if (this.#draining) {
      // It crossed the word that nothing more is taken.
      if (grants.length > 0) this.#giveBack(grants.map(({ attempt }) => attempt))
      return
    }
    for (const grant of grants) this.#take(grant)
    this.#pump()
  }

  #take(grant: Grant): void {
    const { attempt, nodeId } = grant
    if (this.#refused.has(attempt) || this.#units.get(attempt) !== undefined) return
    const read = readGrant(grant, this.#briefs)
    // Only the coordinator can take a grant back, which it does at once when the next inventory does not have it (L6).
    if (read === undefined) return this.#link.renew(`the job of ${attemptKey(attempt)} was never named`)
    const { unit, failure } = read
    if (failure !== undefined) {
      this.#units.add(unit)
      const time = Date.now()
      return this.#finish(unit, { failureInfo: failure, startTime: time, endTime: time })
    }
    if (!this.#nodes.ledger.couldFit(nodeId, unit)) return this.#link.renew(`${unit.key} does not fit on ${nodeId}`)
    if (grant.gang !== undefined) this.#nodes.unhold(nodeId)
    this.#units.add(unit)
  }

  /** Starts what fits; nothing without a session (L7). */
  #pump(): void {
    for (const nodeId of [...this.#units.waitedFor()]) this.#pumpNode(nodeId)
  }

  #mayBegin(nodeId: string): boolean {
    if (this.#stopping || this.#link.session === undefined) return false
    if (!mayBeTakenBack(this.#units.line(nodeId), this.#link, this.#now())) return true
    this.#link.renew('it may have taken tasks back')
    return false
  }

  #pumpNode(nodeId: string): void {
    if (!this.#mayBegin(nodeId)) return
    for (let unit = this.#nodes.next(nodeId); unit !== undefined; unit = this.#nodes.next(nodeId)) this.#begin(unit)
  }

  // --- one attempt ------------------------------------------------------------------------------------------------

  #begin(unit: Unit): void {
    if (!this.#series.begin(unit)) unit.ended = this.#run(unit)
  }

  async #run(unit: Unit): Promise<void> {
    const begun = this.#now()
    const outcome = await runUnit(unit, {
      ...this.#options,
      now: Date.now,
      started: (one) => this.#reporter.started(one),
      uploading: (one) => this.#reporter.uploading(one),
      node: this.#facts(unit),
      ...this.#nodes.ledger.memoryOf(unit.nodeId, unit),
      vacated: () => {
        this.#nodes.vacated(unit, this.#now() - begun)
        this.#roomFor(unit.nodeId)
      },
    })
    if (outcome === undefined) this.#forget(unit)
    else this.#finish(unit, outcome)
  }

  #facts({ nodeId, work }: Unit): NodeFacts {
    return nodeFacts(this.#options, this.#machine, nodeId, work!.job)
  }

  #roomFor(nodeId: string): void {
    this.#pumpNode(nodeId)
    this.#nodes.reap()
    this.#claimer.poke()
  }

  #finish(unit: Unit, ended: Outcome): void {
    const outcome = reportable(ended)
    Object.assign(unit, { phase: 'finished', outcome } satisfies Partial<Unit>)
    void this.#options.journal.finished({ attempt: unit.attempt, nodeId: unit.nodeId, outcome }).catch(() => {})
    this.#reporter.finished(unit)
  }

  #acknowledged(unit: Unit): void {
    if (this.#units.get(unit.attempt) !== unit) return
    this.#options.journal.acknowledged(unit.attempt)
    this.#forget(unit)
  }

  #forget(unit: Unit): void {
    this.#reporter.forget(unit)
    this.#units.forget(unit)
    this.#kept.ended(unit)
    this.#checkEmpty()
  }

  /** Ends an attempt wherever it is in its life; nothing of it is reported. */
  #end(unit: Unit, reason: string): void {
    this.#options.log.info({ attempt: unit.attempt, phase: unit.phase, reason }, 'an attempt is ended')
    if (unit.phase === 'finished') this.#acknowledged(unit)
    else if (unit.phase === 'unstarted') this.#forget(unit)
    else unit.stopper?.stop(new MeshError('Aborted', reason))
  }

  #stopped(attempts: readonly Attempt[], reason: string): void {
    for (const attempt of attempts) {
      const unit = this.#units.get(attempt)
      if (unit === undefined) this.#refused.add(attempt)
      else this.#end(unit, reason)
    }
  }

  async #retract(attempts: readonly Attempt[]): Promise<{ retracted: Attempt[] }> {
    await this.#series.takeBack(attempts.map((attempt) => this.#units.get(attempt)).filter((unit) => unit !== undefined))
    return { retracted: attempts.filter((attempt) => this.#takeBack(attempt)) }
  }

  #takeBack(attempt: Attempt): boolean {
    const unit = this.#units.get(attempt)
    if (unit !== undefined && unit.phase !== 'unstarted') return false
    if (unit !== undefined) this.#units.forget(unit)
    this.#refused.add(attempt)
    this.#claimer.poke()
    return true
  }

  /** What was granted and will not begin here, because the machine is going down. */
  #giveBack(returned: Attempt[]): void {
    for (const attempt of returned) this.#refused.add(attempt)
    this.#link.session?.note('draining', { returned, leaving: this.#leaving })
  }

  // --- the end ----------------------------------------------------------------------------------------------------

  async drain(options: { leaving?: boolean; signal?: AbortSignal } = {}): Promise<void> {
    this.#draining = true
    this.#leaving = options.leaving ?? false
    this.#claimer.poke()
    this.#giveBack(this.#units.dropUnstarted().map((unit) => unit.attempt))
    this.#series.drop()
    if (this.#units.size === 0) return
    await new Promise<void>((resolve, reject) => {
      this.#emptied = resolve
      options.signal?.addEventListener('abort', () => reject(options.signal!.reason as Error), { once: true })
    })
  }

  #checkEmpty(): void {
    if (this.#units.size === 0) this.#emptied?.()
  }

  async stop(): Promise<void> {
    this.#stopping = true
    this.#offers.close()
    this.#units.dropUnstarted()
    const running = [...this.#units.all()].filter((unit) => unit.phase !== 'finished')
    for (const unit of running) unit.stopper?.stop(new MeshError('Aborted', 'The node is going down.'))
    for (const unit of running) await unit.ended
    await this.#series.end()
    // A coordinator that cannot dial this machine could not tell its end from a cut path, and would wait for it (L7).
    const returned = running.filter(({ phase }) => phase !== 'finished').map(({ attempt }) => attempt)
    if (returned.length > 0) this.#link.session?.note('draining', { returned, leaving: this.#leaving })
    await this.#link.close()
  }

  status(): WorkerStatus {
    const connected = this.#link.session !== undefined
    return { connected, draining: this.#draining, ...this.#units.counts(), reservations: this.#nodes.ledger.reservations() }
  }

  maxLagMs(): number {
    return this.#link.takeMaxLagMs()
  }
}
