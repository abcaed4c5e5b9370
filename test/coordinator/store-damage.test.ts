/** The coordinator's database after something happened to its files: never opened as if it were whole. */
import { mkdtemp, readdir, readFile, rm, truncate, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { openLevelStore } from '../../coordinator/store.ts'

let dir: string
beforeEach(async () => {
  dir = await mkdtemp(join(tmpdir(), 'batchmesh-store-'))
})
afterEach(() => rm(dir, { recursive: true, force: true }))

/** The largest file of a database with rows in its log and in a table, whose name matches. */
async function fileOf(pattern: RegExp): Promise<string> {
  for (const round of [1, 2]) {
    const store = await openLevelStore(dir)
    for (let n = 0; n < 200; n += 1) await store.write(new Map([[`row ${round} ${n}`, new Uint8Array(500).map((_, at) => at * n)]]))
    await store.close()
  }
  const files = (await readdir(dir)).filter((name) => pattern.test(name)).map((name) => join(dir, name))
  const sizes = await Promise.all(files.map(async (path) => (await readFile(path)).length))
  return files[sizes.indexOf(Math.max(...sizes))]!
}

async function flip(path: string): Promise<void> {
  const bytes = await readFile(path)
  bytes[bytes.length >> 1]! ^= 1
  await writeFile(path, bytes)
}

describe('a database that was damaged', () => {
  it.each([
    ['a byte of its log is flipped', /\.log$/, flip],
    ['its log is removed', /\.log$/, (path: string) => rm(path)],
    ['a table is removed', /\.ldb$/, (path: string) => rm(path)],
    ['its MANIFEST is cut', /^MANIFEST/, (path: string) => truncate(path, 20)],
    ['its MANIFEST is rubbish', /^MANIFEST/, (path: string) => writeFile(path, 'rubbish')],
    ['its CURRENT is rubbish', /^CURRENT$/, (path: string) => writeFile(path, 'rubbish\n')],
    ['its CURRENT is removed', /^CURRENT$/, (path: string) => rm(path)],
  ])('L5: is refused with a way out, and left as it is: %s', async (_, pattern, damage) => {
    await damage(await fileOf(pattern))
    const files = (await readdir(dir)).filter((name) => /\.(log|ldb)$/.test(name))
    await expect(openLevelStore(dir)).rejects.toThrow(/The coordinator's database .* cannot be opened: .*Restore it from a backup/)
    expect(await readdir(dir)).toEqual(expect.arrayContaining(files))
  })

  it('L5: says so where a table is cut, as soon as it is read', async () => {
    const path = await fileOf(/\.ldb$/)
    await truncate(path, (await readFile(path)).length >> 1)
    const store = await openLevelStore(dir)
    const scan = async () => {
      for await (const row of store.scan({ gt: '', lt: '\uffff' })) expect(row).toBeDefined()
    }
    await expect(scan()).rejects.toThrow(/The coordinator's database .* is damaged: .*Restore it from a backup/)
    await store.close()
  })
})
