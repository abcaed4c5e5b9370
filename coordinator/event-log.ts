/**
 * What happened in the mesh, for people: told from what a step was asked, from the rows that it writes and from the
 * changes that watchers see, so that nothing has to be said twice. Pure: the rows of the log are part of the batch of
 * what they tell (L5).
 *
 *   evnt/<seq>   MeshEvent; the newest 10,000 and up to 1,000 older ones
 */
import type { TaskEvent } from '../protocols/control.ts'
import { foldId, type JobUid, type PeerIdText } from '../protocols/ids.ts'
import type { EventKind, MeshEvent } from '../protocols/model/event.ts'
import { failureName } from '../protocols/model/task.ts'
import type { Effect, Event } from './events.ts'
import type { JobRow, PoolRow } from './rows.ts'
import type { Machine, State } from './state.ts'

/** Weeks of a busy mesh; a few MB in memory and on disk. */
export const maxEvents = 10_000
/** Old ones go together, so that each new one does not cost a deletion. */
const spare = 1000
/** Of one kind in one job: enough to see what is wrong, too few to drown what else happens. */
const oneByOne = 100
const together = 1000
const maxDetail = 300

export const eventPrefix = 'evnt/'
export const eventKey = (seq: number) => `${eventPrefix}${String(seq).padStart(12, '0')}`

type Told = Omit<MeshEvent, 'seq' | 'time' | 'kind'>

interface KnownJob {
  id: string
  state: JobRow['state']
  excluded: number
  counts: Map<EventKind, number>
}
interface KnownMachine {
  name: string
  connected: boolean
  incarnation: number
  draining: boolean
  /** Whatever comes after its end says nothing new. */
  gone: boolean
}

export interface EventFilter {
  /** Only later ones, the oldest first; without it the newest `limit`. */
  after?: number
  since?: number
  jobId?: string
  limit: number
}

export interface EventPage {
  items: MeshEvent[]
  /** Where the next page begins: `after` of it. */
  last: number
  /** Events after `after` that are not kept any more. */
  missed: number
}

export class EventLog {
  #events: MeshEvent[]
  readonly #jobs = new Map<JobUid, KnownJob>()
  readonly #pools = new Map<string, { row: PoolRow; hadErrors: boolean }>()
  readonly #machines = new Map<PeerIdText, KnownMachine>()

  /** `past` are the events on disk, oldest first; `state` is the memory as it was restored. */
  constructor(state: State, past: readonly MeshEvent[]) {
    this.#events = [...past]
    for (const { uid, row } of state.jobs.values()) this.#jobs.set(uid, knownJob(row))
    for (const pool of state.pools.values()) this.#pools.set(pool.id, { row: copyOf(pool.row), hadErrors: false })
    for (const machine of state.machines.values()) this.#machines.set(machine.peer, knownMachine(machine))
  }

  get newest(): number {
    return this.#events.at(-1)?.seq ?? 0
  }

  /** What an event and the effects of its step tell, or without one those of the end of a turn: the rows to be written with them. */
  tell(state: State, event: Event | undefined, effects: readonly Effect[], now: number): Effect[] {
    const before = this.newest
    const say = (kind: EventKind, told: Told) => this.#add({ seq: this.newest + 1, time: now, kind, ...told })
    if (event !== undefined) this.#tellMachines(state, event, say)
    for (const effect of effects) {
      if (effect.kind === 'put' && effect.key.startsWith('job/')) this.#tellJob(effect.value as JobRow, say)
      else if (effect.kind === 'put' && effect.key.startsWith('pool/')) this.#tellPool(effect.value as PoolRow, say)
      else if (effect.kind === 'del' && effect.key.startsWith('pool/')) this.#tellPoolGone(effect.key.slice('pool/'.length), say)
      else if (effect.kind === 'changed' && effect.event !== undefined) this.#tellTask(effect.jobUid, effect.event, event, say)
    }
    return this.newest === before ? [] : this.#rowsSince(before)
  }

  /** A start of the coordinator: the rows to be written before it serves anybody. */
  started(name: string, version: string, ownerEpoch: number, now: number): Effect[] {
    const before = this.newest
    const message = `the coordinator was started on ${name} (version ${version}, start ${ownerEpoch})`
    this.#add({ seq: before + 1, time: now, kind: 'coordinator-started', message })
    return this.#rowsSince(before)
  }

