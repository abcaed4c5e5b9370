/**
 * The coordinator's process: the real step and endTurn, and a shell like the real one around them. The events of a turn
 * are stepped through together, their rows become one batch, and only when that is on the disk are the other effects
 * performed. A crash loses the batch under way or only what was to be performed after it.
 */
import { tickMs } from '../../coordinator/clock.ts'
import type { Effect, Event, GrantRef } from '../../coordinator/events.ts'
import { endTurn, step } from '../../coordinator/machine.ts'
import { jobKey, taskPrefixes } from '../../coordinator/rows.ts'
import type { State } from '../../coordinator/state.ts'
import { attemptKey, type JobUid } from '../../protocols/ids.ts'
import type { Claim, Hello, JobBrief, Report, Verdict, Welcome } from '../../protocols/leases.ts'
import type { TaskSpec } from '../../protocols/model/task.ts'
import { type Batch, gather, type Rows, readTaskSpec, restoreFrom } from '../support/rows.ts'
import { sanityCheck } from '../support/sanity.ts'
import { CrashDisk } from '../support/stores/crash-disk.ts'
import { Failpoints } from './failpoints.ts'
import { Connection, type Network } from './network.ts'
import type { Oracle } from './oracle.ts'
import type { Planted } from './planted.ts'
import { Process, type World } from './world.ts'

export const coordinatorPeer = 'peer-of-coordinator'

export type FullGrant = GrantRef & { spec: TaskSpec }
export interface ClaimAnswer {
  grants: FullGrant[]
  jobs: JobBrief[]
  held: string[]
}

export interface Calls {
  hello: { body: Hello; answer: Welcome }
  claim: { body: Claim; answer: ClaimAnswer }
  report: { body: Report[]; answer: { verdicts: Verdict[] } }
}

/** What a worker understands; the world's wire calls it in the worker's process. */
export interface WorkerEnd {
  readonly peer: string
  readonly isListening: boolean
  offered(poolId: string): void
  grant(connection: Connection, answer: ClaimAnswer): void
  stop(connection: Connection, effect: Extract<Effect, { kind: 'stop' }>): void
  beat(connection: Connection, sentAt: number): void
  release(connection: Connection, effect: Extract<Effect, { kind: 'release' }>): void
  reserve(connection: Connection, effect: Extract<Effect, { kind: 'reserve' }>, answer: (granted: object) => void): void
  retract(connection: Connection, effect: Extract<Effect, { kind: 'retract' }>, answer: (retracted: object) => void): void
}

type Reply = (effect: Extract<Effect, { kind: 'answer' | 'refuse' | 'grants' }>) => void
type Gathering = { batch: Batch; effects: Effect[] }

export class SimCoordinator {
  readonly process: Process
  readonly failpoints = new Failpoints()
  readonly #disk = new CrashDisk()
  state!: State
  readonly #world: World
  readonly #network: Network
  readonly #oracle: Oracle
  readonly #planted: Planted
  readonly #workers = new Map<string, WorkerEnd>()
  #sessions = new Map<string, Connection>()
  #replies = new Map<number, Reply>()
  #lastReply = 0
  #lastSession = 0
  #inbox: Event[] = []
  #scheduled = false
  #gathering: Gathering = { batch: new Map(), effects: [] }
  #underWay: Gathering | undefined
  /** Rows have changed since the memory was last checked. */
  #wrote = false

  constructor(world: World, network: Network, oracle: Oracle, planted: Planted) {
    this.process = new Process(world)
    this.#world = world
    this.#network = network
    this.#oracle = oracle
    this.#planted = planted
  }

  /** What is on the disk, whatever happens. */
  get disk(): Rows {
    return this.#disk.durable
  }

  knows(worker: WorkerEnd): void {
    this.#workers.set(worker.peer, worker)
  }

