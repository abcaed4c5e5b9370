/** Directory blobs as trees of paths: built from a list of files, and read back as one. */
import { MeshError } from '../../protocols/errors.ts'
import type { BlobId } from '../../protocols/ids.ts'
import { buildDirectory, type DirectoryLink, isEntryName } from './directory.ts'
import { inThread } from './hash-pool.ts'
import type { PutOptions } from './incoming.ts'
import type { Row } from './ledger.ts'
import type { BlobStore } from './store.ts'
import { parseBlobId } from './unixfs.ts'

/** Files of one tree: what a listing holds in memory at once. */
export const maxTreeEntries = 1_000_000
/** Levels of directories, shards included: deeper than any file system path of 4096 bytes of one-letter names is useless. */
export const maxTreeDepth = 2048
/** Bytes of a path: no file system takes a longer one, and a small hostile blob could name a million of any length. */
const maxPathBytes = 4096

/** Nodes of directories that go in together: more would hold up the loop while they are read. */
export const nodeBatch = 64
/** Larger directories are built in a thread. */
const inlineLinks = 500

export interface TreeEntry {
  /** Below the tree's root, `/` between names. */
  path: string
  id: BlobId
  size: number
}

type Folder = Map<string, Folder | BlobId>

/** Makes a directory of blobs that are in the store. */
export async function importTree(
  store: BlobStore,
  entries: readonly { path: string; id: BlobId }[],
  options: PutOptions = {},
): Promise<{ id: BlobId; size: number }> {
  const root: Folder = new Map()
  for (const { path, id } of entries) place(root, path, id)
  const link = await build(store, root, '', options)
  const stat = await store.rows([link.cid.toString()])
  return { id: link.cid.toString(), size: stat[0]?.size ?? 0 }
}

function place(root: Folder, path: string, id: BlobId): void {
  const names = path.split('/')
  const bad = names.find((name) => !isEntryName(name))
  if (bad !== undefined) {
    throw new MeshError('InvalidPropertyValue', `The path ${JSON.stringify(path)} has a part ${JSON.stringify(bad)} that is no file name.`)
  }
  let folder = root
  for (const name of names.slice(0, -1)) {
    const inner = folder.get(name) ?? new Map<string, Folder | BlobId>()
    if (typeof inner === 'string')
      throw new MeshError('InvalidPropertyValue', `In the path ${JSON.stringify(path)}, ${name} is a file and a directory.`)
    folder.set(name, inner)
    folder = inner
  }
  const name = names.at(-1)!
  if (folder.has(name)) throw new MeshError('InvalidPropertyValue', `The path ${JSON.stringify(path)} occurs twice.`)
  folder.set(name, id)
}

async function build(store: BlobStore, folder: Folder, path: string, options: PutOptions): Promise<DirectoryLink> {
  const names = [...folder.keys()]
  const ids = names.map((name) => folder.get(name)).filter((value) => typeof value === 'string')
  const rows = new Map((await store.rows(ids)).map((row, index) => [ids[index]!, row]))
  const links: DirectoryLink[] = []
  for (const name of names) {
    const value = folder.get(name)!
    if (typeof value !== 'string') {
      links.push(await build(store, value, `${path}${name}/`, {}))
      continue
    }
    const row = rows.get(value)
    if (row === undefined) throw new MeshError('BlobNotFound', `The blob ${value} of ${path}${name} is not in the store; put it first.`)
    links.push({ name, cid: parseBlobId(value).cid, totalBytes: row.totalBytes })
  }
  const built =
    links.length > inlineLinks
      ? await inThread(
          'directoryOf',
          links.map(({ name, cid, totalBytes }) => ({ name, id: cid.toString(), totalBytes })),
        )
      : await buildDirectory(links)
  // Many together, in order: children come first, and one sync serves all of a batch.
  for (let at = 0; at < built.nodes.length; at += nodeBatch) {
    const batch = built.nodes.slice(at, at + nodeBatch)
    await Promise.all(batch.map((node) => store.addDirectoryNode(node.block, node.id, node.id === built.id ? options : {})))
  }
  return { name: path.split('/').at(-2) ?? '', cid: parseBlobId(built.id).cid, totalBytes: built.totalBytes }
}

/** All files below a blob, by path; the blob itself with an empty path when it is a file. Empty directories are not listed. */
export async function treeEntries(store: BlobStore, root: BlobId, maxEntries = maxTreeEntries): Promise<TreeEntry[]> {
  const entries: TreeEntry[] = []
  await walkTree(
    store,
    root,
    (entry) => {
      if (entry.kind === 'file') entries.push({ path: entry.path, id: entry.id, size: entry.size })
    },
    maxEntries,
  )
  return entries
}

/** Calls back for every directory and file below a blob, parents first. */
export async function walkTree(
  store: BlobStore,
  root: BlobId,
  visit: (entry: TreeEntry & { kind: 'file' | 'directory' }) => void,
  maxEntries = maxTreeEntries,
): Promise<void> {
  let count = 0
  const todo = [{ path: '', id: root, depth: 0, row: await requireRow(store, root, root), shard: false }]
  for (let item = todo.pop(); item !== undefined; item = todo.pop()) {
    const { path, id, depth, row } = item
    if (!item.shard) visit({ path, id, size: row.size, kind: row.kind })
    if (row.kind === 'file') continue
    if (depth > maxTreeDepth) throw new MeshError('BlobCorrupt', `The directory ${root} is more than ${maxTreeDepth} levels deep.`)
    const children = await store.children(id)
    count += children.length
    // The same directory named again and again makes a small blob a huge tree.
    if (count > maxEntries) throw new MeshError('BlobCorrupt', `The directory ${root} has more than ${maxEntries} entries.`)
    const rows = await store.rows(children.map((child) => child.id))
    for (const [index, child] of [...children.entries()].toReversed()) {
      const childRow = rows[index] ?? (await requireRow(store, child.id, root))
      const shard = child.kind === 'shard'
      const name = shard ? path : path === '' ? child.name : `${path}/${child.name}`
      if (name.length > maxPathBytes)
        throw new MeshError('BlobCorrupt', `The directory ${root} has paths of more than ${maxPathBytes} bytes.`)
      todo.push({ path: name, id: child.id, depth: depth + 1, row: childRow, shard })
    }
  }
}

async function requireRow(store: BlobStore, id: BlobId, root: BlobId): Promise<Row> {
  const [row] = await store.rows([id])
  if (row === undefined) throw new MeshError('BlobNotFound', `The blob ${id} of the directory ${root} is not in this store.`)
  return row
}
