/**
 * A coordinator's core on a stage: machines, jobs and time are moved by short calls, each of which answers what came
 * out, one line an effect. Rows go to a map, from which `restart` makes the memory anew. The memory is checked after
 * each event.
 */

import { tickMs } from '../../coordinator/clock.ts'
import type { ControlEvent, Effect, Event } from '../../coordinator/events.ts'
import { endTurn, step } from '../../coordinator/machine.ts'
import { newState } from '../../coordinator/make-state.ts'
import { meshKey } from '../../coordinator/rows.ts'
import type { State } from '../../coordinator/state.ts'
import { encode } from '../../protocols/codec.ts'
import type { Attempt } from '../../protocols/ids.ts'
import type { InventoryItem } from '../../protocols/leases.ts'
import { type JobSpecInput, jobSpecSchema } from '../../protocols/model/job.ts'
import type { MachineDescription } from '../../protocols/model/machine.ts'
import { type PoolSpecInput, poolSpecSchema } from '../../protocols/model/pool.ts'
import { type Outcome, type TaskSpecInput, taskSpecSchema } from '../../protocols/model/task.ts'
import { type TaskArrayInput, taskArraySchema } from '../../protocols/model/task-array.ts'
import type { Reservation } from '../../protocols/pools.ts'
import { apply, type Batch, fixedChance, gather, newMesh, purgeRows, type Rows, readStatus, readTaskSpec, restoreFrom } from './rows.ts'
import { sanityCheck } from './sanity.ts'
import { showEffects } from './show.ts'

const self = 'peer-coordinator'
const heartbeatMs = 5000

export type TaskInput = string | (Partial<TaskSpecInput> & { id: string })

export interface HelloInput extends Partial<Pick<MachineDescription, 'class' | 'labels' | 'features' | 'mpi' | 'fabrics' | 'addresses'>> {
  cores?: number
  incarnation?: number
  inventory?: { attempt: string; state?: InventoryItem['state']; nodeId?: string; startTime?: number }[]
  ownerEpoch?: number
  /** Compute nodes that the machine says it has; default those it granted on this stage. */
  reservations?: Reservation[]
  /** Jobs whose files it keeps, by uid. */
  jobs?: number[]
}

export class Scene {
  state: State
  now = 1_000_000
  readonly rows: Rows = new Map()
  /** Effects of the last call, as they came. */
  effects: Effect[] = []
  /** Sees each event with what came of it, and what the end of a turn brings, without one. */
  onStep: (event: Event | undefined, effects: readonly Effect[]) => void = () => {}
  readonly #sessions = new Map<string, number>()
  readonly #incarnations = new Map<string, number>()
  readonly #described = new Map<string, HelloInput>()
  readonly #silent = new Set<string>()
  readonly #granted = new Map<string, Map<number, Reservation>>()
  #lastSession = 0
  #replyTo = 0
  #claims = 0
  #beatAt = 0

  constructor() {
    const mesh = newMesh()
    this.state = newState(self, mesh, this.now, fixedChance)
    apply(this.rows, new Map([[meshKey, encode(mesh)]]))
  }

  // --- one event ------------------------------------------------------------------------------------------------

  do(event: Event): string[] {
    this.effects = this.#turn([event])
    return showEffects(this, this.effects)
  }