  start(): void {
    this.process.begin()
    this.state = restoreFrom(this.disk, coordinatorPeer, this.#world.now)
    this.#planted.restored?.(this.state, this.disk)
    sanityCheck(this.state)
    this.#oracle.started(this.#world.now)
    this.#sessions = new Map()
    this.#replies = new Map()
    this.#inbox = []
    this.#scheduled = false
    this.#gathering = { batch: new Map(), effects: [] }
    this.#underWay = undefined
    this.#tickLater()
    this.failpoints.pass('coordinator.boot.claimed')
  }

  crash(): void {
    const world = this.#world
    // The batch under way may have reached the disk, without anyone having been told.
    const lost = this.#planted.tearsBatches ? tear(this.#disk, world) : this.#disk.crash(world.random())
    if (lost.length > 0 || this.#gathering.batch.size > 0) world.faults.lostRows += 1
    this.process.end()
    for (const peer of this.#workers.keys()) for (const connection of this.#network.of(peer)) connection.died('coordinator')
    this.#oracle.crashed(this.disk)
  }

  // --- connections -----------------------------------------------------------------------------------------------

  /** A worker's connection; undefined when nobody listens. */
  accept(worker: WorkerEnd & { process: Process }, lost: () => void): Connection | undefined {
    if (!this.process.isUp || this.#network.isPartitioned(worker.peer)) return undefined
    this.#lastSession += 1
    const ends = { worker: worker.process, coordinator: this.process }
    const connection: Connection = new Connection(this.#network, this.#lastSession, worker.peer, ends, {
      worker: lost,
      coordinator: () => this.#disconnected(connection),
    })
    this.#network.add(connection)
    return connection
  }

  /** A worker's call, as it arrives. */
  call<K extends keyof Calls>(
    connection: Connection,
    kind: K,
    body: Calls[K]['body'],
    answer: (value: Calls[K]['answer'] | undefined) => void,
  ): void {
    const from = { peer: connection.peer, session: connection.number }
    const replyTo = this.#expect((effect) => {
      const value = effect.kind === 'answer' ? effect.body : effect.kind === 'grants' ? this.#filled(effect) : undefined
      if (kind === 'hello' && value !== undefined) this.#welcomed(connection)
      if (kind === 'report') this.#oracle.verdicts(body as Report[], (value as Calls['report']['answer'] | undefined)?.verdicts, this.disk)
      connection.send('down', () => answer(value as Calls[K]['answer'] | undefined))
    })
    if (kind === 'hello') this.post({ kind: 'hello', replyTo, ...from, roles: ['worker'], hello: body as Hello })
    else if (kind === 'claim') this.post({ kind: 'claim', replyTo, ...from, claim: body as Claim })
    else this.post({ kind: 'report', replyTo, ...from, reports: body as Report[] })
  }

  /** A submitter's request; `answer` is not called when the process dies first. */
  ask(event: (replyTo: number) => Event, answer: (effect: Extract<Effect, { kind: 'answer' | 'refuse' }>) => void): void {
    this.process.reads(() => this.post(event(this.#expect(answer as Reply))))
  }

  #expect(reply: Reply): number {
    this.#lastReply += 1
    this.#replies.set(this.#lastReply, reply)
    return this.#lastReply
  }

  #welcomed(connection: Connection): void {
    const older = this.#sessions.get(connection.peer)
    this.#sessions.set(connection.peer, connection)
    if (older !== connection) older?.close('coordinator')
    if (!connection.coordinatorOpen) this.#disconnected(connection)
  }

  #disconnected(connection: Connection): void {
    const { peer, number } = connection
    if (this.#sessions.get(peer) !== connection) return
    this.#sessions.delete(peer)
    this.post({ kind: 'gone', peer, session: number, dead: false })
    // A dead process is not a partition: its machine answers that nobody listens (L7).
    this.process.later(this.#world.between(5, 50), () => {
      if (this.#network.isPartitioned(peer) || this.#workers.get(peer)!.isListening) return
      this.post({ kind: 'gone', peer, session: number, dead: true })
    })
  }

  // --- turns -----------------------------------------------------------------------------------------------------

  #tickLater(): void {
    this.process.later(tickMs, () => {
      this.post({ kind: 'tick' })
      this.#tickLater()
    })
  }

  post(event: Event): void {
    this.#inbox.push(event)
    if (this.#scheduled) return
    this.#scheduled = true
    this.process.later(0, () => this.#turn())
  }

  #turn(): void {
    this.#scheduled = false
    const { now } = this.#world
    const events = this.#inbox
    this.#inbox = []
    for (const event of events) {
      const seen = this.#planted.event?.(event, this.state) ?? event
      this.#oracle.before(seen, this.state, now)
      const effects = step(this.state, seen, now)
      this.#gather(this.#planted.effects?.(effects, seen, this.state) ?? effects)
      this.#oracle.after(seen, now)
    }
    const effects = endTurn(this.state, now)
    this.#gather(this.#planted.effects?.(effects, undefined, this.state) ?? effects)
    // Most turns are heartbeats, after which there is nothing new to check.
    if (this.#wrote) sanityCheck(this.state)
    this.#wrote = false
    this.#oracle.gangs.turned(this.state)
    this.#flush()
  }

  #gather(effects: readonly Effect[]): void {
    this.#oracle.steps(effects, this.disk)
    gather(this.#gathering.batch, effects)
    for (const effect of effects)
      if (effect.kind === 'put' || effect.kind === 'del') this.#wrote = true
      else if (effect.kind !== 'log') this.#gathering.effects.push(effect)
  }

  #flush(): void {
    if (this.#underWay !== undefined) return
    const gathered = this.#gathering
    if (gathered.batch.size === 0 && gathered.effects.length === 0) return
    this.#gathering = { batch: new Map(), effects: [] }
    this.#underWay = gathered
    if (this.#planted.speaksFirst) this.#perform(gathered.effects)
    if (gathered.batch.size > 0) {
      this.failpoints.pass('coordinator.batch.writing')
      this.#oracle.writes(gathered.batch, this.disk)
      this.#disk.write(gathered.batch)
    }
    this.process.later(gathered.batch.size === 0 ? 0 : this.#writeMs(), () => {
      this.#synced(gathered)
      this.#underWay = undefined
      if (!this.#planted.speaksFirst) this.#perform(gathered.effects)
      this.failpoints.pass('coordinator.batch.performed')
      this.#flush()
    })
  }

  /** A disk that tears batches is a slow one: so a crash finds one under way. */
  #writeMs(): number {
    return this.#planted.tearsBatches ? this.#world.between(50, 300) : this.#world.between(1, 15)
  }

  #synced({ batch }: Gathering): void {
    if (batch.size === 0) return
    if (!this.#planted.skipsSync) this.#disk.sync()
    this.failpoints.pass('coordinator.batch.synced')
  }

  /** Row by row in the background, and the job's own row last: a start that finds it goes on. */
  #purge(uid: JobUid): void {
    this.failpoints.pass('coordinator.purge.begun')
    const prefixes = taskPrefixes(uid)
    const rows = this.#disk.keys().filter((key) => prefixes.some((prefix) => key.startsWith(prefix)))
    const own = [jobKey(uid)]
    const [first, last] = this.#planted.purgesJobFirst ? [own, rows] : [rows, own]
    for (const key of first) this.#disk.write(new Map([[key, undefined]]))
    this.process.later(this.#world.between(1, 500), () => {
      this.failpoints.pass('coordinator.purge.cleared')
      for (const key of last) this.#disk.write(new Map([[key, undefined]]))
      this.process.later(this.#world.between(1, 10), () => this.#disk.sync())
    })
  }

  // --- effects ---------------------------------------------------------------------------------------------------

  #perform(effects: readonly Effect[]): void {
    this.#oracle.performs(effects, this.disk)
    for (const effect of effects) {
      this.#do(effect)
      this.failpoints.pass('coordinator.effect.performed')
    }
  }

  #do(effect: Effect): void {
    switch (effect.kind) {
      case 'answer':
      case 'refuse':
        return this.#reply(effect.replyTo, effect)
      case 'grants':
        if (effect.replyTo !== undefined) return this.#reply(effect.replyTo, effect)
        return this.#tell(effect.peer, (worker, connection) => worker.grant(connection, this.#filled(effect)))
      case 'purge':
        return this.#purge(effect.jobUid)
      case 'beat':
        return this.#tell(effect.peer, (worker, connection) => worker.beat(connection, effect.sentAt))
      case 'stop':
        return this.#tell(effect.peer, (worker, connection) => worker.stop(connection, effect))
      case 'release':
        return this.#tell(effect.peer, (worker, connection) => worker.release(connection, effect))
      case 'reserve': {
        const { peer, reservation } = effect
        return this.#tell(peer, (worker, connection) =>
          worker.reserve(connection, effect, (answer) =>
            this.post({
              kind: 'reserved',
              peer,
              reservationId: reservation.reservationId,
              ...(answer as { granted: boolean; draining: boolean }),
            }),
          ),
        )
      }
      case 'put':
      case 'del':
      case 'changed':
      case 'log':
      case 'forget':
        // Rows were written, the oracle watches for everyone, and task directories are not simulated.
        return
      case 'offer':
        // G1: gossip gets lost.
        for (const worker of this.#workers.values())
          if (this.#world.chance(0.7)) this.#world.after(this.#world.between(1, 100), () => worker.offered(effect.poolId))
        return
      case 'retract': {
        const { peer } = effect
        return this.#tell(peer, (worker, connection) =>
          worker.retract(connection, effect, (answer) =>
            this.post({ kind: 'retracted', peer, session: connection.number, ...(answer as { attempts: [] }) }),
          ),
        )
      }
    }
  }

