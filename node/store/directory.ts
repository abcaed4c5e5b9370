/**
 * Directory blobs: dag-pb UnixFS directories in the profile `unixfs-v1-2025`. A directory whose node would be larger
 * than 256 KiB is a tree of shards (HAMT, 256 wide, murmur3), as other IPFS tools make it.
 */
import * as dagPb from '@ipld/dag-pb'
import { murmur3128 } from '@multiformats/murmur3'
import { Bucket, createHAMT } from 'hamt-sharding'
import { UnixFS } from 'ipfs-unixfs'
import { MeshError } from '../../protocols/errors.ts'
import type { BlobId } from '../../protocols/ids.ts'
import { type Linked, nodeCid } from './unixfs.ts'

/** A larger directory node is sharded (profile). */
const maxDirectoryBytes = 256 * 1024
/** log2 of the width of a shard (profile). */
const shardBits = 8
/** Characters in front of a name in a shard: the index in hexadecimal. */
const prefixLength = 2
/** Multihash code of the murmur3 hash of shards (profile). */
const murmurCode = 0x22n
/** Other tools may shard later than at 256 KiB; beyond the largest block that IPFS exchanges nothing is valid. */
export const maxNodeBytes = 2 << 20

export interface DirectoryLink extends Linked {
  name: string
}

export interface BuiltDirectory extends Linked {
  id: BlobId
  /** All nodes of this directory, shards before the nodes that name them, the root last. */
  nodes: { id: BlobId; block: Uint8Array }[]
}

/** Builds a directory from its immediate children. Names are unique. */
export async function buildDirectory(links: readonly DirectoryLink[]): Promise<BuiltDirectory> {
  const flat = encodeNode(new UnixFS({ type: 'directory' }), links)
  if (flat.block.length <= maxDirectoryBytes) {
    return { id: flat.id, cid: flat.cid, totalBytes: flat.totalBytes, nodes: [{ id: flat.id, block: flat.block }] }
  }
  const bucket = createHAMT<DirectoryLink>({ hashFn: hashName, bits: shardBits })
  for (const link of links) await bucket.put(link.name, link)
  const nodes: BuiltDirectory['nodes'] = []
  const root = encodeShard(bucket, nodes)
  return { id: root.cid.toString(), cid: root.cid, totalBytes: root.totalBytes, nodes }
}

/** The hash that go-ipfs chose: the first 64 bits of murmur3-x64-128, reversed. */
async function hashName(name: Uint8Array): Promise<Uint8Array> {
  return (await murmur3128.encode(name)).slice(0, 8).reverse()
}

function encodeShard(bucket: Bucket<DirectoryLink>, nodes: BuiltDirectory['nodes']): Linked {
  const children = bucket._children
  const links: DirectoryLink[] = []
  for (let index = 0; index < children.length; index++) {
    const child = children.get(index)
    if (child == null) continue
    const prefix = index.toString(16).toUpperCase().padStart(prefixLength, '0')
    if (child instanceof Bucket) links.push({ name: prefix, ...encodeShard(child, nodes) })
    else links.push({ ...child.value, name: prefix + child.key })
  }
  const bits = Uint8Array.from(children.bitField().reverse())
  const data = new UnixFS({ type: 'hamt-sharded-directory', data: bits, fanout: BigInt(1 << shardBits), hashType: murmurCode })
  const node = encodeNode(data, links)
  nodes.push({ id: node.id, block: node.block })
  return node
}

function encodeNode(data: UnixFS, links: readonly DirectoryLink[]): Linked & { id: BlobId; block: Uint8Array } {
  const node = dagPb.prepare({
    Data: data.marshal(),
    Links: links.map((link) => ({ Name: link.name, Tsize: link.totalBytes, Hash: link.cid })),
  })
  const block = dagPb.encode(node)
  const cid = nodeCid(block)
  let totalBytes = block.length
  for (const link of links) totalBytes += link.totalBytes
  return { cid, id: cid.toString(), block, totalBytes }
}

/** A child of a directory node. `shard` children belong to the same directory and have no name. */
export interface Child {
  id: BlobId
  name: string
  kind: 'entry' | 'shard'
}

/** Reads one node of a directory. Throws BlobCorrupt for a block that is no directory or has names that lead out of it. */
export function directoryChildren(id: BlobId, block: Uint8Array): Child[] {
  let node: dagPb.PBNode
  let data: UnixFS
  try {
    node = dagPb.decode(block)
    data = UnixFS.unmarshal(node.Data ?? new Uint8Array())
  } catch (error) {
    throw new MeshError('BlobCorrupt', `The blob ${id} is no UnixFS directory.`, { cause: error })
  }
  const sharded = data.type === 'hamt-sharded-directory'
  if (!sharded && data.type !== 'directory') {
    throw new MeshError(
      'BlobCorrupt',
      `The blob ${id} is a UnixFS node of type ${data.type}, which is neither a directory nor a file of the profile unixfs-v1-2025.`,
    )
  }
  const seen = new Set<string>()
  return node.Links.map((link) => {
    const full = link.Name ?? ''
    const kind = sharded && full.length === prefixLength ? 'shard' : 'entry'
    const name = sharded ? full.slice(prefixLength) : full
    if (kind === 'entry' && !isEntryName(name)) {
      throw new MeshError('BlobCorrupt', `The directory blob ${id} has an entry named ${JSON.stringify(name)}, which is not a file name.`)
    }
    if (seen.has(full)) throw new MeshError('BlobCorrupt', `The directory blob ${id} has two entries named ${JSON.stringify(name)}.`)
    seen.add(full)
    return { id: link.Hash.toString(), name, kind }
  })
}

/** Whether a name can stand for one file in a directory: no separator, not `.` or `..`, at most 255 bytes (POSIX NAME_MAX). */
export function isEntryName(name: string): boolean {
  return name !== '' && name !== '.' && name !== '..' && !/[/\0]/.test(name) && Buffer.byteLength(name) <= 255
}
