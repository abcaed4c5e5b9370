/**
 * A link on which members part in good order. Each says to the primary what its function returned, and stays until the
 * primary has heard all of them and lets them go (MPI 4.1, MPI_Finalize, is collective as well). So whoever loses another one
 * before that has lost it to a fault, and what members sent each other last has arrived.
 */
import type { Envelope, Link, Receiver } from '../../groups/link.ts'

/** Of the messages about parting: beyond what groups count up to (groups/endpoint.ts). */
const partingContext = 2 ** 52
const primary = 0

export class PartingLink implements Link {
  readonly rank: number
  readonly size: number
  readonly #link: Link
  #receiver: Receiver | undefined
  readonly #gone = new Set<number>()
  /** Of these, who has not parted. */
  readonly #lost = new Map<number, Error>()
  /** What members returned, by rank; at the primary. */
  readonly #values = new Map<number, Uint8Array>()
  readonly #parted = Promise.withResolvers<void>()
  #isParting = false

  constructor(link: Link) {
    this.#link = link
    this.rank = link.rank
    this.size = link.size
    this.#parted.promise.catch(() => undefined)
  }

  /** Who is gone that has not parted; undefined if nobody is. */
  get missing(): number | undefined {
    return this.#lost.keys().next().value
  }

  receive(receiver: Receiver): void {
    this.#receiver = receiver
    const isOwn = ({ context }: Envelope) => context === partingContext
    this.#link.receive({
      begin: (from, envelope) => (isOwn(envelope) ? new Uint8Array(envelope.bytes) : receiver.begin(from, envelope)),
      end: (from, envelope, data) => (isOwn(envelope) ? this.#heard(from, data) : receiver.end(from, envelope, data)),
      lost: (rank, error) => this.lose(rank, error),
    })
  }

  send(to: number, envelope: Envelope, data: Uint8Array): Promise<void> | undefined {
    return this.#link.send(to, envelope, data)
  }

  shared(name: string, ranks: readonly number[], bytes: number): Promise<SharedArrayBuffer | undefined> {
    return this.#link.shared(name, ranks, bytes)
  }

  /** A member is gone: the link has noticed, or somebody else has. */
  lose(rank: number, error: Error): void {
    if (this.#gone.has(rank) || rank === this.rank) return
    this.#gone.add(rank)
    this.#receiver?.lost(rank, error)
    // It had said all that was to say.
    if (this.#values.has(rank)) return
    this.#lost.set(rank, error)
    this.#look()
  }

  /**
   * Parts with this value. At the primary it resolves to those of all members, by rank; elsewhere when the primary lets this
   * one {@link release | go}. Rejects when a member is lost before.
   */
  async part(value: Uint8Array): Promise<Uint8Array[]> {
    this.#isParting = true
    if (this.rank === primary) this.#values.set(primary, value)
    else await this.#tell(primary, value)
    this.#look()
    await this.#parted.promise
    return this.rank === primary ? Array.from({ length: this.size }, (_, rank) => this.#values.get(rank)!) : []
  }

  /** The primary lets all others go. One that is lost from now on has said what there was to say. */
  async release(): Promise<void> {
    if (this.rank === primary)
      await Promise.allSettled(Array.from({ length: this.size - 1 }, (_, at) => this.#tell(at + 1, new Uint8Array())))
  }

  close(): Promise<void> {
    return this.#link.close()
  }

  async #tell(to: number, data: Uint8Array): Promise<void> {
    await this.#link.send(to, { context: partingContext, tag: 0, type: 0, bytes: data.byteLength }, data)
  }

  #heard(from: number, data: Uint8Array): void {
    if (this.rank !== primary) return this.#parted.resolve()
    this.#values.set(from, data)
    this.#look()
  }

  /** At the primary any loss is in the way, elsewhere that of the primary. */
  #look(): void {
    if (!this.#isParting) return
    const lost = this.rank === primary ? this.#lost.entries().next().value?.[1] : this.#lost.get(primary)
    if (lost !== undefined) this.#parted.reject(lost)
    else if (this.#values.size === this.size) this.#parted.resolve()
  }
}
