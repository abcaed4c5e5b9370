/**
 * Takes blobs to another machine: to a job's home, mostly. Small ones of many callers go together, up to 1 MiB a
 * message, so that the outputs of many tasks share round trips and syncs; larger ones go chunk by chunk, and only the
 * chunks that are missing there.
 */
import { batchBytes, maxIds } from '../../protocols/blobs.ts'
import { isErrorCode, MeshError, toMeshError } from '../../protocols/errors.ts'
import type { BlobId, PeerIdText } from '../../protocols/ids.ts'
import type { Manifest } from '../store/reader.ts'
import type { BlobStore } from '../store/store.ts'
import { digestBytes } from '../store/unixfs.ts'
import { Limit } from './limit.ts'
import { bulkChunks } from './pull-file.ts'
import type { BlobSession, BlobSessions } from './sessions.ts'

/** Batches of small blobs on the way to one peer: the next gathers while they are synced there. */
const batchesInFlight = 2
/** Larger files on the way at once. */
const filesInFlight = 4
/** Chunks of one file on the way at once. */
const windowChunks = 4

interface SmallItem {
  id: BlobId
  data: Uint8Array
  owner: string | undefined
  resolve: () => void
  reject: (error: MeshError) => void
}

interface Lane {
  queue: SmallItem[]
  senders: number
}

export class Pusher {
  readonly #store: BlobStore
  readonly #sessions: BlobSessions
  readonly #lanes = new Map<PeerIdText, Lane>()
  readonly #files = new Limit(filesInFlight)

  constructor(store: BlobStore, sessions: BlobSessions) {
    this.#store = store
    this.#sessions = sessions
  }

  /** Resolves when the blob, with all below it, is durable at the peer and pinned there for `owner`. */
  async push(id: BlobId, to: PeerIdText, owner: string | undefined, signal: AbortSignal): Promise<void> {
    const release = await this.#store.hold(id)
    try {
      await this.#blob(id, to, owner, signal, new Map())
    } finally {
      release()
    }
  }

  async #blob(id: BlobId, to: PeerIdText, owner: string | undefined, signal: AbortSignal, done: Map<BlobId, Promise<void>>): Promise<void> {
    signal.throwIfAborted()
    const manifest = await this.#store.manifest(id)
    if (manifest.kind === 'file' && manifest.content !== undefined) return await this.#small(to, id, manifest.content, owner)
    if (manifest.kind === 'file') return await this.#files.run(() => this.#file(id, manifest, to, owner, signal))
    // Children first: the other side takes a directory only when it is whole.
    const children = (await this.#store.children(id)).map((child) => {
      let one = done.get(child.id)
      if (one === undefined) {
        one = this.#blob(child.id, to, undefined, signal, done)
        done.set(child.id, one)
      }
      return one
    })
    const failed = (await Promise.allSettled(children)).find((result) => result.status === 'rejected')
    if (failed !== undefined) throw failed.reason
    await this.#small(to, id, manifest.block, owner)
  }

  async #file(
    id: BlobId,
    manifest: Manifest & { kind: 'file' },
    to: PeerIdText,
    owner: string | undefined,
    signal: AbortSignal,
  ): Promise<void> {
    const session = await (manifest.leaves.length < bulkChunks * digestBytes ? this.#sessions.to(to) : this.#sessions.bulk(to))
    const named = owner === undefined ? {} : { owner }
    const offer = await session.call('offer', { id, size: manifest.size, leaves: manifest.leaves, ...named }, { signal })
    if (offer.complete) return
    const indexes: number[] = []
    for (let index = 0; index < offer.missing.length * 8; index++) if ((offer.missing[index >> 3]! >> (index & 7)) & 1) indexes.push(index)
    const send = async () => {
      for (let index = indexes.shift(); index !== undefined; index = indexes.shift()) await this.#chunk(session, id, index, signal)
    }
    await Promise.all(Array.from({ length: windowChunks }, send))
    await session.call('commit', { id, ...named }, { signal })
  }

  async #chunk(session: BlobSession, id: BlobId, index: number, signal: AbortSignal): Promise<void> {
    const data = await this.#store.chunk(id, index)
    await session.call('putChunk', { id, index, data }, { signal })
  }

  #small(to: PeerIdText, id: BlobId, data: Uint8Array, owner: string | undefined): Promise<void> {
    return new Promise((resolve, reject) => {
      const lane = this.#lanes.get(to) ?? { queue: [], senders: 0 }
      this.#lanes.set(to, lane)
      lane.queue.push({ id, data, owner, resolve, reject })
      if (lane.senders >= batchesInFlight) return
      lane.senders += 1
      void this.#sendAll(to, lane)
    })
  }

  async #sendAll(to: PeerIdText, lane: Lane): Promise<void> {
    // The first of a burst waits for the rest of its turn of the loop.
    await new Promise<void>((resolve) => setImmediate(resolve))
    while (lane.queue.length > 0) {
      const batch = takeBatch(lane.queue)
      try {
        const session = await this.#sessions.to(to)
        const items = batch.map(({ id, data, owner }) => (owner === undefined ? { id, data } : { id, data, owner }))
        const { results } = await session.call('putSmall', { items })
        for (const [index, item] of batch.entries()) {
          const refusal = results[index]
          if (refusal === null) item.resolve()
          else
            item.reject(
              new MeshError(refusal !== undefined && isErrorCode(refusal.code) ? refusal.code : 'InternalError', refusal?.message),
            )
        }
      } catch (error) {
        for (const item of batch) item.reject(toMeshError(error))
      }
    }
    lane.senders -= 1
    if (lane.senders === 0 && lane.queue.length === 0) this.#lanes.delete(to)
  }
}

/** As many of the first as one message should carry; at least one. */
function takeBatch(queue: SmallItem[]): SmallItem[] {
  let bytes = 0
  let count = 0
  while (count < queue.length && count < maxIds && (count === 0 || bytes + queue[count]!.data.length <= batchBytes)) {
    bytes += queue[count]!.data.length
    count += 1
  }
  return queue.splice(0, count)
}
