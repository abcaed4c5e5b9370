import { execFileSync } from 'node:child_process'
import { randomBytes } from 'node:crypto'
import { chmod, link, mkdir, rename, symlink, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { afterAll, afterEach, beforeEach, describe, expect, it } from 'vitest'
import type { Staging } from '../../node/ports.ts'
import { createStaging } from '../../node/staging.ts'
import { closeHashPool } from '../../node/store/hash-pool.ts'
import { type BlobPeer, BlobPeers, MiB, put, readAll } from '../support/blob-peers.ts'

const isRoot = process.getuid?.() === 0
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

  it.skipIf(isRoot)('fail the task when they cannot be read (skipped for root, who reads everything)', async () => {
    await make('d/f')
    await chmod(join(wd, 'd/f'), 0)
    await expect(collect('d/f')).rejects.toMatchObject(failsWith('FileUploadMiscError', /d\/f cannot be read/))
    await chmod(join(wd, 'd'), 0)
    await expect(collect('d/f')).rejects.toMatchObject(failsWith('FileUploadMiscError', /cannot be read/))
    await chmod(join(wd, 'd'), 0o700)
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
