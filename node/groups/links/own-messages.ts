/** What a member sends to itself: handed over in order, a turn of the microtasks later, and never while it is sending. */
import type { Envelope, Receiver } from '../link.ts'

interface Own {
  envelope: Envelope
  data: Uint8Array
  done: PromiseWithResolvers<void>
}

export class OwnMessages {
  readonly #rank: number
  readonly #queue: Own[] = []
  #receiver: Receiver | undefined
  #isAwake = false

  constructor(rank: number) {
    this.#rank = rank
  }

  receive(receiver: Receiver): void {
    this.#receiver = receiver
    this.#wake()
  }

  send(envelope: Envelope, data: Uint8Array): Promise<void> {
    const done = Promise.withResolvers<void>()
    this.#queue.push({ envelope, data, done })
    this.#wake()
    return done.promise
  }

  #wake(): void {
    if (this.#isAwake || this.#receiver === undefined || this.#queue.length === 0) return
    this.#isAwake = true
    queueMicrotask(() => {
      this.#isAwake = false
      for (const { envelope, data, done } of this.#queue.splice(0)) {
        const target = this.#receiver!.begin(this.#rank, envelope)
        target.set(data)
        this.#receiver!.end(this.#rank, envelope, target)
        done.resolve()
      }
    })
  }
}
