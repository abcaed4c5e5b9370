/** Watches: submitters that want to see a job's tasks change. What they are shown is durable (L5). */
import type { JobEvents, TaskEvent } from '../protocols/control.ts'
import type { JobUid } from '../protocols/ids.ts'
import type { Batch, Shown } from './pipeline.ts'

/** Events in one note, and about their bytes: bound the frame. */
const maxEvents = 2000
const maxNoteBytes = 4 << 20
/** What is held for a watcher that does not read; beyond it the watch ends, and it may watch again with a replay. */
const maxHeldBytes = 32 << 20

/** Where a watch is shown. */
export interface WatchEnd {
  /** False: more is queued than the other side takes; wait for {@link drained}. */
  send(events: JobEvents): boolean
  drained(): Promise<void>
  /** The watcher does not keep up. */
  close(): void
}

interface Watch {
  watchId: number
  jobUid: JobUid
  end: WatchEnd
  /** While the past is being replayed, or the watcher is slow, what happens waits. */
  held: TaskEvent[] | undefined
  heldBytes: number
  last: Shown
}

export class Watches {
  readonly #byJob = new Map<JobUid, Set<Watch>>()
  readonly #byId = new Map<number, Watch>()
  #lastId = 0

  /** Begins a watch that holds its events until {@link begin}. */
  add(jobUid: JobUid, shown: Shown, end: WatchEnd): number {
    this.#lastId += 1
    const watch: Watch = { watchId: this.#lastId, jobUid, end, held: [], heldBytes: 0, last: shown }
    this.#byId.set(watch.watchId, watch)
    const set = this.#byJob.get(jobUid) ?? new Set()
    this.#byJob.set(jobUid, set.add(watch))
    return watch.watchId
  }

  /** Sends a piece of the past, ahead of everything held, as fast as the watcher takes it. */
  async replay(watchId: number, events: TaskEvent[]): Promise<void> {
    const watch = this.#byId.get(watchId)
    if (watch !== undefined && !deliver(watch, events)) await watch.end.drained()
  }

  /** The past is told: what was held follows, and from now on all comes as it happens. */
  begin(watchId: number): void {
    const watch = this.#byId.get(watchId)
    if (watch?.held !== undefined) this.#release(watch)
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
      for (const watch of [...(this.#byJob.get(jobUid) ?? [])]) {
        if (shown !== undefined) watch.last = shown
        if (watch.held !== undefined) this.#hold(watch, list)
        else if (!deliver(watch, list)) this.#wait(watch)
      }
    }
  }

  #hold(watch: Watch, events: readonly TaskEvent[]): void {
    watch.held!.push(...events)
    for (const event of events) watch.heldBytes += bytesOf(event)
    if (watch.heldBytes <= maxHeldBytes) return
    this.remove(watch.watchId)
    watch.end.close()
  }

  #wait(watch: Watch): void {
    watch.held = []
    void watch.end.drained().then(() => {
      if (this.#byId.has(watch.watchId)) this.#release(watch)
    })
  }

  #release(watch: Watch): void {
    const held = watch.held ?? []
    watch.held = undefined
    watch.heldBytes = 0
    if (!deliver(watch, held)) this.#wait(watch)
  }
}

/** Sends events in notes of bounded size, at least one; false when the watcher is slow. */
function deliver(watch: Watch, events: readonly TaskEvent[]): boolean {
  const { watchId, last, end } = watch
  let isTaken = true
  let at = 0
  do {
    const note: TaskEvent[] = []
    for (let bytes = 0; at < events.length && note.length < maxEvents && bytes < maxNoteBytes; at += 1) {
      note.push(events[at]!)
      bytes += bytesOf(events[at]!)
    }
    isTaken = end.send({ watchId, events: note, counts: last.counts, jobState: last.jobState })
  } while (at < events.length)
  return isTaken
}

/** About the bytes of an event in a frame: what varies is counted, the rest is rounded up. */
function bytesOf(event: TaskEvent): number {
  let bytes = 400 + (event.stderrTail?.length ?? 0) + (event.failureInfo?.message.length ?? 0)
  for (const { path } of event.outputs ?? []) bytes += path.length + 120
  return bytes
}
