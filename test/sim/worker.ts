/**
 * A worker's process, after node/worker.ts: the real ledger, intake and books of attempts; programs, the journal's disk
 * and the wire are simulated. A crash ends its programs and loses what the journal had not synced.
 */
import type { Effect } from '../../coordinator/events.ts'
import { heldRetryMs, pickNext } from '../../node/intake.ts'
import { Ledger } from '../../node/ledger.ts'
import { cutOffTooLong } from '../../node/worker/cut-off.ts'
import { type Unit, Units } from '../../node/worker/units.ts'
import { attemptKey } from '../../protocols/ids.ts'
import type { Hello, JobBrief, Verdict, Welcome } from '../../protocols/leases.ts'
import type { MachineDescription } from '../../protocols/model/machine.ts'
import { noDemand } from '../../protocols/model/resources.ts'
import { type Caller, call } from './call.ts'
import { checkCapacity } from './capacity.ts'
import { ClaimPlan } from './claim-plan.ts'
import { SimClaimer } from './claimer.ts'
import type { ClaimAnswer, WorkerEnd } from './coordinator.ts'
import { Failpoints } from './failpoints.ts'
import { SimJournal } from './journal.ts'
import type { Connection } from './network.ts'
import { outcomeOf, planOf } from './plan.ts'
import { Programs, type SimUnit } from './programs.ts'
import { SimReporter } from './reporter.ts'
import { heartbeatMs, inTouchMs, peerOf, silentBeats, suspendedMs, type WorkerParts } from './worker-parts.ts'
import { Process, Violation } from './world.ts'

export class SimWorker implements WorkerEnd {
  readonly peer: string
  readonly name: string
  readonly process: Process
  readonly failpoints = new Failpoints()
  readonly journal: SimJournal
  readonly #parts: WorkerParts
  readonly #description: MachineDescription
  readonly #skewMs: number
  readonly #claimer: SimClaimer
  readonly #reporter: SimReporter
  readonly #programs: Programs
  readonly #caller: Caller
  #units = new Units()
  #ledger!: Ledger
  #briefs = new Map<number, JobBrief>()
  #claims = new ClaimPlan()
  #refused = new Set<string>()
  #connection: Connection | undefined
  #live = false
  #draining = false
  #heardAt = 0
  #contactAt = 0

