import { spawnSync } from 'node:child_process'
import { createHash, randomBytes } from 'node:crypto'
import { mkdtempSync, rmdirSync } from 'node:fs'
import { mkdtemp, open, readdir, readFile, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, afterEach, beforeEach, describe, expect, it } from 'vitest'
import { closeHashPool } from '../../node/store/hash-pool.ts'
import { type BlobStore, defaultQuotaBytes, openStore, rowBytes } from '../../node/store/store.ts'
import { importTree, treeEntries } from '../../node/store/tree.ts'
import { fileRoot } from '../../node/store/unixfs.ts'

const MiB = 1 << 20
let dir: string
let store: BlobStore

beforeEach(async () => {
  dir = await mkdtemp(join(tmpdir(), 'batchmesh-store-'))
  store = await openStore(join(dir, 'blobs'))
})
afterEach(async () => {
  await store.close()
  await rm(dir, { recursive: true })
})
afterAll(closeHashPool)

async function put(bytes: Uint8Array, pin?: string, into = store): Promise<string> {
  const incoming = into.begin()
  for (let at = 0; at < bytes.length; at += 700_000) await incoming.append(bytes.subarray(at, at + 700_000))
  return (await incoming.end(pin === undefined ? {} : { pin })).id
}

async function importPath(path: string): Promise<{ id: string; size: number }> {
  const file = await open(path)
  try {
    return await store.importFile(file)
  } finally {
    await file.close()
  }
}

function idOf(bytes: Uint8Array): string {
  const digests: Uint8Array[] = []
  for (let at = 0; at < bytes.length || at === 0; at += MiB)
    digests.push(
      createHash('sha256')
        .update(bytes.subarray(at, at + MiB))
        .digest(),
    )
  return fileRoot(Buffer.concat(digests), bytes.length).id
}

async function corrupt(id: string, at: number): Promise<void> {
  const bytes = await readFile(store.filePath(id))
  bytes[at]! ^= 1
  await rm(store.filePath(id))
  await writeFile(store.filePath(id), bytes, { mode: 0o444 })
}

async function reopen(options = {}): Promise<void> {
  await store.close()
  store = await openStore(join(dir, 'blobs'), options)
}

describe('taking in and reading', () => {
  for (const size of [0, 1, rowBytes, rowBytes + 1, MiB, MiB + 1, 3 * MiB + 17]) {
    it(`gives back what was put, also after a restart (${size} bytes)`, async () => {
      const bytes = randomBytes(size)
      await writeFile(join(dir, 'f'), bytes)
      const id = idOf(bytes)
      expect(await put(bytes)).toBe(id)
      expect(await importPath(join(dir, 'f'))).toEqual({ id, size })
      await reopen()
      expect(Buffer.compare(await store.read(id, 0, size + 1), bytes)).toBe(0)
      expect(await store.stat(id)).toEqual({ id, kind: 'file', size, pins: [], complete: true })
      expect(store.usedBytes).toBe(size)
    })
  }

  it('reads a range over a chunk boundary', async () => {
    const bytes = randomBytes(2 * MiB + 9)
    const id = await put(bytes)
    expect(Buffer.compare(await store.read(id, MiB - 3, 10), bytes.subarray(MiB - 3, MiB + 7))).toBe(0)
    await expect(store.read(id, 2 * MiB + 10, 1)).rejects.toMatchObject({ code: 'InvalidRange' })
  })

  it('takes in a thousand small files at once', async () => {
    const ids = await Promise.all(Array.from({ length: 1000 }, (_, i) => store.addSmall(Buffer.from(`file ${i}`), { pin: 'job:1' })))
    expect(new Set(ids).size).toBe(1000)
    expect((await store.rows(ids)).every((row) => row !== undefined)).toBe(true)
    expect(await store.list()).toHaveLength(1000)
    const page = await store.list(undefined, 600)
    expect(await store.list(page.at(-1)!.id)).toHaveLength(400)
  })

  it('leaves nothing behind when an upload is aborted', async () => {
    const incoming = store.begin()
    await incoming.append(randomBytes(2 * MiB))
    expect(await readdir(join(dir, 'blobs', 'tmp'))).toHaveLength(1)
    await incoming.abort()
    expect(await readdir(join(dir, 'blobs', 'tmp'))).toEqual([])
    await expect(incoming.append(new Uint8Array(1))).rejects.toThrow(/has ended/)
  })
})

