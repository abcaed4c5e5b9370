/** Blobs between machines that are processes of their own: ids, pulls, damage on disk, breaks in the middle. */
import { randomBytes } from 'node:crypto'
import { existsSync } from 'node:fs'
import { chmod, mkdir, open, readdir, readFile, stat, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { MemoryBlockstore } from 'blockstore-core/memory'
import { importer } from 'ipfs-unixfs-importer'
import { afterAll, beforeAll, describe, expect, it, onTestFailed } from 'vitest'
import { MeshLab, type NodeProcess } from './support/mesh-lab.ts'

const MiB = 1 << 20
let lab: MeshLab
let founder: NodeProcess
let left: NodeProcess
let right: NodeProcess

beforeAll(async () => {
  lab = await MeshLab.create()
  founder = await lab.up('founder')
  left = await lab.up('left', { join: founder, args: ['--lend-cpus', '1', '--label', 'where=left'] })
  right = await lab.up('right', { join: founder, args: ['--lend-cpus', '1', '--label', 'where=right'] })
})
afterAll(() => lab?.close())

async function file(name: string, bytes: Uint8Array | string): Promise<string> {
  onTestFailed(() => console.error(lab.logs()))
  const path = join(lab.root, name)
  await mkdir(join(path, '..'), { recursive: true })
  await writeFile(path, bytes)
  return path
}

async function put(node: NodeProcess, path: string, ...args: string[]): Promise<string> {
  const [{ id }] = await lab.json(node, ['blob', 'put', path, ...args])
  return id
}

/** The bytes that `blob get` writes; throws when it fails. */
async function get(node: NodeProcess, id: string): Promise<Buffer> {
  const to = join(lab.root, `got-${node.name}-${randomBytes(4).toString('hex')}`)
  await lab.json(node, ['blob', 'get', id, '--destination', to])
  return await readFile(to)
}

/** The id that ipfs-unixfs-importer gives the files, in the profile unixfs-v1-2025. */
async function reference(source: { path: string; content: Uint8Array }[]): Promise<string> {
  let last = ''
  for await (const entry of importer(source, new MemoryBlockstore(), { profile: 'unixfs-v1-2025', blockWriteConcurrency: 1 }))
    last = entry.cid.toString()
  return last
}

const stored = (node: NodeProcess, id: string) => join(node.dataDir, 'blobs', 'files', id)

/** Turns one byte of a stored file around, as a bad disk would. */
async function damage(path: string, at: number): Promise<void> {
  await chmod(path, 0o600)
  const handle = await open(path, 'r+')
  const { buffer } = await handle.read(Buffer.alloc(1), 0, 1, at)
  await handle.write(Buffer.from([buffer[0]! ^ 0xff]), 0, 1, at)
  await handle.close()
  await chmod(path, 0o444)
}

/** Bytes that the process has written to files and connections. */
async function writtenBytes(node: NodeProcess): Promise<number> {
  return Number(/^wchar: (\d+)$/m.exec(await readFile(`/proc/${node.pid}/io`, 'utf8'))?.[1])
}

describe('blobs of one machine', () => {
  for (const [what, bytes] of [
    ['an empty file', Buffer.alloc(0)],
    ['a small file', Buffer.from('small')],
    ['a file of one chunk and a byte', randomBytes(MiB + 1)],
  ] as const) {
    it(`have the id of ipfs-unixfs-importer and come to another machine: ${what}`, async () => {
      const id = await put(left, await file('single', bytes))
      expect(id).toBe(await reference([{ path: 'single', content: bytes }]))
      expect(Buffer.compare(await get(right, id), bytes)).toBe(0)
      expect(await lab.json(right, ['blob', 'stat', id])).toMatchObject({ id, kind: 'file', size: bytes.length, complete: true })
    })
  }

  it('are directories too, of which single files can be taken', async () => {
    const content = { 'a.txt': Buffer.from('a'), 'sub/b c.bin': randomBytes(2 * MiB), 'sub/deep/ü.txt': Buffer.from('u') }
    for (const [name, bytes] of Object.entries(content)) await file(`tree/${name}`, bytes)
    const id = await put(left, join(lab.root, 'tree'))
    expect(id).toBe(await reference(Object.entries(content).map(([name, bytes]) => ({ path: `tree/${name}`, content: bytes }))))
    // The directory's pin keeps its files, and they go with it.
    const child = await reference([{ path: 'a.txt', content: content['a.txt'] }])
    expect([(await lab.json(left, ['blob', 'stat', id])).pins, (await lab.json(left, ['blob', 'stat', child])).pins]).toEqual([
      ['user'],
      [],
    ])
    const all = join(lab.root, 'got-tree')
    await lab.json(right, ['blob', 'get', id, '--destination', all])
    for (const [name, bytes] of Object.entries(content)) expect(Buffer.compare(await readFile(join(all, name)), bytes)).toBe(0)
    const one = join(lab.root, 'got-one')
    await lab.json(right, ['blob', 'get', id, '--only', 'sub/deep/ü.txt', '--destination', one])
    expect((await readdir(one, { recursive: true })).toSorted()).toEqual(['sub', 'sub/deep', 'sub/deep/ü.txt'])
  })

  it('are listed, pinned and swept', async () => {
    const id = await put(founder, await file('kept', randomBytes(100_000)))
    expect(await lab.json(founder, ['blob', 'list'])).toContainEqual({ id, kind: 'file', size: 100_000, pins: ['user'], complete: true })
    await lab.json(founder, ['blob', 'pin', id, '--name', 'other'])
    await lab.json(founder, ['blob', 'unpin', id])
    await lab.json(founder, ['blob', 'gc'])
    expect((await lab.json(founder, ['blob', 'stat', id])).pins).toEqual(['other'])
    await lab.json(founder, ['blob', 'unpin', id, '--name', 'other'])
    expect(await lab.json(founder, ['blob', 'gc'])).toMatchObject({ removed: expect.any(Number) })
    expect(await lab.cli(founder, ['blob', 'stat', id])).toMatchObject({ code: 1 })
  })

  it('that nobody has are said to be nowhere', async () => {
    const id = await reference([{ path: 'x', content: randomBytes(10) }])
    const got = await lab.cli(left, ['blob', 'get', id])
    expect(got.code).toBe(1)
    expect(got.stderr).toContain('No reachable machine has the blob')
  })

  it('of thousands of files go in and come out whole', async () => {
    const names = Array.from({ length: 2500 }, (_, at) => `many/${at % 7}/file number ${at}`)
    for (const [at, name] of names.entries()) await file(name, `${at}`)
    const id = await put(left, join(lab.root, 'many'))
    const to = join(lab.root, 'got-many')
    await lab.json(right, ['blob', 'get', id, '--destination', to])
    const found = (await readdir(to, { recursive: true, withFileTypes: true })).filter((entry) => entry.isFile())
    expect(found).toHaveLength(names.length)
    for (const at of [0, 1234, 2499]) expect(await readFile(join(to, `${at % 7}/file number ${at}`), 'utf8')).toBe(`${at}`)
  })
})

describe('B1: damage on a disk', () => {
  it('is found by the machine itself, which gets the bytes from another one', async () => {
    const bytes = randomBytes(5 * MiB)
    const id = await put(founder, await file('own', bytes))
    await get(left, id)
    await damage(stored(left, id), 3 * MiB + 17)
    expect(Buffer.compare(await get(left, id), bytes)).toBe(0)
    expect(left.log).toContain('does not match its id and was taken out')
    expect(Buffer.compare(await readFile(stored(left, id)), bytes)).toBe(0)
  })

  it('is refused by the machine that serves, and the bytes come from another one', async () => {
    const bytes = randomBytes(5 * MiB)
    const id = await put(left, await file('served', bytes))
    for (let chunk = 0; chunk < 5; chunk += 1) await damage(stored(founder, id), chunk * MiB + 7)
    // While the other one does not answer the founder is asked, for whichever chunk.
    await left.kill('SIGSTOP')
    const getting = get(right, id)
    await lab.until('the founder has found the damage', () => founder.log.includes(id))
    await left.kill('SIGCONT')
    expect(Buffer.compare(await getting, bytes)).toBe(0)
    await lab.until('the damaged machine has healed', () => existsSync(stored(founder, id)))
    expect(Buffer.compare(await readFile(stored(founder, id)), bytes)).toBe(0)
  })

  it('never reaches a task', async () => {
    const bytes = randomBytes(3 * MiB)
    const path = await file('input/task.bin', bytes)
    const sum = async () => {
      const words = ['sha256sum < {input}', '--inputs', path, '--label', 'where=left', '-q']
      const { stdout, code } = await lab.cli(founder, ['run', ...words])
      return code === 0 ? stdout : `exit code ${code}`
    }
    const first = await sum()
    const id = await put(founder, path)
    await damage(stored(left, id), MiB + 1)
    expect(await sum()).toBe(first)
  })
})

describe('a pull that breaks in the middle', () => {
  it.skipIf(process.platform !== 'linux')('goes on, when the machine is back, with what is missing', async () => {
    const chunks = 96
    const bytes = randomBytes(chunks * MiB)
    const id = await put(founder, await file('large', bytes))
    const partial = join(right.dataDir, 'blobs', 'partial', `${id}.have`)
    const to = join(lab.root, 'broken-off')
    const pulling = lab.cli(right, ['blob', 'get', id, '--destination', to])
    const came = async () => (await stat(partial)).size / 4
    await lab.until('a part has come', async () => (await came()) >= 8, { everyMs: 2 })
    await founder.kill('SIGSTOP')
    const had = await came()
    await right.kill('SIGKILL')
    await founder.kill('SIGCONT')
    expect(had).toBeLessThan(chunks)
    expect(existsSync(to)).toBe(false)

    const before = await writtenBytes(founder)
    right = await lab.up('right')
    // The command has waited for its node.
    expect((await pulling).code).toBe(0)
    expect(Buffer.compare(await readFile(to), bytes)).toBe(0)
    // What had come, but for a few pieces that were on their way when the process died, is not sent again.
    expect((await writtenBytes(founder)) - before).toBeLessThan((chunks - had + 16) * MiB)
  })
})

describe('S1: a task that overwrites its input', () => {
  it('changes nothing in the store, and the next task gets the original', async () => {
    for (const [name, bytes] of [
      ['small.txt', Buffer.from('original')],
      ['large.bin', randomBytes(2 * MiB)],
    ] as const) {
      const path = await file(`overwritten/${name}`, bytes)
      const words = ['-q', '--inputs', path, '--label', 'where=left']
      const overwrite = 'sha256sum < {input}; chmod u+w {input}; echo changed > {input} && cat {input}'
      const first = await lab.cli(founder, ['run', overwrite, ...words])
      const second = await lab.cli(founder, ['run', overwrite, ...words])
      expect(first).toMatchObject({ code: 0, stdout: expect.stringContaining('changed') })
      expect(second.stdout).toBe(first.stdout)
      const id = await put(founder, path)
      for (const node of [founder, left]) expect(Buffer.compare(await get(node, id), bytes)).toBe(0)
    }
  })
})
