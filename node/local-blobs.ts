/** The blob calls of protocols/local.ts: what the owner's programs do with the store of their own machine. */
import { MeshError } from '../protocols/errors.ts'
import type { BlobId, PeerIdText } from '../protocols/ids.ts'
import type { BlobStat, LocalProtocol } from '../protocols/local.ts'
import type { CallHandlers } from '../protocols/rpc.ts'
import type { BlobExchange } from './blobs.ts'
import type { Incoming } from './store/incoming.ts'
import type { BlobStore } from './store/store.ts'
import { importTree, treeEntries } from './store/tree.ts'

/** Blobs in one page of a list (protocols/local.ts). */
const pageItems = 1000
/** Uploads open at once: each holds a chunk of memory. */
const maxUploads = 64

type BlobCalls =
  | 'putBegin'
  | 'putPiece'
  | 'putEnd'
  | 'putAbort'
  | 'putTree'
  | 'fetch'
  | 'entries'
  | 'read'
  | 'blobStat'
  | 'blobList'
  | 'pin'
  | 'unpin'
  | 'gc'

export interface LocalBlobsOptions {
  store: BlobStore
  exchange: Pick<BlobExchange, 'pull' | 'push' | 'unpinAt'>
  /** This machine. */
  self: PeerIdText
  /** Where blobs of this mesh are kept: the coordinator, while one is known. */
  homePeer: () => PeerIdText | undefined
}

export function localBlobCalls(options: LocalBlobsOptions): Pick<CallHandlers<LocalProtocol['server']>, BlobCalls> {
  const { store, exchange, self, homePeer } = options
  const uploads = new Map<number, Incoming>()
  let lastHandle = 0

  const upload = (handle: number): Incoming => {
    const incoming = uploads.get(handle)
    if (incoming === undefined) throw new MeshError('InvalidRequestBody', `There is no upload ${handle}; begin one with putBegin.`)
    return incoming
  }

  /** The blob is also at the home, with its pin, before the answer: a laptop that put it may go. */
  const sendHome = async (id: BlobId, pin: string | undefined, signal: AbortSignal): Promise<void> => {
    const home = homePeer()
    if (home !== undefined && home !== self) await exchange.push([id], home, pin, { signal })
  }

  const stat = async (id: BlobId): Promise<BlobStat> => await store.stat(id)

  /** Brings a blob here unless it is. */
  const bring = async (id: BlobId, signal: AbortSignal): Promise<void> => {
    if (!(await store.has(id))) await exchange.pull(id, { home: homePeer(), signal })
  }

  return {
    putBegin: (_request, { signal }) => {
      if (uploads.size >= maxUploads)
        throw new MeshError('ServerBusy', `At most ${maxUploads} uploads are open at once; try again when one has ended.`)
      lastHandle += 1
      const handle = lastHandle
      const incoming = store.begin()
      uploads.set(handle, incoming)
      // A program that went away does not come back for its upload.
      signal.addEventListener('abort', () => {
        uploads.delete(handle)
        void incoming.abort()
      })
      return { handle }
    },
    putPiece: async ({ handle, data }) => {
      await upload(handle).append(data)
      return {}
    },
    putEnd: async ({ handle, pin }, { signal }) => {
      const incoming = upload(handle)
      uploads.delete(handle)
      const ended = await incoming.end(pin === undefined ? {} : { pin })
      await sendHome(ended.id, pin, signal)
      return ended
    },
    putAbort: async ({ handle }) => {
      const incoming = uploads.get(handle)
      uploads.delete(handle)
      await incoming?.abort()
      return {}
    },
    putTree: async ({ entries, pin }, { signal }) => {
      const tree = await importTree(store, entries, pin === undefined ? {} : { pin })
      await sendHome(tree.id, pin, signal)
      return tree
    },

    fetch: async ({ id }, { signal }) => {
      const release = await store.hold(id)
      try {
        await bring(id, signal)
        return await stat(id)
      } finally {
        release()
      }
    },
    entries: async ({ id }, { signal }) => {
      await bring(id, signal)
      return { entries: await treeEntries(store, id) }
    },
    read: async ({ id, offset, length }) => ({ data: await store.read(id, offset, length) }),
    blobStat: ({ id }) => stat(id),
    blobList: async ({ after }) => {
      const items = await store.list(after, pageItems)
      return items.length < pageItems ? { items } : { items, next: items.at(-1)!.id }
    },
    pin: async ({ id, name }, { signal }) => {
      await bring(id, signal)
      await store.pin(id, name)
      await sendHome(id, name, signal)
      return {}
    },
    unpin: async ({ id, name }) => {
      await store.unpin(id, name)
      const home = homePeer()
      if (home !== undefined && home !== self) await exchange.unpinAt(home, [id], name)
      return {}
    },
    gc: async () => ({ ...(await store.gc()), usedBytes: store.usedBytes }),
  }
}
