import { randomBytes } from 'node:crypto'
import { getEventListeners } from 'node:events'
import { chmod, readdir, readFile, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { afterAll, afterEach, beforeEach, describe, expect, it } from 'vitest'
import { localBlobCalls } from '../../node/local-blobs.ts'
import { closeHashPool } from '../../node/store/hash-pool.ts'
import { type BlobPeer, BlobPeers, idOf, MiB, readAll } from '../support/blob-peers.ts'

let peers: BlobPeers
let home: BlobPeer
let laptop: BlobPeer
let calls: ReturnType<typeof localBlobCalls>
let program: AbortController
let context: { signal: AbortSignal; remote: { peer: string; roles: ['admin'] } }

beforeEach(async () => {
  peers = new BlobPeers()
  home = await peers.start('home', { roles: ['coordinator'] })
  laptop = await peers.start('laptop', { roles: ['submitter'] })
  calls = localBlobCalls({ store: laptop.store, exchange: laptop.exchange, self: laptop.peer, homePeer: () => home.peer })
  program = new AbortController()
  context = { signal: program.signal, remote: { peer: laptop.peer, roles: ['admin'] } }
})
afterEach(() => peers.close())
afterAll(closeHashPool)

async function put(bytes: Uint8Array, pin?: string): Promise<{ id: string; size: number }> {
  const { handle } = await calls.putBegin({}, context)
  const sent: unknown[] = []
  for (let at = 0; at < bytes.length; at += MiB)
    sent.push(calls.putPiece({ handle, data: new Uint8Array(bytes.subarray(at, at + MiB)) }, context))
  await Promise.all(sent)
  return await calls.putEnd({ handle, ...(pin === undefined ? {} : { pin }) }, context)
}

describe('the blob calls of the control socket', () => {
  it('B2: put a file that is also at the home, pinned, when putEnd answers', async () => {
    const bytes = randomBytes(3 * MiB + 7)
    expect(await put(bytes, 'mine')).toEqual({ id: idOf(bytes), size: bytes.length })
    expect(await home.store.stat(idOf(bytes))).toMatchObject({ complete: true, pins: ['mine'] })
    expect(await laptop.store.pins(idOf(bytes))).toEqual(['mine'])
  })

  it('put a directory of what was put before, and list it', async () => {
    const [a, b] = [await put(Buffer.from('a')), await put(randomBytes(2 * MiB))]
    const entries = [
      { path: 'x/a', id: a.id, size: a.size },
      { path: 'b', id: b.id, size: b.size },
    ]
    const { handle } = await calls.treeBegin({}, context)
    for (const entry of entries) await calls.treeAdd({ handle, entries: [entry] }, context)
    const tree = await calls.treeEnd({ handle, pin: 'tree' }, context)
    expect(tree.size).toBe(2 * MiB + 1)
    expect(await home.store.stat(tree.id)).toMatchObject({ kind: 'directory', complete: true, pins: ['tree'] })
    const listed = (await calls.entries({ id: tree.id, after: 0 }, context)).entries
    expect(listed.toSorted((one, other) => (one.path < other.path ? -1 : 1))).toEqual([entries[1], entries[0]])
  })

  it('put and read small files many at once, and list a directory of them in pages', async () => {
    const files = Array.from({ length: 2500 }, (_, at) => Buffer.from(`file ${at % 1000}`))
    const ids: string[] = []
    for (let at = 0; at < files.length; at += 500)
      ids.push(...(await calls.putSmall({ files: files.slice(at, at + 500).map((file) => new Uint8Array(file)) }, context)).ids)
    expect(ids).toEqual(files.map(idOf))
    const { handle } = await calls.treeBegin({}, context)
    const entries = ids.map((id, at) => ({ path: `d${at % 3}/${at}`, id, size: files[at]!.length }))
    for (let at = 0; at < entries.length; at += 1000) await calls.treeAdd({ handle, entries: entries.slice(at, at + 1000) }, context)
    const { id } = await calls.treeEnd({ handle }, context)
    expect((await home.store.stat(id)).complete).toBe(true)
    const listed: { path: string; id: string; size: number }[] = []
    const pages: number[] = []
    for (let after: number | undefined = 0; after !== undefined; ) {
      const page = await calls.entries({ id, after }, context)
      listed.push(...page.entries)
      pages.push(page.entries.length)
      after = page.next
    }
    expect(pages).toEqual([1000, 1000, 500])
    const byPath = (one: { path: string }, other: { path: string }) => (one.path < other.path ? -1 : 1)
    expect(listed.toSorted(byPath)).toEqual(entries.toSorted(byPath))
    const read = await calls.readSmall({ ids: [ids[7]!, ids[2]!] }, context)
    expect(read.files.map((file) => Buffer.from(file).toString())).toEqual(['file 7', 'file 2'])
  })

  it('refuse to read small files together that no answer holds, and directories', async () => {
    const put = () => calls.putSmall({ files: Array.from({ length: 18 }, () => new Uint8Array(randomBytes(30 << 10))) }, context)
    const ids = [...(await put()).ids, ...(await put()).ids]
    expect((await calls.readSmall({ ids: ids.slice(0, 34) }, context)).files).toHaveLength(34)
    await expect(calls.readSmall({ ids }, context)).rejects.toThrow(/1105920 bytes together/)
    const { handle } = await calls.treeBegin({}, context)
    await calls.treeAdd({ handle, entries: [{ path: 'a', id: ids[0]!, size: 30 << 10 }] }, context)
    const { id } = await calls.treeEnd({ handle }, context)
    await expect(calls.readSmall({ ids: [ids[0]!, id] }, context)).rejects.toThrow(/is a directory/)
  })

  it('B1: read what went bad on this disk from the machine that put it here, or took it from here', async () => {
    const bytes = randomBytes(3 * MiB)
    const { id } = await put(bytes)
    for (const [broken, read] of [
      [laptop, calls],
      [home, localBlobCalls({ store: home.store, exchange: home.exchange, self: home.peer, homePeer: () => home.peer })],
    ] as const) {
      const path = broken.store.filePath(id)
      await chmod(path, 0o600)
      await writeFile(path, Buffer.concat([bytes.subarray(0, 2 * MiB), Buffer.alloc(MiB)]))
      const pieces = [0, 1, 2].map(async (index) => (await read.read({ id, offset: index * MiB, length: MiB }, context)).data)
      expect(Buffer.compare(Buffer.concat(await Promise.all(pieces)), bytes)).toBe(0)
      expect(Buffer.compare(await readFile(path), bytes)).toBe(0)
    }
  })

  it('bring a blob from the mesh and read it', async () => {
    const bytes = randomBytes(2 * MiB)
    const incoming = home.store.begin()
    await incoming.append(bytes)
    const { id } = await incoming.end()
    expect(await calls.fetch({ id }, context)).toMatchObject({ id, kind: 'file', size: bytes.length, complete: true })
    const { data } = await calls.read({ id, offset: MiB - 1, length: 2 }, context)
    expect(Buffer.from(data)).toEqual(bytes.subarray(MiB - 1, MiB + 1))
    expect(Buffer.compare(await readAll(laptop.store, id), bytes)).toBe(0)
  })

  it('pin, unpin and sweep, here and at the home', async () => {
    const { id } = await put(Buffer.from('content'), 'first')
    await calls.pin({ id, name: 'second' }, context)
    expect(await home.store.pins(id)).toEqual(['first', 'second'])
    expect((await calls.blobStat({ id }, context)).pins).toEqual(['first', 'second'])
    for (const name of ['first', 'second']) await calls.unpin({ id, name }, context)
    expect(await home.store.pins(id)).toEqual([])
    expect(await calls.gc({}, context)).toEqual({ removed: 1, freedBytes: 7, usedBytes: 0 })
    expect(await calls.blobList({}, context)).toEqual({ items: [] })
  })

  it('forget the uploads of a program that went away', async () => {
    const { handle } = await calls.putBegin({}, context)
    await calls.putPiece({ handle, data: randomBytes(MiB) as never }, context)
    expect(await readdir(join(laptop.dir, 'blobs', 'tmp'))).toHaveLength(1)
    program.abort()
    await expect(calls.putEnd({ handle }, context)).rejects.toThrow(/no upload/)
    while ((await readdir(join(laptop.dir, 'blobs', 'tmp'))).length > 0) await new Promise((resolve) => setImmediate(resolve))
  })

  it('hold nothing of uploads that have ended, however long the program stays', async () => {
    await put(Buffer.from('first'))
    const listeners = getEventListeners(context.signal, 'abort').length
    for (let at = 0; at < 10; at += 1) await put(Buffer.from(`file ${at}`))
    const { handle } = await calls.treeBegin({}, context)
    await calls.treeEnd({ handle }, context)
    expect(getEventListeners(context.signal, 'abort')).toHaveLength(listeners)
  })

  it('refuse what was not begun, with what to do', async () => {
    await expect(calls.putPiece({ handle: 9, data: new Uint8Array(1) }, context)).rejects.toThrow(/begin one with putBegin/)
    await expect(calls.blobStat({ id: idOf(Buffer.from('absent')) }, context)).rejects.toMatchObject({ code: 'BlobNotFound' })
  })
})