describe('directories', () => {
  it('lists the files of a tree by path, sharded directories too', async () => {
    const small = await store.addSmall(Buffer.from('s'))
    const large = await put(randomBytes(MiB + 1))
    const many = Array.from({ length: 5000 }, (_, i) => ({ path: `many/a-rather-long-name-${i}`, id: small }))
    const tree = await importTree(store, [{ path: 'x/y/large', id: large }, { path: 'small', id: small }, ...many])
    const entries = await treeEntries(store, tree.id)
    expect(entries).toHaveLength(5002)
    expect(entries.find((entry) => entry.path === 'x/y/large')).toEqual({ path: 'x/y/large', id: large, size: MiB + 1 })
    expect(new Set(entries.map((entry) => entry.path)).size).toBe(5002)
    expect(tree.size).toBe(MiB + 1 + 5001)
    expect(await store.stat(tree.id)).toMatchObject({ kind: 'directory', size: tree.size, complete: true })
  })

  it('refuses a tree of blobs that are not here or of paths that lead out', async () => {
    const id = await store.addSmall(Buffer.from('s'))
    const absent = idOf(Buffer.from('absent'))
    await expect(importTree(store, [{ path: 'a', id: absent }])).rejects.toMatchObject({ code: 'BlobNotFound' })
    for (const path of ['../a', 'a//b', '/a', 'a/.']) {
      await expect(importTree(store, [{ path, id }])).rejects.toMatchObject({ code: 'InvalidPropertyValue' })
    }
    await expect(
      importTree(store, [
        { path: 'a', id },
        { path: 'a/b', id },
      ]),
    ).rejects.toThrow(/a file and a directory/)
  })
})

describe('B1: bytes on disk that do not match the id', () => {
  it('B1: are never read; the blob is taken out and told of, its pins stay', async () => {
    const bytes = randomBytes(3 * MiB)
    const id = await put(bytes, 'keep')
    await corrupt(id, MiB + 5)
    const damaged: string[] = []
    store.onDamaged = (which) => damaged.push(which)
    expect(Buffer.compare(await store.chunk(id, 0), bytes.subarray(0, MiB))).toBe(0)
    await expect(store.chunk(id, 1)).rejects.toMatchObject({ code: 'BlobCorrupt' })
    expect(damaged).toEqual([id])
    expect(await store.has(id)).toBe(false)
    expect(await store.pins(id)).toEqual(['keep'])
    expect(store.usedBytes).toBe(0)
  })

  it('B1: cost only the bad chunk when the blob comes again', async () => {
    const bytes = randomBytes(3 * MiB)
    const id = await put(bytes)
    const { leaves } = (await store.manifest(id)) as { leaves: Uint8Array }
    await corrupt(id, MiB + 5)
    await expect(store.chunk(id, 1)).rejects.toThrow()
    const receiving = await store.receive(id, bytes.length, leaves)
    expect([0, 1, 2].map((index) => receiving.partial.has(index))).toEqual([true, false, true])
    expect(await receiving.partial.write(1, randomBytes(MiB))).toBe(false)
    await expect(receiving.finish()).rejects.toThrow(/1 chunks .* have not come/)
    expect(await receiving.partial.write(1, bytes.subarray(MiB, 2 * MiB))).toBe(true)
    await receiving.finish()
    await receiving.release()
    expect(Buffer.compare(await store.read(id, 0, bytes.length), bytes)).toBe(0)
  })

  it('B1: a truncated or missing file is found as well', async () => {
    const id = await put(randomBytes(2 * MiB))
    await rm(store.filePath(id))
    await expect(store.read(id, 0, 1)).rejects.toMatchObject({ code: 'BlobCorrupt' })
    expect(await store.has(id)).toBe(false)
  })
})

