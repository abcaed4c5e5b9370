/** The exchange of blobs: a store on the wire. What one machine has, any member of the mesh can have. */
import { blobsProtocol, maxProviders } from '../protocols/blobs.ts'
import { MeshError } from '../protocols/errors.ts'
import type { BlobId, PeerIdText } from '../protocols/ids.ts'
import { serverSession } from '../protocols/rpc.ts'
import type { Wire } from '../protocols/wire.ts'
import { type PullOptions, pull as pullBlob } from './blobs/pull.ts'
import { Pusher } from './blobs/push.ts'
import { blobCalls } from './blobs/serve.ts'
import { BlobSessions } from './blobs/sessions.ts'
import { Tracker } from './blobs/tracker.ts'
import type { StoreLog } from './store/reader.ts'
import type { BlobStore } from './store/store.ts'

/** A peer that gave wrong bytes is not asked again for this long: a bad disk stays bad for a while. */
const liarMs = 600_000
/** One that was named as a fetcher and could not be reached is not dialled again for this long: a dial that is let wait holds a place. */
const awayMs = 30_000

export interface BlobExchange {
  /** Brings a blob, with all below it, into the store, every byte checked. Pulls of the same blob share one. BlobNotFound when nobody has it. */
  pull(id: BlobId, options?: PullOptions): Promise<void>
  /** Resolves when the blobs are durable at the peer and pinned there for `owner`; at this machine, when they are pinned. */
  push(ids: readonly BlobId[], to: PeerIdText, owner: string | undefined, options?: { signal?: AbortSignal }): Promise<void>
  /** Pins blobs that the peer has; resolves to those it has not. */
  pinAt(peer: PeerIdText, ids: readonly BlobId[], name: string): Promise<BlobId[]>
  unpinAt(peer: PeerIdText, ids: readonly BlobId[], name: string): Promise<void>
  /** Stops serving and ends every pull and push. */
  close(): void
}

interface SharedPull {
  done: Promise<void>
  users: number
  controller: AbortController
}

export function startBlobExchange(options: {
  wire: Wire
  store: BlobStore
  tracker?: Tracker
  /** Asked for blobs when a pull names no home: the coordinator. */
  homePeer?: () => PeerIdText | undefined
  log?: StoreLog
  now?: () => number
}): BlobExchange {
  const { wire, store, tracker = new Tracker(), homePeer, log, now = () => performance.now() } = options
  const sessions = new BlobSessions(wire)
  const pusher = new Pusher(store, sessions)
  const liars = new Map<PeerIdText, number>()
  const away = new Map<PeerIdText, number>()
  const pulls = new Map<BlobId, SharedPull>()
  const closing = new AbortController()
  const calls = blobCalls(store, tracker, (peer) => wire.addresses(peer))
  const stopServing = wire.serve(blobsProtocol, (channel) => {
    serverSession(blobsProtocol, channel, { calls, notes: {} })
  })

  const context = {
    store,
    sessions,
    self: wire.peer,
    onLiar: (peer: PeerIdText, id: BlobId) => {
      liars.set(peer, now() + liarMs)
      log?.warn({ peer, blob: id }, 'a machine gave bytes that do not match a blob and is not asked for a while')
    },
    onAway: (peer: PeerIdText) => {
      for (const [known, untilMs] of away) if (untilMs <= now()) away.delete(known)
      away.set(peer, now() + awayMs)
    },
    isAway: (peer: PeerIdText) => (away.get(peer) ?? 0) > now(),
    learn: (peer: PeerIdText, addresses: readonly string[]) => wire.learn(peer, addresses),
    seeds: (id: BlobId) => tracker.providers(id, wire.peer, maxProviders),
    isLiar: (peer: PeerIdText) => (liars.get(peer) ?? 0) > now(),
  }

  const startPull = (id: BlobId, pullOptions: PullOptions): SharedPull => {
    if (closing.signal.aborted) throw new MeshError('Aborted', 'The blob exchange of this machine is closed.')
    const controller = new AbortController()
    const signal = AbortSignal.any([controller.signal, closing.signal])
    const forget = () => {
      if (pulls.get(id) === shared) pulls.delete(id)
    }
    const shared: SharedPull = { done: pullBlob(context, id, pullOptions, signal).finally(forget), users: 0, controller }
    pulls.set(id, shared)
    return shared
  }

  const pull = async (id: BlobId, asked: PullOptions = {}): Promise<void> => {
    const pullOptions = { home: homePeer?.(), ...asked }
    const { signal } = pullOptions
    if (signal?.aborted) throw new MeshError('Aborted')
    const standing = pulls.get(id)
    try {
      return await takePart(standing ?? startPull(id, pullOptions), id, signal)
    } catch (error) {
      // Whoever began it may have known fewer machines to ask.
      if (standing === undefined || signal?.aborted || closing.signal.aborted) throw error
    }
    return await takePart(pulls.get(id) ?? startPull(id, pullOptions), id, signal)
  }

  const takePart = async (shared: SharedPull, id: BlobId, signal: AbortSignal | undefined): Promise<void> => {
    shared.users += 1
    const aborted = Promise.withResolvers<never>()
    const onAbort = () => aborted.reject(new MeshError('Aborted'))
    signal?.addEventListener('abort', onAbort, { once: true })
    try {
      await Promise.race([shared.done, aborted.promise])
    } finally {
      signal?.removeEventListener('abort', onAbort)
      shared.users -= 1
      // The last to lose interest ends it.
      if (shared.users === 0) {
        if (pulls.get(id) === shared) pulls.delete(id)
        shared.done.catch(() => undefined)
        shared.controller.abort(new MeshError('Aborted'))
      }
    }
  }

  // A blob of the store that went bad comes back from those that fetched it here.
  store.onDamaged = (id) => {
    pull(id).catch(() => undefined)
  }

  return {
    pull,
    push: async (ids, to, owner, { signal } = {}) => {
      const either = signal === undefined ? closing.signal : AbortSignal.any([signal, closing.signal])
      const work = ids.map(async (id) => {
        if (to !== wire.peer) return await pusher.push(id, to, owner, either)
        if (owner !== undefined) await store.pin(id, owner)
      })
      const failed = (await Promise.allSettled(work)).find((result) => result.status === 'rejected')
      if (failed !== undefined) throw failed.reason
    },
    pinAt: async (peer, ids, name) => (await (await sessions.to(peer)).call('pin', { ids: [...ids], name })).absent,
    unpinAt: async (peer, ids, name) => {
      await (await sessions.to(peer)).call('unpin', { ids: [...ids], name })
    },
    close: () => {
      closing.abort(new MeshError('Aborted', 'The blob exchange of this machine is closed.'))
      stopServing()
      sessions.close()
      store.onDamaged = undefined
    },
  }
}
