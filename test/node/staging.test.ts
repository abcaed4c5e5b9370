import { execFileSync } from 'node:child_process'
import { randomBytes } from 'node:crypto'
import { once } from 'node:events'
import { chmod, lstat, mkdir, readdir, readFile, readlink, stat, symlink, writeFile } from 'node:fs/promises'
import { createServer, type Server } from 'node:http'
import type { AddressInfo } from 'node:net'
import { join } from 'node:path'
import { afterAll, afterEach, beforeEach, describe, expect, it } from 'vitest'
import type { Staging } from '../../node/ports.ts'
import { createStaging } from '../../node/staging.ts'
import { closeHashPool } from '../../node/store/hash-pool.ts'
import { importTree } from '../../node/store/tree.ts'
import { type BlobPeer, BlobPeers, corrupt, idOf, MiB, put, readAll } from '../support/blob-peers.ts'

const isRoot = process.getuid?.() === 0
const nobody = { uid: 65534, gid: 65534 }
const signal = new AbortController().signal

let peers: BlobPeers
let home: BlobPeer
let worker: BlobPeer
let staging: Staging
let wd: string
let pauses: number

beforeEach(async () => {
  peers = new BlobPeers()
  home = await peers.start('home', { roles: ['coordinator'] })
  worker = await peers.start('worker')
  pauses = 0
  wd = join(await peers.dir(), 'wd')
  await mkdir(wd)
  staging = createStaging({
    store: worker.store,
    exchange: worker.exchange,
    sharedDir: join(worker.dir, 'shared'),
    homePeer: () => home.peer,
    pause: async () => {
      pauses += 1
      await new Promise((resolve) => setImmediate(resolve))
    },
  })
})
afterEach(() => peers.close())
afterAll(closeHashPool)

function failsWith(code: string, message: RegExp): object {
  return { name: 'TaskFailure', info: expect.objectContaining({ code, message: expect.stringMatching(message) }) }
}