describe('B1: a torn write is never visible', () => {
  it('B1: a file without a row is no blob and is swept at the next start', async () => {
    const bytes = randomBytes(2 * MiB)
    await writeFile(store.filePath(idOf(bytes)), bytes)
    expect(await store.has(idOf(bytes))).toBe(false)
    await reopen()
    expect(await readdir(join(dir, 'blobs', 'files'))).toEqual([])
  })

  it('B1: an upload that was cut off leaves nothing', async () => {
    const incoming = store.begin()
    await incoming.append(randomBytes(2 * MiB))
    await writeFile(join(dir, 'blobs', 'tmp', 'left-by-a-dead-process'), 'x')
    await incoming.abort()
    await reopen()
    expect(await readdir(join(dir, 'blobs', 'tmp'))).toEqual([])
  })

  it('B1: chunks of a partial file that did not reach the disk are not believed', async () => {
    const bytes = randomBytes(3 * MiB)
    const id = idOf(bytes)
    const leaves = Buffer.concat(
      [0, 1, 2].map((i) =>
        createHash('sha256')
          .update(bytes.subarray(i * MiB, (i + 1) * MiB))
          .digest(),
      ),
    )
    const before = await store.receive(id, bytes.length, leaves)
    await before.partial.write(0, bytes.subarray(0, MiB))
    await before.partial.write(2, bytes.subarray(2 * MiB))
    await before.release()
    const path = join(dir, 'blobs', 'partial', id)
    const torn = await readFile(path)
    torn.fill(0, 2 * MiB, 2 * MiB + 4096)
    await writeFile(path, torn)
    await reopen()
    const after = await store.receive(id, bytes.length, leaves)
    expect([0, 1, 2].map((index) => after.partial.has(index))).toEqual([true, false, false])
    await after.release()
  })
})

describe('garbage', () => {
  it('never goes what is pinned, directly or through a directory', async () => {
    const free = await put(randomBytes(MiB + 1))
    const pinned = await put(randomBytes(MiB + 2), 'job:1')
    const inTree = await put(randomBytes(MiB + 3))
    const tree = await importTree(store, [{ path: 'd/f', id: inTree }], { pin: 'job:2' })
    await store.unpin(free, 'none')
    await reopen({ now: () => Date.now() + 7_200_000 })
    expect(await store.gc()).toEqual({ removed: 1, freedBytes: MiB + 1 })
    expect(await Promise.all([free, pinned, inTree, tree.id].map((id) => store.has(id)))).toEqual([false, true, true, true])
    expect((await readdir(join(dir, 'blobs', 'files'))).toSorted()).toEqual([pinned, inTree].toSorted())
    await store.unpinAll('job:2')
    expect((await store.gc()).removed).toBe(3)
    expect(await readdir(join(dir, 'blobs', 'trash'))).toEqual([])
  })

  it('never goes what is held or coming in, nor an upload of the last hour', async () => {
    const fresh = await put(randomBytes(MiB))
    expect((await store.gc()).removed).toBe(0)
    await reopen({ now: () => Date.now() + 7_200_000 })
    const inner = await store.addSmall(Buffer.from('inner'))
    const tree = await importTree(store, [{ path: 'f', id: inner }])
    const release = await store.hold(tree.id)
    await reopenLater()
    const releaseAgain = await store.hold(tree.id)
    expect((await store.gc()).removed).toBe(1)
    expect(await store.has(fresh)).toBe(false)
    expect(await store.has(tree.id)).toBe(true)
    release()
    releaseAgain()
    releaseAgain()
    expect((await store.gc()).removed).toBe(2)
  })

  async function reopenLater(): Promise<void> {
    await reopen({ now: () => Date.now() + 4 * 7_200_000 })
  }

  it('stops where a pin comes between the two looks', async () => {
    const ids = await Promise.all(Array.from({ length: 40 }, (_, i) => store.addSmall(Buffer.from(`${i}`))))
    const tree = await importTree(
      store,
      ids.map((id, i) => ({ path: `${i}`, id })),
    )
    await reopen({ now: () => Date.now() + 7_200_000 })
    const sweeping = store.gc()
    const pinning = store.pin(tree.id, 'late').then(
      () => true,
      () => false,
    )
    const [swept, pinned] = await Promise.all([sweeping, pinning])
    // Either order is right, half of it is not.
    expect(swept.removed).toBe(pinned ? 0 : 41)
    expect(await store.has(tree.id)).toBe(pinned)
  })
})

