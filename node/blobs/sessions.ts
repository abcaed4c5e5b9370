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

  constructor(session: Session<BlobsProtocol['server'], BlobsProtocol['client']>) {
    this.#session = session
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
    return this.#inFlight.run(async () => {
      await this.#session.drained(options.signal === undefined ? {} : { signal: options.signal })
      return await this.#session.call(name, body, options)
    })
  }

  close(): void {
    this.#session.close()
  }
}

export class BlobSessions {
  readonly #wire: Wire
  readonly #open = new Map<PeerIdText, Promise<BlobSession>>()

  constructor(wire: Wire) {
    this.#wire = wire
  }

  async to(peer: PeerIdText): Promise<BlobSession> {
    const standing = this.#open.get(peer)
    if (standing !== undefined) {
      const session = await standing
      if (!session.isClosed) return session
      if (this.#open.get(peer) === standing) this.#open.delete(peer)
    }
    let opening = this.#open.get(peer)
    if (opening === undefined) {
      opening = this.#wire
        .open(peer, blobsProtocol)
        .then((channel) => new BlobSession(clientSession(blobsProtocol, channel, { calls: {}, notes: {} })))
      this.#open.set(peer, opening)
      opening.catch(() => this.#open.delete(peer))
    }
    return await opening
  }

  close(): void {
    for (const [peer, opening] of this.#open) {
      this.#open.delete(peer)
      opening.then(
        (session) => session.close(),
        () => undefined,
      )
    }
  }
}
