/** The blob store on a disk that is full, and with an index that was damaged. */
import { execFile } from 'node:child_process'
import { mkdtemp, readdir, readFile, rm, truncate, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { promisify } from 'node:util'
import { ClassicLevel } from 'classic-level'
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest'
import { openStore } from '../../node/store/store.ts'
import { put, readAll } from '../support/blob-peers.ts'

const isRoot = process.getuid?.() === 0
if (!isRoot) console.log('skipped: a disk that is full needs root, to mount one')

let dir: string
beforeEach(async () => {
  dir = await mkdtemp(join(tmpdir(), 'batchmesh-store-disk-'))
})
afterEach(async () => {
  vi.restoreAllMocks()
  await rm(dir, { recursive: true, force: true })
})

describe('a disk that is full', () => {
  it.skipIf(!isRoot)('B2: refuses blobs with StoreFull, and what is taken before and after is there at the next start', async () => {
    const program = join(import.meta.dirname, 'full-disk-program.ts')
    const script = 'mount -t tmpfs -o size=48m none "$1" && exec "$0" "$2" "$1"'
    const { stdout } = await promisify(execFile)('unshare', ['--mount', 'sh', '-c', script, process.execPath, dir, program])
    const { codes, taken, readable, kept } = JSON.parse(stdout) as { codes: string[]; taken: number; readable: number; kept: number }
    expect(codes).toEqual(['StoreFull'])
    expect(taken).toBeGreaterThanOrEqual(70)
    expect(taken).toBeLessThan(670)
    expect(readable).toBe(taken - 50)
    expect(kept).toBe(taken)
  })

  it('B2: lets the index go on in a new log after a write that failed', async () => {
    const store = await openStore(join(dir, 'blobs'))
    const full = Object.assign(new Error('IO error: /x/000003.log: No space left on device'), { code: 'LEVEL_IO_ERROR' })
    vi.spyOn(ClassicLevel.prototype, 'batch').mockRejectedValueOnce(full as never)
    await expect(put(store, new Uint8Array([1, 2, 3]), 'user')).rejects.toMatchObject({ code: 'StoreFull' })
    const logs = async () => (await readdir(join(dir, 'blobs', 'db'))).filter((name) => name.endsWith('.log'))
    const before = await logs()
    const id = await put(store, new Uint8Array([1, 2, 3]), 'user')
    expect(await logs()).not.toEqual(before)
    expect([...(await readAll(store, id))]).toEqual([1, 2, 3])
    await store.close()
  })
})

describe('an index that was damaged', () => {
  /** The files of an index with some rows, whose name matches. */
  async function indexFile(pattern: RegExp): Promise<string> {
    const store = await openStore(join(dir, 'blobs'))
    for (let n = 0; n < 100; n += 1) await put(store, new Uint8Array(1000).fill(n), 'user')
    await store.close()
    const name = (await readdir(join(dir, 'blobs', 'db'))).find((file) => pattern.test(file))
    return join(dir, 'blobs', 'db', name!)
  }

  it.each([
    ['a byte of its log is flipped', /\.log$/, async (path: string) => writeFile(path, flipped(await readFile(path)))],
    ['its log is removed', /\.log$/, (path: string) => rm(path)],
    ['its CURRENT is removed', /^CURRENT$/, (path: string) => rm(path)],
    ['its MANIFEST is cut', /^MANIFEST/, (path: string) => truncate(path, 10)],
  ])('is refused with a way out, and left as it is: %s', async (_, pattern, damage) => {
    await damage(await indexFile(pattern))
    const files = await readdir(join(dir, 'blobs', 'db'))
    await expect(openStore(join(dir, 'blobs'))).rejects.toThrow(
      /The index of the blob store .* cannot be opened: .*Move the directory .* away/,
    )
    expect(await readdir(join(dir, 'blobs', 'db'))).toEqual(expect.arrayContaining(files))
  })
})

function flipped(bytes: Uint8Array): Uint8Array {
  bytes[bytes.length >> 1]! ^= 1
  return bytes
}