describe('quota', () => {
  it('refuses what does not fit, with a sentence, and sweeps what nothing pins first', async () => {
    let clock = 1
    await reopen({ quotaBytes: 3 * MiB, now: () => clock })
    const old = await put(randomBytes(MiB))
    await put(randomBytes(MiB), 'job:1')
    clock += 7_200_000
    await put(randomBytes(2 * MiB), 'job:1')
    expect(await store.has(old)).toBe(false)
    expect(store.usedBytes).toBe(3 * MiB)
    await expect(put(randomBytes(MiB))).rejects.toMatchObject({ code: 'StoreFull', message: expect.stringMatching(/unpin blobs/) })
    await store.unpinAll('job:1')
    await put(randomBytes(MiB))
  })
})

/** A file system of 12 MiB over the test's directory, or why there can be none. */
function smallDisk(at: string): string | undefined {
  const { status, stderr } = spawnSync('mount', ['-t', 'tmpfs', '-o', 'size=12m', 'batchmesh-test', at], { encoding: 'utf8' })
  return status === 0 ? undefined : stderr.trim() || 'there is no mount'
}

describe('a full disk', () => {
  let disk = ''
  let clock = 1
  let small: BlobStore
  const probe = mkdtempSync(join(tmpdir(), 'batchmesh-disk-'))
  const reason = smallDisk(probe)
  if (reason === undefined) spawnSync('umount', [probe])
  rmdirSync(probe)
  if (reason !== undefined) console.log(`skipped: stores on a full disk: ${reason}`)
  const can = it.skipIf(reason !== undefined)

  beforeEach(async () => {
    if (reason !== undefined) return
    disk = await mkdtemp(join(tmpdir(), 'batchmesh-disk-'))
    smallDisk(disk)
    clock = 1
    small = await openStore(disk, { quotaBytes: 100 * MiB, now: () => clock })
  })
  afterEach(async () => {
    if (reason !== undefined) return
    await small.close()
    spawnSync('umount', [disk])
    await rm(disk, { recursive: true })
  })
  const halfWritten = async () => (await Promise.all(['tmp', 'partial'].map((name) => readdir(join(disk, name))))).flat()

  can('B1: fails an upload with a sentence, leaves nothing half written, and has room for the next', async () => {
    const old = await put(randomBytes(5 * MiB), undefined, small)
    clock += 7_200_000
    const large = randomBytes(9 * MiB)
    await expect(put(large, 'job:1', small)).rejects.toMatchObject({ code: 'StoreFull', message: expect.stringMatching(/disk .* is full/) })
    expect(await halfWritten()).toEqual([])
    expect(await small.has(old)).toBe(false)
    const id = await put(large, 'job:1', small)
    expect(await small.has(id)).toBe(true)
    expect(small.usedBytes).toBe(9 * MiB)
  })

  can('B1: fails the taking in of a file in the same way', async () => {
    const path = join(dir, 'large')
    await writeFile(path, randomBytes(20 * MiB))
    const file = await open(path)
    await expect(small.importFile(file)).rejects.toMatchObject({ code: 'StoreFull' })
    await file.close()
    expect(await halfWritten()).toEqual([])
    await put(randomBytes(9 * MiB), 'job:1', small)
  })

  can('B1: gives up a file that comes in from peers, with what came of it', async () => {
    const content = randomBytes(20 * MiB)
    const chunks = Array.from({ length: 20 }, (_, at) => content.subarray(at * MiB, (at + 1) * MiB))
    const leaves = new Uint8Array(Buffer.concat(chunks.map((chunk) => createHash('sha256').update(chunk).digest())))
    const receiving = await small.receive(fileRoot(leaves, content.length).id, content.length, leaves)
    await expect(
      (async () => {
        for (const [at, chunk] of chunks.entries()) await receiving.partial.write(at, chunk)
      })(),
    ).rejects.toMatchObject({ code: 'StoreFull' })
    await receiving.release()
    expect(await halfWritten()).toEqual([])
  })

  it('is not filled by default: the quota is half of what the store could have, and at most 100 GiB', () => {
    expect(defaultQuotaBytes(30 * MiB, 10 * MiB)).toBe(20 * MiB)
    expect(defaultQuotaBytes(2 ** 50, 0)).toBe(100 * 2 ** 30)
  })
})
