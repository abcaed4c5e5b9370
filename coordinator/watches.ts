/** Watches: submitters that want to see a job's tasks change. What they are shown is durable (L5). */
import type { JobEvents, TaskEvent } from '../protocols/control.ts'
import type { JobUid } from '../protocols/ids.ts'
import type { Batch, Shown } from './pipeline.ts'

/** Events in one note: bounds the frame. */
const maxEvents = 2000

interface Watch {
  watchId: number
  jobUid: JobUid
  send: (events: JobEvents) => void
  /** While the past is being replayed, what happens meanwhile waits. */
  held: TaskEvent[] | undefined
  last: Shown
}

export class Watches {
  readonly #byJob = new Map<JobUid, Set<Watch>>()
  readonly #byId = new Map<number, Watch>()
  #lastId = 0

  /** Begins a watch that holds its events until {@link begin}. */
  add(jobUid: JobUid, shown: Shown, send: (events: JobEvents) => void): number {
    this.#lastId += 1
    const watch: Watch = { watchId: this.#lastId, jobUid, send, held: [], last: shown }
    this.#byId.set(watch.watchId, watch)
    const set = this.#byJob.get(jobUid) ?? new Set()
    this.#byJob.set(jobUid, set.add(watch))
    return watch.watchId
  }

  /** Sends a piece of the past, ahead of everything held. */
  replay(watchId: number, events: TaskEvent[]): void {
    const watch = this.#byId.get(watchId)
    if (watch !== undefined) deliver(watch, events)
  }

  /** The past is told: what was held follows, and from now on all comes as it happens. */
  begin(watchId: number): void {
    const watch = this.#byId.get(watchId)
    if (watch?.held === undefined) return
    const { held } = watch
    watch.held = undefined
    deliver(watch, held)
  }

  remove(watchId: number): void {
    const watch = this.#byId.get(watchId)
    if (watch === undefined) return
    this.#byId.delete(watchId)
    const set = this.#byJob.get(watch.jobUid)
    set?.delete(watch)
    if (set?.size === 0) this.#byJob.delete(watch.jobUid)
  }

  /** A batch is durable: its changes are shown. */
  show(batch: Batch): void {
    if (this.#byJob.size === 0) return
    const events = new Map<JobUid, TaskEvent[]>()
    for (const effect of batch.effects) {
      if (effect.kind !== 'changed' || !this.#byJob.has(effect.jobUid)) continue
      const list = events.get(effect.jobUid) ?? []
      events.set(effect.jobUid, list)
      if (effect.event !== undefined) list.push(effect.event)
    }
    for (const [jobUid, list] of events) {
      const shown = batch.jobs.get(jobUid)
      for (const watch of this.#byJob.get(jobUid) ?? []) {
        if (shown !== undefined) watch.last = shown
        if (watch.held === undefined) deliver(watch, list)
        else watch.held.push(...list)
      }
    }
  }
}

function deliver(watch: Watch, events: TaskEvent[]): void {
  const { watchId, last } = watch
  for (let at = 0; at === 0 || at < events.length; at += maxEvents) {
    watch.send({ watchId, events: events.slice(at, at + maxEvents), counts: last.counts, jobState: last.jobState })
  }
}