describe('inputs', () => {
  it('are put where they belong, with their mode', async () => {
    const small = await put(home.store, Buffer.from('small'))
    const large = await put(home.store, randomBytes(2 * MiB + 3))
    await staging.stage(
      [
        { filePath: 'a/b/small.txt', blob: small },
        { filePath: './large', blob: large, fileMode: '0644' },
      ],
      wd,
      undefined,
      signal,
    )
    expect(await readFile(join(wd, 'a/b/small.txt'), 'utf8')).toBe('small')
    expect((await stat(join(wd, 'a/b/small.txt'))).mode & 0o777).toBe(0o770)
    expect((await stat(join(wd, 'large'))).mode & 0o777).toBe(0o644)
    expect(idOf(await readFile(join(wd, 'large')))).toBe(large)
  })

  it('can be a directory', async () => {
    const one = await put(home.store, Buffer.from('one'))
    const tree = await importTree(home.store, [
      { path: 'x/one', id: one },
      { path: 'y', id: await put(home.store, randomBytes(40_000)) },
    ])
    await staging.stage([{ filePath: 'data', blob: tree.id }], wd, undefined, signal)
    expect((await readdir(join(wd, 'data'), { recursive: true })).toSorted()).toEqual(['x', 'x/one', 'y'])
  })

  it('can be a directory whose files lie in the working directory itself', async () => {
    const tree = await importTree(home.store, [
      { path: 'x/one', id: await put(home.store, Buffer.from('one')) },
      { path: 'y', id: await put(home.store, Buffer.from('two')) },
    ])
    await staging.stage([{ filePath: '.', blob: tree.id }], wd, undefined, signal)
    expect((await readdir(wd, { recursive: true })).toSorted()).toEqual(['x', 'x/one', 'y'])
    expect(await readFile(join(wd, 'y'), 'utf8')).toBe('two')
  })

  it('that are no directory of the task’s own cannot be the working directory itself', async () => {
    const blob = await put(home.store, Buffer.from('file'))
    const tree = await importTree(home.store, [{ path: 'f', id: blob }])
    for (const file of [{ blob }, { blob: tree.id, shared: true }, { httpUrl: 'http://127.0.0.1:1/' }])
      await expect(staging.stage([{ filePath: './', ...file }], wd, undefined, signal)).rejects.toMatchObject(
        failsWith('ResourceFileCreateFailed', /is the working directory itself/),
      )
  })

  it.skipIf(!isRoot)('belong to the task where the node is root (skipped for ordinary users: only root gives files away)', async () => {
    const blob = await put(home.store, randomBytes(100_000))
    await staging.stage([{ filePath: 'd/f', blob }], wd, nobody, signal)
    for (const path of ['d', 'd/f']) expect(await stat(join(wd, path))).toMatchObject(nobody)
  })

  it('B1: overwritten by a task of the same user change nothing in the store', async () => {
    for (const size of [100, 40_000, 2 * MiB]) {
      const bytes = randomBytes(size)
      const blob = await put(home.store, bytes)
      await staging.stage([{ filePath: `f${size}`, blob, fileMode: '0444' }], wd, undefined, signal)
      await chmod(join(wd, `f${size}`), 0o666)
      await writeFile(join(wd, `f${size}`), 'overwritten', { flag: 'r+' })
      expect(Buffer.compare(await readAll(worker.store, blob), bytes)).toBe(0)
      if (size > 32 * 1024) expect((await stat(worker.store.filePath(blob))).mode & 0o777).toBe(0o444)
    }
  })

  it.skipIf(!isRoot)(
    'B1: overwritten by a task of another user change nothing in the store (skipped for ordinary users: needs another user)',
    async () => {
      await chmod(wd, 0o777)
      await chmod(join(wd, '..'), 0o755)
      const bytes = randomBytes(2 * MiB)
      const blob = await put(home.store, bytes)
      await staging.stage(
        [
          { filePath: 'own', blob },
          { filePath: 'readonly', blob, fileMode: '0444' },
        ],
        wd,
        nobody,
        signal,
      )
      const script = 'for f in own readonly; do chmod 777 $f; echo overwritten > $f; done; true'
      execFileSync('/bin/sh', ['-c', script], { cwd: wd, ...nobody, stdio: 'ignore' })
      expect(await readFile(join(wd, 'own'), 'utf8')).toBe('overwritten\n')
      expect(Buffer.compare(await readAll(worker.store, blob), bytes)).toBe(0)
      expect(idOf(await readFile(join(wd, 'readonly')))).toBe(blob)
    },
  )

  it('B1: are never made of bytes that went bad on the disk; those are fetched again', async () => {
    const bytes = randomBytes(4 * MiB)
    const blob = await put(home.store, bytes)
    await worker.exchange.pull(blob, { home: home.peer })
    await corrupt(worker.store, blob, 2 * MiB)
    home.asked.length = 0
    await staging.stage([{ filePath: 'f', blob }], wd, undefined, signal)
    expect(idOf(await readFile(join(wd, 'f')))).toBe(blob)
    expect(home.asked.filter((call) => call.startsWith('chunk'))).toEqual(['chunk 2'])
  })

  it('that are shared are made once, shown by a link, and made anew when they were changed', async () => {
    const bytes = randomBytes(2 * MiB)
    const tree = await importTree(home.store, [
      { path: 'd/large', id: await put(home.store, bytes) },
      { path: 'small', id: await put(home.store, Buffer.from('small')) },
    ])
    const files = [{ filePath: 'in/data', blob: tree.id, shared: true }]
    const other = join(wd, '..', 'other')
    await mkdir(other)
    await Promise.all([staging.stage(files, wd, undefined, signal), staging.stage(files, other, undefined, signal)])
    const target = await readlink(join(wd, 'in/data'))
    expect(target).toBe(join(worker.dir, 'shared', tree.id))
    expect(await readlink(join(other, 'in/data'))).toBe(target)
    expect(await readdir(join(worker.dir, 'shared'))).toEqual([tree.id])
    expect((await lstat(join(target, 'd/large'))).mode & 0o777).toBe(0o555)
    const before = (await lstat(join(target, 'd/large'))).ino
    await staging.stage(files, wd, undefined, signal)
    expect((await lstat(join(target, 'd/large'))).ino).toBe(before)

    await chmod(join(target, 'd/large'), 0o755)
    await writeFile(join(target, 'd/large'), 'x', { flag: 'r+' })
    await staging.stage(files, wd, undefined, signal)
    expect(Buffer.compare(await readFile(join(wd, 'in/data/d/large')), bytes)).toBe(0)
  })

  it('that are shared go when no task uses them and the room for such is over', async () => {
    const sharedDir = join(worker.dir, 'shared')
    const options = { store: worker.store, exchange: worker.exchange, sharedDir, homePeer: () => home.peer }
    const small = createStaging({ ...options, keepSharedBytes: 150 })
    const [a, b] = [await put(home.store, randomBytes(100)), await put(home.store, randomBytes(100))]
    const other = join(wd, '..', 'other')
    await mkdir(other)
    await small.stage([{ filePath: 'a', blob: a, shared: true }], wd, undefined, signal)
    await small.stage([{ filePath: 'b', blob: b, shared: true }], wd, undefined, signal)
    await small.stage([{ filePath: 'b', blob: b, shared: true }], other, undefined, signal)
    await small.done(wd)
    expect((await readdir(sharedDir)).toSorted()).toEqual([a, b].toSorted())
    await small.done(other)
    expect(await readdir(sharedDir)).toEqual([b])
  })

  it('that nobody has fail the task with BlobNotFound', async () => {
    const blob = idOf(Buffer.from('absent'))
    await expect(staging.stage([{ filePath: 'f', blob }], wd, undefined, signal)).rejects.toMatchObject(
      failsWith('BlobNotFound', /resource file f /),
    )
  })

  it('wait for a home that is out of reach for a while', async () => {
    const blob = await put(home.store, Buffer.from('late'))
    peers.net.cut(home.peer)
    const staged = staging.stage([{ filePath: 'f', blob }], wd, undefined, signal)
    while (pauses === 0) await new Promise((resolve) => setImmediate(resolve))
    peers.net.heal(home.peer)
    await staged
    expect(await readFile(join(wd, 'f'), 'utf8')).toBe('late')
  })

  it('never follow a link out of the working directory', async () => {
    const blob = await put(home.store, Buffer.from('x'))
    const outside = join(wd, '..', 'outside')
    await mkdir(outside)
    await symlink(outside, join(wd, 'link'))
    await expect(staging.stage([{ filePath: 'link/f', blob }], wd, undefined, signal)).rejects.toMatchObject(
      failsWith('ResourceFileCreateFailed', /link\/f/),
    )
    await expect(staging.stage([{ filePath: '../outside/f', blob }], wd, undefined, signal)).rejects.toMatchObject(
      failsWith('ResourceFileCreateFailed', /leads out/),
    )
    await symlink(join(outside, 'target'), join(wd, 'f'))
    await staging.stage([{ filePath: 'f', blob }], wd, undefined, signal)
    expect(await readdir(outside)).toEqual([])
  })
})

