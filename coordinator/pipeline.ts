/**
 * Persist, then speak (L5): the loop between the pure machine and the world. The events of one turn of the event loop
 * are stepped through together; their rows become one fsynced batch; only then are their other effects performed, in
 * order (heartbeats alone are answered at once). While one batch is on its way to the disk the next one gathers, so that the cost of an fsync is shared.
 */
import { encode } from '../protocols/codec.ts'
import { failpoint } from '../protocols/failpoint.ts'
import type { JobUid } from '../protocols/ids.ts'
import type { JobState, TaskCounts } from '../protocols/model/job.ts'
import { Breath } from './breath.ts'
import type { Effect, Event } from './events.ts'
import { endTurn, isUnsettled, step } from './machine.ts'
import type { State } from './state.ts'
import type { Store } from './store.ts'
import { viewCounts } from './view.ts'

/** Of a thousand machines that report at once: the rest comes a turn later, so that heartbeats among them are answered meanwhile. */
const eventsPerTurn = 1000

export type OutEffect = Exclude<Effect, { kind: 'put' } | { kind: 'del' }>
export type Beat = Extract<Effect, { kind: 'beat' }>

/** What a batch makes true: shown to watchers once it is. */
export interface Shown {
  counts: TaskCounts
  jobState: JobState
}

export interface Batch {
  effects: OutEffect[]
  /** How each job that changed stood when the batch was complete. */
  jobs: Map<JobUid, Shown>
}

export interface PipelineOptions {
  state: State
  store: Store
  now: () => number
  /** Called with each batch after its rows are durable; the next waits for it. */
  perform: (batch: Batch) => Promise<void> | void
  /**
   * Answers a heartbeat, at the end of its turn: it says nothing of what is on the disk, and workers must not take a slow
   * disk for a coordinator that is gone.
   */
  beat: (beat: Beat) => void
  /** A row is about to be written: lets the shell keep specs at hand. */
  onPut: (key: string, value: unknown) => void
  /** What a step, or the end of a turn, did is told in rows of their own, in the same batch. */
  tell?: (event: Event | undefined, effects: readonly Effect[], now: number) => readonly Effect[]
  /** A write failed, or the machine met a state it cannot be in: the process must end (L5). */
  fatal: (error: unknown) => void
}

interface Gathering extends Batch {
  rows: Map<string, unknown>
  done: Promise<void>
  resolve: () => void
}

export class Pipeline {
  readonly #options: PipelineOptions
  readonly #queue: Event[] = []
  /** Ahead of all else: they only say that their machine is there. */
  readonly #heartbeats: Event[] = []
  #scheduled = false
  #gathering = newGathering()
  /** Answers to heartbeats, of this turn. */
  readonly #beats: Beat[] = []
  /** On its way to the disk. */
  #flushing: Gathering | undefined
  readonly #failure = Promise.withResolvers<void>()
  #stopped = false
  #failed = false

  constructor(options: PipelineOptions) {
    this.#options = options
  }

  /** Takes in an event; it is stepped through with all others of this turn of the loop. */
  post(event: Event): void {
    if (event.kind === 'heartbeat') this.#heartbeats.push(event)
    else this.#queue.push(event)
    this.#schedule()
  }

  #schedule(): void {
    if (this.#scheduled) return
    this.#scheduled = true
    // After the sockets of this turn were read: frames that are queued count before anything expires (L3).
    setImmediate(() => this.#turn())
  }

  /** Resolves when everything that has happened so far is on the disk and performed. */
  durable(): Promise<void> {
    if (this.#failed) return never
    if (this.#queue.length > 0 || this.#gathering.rows.size > 0 || this.#gathering.effects.length > 0) return this.#gathering.done
    return this.#flushing?.done ?? Promise.resolve()
  }

  /** Writes what is gathered and takes in nothing more. */
  async stop(): Promise<void> {
    await Promise.race([this.durable(), this.#failure.promise])
    this.#stopped = true
  }

  #turn(): void {
    this.#scheduled = false
    if (this.#stopped) return
    const { state, now, tell } = this.#options
    const events = [...this.#heartbeats.splice(0), ...this.#queue.splice(0, eventsPerTurn)]
    try {
      for (const event of events) {
        const at = now()
        const effects = step(state, event, at)
        this.#gather(effects)
        if (tell !== undefined) this.#gather(tell(event, effects, at))
      }
      const at = now()
      const effects = endTurn(state, at)
      this.#gather(effects)
      if (tell !== undefined) this.#gather(tell(undefined, effects, at))
    } catch (error) {
      return this.#fail(error)
    }
    if (this.#queue.length > 0 || isUnsettled(state)) this.#schedule()
    for (const beat of this.#beats.splice(0)) this.#options.beat(beat)
    for (const uid of this.#gathering.jobs.keys()) this.#gathering.jobs.set(uid, shown(state, uid))
    this.#flush()
  }

  #gather(effects: readonly Effect[]): void {
    for (const effect of effects) {
      if (effect.kind === 'put') {
        this.#gathering.rows.set(effect.key, effect.value)
        this.#options.onPut(effect.key, effect.value)
      } else if (effect.kind === 'del') this.#gathering.rows.set(effect.key, undefined)
      else if (effect.kind === 'beat') this.#beats.push(effect)
      else {
        if (effect.kind === 'changed') this.#gathering.jobs.set(effect.jobUid, gone)
        this.#gathering.effects.push(effect)
      }
    }
  }

  #flush(): void {
    if (this.#flushing !== undefined || this.#stopped) return
    const batch = this.#gathering
    this.#gathering = newGathering()
    if (batch.rows.size === 0 && batch.effects.length === 0) return batch.resolve()
    this.#flushing = batch
    this.#write(batch).then(
      () => this.#flushed(batch),
      (error: unknown) => this.#fail(error),
    )
  }

  #flushed(batch: Gathering): void {
    this.#flushing = undefined
    batch.resolve()
    if (this.#gathering.rows.size > 0 || this.#gathering.effects.length > 0) return this.#flush()
    // Whoever waited for nothing is let go; who comes later waits for what comes later.
    const nothing = this.#gathering
    this.#gathering = newGathering()
    nothing.resolve()
  }

  /** Nothing is answered any more, not even to those who wait to read: what is in memory is not on the disk (L5). */
  #fail(error: unknown): void {
    this.#stopped = true
    this.#failed = true
    this.#failure.resolve()
    this.#options.fatal(error)
  }

  async #write(batch: Gathering): Promise<void> {
    if (batch.rows.size > 0) {
      const rows = new Map<string, Uint8Array | undefined>()
      const breath = new Breath()
      for (const [key, value] of batch.rows) {
        if (breath.isDue) await breath.take()
        rows.set(key, value === undefined ? undefined : encode(value))
      }
      failpoint('coordinator.batch.writing')
      await this.#options.store.write(rows)
      failpoint('coordinator.batch.synced')
    }
    await this.#options.perform(batch)
  }
}

/** Never settles. */
const never = new Promise<void>(() => {})

const gone: Shown = { counts: { active: 0, running: 0, completed: 0, succeeded: 0, failed: 0 }, jobState: 'deleting' }

function shown(state: State, uid: JobUid): Shown {
  const job = state.jobs.get(uid)
  return job === undefined ? gone : { counts: viewCounts(job), jobState: job.row.state }
}

function newGathering(): Gathering {
  let resolve = () => {}
  const done = new Promise<void>((r) => {
    resolve = r
  })
  return { rows: new Map(), effects: [], jobs: new Map(), done, resolve }
}
