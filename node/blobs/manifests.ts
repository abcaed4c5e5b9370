/** Asking machines what blobs are made of, and believing only what matches the ids. */
import { maxIds, maxNodeBytes, type WireManifest } from '../../protocols/blobs.ts'
import { MeshError, toMeshError } from '../../protocols/errors.ts'
import type { BlobId, PeerIdText } from '../../protocols/ids.ts'
import { type Child, directoryChildren } from '../store/directory.ts'
import { inThread } from '../store/hash-pool.ts'
import { chunkBytes, chunkCount, fileRoot, nodeCid, parseBlobId, sha256 } from '../store/unixfs.ts'
import type { Source } from './pull-file.ts'

/** Lists of digests up to this are checked where they are. */
const inlineLeaves = 1024

export type Verified =
  | { kind: 'content'; content: Uint8Array }
  /** A file of one chunk whose digest is its id; its size is not known before its bytes are. */
  | { kind: 'chunk' }
  | { kind: 'file'; size: number; leaves: Uint8Array }
  | { kind: 'directory'; block: Uint8Array; children: Child[] }

/** Checks a manifest against the id it was asked for. Throws BlobCorrupt. */
export async function verifyManifest(id: BlobId, manifest: WireManifest): Promise<Verified> {
  const { codec, digest } = parseBlobId(id)
  const refuse = (why: string) => new MeshError('BlobCorrupt', `The description of the blob ${id} is wrong: ${why}.`)
  if (manifest.kind === 'directory') {
    if (codec !== 'node') throw refuse('its id is that of a file')
    if (manifest.block.length > maxNodeBytes || nodeCid(manifest.block).toString() !== id)
      throw refuse('the directory does not match the id')
    const block = new Uint8Array(manifest.block)
    return { kind: 'directory', block, children: directoryChildren(id, block) }
  }
  if (codec === 'raw') {
    if (manifest.size > chunkBytes) throw refuse('its id is that of a single chunk')
    if (manifest.content === undefined) return { kind: 'chunk' }
    if (manifest.content.length !== manifest.size || Buffer.compare(sha256(manifest.content), digest) !== 0)
      throw refuse('the content does not match the id')
    return { kind: 'content', content: new Uint8Array(manifest.content) }
  }
  const leaves = new Uint8Array(manifest.leaves)
  const { size } = manifest
  if (leaves.length !== chunkCount(size) * 32)
    throw refuse(`${size} bytes are ${chunkCount(size)} chunks, it has ${leaves.length / 32} digests`)
  const root = leaves.length > inlineLeaves * 32 ? await inThread('rootOf', { leaves, size }) : fileRoot(leaves, size)
  if (root.id !== id) throw refuse('its chunks do not make up the id')
  return { kind: 'file', size, leaves }
}

export interface Asked {
  found: Map<BlobId, Verified>
  /** A source that has it, where one was found. */
  holder: Map<BlobId, PeerIdText>
  liars: Set<PeerIdText>
  /** Set when a source could not be asked: then what was not found may exist after all. */
  lastError: MeshError | undefined
}

/** Asks one source after the other for what is still unknown. */
export async function askManifests(ids: readonly BlobId[], sources: readonly Source[], signal: AbortSignal): Promise<Asked> {
  const asked: Asked = { found: new Map(), holder: new Map(), liars: new Set(), lastError: undefined }
  let unknown = [...ids]
  for (const source of sources) {
    if (unknown.length === 0) break
    try {
      unknown = await askOne(unknown, source, asked, signal)
    } catch (error) {
      signal.throwIfAborted()
      asked.lastError = toMeshError(error)
      unknown = unknown.filter((id) => !asked.found.has(id))
    }
  }
  return asked
}

async function askOne(ids: readonly BlobId[], source: Source, asked: Asked, signal: AbortSignal): Promise<BlobId[]> {
  const session = await source.session()
  const unknown: BlobId[] = []
  for (let at = 0; at < ids.length; ) {
    const some = ids.slice(at, at + maxIds)
    const { items } = await session.call('manifests', { ids: some }, { signal })
    for (const [index, id] of some.slice(0, items.length).entries()) {
      const manifest = items[index]!
      const verified =
        manifest === null
          ? undefined
          : await verifyManifest(id, manifest).catch((error: unknown) => {
              asked.liars.add(source.peer)
              asked.lastError = toMeshError(error)
            })
      if (verified === undefined) unknown.push(id)
      else {
        asked.found.set(id, verified)
        asked.holder.set(id, source.peer)
      }
    }
    at += Math.min(items.length, some.length)
    // One wrong description is enough to believe nothing else.
    if (asked.liars.has(source.peer)) return [...unknown, ...ids.slice(at)]
  }
  return unknown
}
