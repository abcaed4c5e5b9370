/**
 * Directory blobs: dag-pb UnixFS directories in the profile `unixfs-v1-2025`. A directory whose node would be larger
 * than 256 KiB is a tree of shards (HAMT, 256 wide, murmur3), as other IPFS tools make it.
 */
import * as dagPb from '@ipld/dag-pb'
import { murmur3128 } from '@multiformats/murmur3'
import { UnixFS } from 'ipfs-unixfs'
import { MeshError } from '../../protocols/errors.ts'
import type { BlobId } from '../../protocols/ids.ts'
import { type Linked, nodeCid } from './unixfs.ts'

/** A larger directory node is sharded (profile). */
const maxDirectoryBytes = 256 * 1024
/** Width of a shard (profile): one byte of the hash of a name chooses the slot. */
const fanout = 256
const hashBytes = 8
/** Names whose hashes agree so far were made to. */
const maxShardDepth = 64
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
  const hashed: HashedLink[] = []
  for (const link of links) hashed.push({ ...link, hash: await hashName(link.name, 0) })
  const nodes: BuiltDirectory['nodes'] = []
  const root = await encodeShard(hashed, 0, nodes)
  return { id: root.id, cid: root.cid, totalBytes: root.totalBytes, nodes }
}

interface HashedLink extends DirectoryLink {
  /** The first 64 bits: each level takes the next byte. */
  hash: Uint8Array
}

/** The hash that go-ipfs chose: the first 64 bits of murmur3-x64-128. When they are used up, the name is hashed with a byte more. */
async function hashName(name: string, round: number): Promise<Uint8Array> {
  const bytes = Buffer.from(round === 0 ? name : `${name}${String.fromCharCode(round)}`)
  return (await murmur3128.encode(bytes)).slice(0, hashBytes)
}

async function encodeShard(entries: HashedLink[], depth: number, nodes: BuiltDirectory['nodes']): Promise<Linked & { id: BlobId }> {
  if (depth >= maxShardDepth)
    throw new MeshError('InvalidPropertyValue', `The names ${entries[0]!.name} and ${entries[1]!.name} cannot lie in one directory.`)
  if (depth > 0 && depth % hashBytes === 0) for (const entry of entries) entry.hash = await hashName(entry.name, depth / hashBytes)
  const slots = new Map<number, HashedLink[]>()
  for (const entry of entries) {
    const slot = entry.hash[depth % hashBytes]!
    const inSlot = slots.get(slot)
    if (inSlot === undefined) slots.set(slot, [entry])
    else inSlot.push(entry)
  }
  const links: DirectoryLink[] = []
  const bits = new Uint8Array(fanout / 8)
  for (const slot of [...slots.keys()].toSorted((a, b) => a - b)) {
    const inSlot = slots.get(slot)!
    const prefix = slot.toString(16).toUpperCase().padStart(prefixLength, '0')
    // Big-endian: slot 0 is the lowest bit of the last byte.
    bits[bits.length - 1 - (slot >> 3)]! |= 1 << (slot & 7)
    if (inSlot.length > 1) links.push({ name: prefix, ...(await encodeShard(inSlot, depth + 1, nodes)) })
    else links.push({ name: prefix + inSlot[0]!.name, cid: inSlot[0]!.cid, totalBytes: inSlot[0]!.totalBytes })
  }
  const data = bits.subarray(bits.findIndex((byte) => byte !== 0))
  const node = encodeNode(new UnixFS({ type: 'hamt-sharded-directory', data, fanout: BigInt(fanout), hashType: murmurCode }), links)
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
