/** Files of every name and kind that a file system allows, in what tasks leave and in what comes from other machines. */
import { execFileSync } from 'node:child_process'
import { existsSync, mkdirSync, readdirSync, readFileSync, writeFileSync } from 'node:fs'
import { mkdir, writeFile } from 'node:fs/promises'
import { createServer } from 'node:net'
import { dirname, join } from 'node:path'
import { afterAll, afterEach, beforeEach, describe, expect, it } from 'vitest'
import { Directories } from '../../node/directories.ts'
import { filesHandlers } from '../../node/files.ts'
import { removeTree } from '../../node/remove-tree.ts'
import { createStaging } from '../../node/staging.ts'
import { buildDirectory } from '../../node/store/directory.ts'
import { closeHashPool } from '../../node/store/hash-pool.ts'
import { importTree, treeEntries } from '../../node/store/tree.ts'
import { parseBlobId } from '../../node/store/unixfs.ts'
import { listLocal, writeWhole } from '../../src/mesh/files.ts'
import { type BlobPeer, BlobPeers, put } from '../support/blob-peers.ts'

const signal = new AbortController().signal
let peers: BlobPeers
let home: BlobPeer
let dir: string
let wd: string
beforeEach(async () => {
  peers = new BlobPeers()
  home = await peers.start('home', { roles: ['coordinator'] })
  dir = await peers.dir()
  wd = join(dir, 'wd')
  await mkdir(wd)
})
afterEach(() => peers.close())
afterAll(closeHashPool)

const stagingOf = () =>
  createStaging({ store: home.store, exchange: home.exchange, sharedDir: join(home.dir, 'shared'), homePeer: () => home.peer })
const collect = (...patterns: string[]) =>
  stagingOf().collect(
    patterns.map((filePattern) => ({ filePattern, uploadCondition: 'taskcompletion' })),
    wd,
    'success',
    { home: home.peer, jobUid: 1 },
    signal,
  )

const names = [
  ' leading and trailing ',
  'line\nbreak',
  'tab\tand\rreturn',
  '-rf',
  '--',
  '~',
  '..hidden',
  '...',
  '*?[a]{b}',
  '$HOME `id` "quoted" \\',
  'caf\u00e9',
  'cafe\u0301',
  '\u001b[31mred',
  'rtl\u202etxt.exe',
  '\u65e5'.repeat(85),
  'x'.repeat(255),
  `${'d'.repeat(200)}/${'e'.repeat(200)}/-/deep`,
]

/** A directory so deep that no path reaches its end. */
function makeDeep(at: string, levels: number, name: string): void {
  const program = `const { mkdirSync, writeFileSync } = require('node:fs'); const [at, levels, name] = process.argv.slice(1)
process.chdir(at); for (let level = 0; level < Number(levels); level += 1) { mkdirSync(name); process.chdir(name) } writeFileSync('leaf', '')`
  execFileSync(process.execPath, ['-e', program, at, `${levels}`, name])
}

describe('names', () => {
  it('of every kind come out of a task, and into another or onto a disk, as they are', async () => {
    for (const name of names) {
      mkdirSync(dirname(join(wd, name)), { recursive: true })
      await writeFile(join(wd, name), name)
    }
    const outputs = await collect('**', '..hidden', '...')
    expect(outputs.map(({ path }) => path).sort()).toEqual([...names].sort())

    const next = join(dir, 'next')
    mkdirSync(next)
    const files = outputs.map(({ path, blob }) => ({ filePath: path, blob }))
    await stagingOf().stage(files, next, undefined, signal)
    const { id } = await importTree(
      home.store,
      outputs.map(({ path, blob }) => ({ path, id: blob })),
    )
    const tree = await treeEntries(home.store, id)
    for (const { path } of tree) await writeWhole(join(dir, 'fetched', path), [Buffer.from(path)])
    for (const name of names) {
      expect(readFileSync(join(next, name), 'utf8')).toBe(name)
      expect(readFileSync(join(dir, 'fetched', name), 'utf8')).toBe(name)
    }
  })

  it('that are no text are shown among the files of a task, and are named when they are uploaded', async () => {
    const directories = new Directories(join(dir, 'node'))
    const attempt = { jobUid: 1, task: 'a', epoch: 1 }
    const paths = directories.make(attempt, 'job', undefined)
    const bad = Buffer.concat([Buffer.from(`${paths.wd}/bad`), Buffer.from([0xff])])
    writeFileSync(bad, 'four')
    const context = { signal, remote: { peer: 'coordinator', roles: [] } }
    const { files } = await filesHandlers(directories.find).calls.list({ attempt, recursive: true, prefix: 'wd/' }, context)
    expect(files).toMatchObject([{ name: 'wd/bad\ufffd', size: 4 }])
    await expect(listLocal(paths.wd)).rejects.toThrow(/The name of .*bad\ufffd is not UTF-8; rename it/)
  })
})

describe('trees', () => {
  it('deeper than a path reaches are refused as outputs, and removed', async () => {
    makeDeep(wd, 250, 'd')
    await expect(collect('**')).rejects.toMatchObject({
      info: { code: 'FileUploadMiscError', message: expect.stringContaining('200 levels deep') },
    })
    await removeTree(join(wd, 'd'))
    makeDeep(wd, 40, 'e'.repeat(200))
    await expect(collect('**')).rejects.toMatchObject({ info: { message: expect.stringContaining('longer than 4096 bytes') } })
    await removeTree(wd)
    expect(existsSync(wd)).toBe(false)
  })

  it('that cannot be removed keep no other from its end', async () => {
    const directories = new Directories(join(dir, 'node'))
    const attempts = ['a', 'b', 'c'].map((task) => ({ jobUid: 1, task, epoch: 1 }))
    const made = attempts.map((attempt) => directories.make(attempt, 'job', undefined))
    makeDeep(made[0]!.wd, 60, 'f'.repeat(200))
    for (const attempt of attempts) directories.seal(attempt, 0, 0)
    expect(await directories.expire(1)).toBe(3)
    expect(readdirSync(directories.node.workitems)).toEqual([])
  })

  it('of another machine with paths that no file system takes are refused before they are listed', async () => {
    const blob = await put(home.store, Buffer.from('x'))
    let child = { name: 'leaf', cid: parseBlobId(blob).cid, totalBytes: 1 }
    for (let level = 0; level < 30; level += 1) {
      const built = await buildDirectory([child])
      for (const { id, block } of built.nodes) await home.store.addDirectoryNode(block, id, {})
      child = { name: `${level}`.padEnd(250, 'n'), cid: built.cid, totalBytes: built.totalBytes }
    }
    await expect(treeEntries(home.store, child.cid.toString())).rejects.toMatchObject({
      code: 'BlobCorrupt',
      message: expect.stringContaining('4096'),
    })
  })

  it('with a socket in them fail the task that names it, and nobody waits for it', async () => {
    const server = createServer()
    await new Promise<void>((resolve) => server.listen(join(wd, 's'), resolve))
    await writeFile(join(wd, 'plain'), 'x')
    await expect(collect('**')).rejects.toMatchObject({ info: { message: expect.stringContaining('pipe, socket or device') } })
    expect((await collect('p*')).map(({ path }) => path)).toEqual(['plain'])
    await new Promise((resolve) => server.close(resolve))
  })
})