  #reply(replyTo: number, effect: Extract<Effect, { kind: 'answer' | 'refuse' | 'grants' }>): void {
    const reply = this.#replies.get(replyTo)
    this.#replies.delete(replyTo)
    reply?.(effect)
  }

  #tell(peer: string, act: (worker: WorkerEnd, connection: Connection) => void): void {
    const connection = this.#sessions.get(peer)
    const worker = this.#workers.get(peer)!
    connection?.send('down', () => act(worker, connection))
  }

  /** Grants with their specs from the disk; one whose job is deleted meanwhile is left out. */
  #filled(effect: Extract<Effect, { kind: 'grants' }>): ClaimAnswer {
    const grants: FullGrant[] = []
    for (const ref of effect.grants) {
      const spec = readTaskSpec(this.disk, ref.attempt.jobUid, ref.attempt.task)
      if (spec !== undefined) grants.push({ ...ref, spec })
      else this.#world.say(`no spec for ${attemptKey(ref.attempt)}`)
    }
    return { grants, jobs: effect.jobs, held: effect.held }
  }
}

/** A disk that keeps some rows of a batch and loses others. */
function tear(disk: CrashDisk, world: World): readonly unknown[] {
  const lost = disk.crash(world.random())
  const [first] = lost
  if (first !== undefined) disk.write(new Map([...first].filter(() => world.chance(0.5))))
  disk.sync()
  return lost
}
