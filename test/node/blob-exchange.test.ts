import { randomBytes } from 'node:crypto'
import { stat } from 'node:fs/promises'
import { join } from 'node:path'
import { afterAll, afterEach, beforeEach, describe, expect, it } from 'vitest'
import { buildDirectory } from '../../node/store/directory.ts'
import { closeHashPool } from '../../node/store/hash-pool.ts'
import { importTree, treeEntries } from '../../node/store/tree.ts'
import { parseBlobId } from '../../node/store/unixfs.ts'
import { blobsProtocol } from '../../protocols/blobs.ts'
import { MeshError } from '../../protocols/errors.ts'
import { clientSession } from '../../protocols/rpc.ts'
import { BlobPeers, corrupt, idOf, leavesOf, MiB, put, readAll } from '../support/blob-peers.ts'

let peers: BlobPeers
beforeEach(() => {
  peers = new BlobPeers()
})
afterEach(() => peers.close())
afterAll(closeHashPool)

const chunksAsked = (asked: readonly string[]) => asked.filter((call) => call.startsWith('chunk '))

describe('pull', () => {
  for (const size of [0, 5, 32 * 1024, 32 * 1024 + 1, MiB, 3 * MiB + 1]) {
    it(`brings a file of ${size} bytes`, async () => {
      const [home, worker] = [await peers.start('home'), await peers.start('worker')]
      const bytes = randomBytes(size)
      const id = await put(home.store, bytes)
      await worker.exchange.pull(id, { home: home.peer })
      expect(Buffer.compare(await readAll(worker.store, id), bytes)).toBe(0)
    })
  }

  it('brings a directory with all below it, and small files in a few messages', async () => {
    const [home, worker] = [await peers.start('home'), await peers.start('worker')]
    const entries = await Promise.all(
      Array.from({ length: 1500 }, async (_, i) => ({
        path: `d${i % 7}/f${i}`,
        id: await home.store.addSmall(Buffer.from(`content ${i}`)),
      })),
    )
    entries.push({ path: 'large', id: await put(home.store, randomBytes(2 * MiB + 1)) })
    const tree = await importTree(home.store, entries)
    await worker.exchange.pull(tree.id, { home: home.peer })
    expect(await worker.store.has(tree.id)).toBe(true)
    expect((await treeEntries(worker.store, tree.id)).toSorted(byPath)).toEqual((await treeEntries(home.store, tree.id)).toSorted(byPath))
    expect(home.asked.filter((call) => call === 'manifests').length).toBeLessThan(10)
  })

  it('says that nobody has a blob, and that a machine could not be asked', async () => {
    const [home, worker] = [await peers.start('home'), await peers.start('worker')]
    const absent = idOf(randomBytes(10))
    await expect(worker.exchange.pull(absent, { home: home.peer })).rejects.toMatchObject({ code: 'BlobNotFound' })
    peers.net.cut(home.peer)
    await expect(worker.exchange.pull(absent, { home: home.peer })).rejects.toMatchObject({ code: 'Unreachable' })
    await expect(worker.exchange.pull('bafy', { home: home.peer })).rejects.toMatchObject({ code: 'InvalidPropertyValue' })
  })

  it('brings a directory that names another many times over once, and its listing is refused when it would be huge', async () => {
    const [home, worker] = [await peers.start('home'), await peers.start('worker')]
    const leaf = await home.store.addSmall(Buffer.from('x'))
    let bomb = await buildDirectory([{ name: 'x', cid: parseBlobId(leaf).cid, totalBytes: 1 }])
    await home.store.addDirectoryNode(bomb.nodes[0]!.block, bomb.id)
    // 2^40 paths in 41 nodes.
    for (let level = 0; level < 40; level++) {
      bomb = await buildDirectory([
        { name: 'a', ...bomb },
        { name: 'b', ...bomb },
      ])
      await home.store.addDirectoryNode(bomb.nodes[0]!.block, bomb.id)
    }
    await worker.exchange.pull(bomb.id, { home: home.peer })
    expect(await worker.store.list()).toHaveLength(42)
    await expect(treeEntries(worker.store, bomb.id, 1000)).rejects.toThrow(/more than 1000 entries/)
  })

  it('is shared by all who want the same blob, and goes on when one of them gives up', async () => {
    const [home, worker] = [await peers.start('home'), await peers.start('worker')]
    const id = await put(home.store, randomBytes(5 * MiB))
    const impatient = new AbortController()
    const all = Array.from({ length: 4 }, () => worker.exchange.pull(id, { home: home.peer }))
    const given = worker.exchange.pull(id, { home: home.peer, signal: impatient.signal })
    impatient.abort()
    await expect(given).rejects.toMatchObject({ code: 'Aborted' })
    await Promise.all(all)
    expect(chunksAsked(home.asked).toSorted()).toEqual([0, 1, 2, 3, 4].map((index) => `chunk ${index}`))
  })

  it('takes disjoint parts from several machines', async () => {
    const [a, b, worker] = [await peers.start('a'), await peers.start('b'), await peers.start('worker')]
    const bytes = randomBytes(24 * MiB)
    const id = await put(a.store, bytes)
    await put(b.store, bytes)
    await worker.exchange.pull(id, { providers: [a.peer, b.peer] })
    const [fromA, fromB] = [chunksAsked(a.asked), chunksAsked(b.asked)]
    expect(fromA.length).toBeGreaterThan(0)
    expect(fromB.length).toBeGreaterThan(0)
    expect(new Set([...fromA, ...fromB]).size).toBe(24)
    expect(fromA.length + fromB.length).toBe(24)
    expect(Buffer.compare(await readAll(worker.store, id), bytes)).toBe(0)
  })

  it('makes every fetcher a seed that the home tells of', async () => {
    const [home, first, second] = [await peers.start('home'), await peers.start('first'), await peers.start('second')]
    const id = await put(home.store, randomBytes(16 * MiB))
    await first.exchange.pull(id, { home: home.peer })
    home.asked.length = 0
    await second.exchange.pull(id, { home: home.peer })
    expect(chunksAsked(first.asked).length).toBeGreaterThan(0)
    expect(chunksAsked(home.asked).length + chunksAsked(first.asked).length).toBe(16)
  })

  it('of machines that begin together each takes another part from the home, and the rest from the others', async () => {
    const home = await peers.start('home')
    const bytes = randomBytes(48 * MiB)
    const id = await put(home.store, bytes)
    const fetchers = [await peers.start('a'), await peers.start('b'), await peers.start('c'), await peers.start('d')]
    await Promise.all(fetchers.map(({ exchange }) => exchange.pull(id, { home: home.peer })))
    expect(chunksAsked(home.asked).length).toBeLessThanOrEqual(2 * 48)
    for (const { asked, store } of fetchers) {
      expect(chunksAsked(asked).length).toBeGreaterThan(0)
      expect(Buffer.compare(await readAll(store, id), bytes)).toBe(0)
    }
  })

  it('tries machines of an older version, which cannot say what they have, chunk by chunk', async () => {
    const [home, old, worker] = [await peers.start('home'), await peers.start('old'), await peers.start('worker')]
    const id = await put(home.store, randomBytes(16 * MiB))
    await old.exchange.pull(id, { home: home.peer })
    peers.serve(old, () => ({
      chunks: () => {
        throw new MeshError('UnsupportedVersion', 'There is no call "chunks".')
      },
    }))
    old.asked.length = 0
    await worker.exchange.pull(id, { home: home.peer })
    expect(chunksAsked(old.asked).length).toBeGreaterThan(0)
  })

  it('fetches only what is missing after its process was killed', async () => {
    const home = await peers.start('home')
    const before = await peers.start('worker')
    const bytes = randomBytes(8 * MiB)
    const id = await put(home.store, bytes)
    let given = 0
    const fiveGiven = Promise.withResolvers<void>()
    peers.serve(home, (own) => ({
      chunk: async (request, context) => {
        given += 1
        if (given > 5) {
          fiveGiven.resolve()
          return await new Promise<never>(() => undefined)
        }
        return await own.chunk(request, context)
      },
    }))
    const pulling = before.exchange.pull(id, { home: home.peer })
    pulling.catch(() => undefined)
    await fiveGiven.promise
    // Four bytes a chunk that came.
    const list = join(before.dir, 'blobs', 'partial', `${id}.have`)
    await expectEventually(async () => (await stat(list)).size === 5 * 4)
    await peers.stop(before)
    await expect(pulling).rejects.toThrow()

    peers.serve(home, (own) => own)
    home.asked.length = 0
    const after = await peers.start('worker', { dir: before.dir })
    await after.exchange.pull(id, { home: home.peer })
    expect(chunksAsked(home.asked)).toHaveLength(8 - 5)
    expect(Buffer.compare(await readAll(after.store, id), bytes)).toBe(0)
  })
})

