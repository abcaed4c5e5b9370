/**
 * Whether other members are still there.
 *
 * A member that computes does not answer, for minutes perhaps, and is well. So silence only makes one look: a plain
 * connection to its port, which its kernel takes however busy it is. Where that is refused, or nobody answers, it is lost. As
 * long as it stays silent the plain connection stays open, for the kernels to watch (TCP keepalive).
 */
import type { Socket } from 'node:net'
import type { Card } from './card.ts'
import { knock } from './dial.ts'

/** A connection that says nothing says at least that. */
export const pingMs = 2000
/** Two pings are missing. With {@link connectMs} a machine that vanished is noticed within 9 s. */
const silentMs = 4000
const tickMs = 1000

export interface Watched {
  heardAt: number
  spokeAt: number
}

export interface WatchEvents {
  /** Connections that stand. */
  connections(): Iterable<[rank: number, connection: Watched]>
  ping(rank: number): void
  /** It is not there. */
  gone(rank: number, why: string): void
}

export class Watch {
  readonly #cards: readonly Card[]
  readonly #events: WatchEvents
  readonly #timer: NodeJS.Timeout
  readonly #looking = new Map<number, Socket | undefined>()
  readonly #stop = new AbortController()

  constructor(cards: readonly Card[], events: WatchEvents) {
    this.#cards = cards
    this.#events = events
    this.#timer = setInterval(() => this.#tick(), tickMs).unref()
  }

  /** Looks whether a member is there, once; nothing is said if it is. */
  look(rank: number): void {
    if (this.#looking.has(rank) || this.#stop.signal.aborted) return
    this.#looking.set(rank, undefined)
    knock(this.#cards[rank]!, this.#stop.signal).then(
      (socket) => {
        if (this.#stop.signal.aborted) return void socket.destroy()
        this.#looking.set(rank, socket)
        socket.unref()
        // It may be a stranger there by now: then it is looked after again, while it is silent.
        socket.on('error', () => undefined)
        socket.on('close', () => this.#looking.delete(rank))
      },
      (error: unknown) => {
        this.#looking.delete(rank)
        if (!this.#stop.signal.aborted) this.#events.gone(rank, error instanceof Error ? error.message : String(error))
      },
    )
  }

  close(): void {
    clearInterval(this.#timer)
    this.#stop.abort()
    for (const socket of this.#looking.values()) socket?.destroy()
    this.#looking.clear()
  }

  #tick(): void {
    const now = performance.now()
    const silent = new Set<number>()
    for (const [rank, { heardAt, spokeAt }] of this.#events.connections()) {
      if (now - spokeAt >= pingMs) this.#events.ping(rank)
      if (now - heardAt >= silentMs) silent.add(rank)
    }
    for (const [rank, socket] of this.#looking) if (!silent.has(rank)) socket?.destroy()
    for (const rank of silent) this.look(rank)
  }
}
