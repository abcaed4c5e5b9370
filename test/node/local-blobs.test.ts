import { randomBytes } from 'node:crypto'
import { readdir } from 'node:fs/promises'
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
    const tree = await calls.putTree({ entries, pin: 'tree' }, context)
    expect(tree.size).toBe(2 * MiB + 1)
    expect(await home.store.stat(tree.id)).toMatchObject({ kind: 'directory', complete: true, pins: ['tree'] })
    const listed = (await calls.entries({ id: tree.id }, context)).entries
    expect(listed.toSorted((one, other) => (one.path < other.path ? -1 : 1))).toEqual([entries[1], entries[0]])
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

  it('refuse what was not begun, with what to do', async () => {
    await expect(calls.putPiece({ handle: 9, data: new Uint8Array(1) }, context)).rejects.toThrow(/begin one with putBegin/)
    await expect(calls.blobStat({ id: idOf(Buffer.from('absent')) }, context)).rejects.toMatchObject({ code: 'BlobNotFound' })
  })
})