  /** Several events of one turn. */
  #turn(events: Event[]): Effect[] {
    const effects = events.flatMap((event) => {
      const own = step(this.state, event, this.now)
      this.onStep(event, own)
      return own
    })
    const last = endTurn(this.state, this.now)
    this.onStep(undefined, last)
    effects.push(...last)
    const batch: Batch = new Map()
    gather(batch, effects)
    apply(this.rows, batch)
    for (const effect of effects) if (effect.kind === 'purge') purgeRows(this.rows, effect.jobUid)
    sanityCheck(this.state)
    return effects
  }

  next(): number {
    this.#replyTo += 1
    return this.#replyTo
  }

  // --- machines -------------------------------------------------------------------------------------------------

  peer(name: string): string {
    return `peer-machine-${name}`
  }

  nameOf(peer: string): string {
    return peer.replace('peer-machine-', '')
  }

  /** The default pool's node of a machine. */
  nodeOf(name: string): string {
    return `tvm-${this.peer(name).slice(-12).toLowerCase()}`
  }

  /** A machine connects, or connects again; what is not said is as it was. */
  hello(name: string, input: HelloInput = {}): string[] {
    const known = { ...this.#described.get(name), ...input }
    const { cores, labels, features, mpi, fabrics, addresses } = known
    this.#described.set(name, { cores, class: known.class, labels, features, mpi, fabrics, addresses })
    const incarnation = input.incarnation ?? this.#incarnations.get(name) ?? 1
    this.#incarnations.set(name, incarnation)
    this.#lastSession += 1
    this.#sessions.set(name, this.#lastSession)
    this.#silent.delete(name)
    const inventory = (input.inventory ?? []).map(({ attempt, nodeId, state, startTime }) => ({
      attempt: this.attempt(attempt),
      nodeId: nodeId ?? this.#nodeOfAttempt(name, attempt),
      state: state ?? 'running',
      startTime: startTime ?? (state === 'fetching' ? undefined : this.now - 1000),
    }))
    const reservations = input.reservations ?? [...(this.#granted.get(name)?.values() ?? [])]
    const { ownerEpoch = 0 } = input
    const jobs = input.jobs === undefined ? {} : { jobs: input.jobs }
    const hello = { machine: this.#describe(name, known), incarnation, inventory, reservations, ownerEpoch, ...jobs }
    return this.do({ kind: 'hello', replyTo: this.next(), ...this.#from(name), roles: ['worker'], hello })
  }

  #nodeOfAttempt(name: string, text: string): string {
    const attempt = this.attempt(text)
    const status = readStatus(this.rows, attempt.jobUid, attempt.task)
    const on = status?.lease?.[attempt.member ?? 0]
    return on?.machine === this.peer(name) ? on.nodeId : this.nodeOf(name)
  }

  #describe(name: string, input: HelloInput): MachineDescription {
    return {
      name,
      class: input.class ?? 'dedicated',
      capacity: { cores: input.cores ?? 2, memoryMiB: 8192, gpus: 0 },
      diskFreeMiB: 1000,
      labels: input.labels ?? {},
      os: 'linux',
      arch: 'x64',
      version: '1',
      isolation: 'process-group',
      features: input.features,
      mpi: input.mpi,
      fabrics: input.fabrics,
      addresses: input.addresses ?? [`/dns/${name}`],
      nodeRootDir: '/data',
    }
  }

  #from(name: string): { peer: string; session: number } {
    return { peer: this.peer(name), session: this.#sessions.get(name) ?? 0 }
  }

  /** Asks for tasks on the machine's default node, or on the nodes named. */
  claim(name: string, input: { slots?: number; prefetch?: number; waitMs?: number; id?: string; nodes?: string[] } = {}): string[] {
    this.#claims += 1
    const slots = input.slots ?? 1
    const nodes = (input.nodes ?? [this.nodeOf(name)]).map((nodeId) => ({
      nodeId,
      room: { slots, cores: slots, memoryMiB: 8192, gpus: 0 },
      prefetchSlots: input.prefetch ?? 0,
    }))
    const claim = { requestId: input.id ?? `claim-${this.#claims}`, nodes, waitMs: input.waitMs ?? 20_000 }
    return this.do({ kind: 'claim', replyTo: this.next(), ...this.#from(name), claim })
  }

  started(name: string, ...attempts: string[]): string[] {
    const list = attempts.map((text) => ({ ...this.attempt(text), startTime: this.now }))
    return this.do({ kind: 'started', ...this.#from(name), attempts: list })
  }

  uploading(name: string, ...attempts: string[]): string[] {
    return this.do({ kind: 'uploading', ...this.#from(name), attempts: attempts.map((text) => this.attempt(text)) })
  }

  report(name: string, attempt: string, exitCode: number | undefined, more: Partial<Outcome> = {}): string[] {
    const outcome = { exitCode, startTime: this.now - 500, endTime: this.now, ...more }
    const reports = [{ attempt: this.attempt(attempt), outcome }]
    return this.do({ kind: 'report', replyTo: this.next(), ...this.#from(name), reports })
  }

  retracted(name: string, ...attempts: string[]): string[] {
    return this.do({ kind: 'retracted', ...this.#from(name), attempts: attempts.map((text) => this.attempt(text)) })
  }

  drain(name: string, returned: string[] = [], leaving = false): string[] {
    return this.do({ kind: 'draining', ...this.#from(name), returned: returned.map((text) => this.attempt(text)), leaving })
  }

  /** The connection is gone; `dead` says that its process is. */
  gone(name: string, dead = false): string[] {
    this.#silent.add(name)
    return this.do({ kind: 'gone', ...this.#from(name), dead })
  }

  /** Nothing comes from the machine any more, and nobody notices. */
  silence(name: string): void {
    this.#silent.add(name)
  }

  heartbeat(name: string): string[] {
    return this.do({ kind: 'heartbeat', ...this.#from(name), sentAt: this.now })
  }

  reserved(name: string, reservationId: number, granted: boolean, more: { draining?: boolean; reason?: string } = {}): string[] {
    return this.do({ kind: 'reserved', peer: this.peer(name), reservationId, granted, draining: false, ...more })
  }

  /** Every machine grants what it was asked for, until nothing is asked. */
  grantAll(): string[] {
    const lines: string[] = []
    for (let asked = this.#asked(); asked.length > 0; asked = this.#asked()) {
      for (const { peer, reservation } of asked) {
        const name = this.nameOf(peer)
        const held = this.#granted.get(name) ?? new Map<number, Reservation>()
        held.set(reservation.reservationId, reservation)
        this.#granted.set(name, held)
      }
      this.effects = this.#turn(
        asked.map(({ peer, reservation }) => ({
          kind: 'reserved',
          peer,
          reservationId: reservation.reservationId,
          granted: true,
          draining: false,
        })),
      )
      lines.push(...showEffects(this, this.effects))
    }
    return lines
  }

  #asked(): Extract<Effect, { kind: 'reserve' }>[] {
    return this.effects.filter((effect) => effect.kind === 'reserve')
  }

  // --- submitters -----------------------------------------------------------------------------------------------

  addPool(spec: Partial<PoolSpecInput> & { id: string }): string[] {
    return this.do({ kind: 'addPool', replyTo: this.next(), spec: poolSpecSchema.parse({ vmSize: 'cores=1,memory=1GiB', ...spec }) })
  }

  addJob(spec: Partial<JobSpecInput> & { id: string }): string[] {
    return this.do({ kind: 'addJob', replyTo: this.next(), spec: jobSpecSchema.parse(spec) })
  }

  addTasks(jobId: string, ...inputs: TaskInput[]): string[] {
    const tasks = inputs.map((input) =>
      taskSpecSchema.parse({ commandLine: 'run', ...(typeof input === 'string' ? { id: input } : input) }),
    )
    return this.do({ kind: 'addTasks', replyTo: this.next(), jobId, tasks, encoded: tasks.map((task) => encode(task)) })
  }

  addArray(jobId: string, input: Omit<TaskArrayInput, 'template'> & { template?: Partial<TaskArrayInput['template']> }): string[] {
    const array = taskArraySchema.parse({ ...input, template: { commandLine: 'run {index}', ...input.template } })
    return this.do({ kind: 'addTaskArray', replyTo: this.next(), jobId, array, encoded: encode(array), specBytes: 100 })
  }

  /** Any other request of a submitter. */
  ask(request: DistributiveOmit<ControlEvent, 'replyTo'>): string[] {
    return this.do({ ...request, replyTo: this.next() } as ControlEvent)
  }

  reactivate(jobId: string, taskId: string): string[] {
    const { uid } = this.state.jobIds.get(jobId)!
    const spec = readTaskSpec(this.rows, uid, taskId.toLowerCase())!
    const status = readStatus(this.rows, uid, taskId.toLowerCase())!
    return this.ask({ kind: 'reactivateTask', jobId, spec, status })
  }

  // --- time -----------------------------------------------------------------------------------------------------

  /** Time passes; the coordinator ticks, and machines that are not silent send their heartbeats. Of the offers the first is shown. */
  tick(seconds: number): string[] {
    const lines: string[] = []
    const all: Effect[] = []
    for (let i = 0; i < seconds; i += 1) {
      this.now += tickMs
      const events: Event[] = []
      if (this.now - this.#beatAt >= heartbeatMs) {
        this.#beatAt = this.now
        for (const name of this.#sessions.keys())
          if (!this.#silent.has(name)) events.push({ kind: 'heartbeat', ...this.#from(name), sentAt: this.now })
      }
      const effects = this.#turn([...events, { kind: 'tick' }])
      all.push(...effects)
      const shown = effects.filter((effect) => effect.kind !== 'beat' && (effect.kind !== 'offer' || i === 0))
      lines.push(...showEffects(this, shown))
    }
    this.effects = all
    return lines
  }

  /** The process stood still for so long. */
  stall(seconds: number): string[] {
    this.now += seconds * 1000
    return this.do({ kind: 'tick' })
  }

  /** The clock is set; machines and the coordinator go on as before. */
  set(seconds: number): string[] {
    this.now += seconds * 1000
    this.#beatAt += seconds * 1000
    return this.tick(1)
  }

  /** The coordinator's process dies and starts again from its rows; every connection is gone. */
  restart(downSeconds = 0): void {
    this.now += downSeconds * 1000
    this.#beatAt = Math.min(this.#beatAt, this.now)
    this.state = restoreFrom(this.rows, self, this.now)
    sanityCheck(this.state)
    for (const name of this.#sessions.keys()) this.#silent.add(name)
  }

  // --- names ----------------------------------------------------------------------------------------------------

  /** `job/task#epoch`, of a gang's member `job/task#epoch+2`. */
  attempt(text: string): Attempt {
    const [, jobId, task, epoch, member] = /^([^/]+)\/([^#]+)#(\d+)(?:\+(\d+))?$/.exec(text)!
    const attempt = { jobUid: this.uidOf(jobId!), task: task!.toLowerCase(), epoch: Number(epoch) }
    return member === undefined ? attempt : { ...attempt, member: Number(member) }
  }

  readonly #uids = new Map<string, number>()

  /** The uid of a job, remembered beyond its deletion. */
  uidOf(jobId: string): number {
    const job = this.state.jobIds.get(jobId)
    if (job !== undefined) this.#uids.set(jobId, job.uid)
    return this.#uids.get(jobId) ?? 999
  }

  jobOf(uid: number): string {
    const job = this.state.jobs.get(uid)
    if (job !== undefined) this.#uids.set(job.row.spec.id, uid)
    for (const [id, known] of this.#uids) if (known === uid) return id
    return String(uid)
  }

  status(jobId: string, taskId: string) {
    return readStatus(this.rows, this.uidOf(jobId), taskId.toLowerCase())
  }
}

type DistributiveOmit<T, K extends PropertyKey> = T extends unknown ? Omit<T, K> : never
