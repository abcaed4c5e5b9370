/** Watching a job across broken sessions: after each reconnection the coordinator replays what is complete. */
import type { ControlProtocol, JobEvents } from '../../protocols/control.ts'
import { MeshError } from '../../protocols/errors.ts'
import { Backoff, isOutOfReach, type Line, persistently, type Trouble } from './sessions.ts'

export type ControlLine = Line<ControlProtocol['client'], ControlProtocol['server']>
/** What a watch shows: the state at its start (no events), then changes. */
export type JobChange = Omit<JobEvents, 'watchId'>

/** Hands the notes of the control session to the watches they belong to; notes may come before the answer that names the watch. */
export class WatchHub {
  readonly #receivers = new Map<number, (events: JobEvents) => void>()
  readonly #early = new Map<number, JobEvents[]>()

  readonly onEvents = (events: JobEvents): void => {
    const receiver = this.#receivers.get(events.watchId)
    if (receiver !== undefined) return receiver(events)
    const early = this.#early.get(events.watchId)
    if (early === undefined) this.#early.set(events.watchId, [events])
    else early.push(events)
  }

  /** Begins to receive; what came early is handed over first. */
  receive(watchId: number, receiver: (events: JobEvents) => void): void {
    for (const events of this.#early.get(watchId) ?? []) receiver(events)
    this.#early.delete(watchId)
    this.#receivers.set(watchId, receiver)
  }

  stop(watchId: number): void {
    this.#receivers.delete(watchId)
    this.#early.delete(watchId)
  }

  /** A new session numbers its watches anew. */
  reset(): void {
    this.#receivers.clear()
    this.#early.clear()
  }
}

/**
 * The changes of a job until the caller stops or `signal` aborts (then it rejects with Aborted). Completed tasks are
 * shown again after each reconnection. Rejects with JobNotFound when there is no such job.
 */
export async function* watchJob(
  line: ControlLine,
  hub: WatchHub,
  trouble: Trouble,
  jobId: string,
  signal: AbortSignal,
): AsyncGenerator<JobChange> {
  // Every session begins with a replay: one that brings no more of it than those before has broken at the same place.
  const backoff = new Backoff()
  let mostCompleted = 0
  for (;;) {
    let completed = 0
    const { session, start } = await persistently(
      async () => {
        const session = await line.session()
        return { session, start: await session.call('watch', { jobId, replay: true }, { signal }) }
      },
      trouble,
      signal,
    )
    const queue: JobEvents[] = []
    let wake = () => {}
    let ended = false
    const end = () => {
      ended = true
      wake()
    }
    hub.receive(start.watchId, (events) => {
      queue.push(events)
      wake()
    })
    signal.addEventListener('abort', end, { once: true })
    void session.closed.then(end)
    try {
      yield { events: [], counts: start.counts, jobState: start.jobState }
      for (;;) {
        const next = queue.shift()
        if (next !== undefined) {
          completed += next.events.filter(({ state }) => state === 'completed').length
          if (completed > mostCompleted) {
            mostCompleted = completed
            backoff.reset()
          }
          yield next
        } else if (signal.aborted) throw new MeshError('Aborted')
        else if (ended) break
        else await new Promise<void>((resolve) => (wake = resolve))
      }
      trouble.lost(new MeshError('Unreachable', 'The connection to the coordinator broke.'))
    } finally {
      signal.removeEventListener('abort', end)
      hub.stop(start.watchId)
      if (!session.isClosed) session.call('unwatch', { watchId: start.watchId }).catch((error: unknown) => void isOutOfReach(error))
    }
    await backoff.pause(signal)
  }
}