  /** A page of what is kept; what it shows may not be on the disk yet. */
  list({ after, since = 0, jobId, limit }: EventFilter): EventPage {
    const folded = jobId === undefined ? undefined : foldId(jobId)
    const oldest = this.#events[0]?.seq ?? this.newest + 1
    // Numbers that are not given out yet: of a mesh that was restored from an older backup since.
    const from = after === undefined || after > this.newest ? undefined : after
    const start = from === undefined ? 0 : Math.max(0, from + 1 - oldest)
    const wanted = (item: MeshEvent) =>
      item.time >= since && (folded === undefined || (item.jobId !== undefined && foldId(item.jobId) === folded))
    const fit = after !== undefined && from === undefined ? [] : this.#events.slice(start).filter(wanted)
    const items = after === undefined ? fit.slice(-limit) : fit.slice(0, limit)
    const isCut = after !== undefined && fit.length > items.length
    return {
      items,
      last: isCut ? items.at(-1)!.seq : this.newest,
      missed: from === undefined || from === 0 ? 0 : Math.max(0, oldest - 1 - from),
    }
  }

  #add(event: MeshEvent): void {
    this.#events.push(event)
  }

  #rowsSince(seq: number): Effect[] {
    const rows: Effect[] = []
    for (let at = this.#events.length - (this.newest - seq); at < this.#events.length; at += 1) {
      const event = this.#events[at]!
      rows.push({ kind: 'put', key: eventKey(event.seq), value: event })
    }
    if (this.#events.length <= maxEvents + spare) return rows
    const old = this.#events.slice(0, -maxEvents)
    this.#events = this.#events.slice(-maxEvents)
    return [...rows, ...old.map((event): Effect => ({ kind: 'del', key: eventKey(event.seq) }))]
  }

  #tellMachines(state: State, event: Event, say: Say): void {
    if (event.kind === 'tick') for (const peer of this.#machines.keys()) this.#tellMachine(state, peer, event, say)
    else if (event.kind === 'hello' || event.kind === 'gone' || event.kind === 'draining' || event.kind === 'revoked')
      this.#tellMachine(state, event.peer, event, say)
  }

  #tellMachine(state: State, peer: PeerIdText, event: Event, say: Say): void {
    const known = this.#machines.get(peer)
    const machine = state.machines.get(peer)
    if (machine === undefined) {
      if (known === undefined) return
      this.#machines.delete(peer)
      const isRevoked = event.kind === 'revoked'
      say(isRevoked ? 'machine-revoked' : 'machine-left', {
        machine: peer,
        machineName: known.name,
        message: `${known.name} ${isRevoked ? 'was sent away: its membership is revoked' : 'has left the mesh'}`,
      })
      return
    }
    const now = knownMachine(machine)
    const { name, connected, incarnation, draining } = now
    now.gone = !connected && (known?.gone === true || machine.dead || known?.draining === true)
    this.#machines.set(peer, now)
    const tell = (kind: EventKind, what: string) => say(kind, { machine: peer, machineName: name, message: `${name} ${what}` })
    const lends = `it lends ${machine.description.capacity.cores} cores as a ${machine.description.class} machine`
    if (known === undefined) {
      if (connected) tell('machine-joined', `has joined the mesh; ${lends}`)
    } else if (connected && !known.connected) tell('machine-connected', `is connected; ${lends}`)
    else if (connected && incarnation !== known.incarnation) tell('machine-connected', `was started again; ${lends}`)
    else if (draining && !known.draining)
      tell('machine-draining', machine.leaving ? 'is leaving the mesh' : 'is going down and takes no new tasks')
    else if (now.gone && !known.gone) tell('machine-gone', known.draining ? 'has gone down' : 'is gone: its process has ended')
    else if (!connected && known.connected) tell('machine-disconnected', 'is disconnected; its tasks may still be running there')
  }

  #tellJob(row: JobRow, say: Say): void {
    const known = this.#jobs.get(row.uid)
    const job = known ?? knownJob({ ...row, state: 'active', excluded: [] })
    const { id } = row.spec
    this.#jobs.set(row.uid, job)
    if (known === undefined)
      say('job-added', { jobId: id, poolId: row.spec.poolId, message: `job ${id} was added, in pool ${row.spec.poolId}` })
    for (const { machine, name, reason } of row.excluded.slice(job.excluded)) {
      say('machine-excluded', { jobId: id, machine, machineName: name, message: `${name} is left out for job ${id}: ${reason}` })
    }
    job.excluded = row.excluded.length
    if (job.state === 'active' && row.endTime !== undefined) {
      const { succeeded = 0, failed = 0, active = 0 } = row.finalCounts ?? {}
      const counts = `${succeeded} succeeded, ${failed} failed${active > 0 ? `, ${active} never run` : ''}`
      say('job-ended', { jobId: id, message: `job ${id} has ended (${cut(row.terminateReason ?? '')}): ${counts}` })
    }
    job.state = row.endTime === undefined ? row.state : 'completed'
    if (row.state !== 'deleting') return
    say('job-deleted', { jobId: id, message: `job ${id} was deleted` })
    this.#jobs.delete(row.uid)
  }

  #tellPool(row: PoolRow, say: Say): void {
    const { id, targetDedicatedNodes: dedicated, targetLowPriorityNodes: low } = row.spec
    const known = this.#pools.get(foldId(id))
    const targets = `${dedicated} dedicated and ${low} low-priority nodes`
    if (known === undefined) say('pool-created', { poolId: id, message: `pool ${id} was created, for ${targets} of ${row.spec.vmSize}` })
    else if (known.row.spec.targetDedicatedNodes !== dedicated || known.row.spec.targetLowPriorityNodes !== low)
      say('pool-resized', { poolId: id, message: `pool ${id} is resized to ${targets}` })
    const [error] = row.resizeErrors
    if (error !== undefined && known?.hadErrors !== true)
      say('pool-resize-failed', { poolId: id, message: `pool ${id}: ${cut(error.message)}` })
    this.#pools.set(foldId(id), { row: copyOf(row), hadErrors: error !== undefined })
  }

  #tellPoolGone(foldedId: string, say: Say): void {
    const poolId = this.#pools.get(foldedId)?.row.spec.id ?? foldedId
    this.#pools.delete(foldedId)
    say('pool-deleted', { poolId, message: `pool ${poolId} was deleted` })
  }

  #tellTask(jobUid: JobUid, change: TaskEvent, event: Event | undefined, say: Say): void {
    const job = this.#jobs.get(jobUid)
    const told = job === undefined ? undefined : taskTold(change, event)
    if (job === undefined || told === undefined) return
    const [kind, what] = told
    const { taskId, machine, machineName } = change
    const count = (job.counts.get(kind) ?? 0) + 1
    job.counts.set(kind, count)
    if (count <= oneByOne) {
      const after = count === oneByOne ? `; from now on such events of this job are counted, not told one by one` : ''
      return say(kind, { jobId: job.id, taskId, machine, machineName, message: `task ${job.id}/${taskId} ${what}${after}` })
    }
    if ((count - oneByOne) % together === 0)
      say(kind, {
        jobId: job.id,
        taskId,
        count: together,
        message: `${together} more like this in job ${job.id}; the last: task ${taskId} ${what}`,
      })
  }
}

