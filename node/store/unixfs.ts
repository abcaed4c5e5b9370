/**
 * Ids of files: IPFS CIDs in the profile `unixfs-v1-2025` (IPIP-499), the same that other IPFS tools print. CIDv1,
 * sha2-256, raw leaves of 1 MiB, a balanced tree at most 1024 wide, no mode and no time. A file of one chunk has its
 * raw leaf's id. Directories are in directory.ts.
 *
 * Because every number of the profile is fixed, the size and the digests of the leaves are all that it takes to build
 * an id, so a peer's list of leaves is checked by building the id from it: no other node of the tree is ever sent.
 */
import { createHash } from 'node:crypto'
import * as dagPb from '@ipld/dag-pb'
import { UnixFS } from 'ipfs-unixfs'
import { CID } from 'multiformats/cid'
import * as Digest from 'multiformats/hashes/digest'
import { MeshError } from '../../protocols/errors.ts'
import type { BlobId } from '../../protocols/ids.ts'

/** Bytes of a leaf (profile). */
export const chunkBytes = 1 << 20
/** Children of a node of a file's tree (profile). */
const maxWidth = 1024
export const digestBytes = 32

const rawCode = 0x55
const sha256Code = 0x12

/** A node of a tree: what a link to it says. */
export interface Linked {
  cid: CID
  /** Bytes of the node and all below it: the link's Tsize. */
  totalBytes: number
}

export function sha256(bytes: Uint8Array): Uint8Array {
  return createHash('sha256').update(bytes).digest()
}

/** Number of chunks of a file; an empty file has one, empty, chunk. */
export function chunkCount(size: number): number {
  return Math.max(1, Math.ceil(size / chunkBytes))
}

/** Bytes of one chunk of a file. */
export function chunkLength(size: number, index: number): number {
  return Math.min(chunkBytes, size - index * chunkBytes)
}

export function rawCid(digest: Uint8Array): CID {
  return CID.createV1(rawCode, Digest.create(sha256Code, digest))
}

export function nodeCid(block: Uint8Array): CID {
  return CID.createV1(dagPb.code, Digest.create(sha256Code, sha256(block)))
}

/** What an id says by itself: `raw` is a file of one chunk whose digest stands in the id, `node` the root of a larger file or a directory. */
export function parseBlobId(id: BlobId): { codec: 'raw' | 'node'; digest: Uint8Array; cid: CID } {
  let cid: CID
  try {
    cid = CID.parse(id)
  } catch (error) {
    throw new MeshError('InvalidPropertyValue', `"${id}" is not a blob id (a CIDv1 in base32, such as bafybei…).`, { cause: error })
  }
  const codec = cid.code === rawCode ? 'raw' : cid.code === dagPb.code ? 'node' : undefined
  if (cid.version !== 1 || codec === undefined || cid.multihash.code !== sha256Code || cid.multihash.size !== digestBytes) {
    throw new MeshError('InvalidPropertyValue', `The blob id ${id} is not of the profile unixfs-v1-2025: CIDv1, sha2-256, raw or dag-pb.`)
  }
  // A second spelling of the same id would be a second blob. (What was parsed gives back the text it came from.)
  const canonical = CID.decode(cid.bytes).toString()
  if (canonical !== id) throw new MeshError('InvalidPropertyValue', `The blob id ${id} is not in its canonical form ${canonical}.`)
  return { codec, digest: cid.multihash.digest, cid }
}

/** Digest of chunk `index` in a list of digests laid end to end. */
export function leafAt(leaves: Uint8Array, index: number): Uint8Array {
  return leaves.subarray(index * digestBytes, (index + 1) * digestBytes)
}

/** Root of a file with these leaves (digests laid end to end). Throws when their number does not fit the size. */
export function fileRoot(leaves: Uint8Array, size: number): Linked & { id: BlobId } {
  const count = chunkCount(size)
  if (leaves.length !== count * digestBytes) {
    throw new MeshError(
      'BlobCorrupt',
      `A file of ${size} bytes has ${count} chunks; the list of digests has ${leaves.length / digestBytes}.`,
    )
  }
  let level: (Linked & { contentBytes: number })[] = []
  for (let index = 0; index < count; index++) {
    const length = chunkLength(size, index)
    level.push({ cid: rawCid(leafAt(leaves, index)), totalBytes: length, contentBytes: length })
  }
  while (level.length > 1) {
    const above: typeof level = []
    for (let first = 0; first < level.length; first += maxWidth) above.push(fileNode(level.slice(first, first + maxWidth)))
    level = above
  }
  const root = level[0]!
  return { cid: root.cid, totalBytes: root.totalBytes, id: root.cid.toString() }
}

function fileNode(children: readonly (Linked & { contentBytes: number })[]): Linked & { contentBytes: number } {
  const data = new UnixFS({ type: 'file', blockSizes: children.map((child) => BigInt(child.contentBytes)) })
  const links = children.map((child) => ({ Name: '', Tsize: child.totalBytes, Hash: child.cid }))
  const block = dagPb.encode(dagPb.prepare({ Data: data.marshal(), Links: links }))
  let totalBytes = block.length
  let contentBytes = 0
  for (const child of children) {
    totalBytes += child.totalBytes
    contentBytes += child.contentBytes
  }
  return { cid: nodeCid(block), totalBytes, contentBytes }
}