describe('B1: wrong bytes', () => {
  it('B1: a chunk that a peer corrupted is refused and fetched elsewhere, and that peer is not asked again', async () => {
    const [liar, honest, worker] = [await peers.start('liar'), await peers.start('honest'), await peers.start('worker')]
    const bytes = randomBytes(12 * MiB)
    const id = await put(liar.store, bytes)
    await put(honest.store, bytes)
    peers.serve(liar, (own) => ({
      chunk: async (request, context) => {
        const { data } = await own.chunk(request, context)
        const wrong = new Uint8Array(data)
        wrong[77]! ^= 1
        return { data: wrong }
      },
    }))
    await worker.exchange.pull(id, { providers: [liar.peer, honest.peer] })
    expect(Buffer.compare(await readAll(worker.store, id), bytes)).toBe(0)
    expect(chunksAsked(liar.asked).length).toBeGreaterThan(0)
    expect(chunksAsked(honest.asked).length).toBe(12)

    const other = await put(liar.store, randomBytes(100))
    liar.asked.length = 0
    await expect(worker.exchange.pull(other, { providers: [liar.peer] })).rejects.toMatchObject({ code: 'BlobNotFound' })
    expect(liar.asked).toEqual([])
  })

  it('B1: when only liars have it the pull fails and nothing is in the store', async () => {
    const [liar, worker] = [await peers.start('liar'), await peers.start('worker')]
    for (const size of [100, 100_000, 2 * MiB]) {
      const id = await put(liar.store, randomBytes(size))
      peers.serve(liar, () => ({
        chunk: () => ({ data: new Uint8Array(Math.min(size, MiB)) }),
        manifests: () => ({
          items: [
            {
              kind: 'file',
              size,
              leaves: new Uint8Array(32 * Math.ceil(size / MiB)),
              ...(size > 100 ? {} : { content: new Uint8Array(size) }),
            },
          ],
        }),
      }))
      await expect(worker.exchange.pull(id, { providers: [liar.peer] })).rejects.toBeInstanceOf(MeshError)
      expect(await worker.store.has(id)).toBe(false)
    }
  })

  it('B1: a chunk that went bad on the disk of a seed is never served; it comes from another, and the seed repairs itself', async () => {
    const [home, worker, third] = [await peers.start('home'), await peers.start('worker'), await peers.start('third')]
    const bytes = randomBytes(6 * MiB)
    const id = await put(home.store, bytes, 'job:1')
    await worker.exchange.pull(id, { home: home.peer })
    await corrupt(home.store, id, 1)
    worker.asked.length = 0
    // Whoever asks for it: which chunks a pull takes from the home is a matter of its plan.
    const session = clientSession(blobsProtocol, await third.wire.open(home.peer, blobsProtocol), { calls: {}, notes: {} })
    await expect(session.call('chunk', { id, index: 0 })).rejects.toMatchObject({ code: 'BlobCorrupt' })
    session.close()
    await third.exchange.pull(id, { home: home.peer })
    expect(Buffer.compare(await readAll(third.store, id), bytes)).toBe(0)
    await home.exchange.pull(id)
    expect(worker.asked).toContain('chunk 0')
    expect(Buffer.compare(await readAll(home.store, id), bytes)).toBe(0)
    expect(await home.store.pins(id)).toEqual(['job:1'])
  })
})

