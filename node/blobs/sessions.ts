/** One blob session a peer, opened when first needed, and never more requests in it than the peer takes. */
import type { z } from 'zod'
import { type BlobsProtocol, blobsProtocol } from '../../protocols/blobs.ts'
import type { PeerIdText } from '../../protocols/ids.ts'
import { type CallOptions, clientSession, type Session } from '../../protocols/rpc.ts'
import type { Wire } from '../../protocols/wire.ts'
import { Limit } from './limit.ts'

type Calls = BlobsProtocol['server']['calls']

export class BlobSession {
  readonly #session: Session<BlobsProtocol['server'], BlobsProtocol['client']>
  readonly #inFlight = new Limit(blobsProtocol.maxInFlight)
  readonly #idleMs: number | undefined
  #calls = 0
  #idle: ReturnType<typeof setTimeout> | undefined

  /** `idleMs`: closed when nothing was asked for so long. */
  constructor(session: Session<BlobsProtocol['server'], BlobsProtocol['client']>, idleMs?: number) {
    this.#session = session
    this.#idleMs = idleMs
    this.#rest()
  }

  get isClosed(): boolean {
    return this.#session.isClosed
  }

  /** Asks, when the peer has room for one more request and the line for one more frame. */
  call<K extends keyof Calls>(
    name: K,
    body: z.input<Calls[K]['request']>,
    options: CallOptions = {},
  ): Promise<z.output<Calls[K]['answer']>> {
    this.#calls += 1
    clearTimeout(this.#idle)
    return this.#inFlight
      .run(async () => {
        await this.#session.drained(options.signal === undefined ? {} : { signal: options.signal })
        return await this.#session.call(name, body, options)
      })
      .finally(() => {
        this.#calls -= 1
        this.#rest()
      })
  }

  close(): void {
    clearTimeout(this.#idle)
    this.#session.close()
  }

  #rest(): void {
    if (this.#idleMs !== undefined && this.#calls === 0 && !this.isClosed) this.#idle = setTimeout(() => this.close(), this.#idleMs).unref()
  }
}

/** Sessions for bulk that nobody uses are closed after this: each is a connection. */
const idleMs = 60_000

export class BlobSessions {
  readonly #wire: Wire
  readonly #open = new Map<string, Promise<BlobSession>>()

  constructor(wire: Wire) {
    this.#wire = wire
  }

  /** For questions and small blobs. */
  to(peer: PeerIdText): Promise<BlobSession> {
    return this.#standing(peer, peer, {})
  }

  /** For large blobs: over a connection of its own, where there can be one. */
  bulk(peer: PeerIdText): Promise<BlobSession> {
    return this.#standing(`${peer} bulk`, peer, { direct: true, idleMs })
  }

  async #standing(key: string, peer: PeerIdText, options: { direct?: boolean; idleMs?: number }): Promise<BlobSession> {
    const standing = this.#open.get(key)
    if (standing !== undefined) {
      const session = await standing
      if (!session.isClosed) return session
      if (this.#open.get(key) === standing) this.#open.delete(key)
    }
    let opening = this.#open.get(key)
    if (opening === undefined) {
      opening = this.#wire
        .open(peer, blobsProtocol, options)
        .then((channel) => new BlobSession(clientSession(blobsProtocol, channel, { calls: {}, notes: {} }), options.idleMs))
      this.#open.set(key, opening)
      opening.catch(() => this.#open.delete(key))
    }
    return await opening
  }

  close(): void {
    for (const [key, opening] of this.#open) {
      this.#open.delete(key)
      opening.then(
        (session) => session.close(),
        () => undefined,
      )
    }
  }
}