  constructor(parts: WorkerParts, name: string, description: MachineDescription, skewMs: number) {
    this.#parts = parts
    this.name = name
    this.peer = peerOf(name)
    this.#description = description
    this.#skewMs = skewMs
    this.process = new Process(parts.world)
    this.journal = new SimJournal(parts.world, this.process, this.failpoints)
    this.#caller = { ...parts, process: this.process, isCurrent: (connection) => this.#connection === connection }
    this.#programs = new Programs(parts.world, this.process, parts.gangs, name, {
      running: (unit) => {
        unit.phase = 'running'
        unit.startTime = this.#now()
        this.#reporter.started(unit)
      },
      ended: (unit, how) => this.#vacate(unit, how),
    })
    this.#claimer = new SimClaimer(parts.world, this.process, {
      plan: () => (this.#draining ? [] : this.#claims.plan(this.#ledger, this.#units, this.#now())),
      answered: (answer, connection) => this.#answered(answer, connection),
      call: (connection, body, answer) => call(this.#caller, connection, 'claim', body, body.waitMs + 30_000, answer),
      nextId: (n) => `${this.journal.incarnation}.${n}`,
    })
    this.#reporter = new SimReporter(this.process, this.failpoints, {
      verdict: (unit, verdict) => this.#verdict(unit as SimUnit, verdict),
      call: (connection, body, answer) => call(this.#caller, connection, 'report', body, 30_000, answer),
      note: (connection, note) => {
        const { number } = connection
        connection.send('up', () => parts.coordinator.post({ ...note, peer: this.peer, session: number }))
      },
    })
  }

  get isListening(): boolean {
    return this.process.isUp
  }

  /** By the worker's own clock. */
  #now(): number {
    return this.#parts.world.now + this.#skewMs
  }

  // --- life ------------------------------------------------------------------------------------------------------

  start(): void {
    this.process.begin()
    this.journal.open()
    this.#units = new Units()
    this.#briefs = new Map()
    this.#claims = new ClaimPlan()
    this.#draining = false
    this.#live = false
    this.#connection = undefined
    this.#contactAt = this.#heardAt = this.#now()
    const { capacity } = this.#description
    this.#ledger = new Ledger(this.#parts.planted.lends?.(capacity) ?? capacity, this.journal.ownerEpoch)
    for (const reservation of this.journal.reservations)
      if (!this.#ledger.restore(reservation)) this.journal.release(reservation.reservationId)
    for (const { attempt, nodeId, outcome } of this.journal.finished)
      this.#units.add({ key: attemptKey(attempt), attempt, nodeId, phase: 'finished', outcome, slots: 0, demand: noDemand, passed: 0 })
    this.#claimer.disconnect()
    this.#reporter.disconnect()
    this.#beatLater()
    this.process.later(this.#parts.world.between(1, 200), () => this.#connect())
  }

  crash(): void {
    for (const unit of this.#units.all()) if ('life' in unit) (unit as SimUnit).life.ended = true
    this.journal.crash()
    this.process.end()
    this.#connection?.died('worker')
    this.#connection = undefined
  }

  drain(leaving: boolean): void {
    this.process.reads(() => {
      this.#draining = true
      this.#claimer.poke()
      const returned = this.#units.dropUnstarted().map((unit) => unit.attempt)
      for (const attempt of returned) this.#refused.add(attemptKey(attempt))
      this.#sayDraining(returned, leaving)
    })
  }

  #sayDraining(returned: Unit['attempt'][], leaving: boolean): void {
    const connection = this.#connection
    if (connection === undefined || !this.#live) return
    const { peer } = this
    connection.send('up', () => this.#parts.coordinator.post({ kind: 'draining', peer, session: connection.number, returned, leaving }))
  }

  // --- session ---------------------------------------------------------------------------------------------------

  #connect(): void {
    if (this.#connection !== undefined) return
    const connection = this.#parts.coordinator.accept(this, () => this.#lost(connection))
    if (connection === undefined) return this.#connectLater()
    this.#connection = connection
    this.#reporter.inventoried()
    const hello: Hello = {
      machine: this.#description,
      incarnation: this.journal.incarnation,
      inventory: this.#units.inventory(),
      reservations: this.#ledger.reservations(),
      ownerEpoch: this.#ledger.ownerEpoch,
    }
    call(this.#caller, connection!, 'hello', hello, 30_000, (welcome) => this.#welcomed(connection!, welcome))
  }

  #connectLater(): void {
    this.process.later(this.#parts.world.between(200, 5000), () => this.#connect())
  }

  #welcomed(connection: Connection, welcome: Welcome | undefined): void {
    if (this.#connection !== connection) return
    if (welcome === undefined || !this.#ledger.obey(welcome.ownerEpoch)) return this.#renew()
    this.journal.obeyed(welcome.ownerEpoch)
    this.#contactAt = this.#heardAt = this.#now()
    // It ended by itself (cut off too long) after the inventory was made: the next inventory says so.
    if (welcome.keep.some((attempt) => !this.#isAlive(attempt))) return this.#renew()
    const keep = new Set(welcome.keep.map(attemptKey))
    for (const unit of [...this.#units.all()]) if (unit.phase !== 'unstarted' && !keep.has(unit.key)) this.#end(unit as SimUnit)
    const named = new Set(welcome.nodes.map((node) => node.reservationId))
    this.#ledger.nameDefault(welcome.nodes.find((node) => node.reservationId === 0)?.nodeId ?? '')
    for (const { reservationId } of this.#ledger.reservations()) if (!named.has(reservationId)) this.#ledger.release(reservationId)
    this.#claims.held.clear()
    this.#reap()
    this.#live = true
    this.#reporter.connect(connection)
    for (const unit of this.#units.all()) if (unit.phase === 'finished') this.#reporter.finished(unit)
    if (this.#draining) this.#sayDraining([], false)
    else this.#claimer.connect(connection)
    this.#pump()
  }

  #isAlive(attempt: Unit['attempt']): boolean {
    const unit = this.#units.get(attempt) as SimUnit | undefined
    return unit !== undefined && (unit.phase === 'finished' || !unit.life.ended)
  }

  /** L7: what has not started ends with the session; what runs goes on. */
  #lost(connection: Connection | undefined): void {
    if (connection === undefined || this.#connection !== connection) return
    this.#connection = undefined
    this.#live = false
    this.#claimer.disconnect()
    this.#reporter.disconnect()
    if (this.#parts.planted.keepsUnstarted !== true) this.#units.dropUnstarted()
    this.#refused.clear()
    this.#reap()
    this.#connectLater()
  }

  #renew(): void {
    const connection = this.#connection
    connection?.close('worker')
    this.#lost(connection)
  }

  #beatLater(): void {
    const due = this.#parts.world.now + heartbeatMs * 0.95
    this.process.later(heartbeatMs * 0.95, () => this.#beat(this.#parts.world.now - due))
  }

  #beat(lagMs: number): void {
    this.#beatLater()
    const now = this.#now()
    const connection = this.#connection
    this.#parts.oracle.beats(this.#units.all(), this.#live && now - this.#heardAt < inTouchMs)
    if (connection !== undefined && this.#live) {
      const { peer } = this
      if (lagMs > suspendedMs || now - this.#heardAt > heartbeatMs * silentBeats) this.#renew()
      else connection.send('up', () => this.#parts.coordinator.post({ kind: 'heartbeat', peer, session: connection.number, sentAt: now }))
    }
    if (!this.#live) for (const unit of [...this.#units.all()]) if (cutOffTooLong(unit, this.#contactAt, now)) this.#end(unit as SimUnit)
    if (this.#ledger.lapse(now)) this.#claimer.poke()
  }

  // --- what the coordinator says ------------------------------------------------------------------------------------

  beat(_connection: Connection, sentAt: number): void {
    this.#heardAt = this.#now()
    if (sentAt > this.#contactAt) this.#contactAt = sentAt
  }

  stop(_connection: Connection, { attempts }: Extract<Effect, { kind: 'stop' }>): void {
    for (const attempt of attempts) {
      const unit = this.#units.get(attempt)
      if (unit === undefined) this.#refused.add(attemptKey(attempt))
      else this.#end(unit as SimUnit)
    }
  }

  release(_connection: Connection, { reservationId }: Extract<Effect, { kind: 'release' }>): void {
    const node = this.#ledger.nodes().find((other) => other.reservationId === reservationId)
    this.#ledger.release(reservationId)
    if (node === undefined) return
    for (const unit of [...this.#units.all()]) if (unit.nodeId === node.nodeId && unit.phase !== 'finished') this.#end(unit as SimUnit)
    this.#reap()
    this.#claimer.poke()
  }

  reserve(connection: Connection, { reservation }: Extract<Effect, { kind: 'reserve' }>, answer: (granted: object) => void): void {
    const reply = (body: object) => connection.send('up', () => answer(body))
    if (this.#draining) return reply({ granted: false, draining: false, reason: 'the machine is going down' })
    const waiting = this.#units.line(this.#ledger.nodes().find((node) => node.reservationId === 0)?.nodeId ?? '')
    const { changed, ...body } = this.#ledger.reserve(reservation, this.#now(), waiting)
    checkCapacity(this.#description, this.#ledger, this.#units.all())
    if (changed) this.journal.reserve(reservation, () => reply(body))
    else reply(body)
    this.#claimer.poke()
  }

  retract(connection: Connection, { attempts }: Extract<Effect, { kind: 'retract' }>, answer: (retracted: object) => void): void {
    const retracted = attempts.filter((attempt) => {
      const unit = this.#units.get(attempt)
      if (unit !== undefined && unit.phase !== 'unstarted') return false
      if (unit !== undefined) this.#units.forget(unit)
      this.#refused.add(attemptKey(attempt))
      return true
    })
    this.#claimer.poke()
    connection.send('up', () => answer({ attempts: retracted }))
  }

  // --- grants -----------------------------------------------------------------------------------------------------

  /** An offer was heard. */
  offered(poolId: string): void {
    this.process.reads(() => {
      for (const node of this.#ledger.nodes()) if (node.poolId === poolId) this.#claims.held.delete(node.nodeId)
      this.#claimer.wake()
    })
  }

  #answered(answer: ClaimAnswer, connection: Connection): void {
    for (const nodeId of answer.held) this.#claims.held.set(nodeId, this.#now() + heldRetryMs)
    if (answer.held.length > 0) this.process.later(heldRetryMs, () => this.#claimer.poke())
    this.grant(connection, answer)
  }

  grant(connection: Connection, { grants, jobs }: ClaimAnswer): void {
    for (const job of jobs) this.#briefs.set(job.jobUid, job)
    if (this.#draining) {
      for (const { attempt } of grants) this.#refused.add(attemptKey(attempt))
      const returned = grants.map(({ attempt }) => attempt)
      return this.#sayDraining(returned, false)
    }
    for (const { attempt, nodeId, spec, gang } of grants) {
      const key = attemptKey(attempt)
      const job = this.#briefs.get(attempt.jobUid)
      if (this.#refused.has(key) || this.#units.get(attempt) !== undefined) continue
      if (job === undefined) return this.#renew()
      const need = { slots: spec.requiredSlots, demand: spec.resources ?? noDemand }
      if (!this.#ledger.couldFit(nodeId, need)) return this.#renew()
      if (gang !== undefined) this.#claims.held.delete(nodeId)
      const life = { ended: false }
      const work = { spec, job, gang: gang as NonNullable<Unit['work']>['gang'] }
      const unit: SimUnit = { key, attempt, nodeId, phase: 'unstarted', work, ...need, passed: 0, sessionNumber: connection.number, life }
      this.#units.add(unit)
    }
    this.#pump()
  }

  #pump(): void {
    for (const nodeId of [...this.#units.waitedFor()]) this.#pumpNode(nodeId)
  }

  #pumpNode(nodeId: string): void {
    for (;;) {
      const line = this.#units.line(nodeId)
      const room = line.length === 0 || !this.#live ? undefined : this.#ledger.room(nodeId)
      const index = room === undefined ? -1 : pickNext(line, room, this.#ledger.isDefault(nodeId))
      if (index < 0) return
      const unit = this.#units.takeAt(nodeId, index) as SimUnit
      if (!this.#ledger.start(unit.key, nodeId, unit)) throw new Violation(`R1: ${unit.key} was taken but does not fit on ${nodeId}`)
      this.#begin(unit)
    }
  }

  // --- programs ---------------------------------------------------------------------------------------------------

  #begin(unit: SimUnit): void {
    if (this.#connection?.number !== unit.sessionNumber)
      throw new Violation(`L7: ${unit.key} starts on ${this.name} though its session (${unit.sessionNumber}) has ended`)
    checkCapacity(this.#description, this.#ledger, this.#units.all())
    unit.phase = 'fetching'
    this.#programs.start(unit)
  }

  #vacate(unit: SimUnit, how: number | 'member lost'): void {
    const endTime = this.#now()
    this.#ledger.end(unit.key, unit.nodeId)
    this.#claims.ran(unit.nodeId, endTime - unit.startTime!)
    unit.phase = 'uploading'
    this.#reporter.uploading(unit)
    this.#programs.next(unit, planOf(unit.work!.spec).uploadMs, () => {
      unit.phase = 'finished'
      unit.outcome = outcomeOf(how, unit.startTime!, endTime)
      this.journal.keep({ attempt: unit.attempt, nodeId: unit.nodeId, outcome: unit.outcome })
      this.#reporter.finished(unit)
    })
    this.#pumpNode(unit.nodeId)
    this.#reap()
    this.#claimer.poke()
  }

  #verdict(unit: SimUnit, _verdict: Verdict): void {
    if (this.#units.get(unit.attempt) !== unit) return
    this.journal.acknowledge(unit.attempt)
    this.#forget(unit)
  }

  /** Ends an attempt wherever it is in its life; nothing of it is reported. */
  #end(unit: SimUnit): void {
    if (unit.phase === 'finished') return this.#verdict(unit, 'refused')
    if (unit.phase === 'unstarted') return this.#forget(unit)
    if (unit.life.ended) return
    unit.life.ended = true
    // Its processes take a while to die, and hold their room until then.
    this.process.later(this.#parts.world.between(1, 1500), () => this.#dead(unit))
  }

  #dead(unit: SimUnit): void {
    this.#ledger.end(unit.key, unit.nodeId)
    this.#forget(unit)
    this.#pumpNode(unit.nodeId)
    this.#reap()
    this.#claimer.poke()
  }

  #forget(unit: SimUnit): void {
    this.#reporter.forget(unit)
    this.#units.forget(unit)
  }

  #reap(): void {
    for (const id of this.#ledger.reap((nodeId) => this.#units.line(nodeId).length > 0)) this.journal.release(id)
  }
}
