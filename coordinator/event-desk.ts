/** Where events are read and waited for: the coordinator's event log with its rows and its readers (L5). */
import { decode, encode } from '../protocols/codec.ts'
import { type MeshEvent, meshEventSchema } from '../protocols/model/event.ts'
import { EventLog, type EventPage, eventPrefix } from './event-log.ts'
import type { Effect, Event } from './events.ts'
import type { State } from './state.ts'
import type { Store } from './store.ts'

export interface EventRequest {
  after?: number
  since?: number
  jobId?: string
  limit: number
  /** Without any event to show: how long one is waited for. */
  waitMs: number
}

export class EventDesk {
  readonly #log: EventLog
  readonly #state: State
  readonly #durable: () => Promise<void>
  /** Readers that wait for the next event. */
  readonly #waiting = new Set<() => void>()

  constructor(log: EventLog, state: State, durable: () => Promise<void>) {
    this.#log = log
    this.#state = state
    this.#durable = durable
  }

  /** What a step, or the end of a turn, did: answers the rows that tell it. */
  tell(event: Event | undefined, effects: readonly Effect[], now: number): Effect[] {
    const rows = this.#log.tell(this.#state, event, effects, now)
    if (rows.length > 0) for (const wake of [...this.#waiting]) wake()
    return rows
  }

  /** A page of events, once they are on the disk; waits for the first one as long as asked, or until the reader is gone. */
  async list({ waitMs, ...filter }: EventRequest, signal: AbortSignal): Promise<EventPage> {
    const until = performance.now() + waitMs
    for (;;) {
      const page = this.#log.list(filter)
      const leftMs = until - performance.now()
      // A gap, or numbers of another life of the mesh, are told at once.
      const isNews = page.items.length > 0 || page.missed > 0 || (filter.after ?? 0) > page.last
      if (isNews || leftMs <= 0 || signal.aborted) {
        await this.#durable()
        return page
      }
      // What did not fit the filter is not looked at again.
      if (filter.after !== undefined) filter.after = page.last
      await this.#next(leftMs, signal)
    }
  }

  #next(waitMs: number, signal: AbortSignal): Promise<void> {
    return new Promise((resolve) => {
      const end = () => {
        clearTimeout(timer)
        this.#waiting.delete(end)
        signal.removeEventListener('abort', end)
        resolve()
      }
      const timer = setTimeout(end, waitMs)
      this.#waiting.add(end)
      signal.addEventListener('abort', end, { once: true })
    })
  }
}

/** The events on disk, and with them that the coordinator was started: on disk when this resolves. */
export async function openEventLog(store: Store, state: State, started: { name: string; version: string }, now: number): Promise<EventLog> {
  const past: MeshEvent[] = []
  for await (const [, value] of store.scan({ gt: eventPrefix, lt: `${eventPrefix}\uffff` })) past.push(meshEventSchema.parse(decode(value)))
  const log = new EventLog(state, past)
  const rows = new Map<string, Uint8Array | undefined>()
  for (const row of log.started(started.name, started.version, state.mesh.ownerEpoch, now)) {
    if (row.kind === 'put') rows.set(row.key, encode(row.value))
    else if (row.kind === 'del') rows.set(row.key, undefined)
  }
  await store.write(rows)
  return log
}
