/**
 * The coordinator's desk: requests come in as events, each with a number, and are answered when the effect with that
 * number is performed. The one place where the pure core and the waiting callers meet.
 */
import { MeshError } from '../protocols/errors.ts'
import type { Event, ReplyTo } from './events.ts'
import type { Pipeline } from './pipeline.ts'

interface Caller {
  taken: ((body: never) => void) | undefined
  resolve: (body: never) => void
  reject: (error: Error) => void
}

type Asked = Extract<Event, { replyTo: ReplyTo }>
/** An event without its number; distributes over the union. */
type WithoutNumber<E> = E extends unknown ? Omit<E, 'replyTo'> : never

export class Desk {
  readonly #callers = new Map<ReplyTo, Caller>()
  #pipeline: Pipeline | undefined
  #last = 0

  /** The pipeline performs through this desk, so it is made after it. */
  attach(pipeline: Pipeline): void {
    this.#pipeline = pipeline
  }

  post(event: Event): void {
    this.#pipeline?.post(event)
  }

  /**
   * Resolves with the body of the event's answer once that is durable; rejects with its refusal. `taken` is called with
   * the answer before the next effect of its batch is performed.
   */
  ask<T>(event: WithoutNumber<Asked>, taken?: (body: T) => void): Promise<T> {
    if (this.#pipeline === undefined) return Promise.reject(new MeshError('NoCoordinator', 'The coordinator is stopping.'))
    this.#last += 1
    const replyTo = this.#last
    return new Promise<T>((resolve, reject) => {
      this.#callers.set(replyTo, { taken, resolve, reject })
      this.post({ ...event, replyTo } as Event)
    })
  }

  answer(replyTo: ReplyTo, body: unknown): void {
    const caller = this.#take(replyTo)
    caller?.taken?.(body as never)
    caller?.resolve(body as never)
  }

  refuse(replyTo: ReplyTo, error: MeshError): void {
    this.#take(replyTo)?.reject(error)
  }

  /** Everybody who still waits is told to come back later. */
  close(): void {
    this.#pipeline = undefined
    for (const replyTo of [...this.#callers.keys()]) this.refuse(replyTo, new MeshError('NoCoordinator', 'The coordinator is stopping.'))
  }

  #take(replyTo: ReplyTo): Caller | undefined {
    const caller = this.#callers.get(replyTo)
    this.#callers.delete(replyTo)
    return caller
  }
}
