/** Two links as one: shared memory with the members of this process, TLS with the others. */
import type { Envelope, Link, Receiver } from '../link.ts'

export class CombinedLink implements Link {
  readonly rank: number
  readonly size: number
  readonly #near: Link
  readonly #far: Link
  readonly #isNear: (rank: number) => boolean

  /** `near` carries messages to the members that `isNear` names, this one among them. */
  constructor(near: Link, far: Link, isNear: (rank: number) => boolean) {
    this.rank = near.rank
    this.size = near.size
    this.#near = near
    this.#far = far
    this.#isNear = isNear
  }

  receive(receiver: Receiver): void {
    this.#near.receive(receiver)
    this.#far.receive(receiver)
  }

  send(to: number, envelope: Envelope, data: Uint8Array): Promise<void> | undefined {
    return (this.#isNear(to) ? this.#near : this.#far).send(to, envelope, data)
  }

  shared(name: string, ranks: readonly number[], bytes: number): Promise<SharedArrayBuffer | undefined> {
    return this.#near.shared(name, ranks, bytes)
  }

  async close(): Promise<void> {
    await Promise.all([this.#near.close(), this.#far.close()])
  }
}
