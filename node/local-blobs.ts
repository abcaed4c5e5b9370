/** The blob calls of protocols/local.ts: what the owner's programs do with the store of their own machine. */
import { smallBytes } from '../protocols/blobs.ts'
import { MeshError, toMeshError } from '../protocols/errors.ts'
import type { BlobId, PeerIdText } from '../protocols/ids.ts'
import { type BlobStat, type LocalProtocol, maxBlobPieceBytes, maxTreePage } from '../protocols/local.ts'
import type { CallHandlers } from '../protocols/rpc.ts'
import type { BlobExchange } from './blobs.ts'
import { free } from './store/chunk-io.ts'
import type { Incoming } from './store/incoming.ts'
import type { BlobStore } from './store/store.ts'
import { importTree, maxTreeEntries, type TreeEntry, treeEntries } from './store/tree.ts'

/** Blobs in one page of a list (protocols/local.ts). */
const pageItems = 1000
/** Uploads open at once: each holds a chunk of memory. */
const maxUploads = 64
/** Directories that are being named at once: the largest is 200 MiB of names. */
const maxTrees = 4

type BlobCalls =
  | 'putBegin'
  | 'putPiece'
  | 'putEnd'
  | 'putAbort'
  | 'putSmall'
  | 'treeBegin'
  | 'treeAdd'
  | 'treeEnd'
  | 'fetch'
  | 'entries'
  | 'read'
  | 'readSmall'
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
  const trees = new Map<number, { path: string; id: BlobId }[]>()
  /** What a session is listing page by page. A blob never changes, so the pages fit together. */
  const listings = new WeakMap<AbortSignal, { id: BlobId; entries: TreeEntry[] }>()
  let lastHandle = 0

  const upload = (handle: number): Incoming => {
    const incoming = uploads.get(handle)
    if (incoming === undefined) throw new MeshError('InvalidRequestBody', `There is no upload ${handle}; begin one with putBegin.`)
    return incoming
  }

  const tree = (handle: number): { path: string; id: BlobId }[] => {
    const entries = trees.get(handle)
    if (entries === undefined) throw new MeshError('InvalidRequestBody', `There is no directory ${handle}; begin one with treeBegin.`)
    return entries
  }

  /** The blobs are also at the home, with their pin, before the answer: a laptop that put them may go. */
  const sendHome = async (ids: readonly BlobId[], pin: string | undefined, signal: AbortSignal): Promise<void> => {
    const home = homePeer()
    if (home !== undefined && home !== self) await exchange.push(ids, home, pin, { signal })
  }

  const stat = async (id: BlobId): Promise<BlobStat> => await store.stat(id)

  /** Brings a blob here unless it is. */
  const bring = async (id: BlobId, signal: AbortSignal): Promise<void> => {
    if (!(await store.has(id))) await exchange.pull(id, { home: homePeer(), signal })
  }

  /** Reads; what turns out to be damaged here, and was taken out of the store, is brought again first. */
  const healing = async <T>(id: BlobId, signal: AbortSignal, readIt: () => Promise<T>): Promise<T> => {
    try {
      return await readIt()
    } catch (error) {
      const { code } = toMeshError(error)
      if (code !== 'BlobCorrupt' && code !== 'BlobNotFound') throw error
      await bring(id, signal)
      return await readIt()
    }
  }

  const small = async (id: BlobId): Promise<Uint8Array> => {
    const manifest = await store.manifest(id)
    if (manifest.kind === 'directory')
      throw new MeshError('InvalidPropertyValue', `The blob ${id} is a directory; only files have bytes to read.`)
    if (manifest.content !== undefined) return manifest.content
    throw new MeshError(
      'InvalidPropertyValue',
      `The blob ${id} has ${manifest.size} bytes; read what has more than ${smallBytes} in pieces.`,
    )
  }

  /** Contents of small files that fit in one answer together, brought here first. */
  const allSmall = async (ids: readonly BlobId[], signal: AbortSignal): Promise<Uint8Array[]> => {
    const absent = (await store.rows(ids)).map((row, at) => (row === undefined ? ids[at]! : undefined)).filter((id) => id !== undefined)
    await Promise.all([...new Set(absent)].map((id) => bring(id, signal)))
    const bytes = (await store.rows(ids)).reduce((sum, row) => sum + (row?.size ?? 0), 0)
    if (bytes > maxBlobPieceBytes)
      throw new MeshError('InvalidPropertyValue', `The blobs have ${bytes} bytes together; read at most ${maxBlobPieceBytes} at once.`)
    return await Promise.all(ids.map((id) => healing(id, signal, () => small(id))))
  }

  /** What each session has begun and not ended. A program that went away does not come back for it. */
  const begun = new WeakMap<AbortSignal, Set<number>>()
  const begin = (signal: AbortSignal): number => {
    const standing = begun.get(signal)
    const mine = standing ?? new Set<number>()
    if (standing === undefined) {
      begun.set(signal, mine)
      // One a session, however many it begins: what a listener holds stays until the session's end.
      signal.addEventListener('abort', () => {
        for (const handle of mine) {
          trees.delete(handle)
          void uploads.get(handle)?.abort()
          uploads.delete(handle)
        }
      })
    }
    lastHandle += 1
    mine.add(lastHandle)
    return lastHandle
  }

  return {
    putBegin: (_request, { signal }) => {
      if (uploads.size >= maxUploads)
        throw new MeshError('ServerBusy', `At most ${maxUploads} uploads are open at once; try again when one has ended.`)
      const handle = begin(signal)
      uploads.set(handle, store.begin())
      return { handle }
    },
    putPiece: async ({ handle, data }) => {
      await upload(handle).append(data)
      free(data)
      return {}
    },
    putEnd: async ({ handle, pin }, { signal }) => {
      const incoming = upload(handle)
      uploads.delete(handle)
      begun.get(signal)?.delete(handle)
      const ended = await incoming.end(pin === undefined ? {} : { pin })
      await sendHome([ended.id], pin, signal)
      return ended
    },
    putAbort: async ({ handle }, { signal }) => {
      const incoming = uploads.get(handle)
      uploads.delete(handle)
      begun.get(signal)?.delete(handle)
      await incoming?.abort()
      return {}
    },
    putSmall: async ({ files, pin }, { signal }) => {
      const ids = await Promise.all(files.map((content) => store.addSmall(content, pin === undefined ? {} : { pin })))
      await sendHome([...new Set(ids)], pin, signal)
      return { ids }
    },
    treeBegin: (_request, { signal }) => {
      if (trees.size >= maxTrees)
        throw new MeshError('ServerBusy', `At most ${maxTrees} directories are put at once; try again when one has ended.`)
      const handle = begin(signal)
      trees.set(handle, [])
      return { handle }
    },
    treeAdd: ({ handle, entries }) => {
      const all = tree(handle)
      if (all.length + entries.length > maxTreeEntries)
        throw new MeshError('InvalidPropertyValue', `A directory blob holds at most ${maxTreeEntries} files; put its parts one by one.`)
      for (const { path, id } of entries) all.push({ path, id })
      return {}
    },
    treeEnd: async ({ handle, pin }, { signal }) => {
      const entries = tree(handle)
      trees.delete(handle)
      begun.get(signal)?.delete(handle)
      const made = await importTree(store, entries, pin === undefined ? {} : { pin })
      await sendHome([made.id], pin, signal)
      return made
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
    entries: async ({ id, after }, { signal }) => {
      let listing = listings.get(signal)
      if (listing?.id !== id) {
        await bring(id, signal)
        listing = { id, entries: await treeEntries(store, id) }
        listings.set(signal, listing)
      }
      const next = after + maxTreePage
      const isLast = next >= listing.entries.length
      if (isLast) listings.delete(signal)
      return { entries: listing.entries.slice(after, next), ...(isLast ? {} : { next }) }
    },
    read: async ({ id, offset, length }, { signal }) => ({ data: await healing(id, signal, () => store.read(id, offset, length)) }),
    readSmall: async ({ ids }, { signal }) => ({ files: await allSmall(ids, signal) }),
    blobStat: ({ id }) => stat(id),
    blobList: async ({ after }) => {
      const items = await store.list(after, pageItems)
      return items.length < pageItems ? { items } : { items, next: items.at(-1)!.id }
    },
    pin: async ({ id, name }, { signal }) => {
      await bring(id, signal)
      await store.pin(id, name)
      await sendHome([id], name, signal)
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