type Say = (kind: EventKind, told: Told) => void

/** Kind and words of a change of a task, where it is one to tell. */
function taskTold(change: TaskEvent, event: Event | undefined): [EventKind, string] | undefined {
  const { attemptEnd, exitCode, failureInfo, machineName } = change
  const on = machineName === undefined ? '' : ` on ${machineName}`
  const why =
    exitCode !== undefined && (failureInfo === undefined || failureName(failureInfo) === 'FailureExitCode')
      ? `exit code ${exitCode}`
      : undefined
  const failure = why ?? (failureInfo === undefined ? undefined : `${failureName(failureInfo)}: ${cut(failureInfo.message)}`)
  const reason = failure === undefined ? '' : ` (${failure})`
  if (change.state === 'completed') {
    if (change.result !== 'failure') return undefined
    if (attemptEnd !== 'terminated') {
      const runs = change.retryCount === 0 ? '' : ` after ${change.retryCount} ${change.retryCount === 1 ? 'retry' : 'retries'}`
      return ['task-failed', `failed for good${on}${runs}${reason}`]
    }
    // The end of their job says it for all of them.
    const isWithJob = event?.kind === 'terminateJob' || event?.kind === 'deleteJob' || event?.kind === 'tick'
    return isWithJob ? undefined : ['task-stopped', `was stopped${on}`]
  }
  if (change.state !== 'active') return undefined
  switch (attemptEnd) {
    case 'failure':
      return ['task-retried', `failed${on}${reason} and is run again (retry ${change.retryCount})`]
    case 'lost':
      return ['task-lost', `was lost with its machine${on}${reason} and is run again`]
    case 'preempted':
      return ['task-preempted', `was preempted${on} and is run again`]
    case 'requeued':
      return ['task-requeued', `was taken back${on} and is run again`]
    case 'program-missing':
      return ['task-program-missing', `found no program${on}${reason} and is given to another machine`]
    case undefined:
      return event?.kind === 'reactivateTask' ? ['task-reactivated', 'is run again, as a user asked'] : undefined
    default:
      return undefined
  }
}

function knownJob(row: JobRow): KnownJob {
  return { id: row.spec.id, state: row.state, excluded: row.excluded.length, counts: new Map() }
}

function knownMachine(machine: Machine): KnownMachine {
  const { description, session, incarnation, draining } = machine
  return { name: description.name, connected: session !== 0, incarnation, draining, gone: machine.dead }
}

function copyOf(row: PoolRow): PoolRow {
  return { ...row, spec: { ...row.spec } }
}

function cut(text: string): string {
  return text.length > maxDetail ? `${text.slice(0, maxDetail)}…` : text
}
