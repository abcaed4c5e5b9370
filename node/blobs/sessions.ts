/** One blob session a peer, opened when first needed. */
import { type BlobsProtocol, blobsProtocol } from '../../protocols/blobs.ts'
import type { PeerIdText } from '../../protocols/ids.ts'
import { clientSession, type Session } from '../../protocols/rpc.ts'
import type { Wire } from '../../protocols/wire.ts'

export type BlobSession = Session<BlobsProtocol['server'], BlobsProtocol['client']>

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
      opening = this.#wire.open(peer, blobsProtocol).then((channel) => clientSession(blobsProtocol, channel, { calls: {}, notes: {} }))
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
