/** The serving side of protocols/blobs.ts: what a machine's store gives to, and takes from, the members of its mesh. */
import {
  type BlobsProtocol,
  batchBytes,
  maxAddressChars,
  maxProviderAddresses,
  maxProviders,
  type WireManifest,
} from '../../protocols/blobs.ts'
import { MeshError, toMeshError } from '../../protocols/errors.ts'
import type { BlobId, PeerIdText } from '../../protocols/ids.ts'
import type { CallHandlers } from '../../protocols/rpc.ts'
import type { Remote } from '../../protocols/wire.ts'
import { free } from '../store/chunk-io.ts'
import { inThread } from '../store/hash-pool.ts'
import type { Receiving } from '../store/receiving.ts'
import type { BlobStore } from '../store/store.ts'
import { chunkCount, parseBlobId, sha256 } from '../store/unixfs.ts'
import { Limit } from './limit.ts'
import { Tracker } from './tracker.ts'

/** Chunks read at once for one peer: enough to fill a fast line, little enough that one peer does not starve the others. */
const chunksPerPeer = 8
/** Uploads of larger files that one peer may have open. */
const uploadsPerPeer = 64
/** Pins that hold the outputs of a job (S1). */
const jobPin = /^job:/

/** What one session has open. */
interface SessionState {
  reading: Limit
  uploads: Map<BlobId, Promise<Receiving>>
}