describe('inputs from the web', () => {
  let server: Server
  let url: string
  beforeEach(async () => {
    server = createServer((request, response) => {
      if (request.url === '/good') response.end('from the web')
      else if (request.url === '/cut') {
        response.writeHead(200, { 'content-length': '100' })
        response.write('half')
        setImmediate(() => response.destroy())
      } else response.writeHead(request.url === '/broken' ? 500 : 404).end()
    })
    server.listen(0, '127.0.0.1')
    await once(server, 'listening')
    url = `http://127.0.0.1:${(server.address() as AddressInfo).port}`
  })
  afterEach(() => server.close())

  it('are fetched', async () => {
    await staging.stage([{ filePath: 'd/f', httpUrl: `${url}/good`, fileMode: '0600' }], wd, undefined, signal)
    expect(await readFile(join(wd, 'd/f'), 'utf8')).toBe('from the web')
    expect((await stat(join(wd, 'd/f'))).mode & 0o777).toBe(0o600)
  })

  it('fail the task with the reason, and without the secrets of the URL', async () => {
    const stage = (path: string) => staging.stage([{ filePath: 'f', httpUrl: `${url}${path}` }], wd, undefined, signal)
    await expect(stage('/absent?sig=secret')).rejects.toMatchObject(failsWith('BlobNotFound', /\/absent answered 404/))
    await expect(stage('/broken')).rejects.toMatchObject(failsWith('BlobDownloadMiscError', /answered 500/))
    await expect(stage('/cut')).rejects.toMatchObject(failsWith('BlobDownloadMiscError', /could not be fetched/))
    await expect(staging.stage([{ filePath: 'f', httpUrl: 'http://127.0.0.1:1/x' }], wd, undefined, signal)).rejects.toMatchObject(
      failsWith('BlobDownloadMiscError', /could not be fetched/),
    )
  })
})
