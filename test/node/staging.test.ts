import { execFileSync } from 'node:child_process'
import { randomBytes } from 'node:crypto'
import { once } from 'node:events'
import { chmod, link, lstat, mkdir, readdir, readFile, readlink, rename, stat, symlink, writeFile } from 'node:fs/promises'
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

async function collect(...patterns: string[]) {
  const outputs = await staging.collect(
    patterns.map((filePattern) => ({ filePattern, uploadCondition: 'taskcompletion' })),
    wd,
    'success',
    { home: home.peer, jobUid: 3 },
    signal,
  )
  return outputs.toSorted((a, b) => (a.path < b.path ? -1 : 1))
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

describe('outputs', () => {
  async function make(...paths: string[]): Promise<void> {
    for (const path of paths) {
      await mkdir(join(wd, path, '..'), { recursive: true })
      await writeFile(join(wd, path), `content of ${path}`)
    }
  }
  const paths = async (...patterns: string[]) => (await collect(...patterns)).map((output) => output.path)

  it('B2: are at the home, pinned for the job, when collect returns', async () => {
    await make('out/a.txt')
    await writeFile(join(wd, 'out/large'), randomBytes(2 * MiB), { mode: 0o755 })
    await chmod(join(wd, 'out/large'), 0o755)
    const outputs = await collect('out/*')
    expect(outputs.map(({ path, size, mode }) => [path, size, mode! & 0o100])).toEqual([
      ['out/a.txt', 20, 0],
      ['out/large', 2 * MiB, 0o100],
    ])
    for (const { blob } of outputs) expect(await home.store.pins(blob)).toEqual(['job:3'])
    expect(Buffer.from(await readAll(home.store, outputs[0]!.blob)).toString()).toBe('content of out/a.txt')
  })

  it('B2: are pinned where they are when this machine is the home', async () => {
    await make('a')
    const [output] = await staging.collect(
      [{ filePattern: 'a', uploadCondition: 'taskcompletion' }],
      wd,
      'success',
      { home: worker.peer, jobUid: 9 },
      signal,
    )
    expect(await worker.store.pins(output!.blob)).toEqual(['job:9'])
  })

  it('match as in Azure Batch', async () => {
    await make('a.txt', 'b.txt', 'c.log', '.hidden', 'd/a.txt', 'd/e/a.txt', '.git/x', 'd/.h', 'f(1).txt', 'f1.txt', '{a,b}', 'n+', '!x')
    expect(await paths('*.txt')).toEqual(['a.txt', 'b.txt', 'f(1).txt', 'f1.txt'])
    expect(await paths('**/a.txt')).toEqual(['a.txt', 'd/a.txt', 'd/e/a.txt'])
    expect(await paths('**/*.txt', 'c.???')).toEqual(['a.txt', 'b.txt', 'c.log', 'd/a.txt', 'd/e/a.txt', 'f(1).txt', 'f1.txt'])
    expect(await paths('d/**')).toEqual(['d/a.txt', 'd/e/a.txt'])
    expect(await paths('[ab].txt')).toEqual(['a.txt', 'b.txt'])
    expect(await paths('[!a].*')).toEqual(['b.txt', 'c.log'])
    expect(await paths('.hid*', '.git/*')).toEqual(['.git/x', '.hidden'])
    expect(await paths('d/.h')).toEqual(['d/.h'])
    expect(await paths('f(1)*')).toEqual(['f(1).txt'])
    expect(await paths('{a,b}', '{a,?}', 'n+', '!x', '!*')).toEqual(['!x', 'n+', '{a,b}'])
    expect(await paths('nothing/*', 'd', 'a.txt/b')).toEqual([])
  })

  it('are kept only for the way of ending that was asked for', async () => {
    await make('ok', 'log')
    const patterns = [
      { filePattern: 'ok', uploadCondition: 'tasksuccess' as const },
      { filePattern: 'log', uploadCondition: 'taskfailure' as const },
    ]
    const ended = async (how: 'success' | 'failure') =>
      (await staging.collect(patterns, wd, how, { home: home.peer, jobUid: 1 }, signal)).map((output) => output.path)
    expect(await ended('success')).toEqual(['ok'])
    expect(await ended('failure')).toEqual(['log'])
  })

  it('never lead out: not by a link, `..`, an absolute path or a linked directory', async () => {
    const outside = join(wd, '..', 'secret')
    await mkdir(outside)
    await writeFile(join(outside, 'key'), 'key')
    await symlink(join(outside, 'key'), join(wd, 'key.txt'))
    await symlink(outside, join(wd, 'dir'))
    await expect(collect('*.txt')).rejects.toMatchObject(failsWith('FileUploadMiscError', /key\.txt is a symbolic link/))
    await expect(collect('dir/*')).rejects.toMatchObject(failsWith('FileUploadMiscError', /dir is a symbolic link/))
    await expect(collect('../secret/key')).rejects.toMatchObject(failsWith('FileUploadMiscError', /must not lead out/))
    await expect(collect(join(outside, 'key'))).rejects.toMatchObject(failsWith('FileUploadMiscError', /must be relative/))
    expect(await paths('*/key')).toEqual([])
  })

  it('are regular files: a pipe or a name that is not text fails the task and hangs nothing', async () => {
    execFileSync('mkfifo', [join(wd, 'pipe')])
    await expect(collect('p*')).rejects.toMatchObject(failsWith('FileUploadMiscError', /pipe, socket or device/))
    await writeFile(Buffer.concat([Buffer.from(`${wd}/bad`), Buffer.from([0xff])]), 'x')
    await expect(collect('bad*')).rejects.toMatchObject(failsWith('FileUploadMiscError', /not UTF-8/))
  })

  it.skipIf(!isRoot)('S1: no hard link to a file of another user (skipped for ordinary users: needs another user)', async () => {
    await writeFile(join(wd, '..', 'of-root'), 'secret', { mode: 0o600 })
    await link(join(wd, '..', 'of-root'), join(wd, 'mine'))
    execFileSync('chown', ['65534', wd])
    await expect(collect('mine')).rejects.toMatchObject(failsWith('FileUploadMiscError', /another user/))
  })

  it('do not include shared inputs', async () => {
    const blob = await put(home.store, Buffer.from('input'))
    await staging.stage([{ filePath: 'input', blob, shared: true }], wd, undefined, signal)
    await make('output')
    expect(await paths('*')).toEqual(['output'])
  })

  it('B2: wait while the home is full, without failing', async () => {
    await peers.stop(home)
    home = await peers.start('home', { roles: ['coordinator'], dir: home.dir, quotaBytes: MiB })
    await put(home.store, randomBytes(MiB - 10), 'job:1')
    await writeFile(join(wd, 'out'), randomBytes(1000))
    const collecting = collect('out')
    while (pauses < 2) await new Promise((resolve) => setImmediate(resolve))
    await home.store.unpinAll('job:1')
    const [output] = await collecting
    expect(await home.store.pins(output!.blob)).toEqual(['job:3'])
  })

  it('B2: wait while the home is out of reach, and end when they are told to', async () => {
    await make('out')
    peers.net.cut(home.peer)
    const stop = new AbortController()
    const patterns = [{ filePattern: 'out', uploadCondition: 'taskcompletion' as const }]
    const given = staging.collect(patterns, wd, 'success', { home: home.peer, jobUid: 3 }, stop.signal)
    const collecting = collect('out')
    while (pauses < 3) await new Promise((resolve) => setImmediate(resolve))
    stop.abort()
    await expect(given).rejects.toThrow()
    peers.net.heal(home.peer)
    expect(await collecting).toHaveLength(1)
  })

  it('of many tasks at once take a handful of messages', async () => {
    const dirs = await Promise.all(
      Array.from({ length: 40 }, async (_, i) => {
        const dir = join(wd, `task-${i}`)
        await mkdir(dir)
        for (let j = 0; j < 5; j++) await writeFile(join(dir, `out-${j}`), `output ${j} of ${i}`)
        return dir
      }),
    )
    home.asked.length = 0
    const collected = await Promise.all(
      dirs.map((dir) =>
        staging.collect(
          [{ filePattern: 'out-*', uploadCondition: 'taskcompletion' }],
          dir,
          'success',
          { home: home.peer, jobUid: 1 },
          signal,
        ),
      ),
    )
    expect(collected.flat()).toHaveLength(200)
    expect(home.asked.length).toBeLessThan(60)
  })

  it('a file that became something else meanwhile is refused', async () => {
    await make('d/f')
    await rename(join(wd, 'd/f'), join(wd, 'd/g'))
    await mkdir(join(wd, 'd/f'))
    expect(await paths('d/f')).toEqual([])
  })
})