export function blobCalls(
  store: BlobStore,
  tracker = new Tracker(),
  addressesOf: (peer: PeerIdText) => readonly string[] = () => [],
): CallHandlers<BlobsProtocol['server']> {
  const readers = new Map<PeerIdText, { reading: Limit; sessions: number }>()
  const sessions = new WeakMap<AbortSignal, SessionState>()

  const stateOf = ({ remote, signal }: { remote: Remote; signal: AbortSignal }): SessionState => {
    const standing = sessions.get(signal)
    if (standing !== undefined) return standing
    const reader = readers.get(remote.peer) ?? { reading: new Limit(chunksPerPeer), sessions: 0 }
    readers.set(remote.peer, reader)
    reader.sessions += 1
    const state: SessionState = { reading: reader.reading, uploads: new Map() }
    sessions.set(signal, state)
    signal.addEventListener('abort', () => {
      reader.sessions -= 1
      if (reader.sessions === 0) readers.delete(remote.peer)
      // What had come stays on the disk: the peer goes on from there.
      for (const upload of state.uploads.values()) upload.then((receiving) => receiving.release()).catch(() => undefined)
    })
    return state
  }

  const endUpload = async (state: SessionState, id: BlobId): Promise<void> => {
    const upload = state.uploads.get(id)
    state.uploads.delete(id)
    await (await upload)?.release()
  }

  return {
    manifests: async ({ ids }) => {
      const items: (WireManifest | null)[] = []
      let heldBytes = 0
      for (const id of ids) {
        const manifest = await store.manifest(id).catch(nullIfAbsent)
        items.push(manifest)
        if (manifest !== null)
          heldBytes += manifest.kind === 'file' ? manifest.leaves.length + (manifest.content?.length ?? 0) : manifest.block.length
        if (heldBytes >= batchBytes) break
      }
      return { items }
    },

    chunk: ({ id, index }, context) => stateOf(context).reading.run(async () => ({ data: await store.chunk(id, index) })),

    chunks: async ({ id }, { remote }) => {
      // Who asks fetches it, and soon has parts to give.
      tracker.add(id, remote.peer)
      return { have: await store.chunksHere(id) }
    },

    have: async ({ ids }) => {
      const have: boolean[] = []
      for (const id of ids) have.push(await store.has(id))
      return { have }
    },

    providers: ({ id, seed }, { remote }) => {
      const found = tracker.providers(id, remote.peer, maxProviders)
      if (seed) tracker.add(id, remote.peer)
      const short = (peer: PeerIdText) => addressesOf(peer).filter((address) => address.length <= maxAddressChars)
      const addresses = Object.fromEntries(found.map((peer) => [peer, short(peer).slice(0, maxProviderAddresses)]))
      return { peers: found, addresses }
    },

    putSmall: async ({ items }, { remote }) => {
      const results = items.map(async ({ id, data, owner }) => {
        try {
          if (owner !== undefined) checkPin(owner, remote, 'set')
          await takeSmall(store, id, data, owner)
          return null
        } catch (error) {
          const { code, message } = toMeshError(error)
          return { code, message }
        }
      })
      return { results: await Promise.all(results) }
    },

    offer: async ({ id, size, leaves, owner }, context) => {
      if (owner !== undefined) checkPin(owner, context.remote, 'set')
      // It has the whole file, and is where to get it should this copy go bad.
      tracker.add(id, context.remote.peer)
      const [row] = await store.rows([id])
      if (row !== undefined) {
        if (owner !== undefined) await store.pin(id, owner)
        return { complete: true, missing: new Uint8Array() }
      }
      if (leaves.length !== chunkCount(size) * 32 || (await inThread('rootOf', { leaves: new Uint8Array(leaves), size })).id !== id) {
        throw new MeshError('BlobCorrupt', `The list of chunks that came with the offer is not that of the blob ${id}.`)
      }
      const state = stateOf(context)
      let upload = state.uploads.get(id)
      if (upload === undefined) {
        if (state.uploads.size >= uploadsPerPeer)
          throw new MeshError('ServerBusy', `One peer uploads at most ${uploadsPerPeer} large files at once.`)
        upload = store.receive(id, size, new Uint8Array(leaves))
        state.uploads.set(id, upload)
        upload.catch(() => state.uploads.delete(id))
      }
      const { partial } = await upload
      const missing = new Uint8Array(Math.ceil(partial.chunks / 8))
      for (let index = 0; index < partial.chunks; index++) if (!partial.has(index)) missing[index >> 3]! |= 1 << (index & 7)
      return { complete: false, missing }
    },

    putChunk: async ({ id, index, data }, context) => {
      const receiving = await stateOf(context).uploads.get(id)
      if (receiving === undefined)
        throw new MeshError('InvalidRequestBody', `The blob ${id} was not offered in this session; offer it first.`)
      if (index >= receiving.partial.chunks) throw new MeshError('InvalidRange', `The blob ${id} has ${receiving.partial.chunks} chunks.`)
      const isGood = await receiving.partial.write(index, data)
      free(data)
      if (!isGood) {
        throw new MeshError('BlobCorrupt', `Chunk ${index} of the blob ${id} does not match its digest.`)
      }
      return {}
    },

    commit: async ({ id, owner }, context) => {
      if (owner !== undefined) checkPin(owner, context.remote, 'set')
      const state = stateOf(context)
      const receiving = await state.uploads.get(id)
      const options = owner === undefined ? {} : { pin: owner }
      if (receiving !== undefined) {
        await receiving.finish(options)
        await endUpload(state, id)
      } else if (owner !== undefined) await store.pin(id, owner)
      return {}
    },

    pin: async ({ ids, name }, { remote }) => {
      checkPin(name, remote, 'set')
      const absent: BlobId[] = []
      const pinOne = async (id: BlobId) => {
        const pinned = await store.pin(id, name).catch(nullIfAbsent)
        if (pinned === null) absent.push(id)
      }
      await Promise.all(ids.map(pinOne))
      return { absent }
    },
    unpin: async ({ ids, name }, { remote }) => {
      checkPin(name, remote, 'take back')
      await Promise.all(ids.map((id) => store.unpin(id, name)))
      return {}
    },
    unpinAll: async ({ name }, { remote }) => {
      checkPin(name, remote, 'take back')
      await store.unpinAll(name)
      return {}
    },
  }
}

/** Takes in a small file or a node of a directory, if its bytes match the id. */
export async function takeSmall(store: BlobStore, id: BlobId, data: Uint8Array, owner: string | undefined, cache = false): Promise<void> {
  const { codec, digest } = parseBlobId(id)
  if (Buffer.compare(sha256(data), digest) !== 0)
    throw new MeshError('BlobCorrupt', `The bytes that came for the blob ${id} do not match it.`)
  const options = { ...(owner === undefined ? {} : { pin: owner }), cache }
  if (codec === 'raw') await store.addSmall(data, options)
  else await store.addDirectoryNode(data, id, options)
}

function checkPin(name: string, remote: Remote, verb: 'set' | 'take back'): void {
  const { roles } = remote
  const allowed = jobPin.test(name)
    ? roles.includes('coordinator') || (verb === 'set' && roles.includes('worker'))
    : roles.some((role) => role !== 'worker')
  if (!allowed) {
    throw new MeshError('InsufficientPermissions', `A peer with the roles ${roles.join(', ') || 'none'} may not ${verb} the pin "${name}".`)
  }
}

function nullIfAbsent(error: unknown): null {
  const { code } = toMeshError(error)
  if (code === 'BlobNotFound' || code === 'BlobCorrupt') return null
  throw error
}