describe('push', () => {
  it('B2: makes files and directories durable and pinned at the home', async () => {
    const [home, worker] = [await peers.start('home', { roles: ['coordinator'] }), await peers.start('worker')]
    const small = await put(worker.store, Buffer.from('small'))
    const large = await put(worker.store, randomBytes(3 * MiB + 5))
    const tree = await importTree(worker.store, [
      { path: 'a/large', id: large },
      { path: 'a/small', id: small },
      { path: 'b/small', id: small },
    ])
    await worker.exchange.push([small, large, tree.id], home.peer, 'job:7')
    for (const id of [small, large, tree.id]) {
      expect(await home.store.stat(id)).toMatchObject({ complete: true, pins: ['job:7'] })
    }
  })

  it('carries a thousand small files of many callers in a handful of messages', async () => {
    const [home, worker] = [await peers.start('home'), await peers.start('worker')]
    const ids = await Promise.all(Array.from({ length: 1000 }, (_, i) => worker.store.addSmall(Buffer.from(`output ${i}`))))
    await Promise.all(ids.map((id, i) => worker.exchange.push([id], home.peer, `job:${i % 3}`)))
    expect((await home.store.rows(ids)).every((row) => row !== undefined)).toBe(true)
    expect(home.asked.length).toBeLessThan(10)
  })

  it('goes on with the missing chunks after the connection broke', async () => {
    const [home, worker] = [await peers.start('home'), await peers.start('worker')]
    const bytes = randomBytes(8 * MiB)
    const id = await put(worker.store, bytes)
    let taken = 0
    peers.serve(home, (own) => ({
      putChunk: async (request, context) => {
        taken += 1
        if (taken === 6) peers.net.cut(home.peer)
        return await own.putChunk(request, context)
      },
    }))
    await expect(worker.exchange.push([id], home.peer, 'job:1')).rejects.toMatchObject({ retryable: true })
    peers.serve(home, (own) => own)
    peers.net.heal(home.peer)
    home.asked.length = 0
    await worker.exchange.push([id], home.peer, 'job:1')
    expect(home.asked.filter((call) => call.startsWith('putChunk')).length).toBeLessThan(8)
    expect(Buffer.compare(await readAll(home.store, id), bytes)).toBe(0)
    home.asked.length = 0
    await worker.exchange.push([id], home.peer, 'job:2')
    expect(home.asked).toEqual(['offer'])
    expect(await home.store.pins(id)).toEqual(['job:1', 'job:2'])
  })

  it('is refused by a full home with a sentence, and taken once there is room', async () => {
    const [home, worker] = [await peers.start('home', { quotaBytes: 3 * MiB }), await peers.start('worker')]
    await put(home.store, randomBytes(2 * MiB), 'job:1')
    const id = await put(worker.store, randomBytes(2 * MiB))
    await expect(worker.exchange.push([id], home.peer, 'job:2')).rejects.toMatchObject({ code: 'StoreFull', retryable: true })
    await home.store.unpinAll('job:1')
    // The upload of an hour ago.
    for (const { id: old } of await home.store.list()) await home.store.pin(old, 'x').then(() => home.store.unpin(old, 'x'))
    await worker.exchange.push([id], home.peer, 'job:2')
    expect(await home.store.pins(id)).toEqual(['job:2'])
  })

  it('S1: only workers and the coordinator set the pins of a job, only the coordinator takes them back', async () => {
    const home = await peers.start('home', { roles: ['coordinator'] })
    const [worker, submitter] = [await peers.start('worker'), await peers.start('submit', { roles: ['submitter'] })]
    const coordinator = await peers.start('coord', { roles: ['coordinator'] })
    const id = await put(home.store, Buffer.from('x'))
    await worker.exchange.pinAt(home.peer, [id], 'job:1')
    await expect(worker.exchange.unpinAt(home.peer, [id], 'job:1')).rejects.toMatchObject({ code: 'InsufficientPermissions' })
    await expect(worker.exchange.pinAt(home.peer, [id], 'mine')).rejects.toMatchObject({ code: 'InsufficientPermissions' })
    await expect(submitter.exchange.pinAt(home.peer, [id], 'job:1')).rejects.toMatchObject({ code: 'InsufficientPermissions' })
    await submitter.exchange.pinAt(home.peer, [id], 'mine')
    expect(await home.store.pins(id)).toEqual(['job:1', 'mine'])
    await coordinator.exchange.unpinAt(home.peer, [id], 'job:1')
    expect(await home.store.pins(id)).toEqual(['mine'])
    expect(await worker.exchange.pinAt(home.peer, [idOf(Buffer.from('absent'))], 'job:1')).toHaveLength(1)
  })

  it('B1: an upload whose chunks are not those of the id is refused', async () => {
    const [home, worker] = [await peers.start('home'), await peers.start('worker')]
    const bytes = randomBytes(2 * MiB)
    const { clientSession } = await import('../../protocols/rpc.ts')
    const { blobsProtocol } = await import('../../protocols/blobs.ts')
    const session = clientSession(blobsProtocol, await worker.wire.open(home.peer, blobsProtocol), { calls: {}, notes: {} })
    const id = idOf(bytes)
    const leaves = leavesOf(bytes)
    await expect(session.call('offer', { id, size: bytes.length, leaves: leavesOf(randomBytes(2 * MiB)) })).rejects.toMatchObject({
      code: 'BlobCorrupt',
    })
    await expect(session.call('offer', { id, size: bytes.length - 1, leaves })).rejects.toMatchObject({ code: 'BlobCorrupt' })
    await expect(session.call('putChunk', { id, index: 0, data: bytes.subarray(0, MiB) })).rejects.toMatchObject({
      code: 'InvalidRequestBody',
    })
    await session.call('offer', { id, size: bytes.length, leaves })
    await expect(session.call('putChunk', { id, index: 0, data: bytes.subarray(MiB) })).rejects.toMatchObject({ code: 'BlobCorrupt' })
    await expect(session.call('putChunk', { id, index: 2, data: bytes.subarray(MiB) })).rejects.toMatchObject({ code: 'InvalidRange' })
    await expect(session.call('commit', { id })).rejects.toMatchObject({ code: 'BlobNotFound' })
    expect(await home.store.has(id)).toBe(false)
    const [result] = (await session.call('putSmall', { items: [{ id: idOf(Buffer.from('a')), data: Buffer.from('b') }] })).results
    expect(result?.code).toBe('BlobCorrupt')
  })
})

function byPath(a: { path: string }, b: { path: string }): number {
  return a.path < b.path ? -1 : 1
}

async function expectEventually(check: () => Promise<boolean>): Promise<void> {
  while (!(await check())) await new Promise((resolve) => setImmediate(resolve))
}
