import { execFileSync } from 'node:child_process'
import { appendFileSync, mkdirSync, mkdtempSync, renameSync, rmSync, symlinkSync, writeFileSync } from 'node:fs'
import { createServer } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import * as fc from 'fast-check'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { Directories } from '../../node/directories.ts'
import { filesHandlers, nameComponents } from '../../node/files.ts'
import type { TaskPaths } from '../../node/ports.ts'

let root: string
let directories: Directories
let paths: TaskPaths
const attempt = { jobUid: 1, task: 'a', epoch: 1 }
const context = { signal: new AbortController().signal, remote: { peer: 'coordinator', roles: [] } }

beforeEach(() => {
  root = mkdtempSync(join(tmpdir(), 'batchmesh-files-'))
  directories = new Directories(join(root, 'node'))
  paths = directories.make(attempt, 'job', undefined)
  writeFileSync(paths.stdout, 'hello')
  writeFileSync(paths.stderr, '')
  writeFileSync(join(root, 'secret'), 'the secret key')
})
afterEach(() => rmSync(root, { recursive: true, force: true }))

const handlers = () => filesHandlers((each) => directories.find(each)).calls
const list = async (recursive = false, prefix?: string) => {
  const { files, more } = await handlers().list({ attempt, recursive, prefix }, context)
  return { more, files, names: files.map(({ name }) => name) }
}
const read = async (name: string, more: { offset?: number; length?: number; waitMs?: number; signal?: AbortSignal } = {}) => {
  const request = { attempt, name, offset: more.offset ?? 0, length: more.length ?? 1000, waitMs: more.waitMs ?? 0 }
  const { data, size, final } = await handlers().read(request, { ...context, signal: more.signal ?? context.signal })
  return { text: Buffer.from(data).toString(), size, final }
}

describe('a task that has no directory, because its function never looked for it', () => {
  it('has no files; what it printed is empty', async () => {
    const { calls } = filesHandlers(() => ({ paths: undefined, running: false }))
    const read = (name: string, offset = 0) => calls.read({ attempt, name, offset, length: 10, waitMs: 0 }, context)
    expect(await calls.list({ attempt, recursive: true, prefix: undefined }, context)).toEqual({ files: [], more: false })
    for (const name of ['stdout.txt', 'stderr.txt']) expect(await read(name)).toEqual({ data: new Uint8Array(), size: 0, final: true })
    await expect(read('wd/a')).rejects.toMatchObject({ code: 'FileNotFound' })
    await expect(read('stdout.txt', 1)).rejects.toMatchObject({ code: 'InvalidRange' })
  })

  it('is followed until it has one', async () => {
    let asked = 0
    const { calls } = filesHandlers(() => {
      asked += 1
      return { paths: asked < 3 ? undefined : paths, running: true }
    })
    const { data } = await calls.read({ attempt, name: 'stdout.txt', offset: 0, length: 10, waitMs: 10_000 }, context)
    expect(Buffer.from(data).toString()).toBe('hello')
  })
})

describe('listing', () => {
  beforeEach(() => {
    mkdirSync(join(paths.wd, 'out/deep'), { recursive: true })
    writeFileSync(join(paths.wd, 'out/deep/a.txt'), 'abc')
    writeFileSync(join(paths.wd, 'b.txt'), '')
  })

  it('shows the top of the task directory, sorted', async () => {
    const { files, names, more } = await list()
    expect(names).toEqual(['stderr.txt', 'stdout.txt', 'wd'])
    expect(more).toBe(false)
    expect(files[1]).toMatchObject({ isDirectory: false, size: 5 })
    expect(files[2]).toMatchObject({ isDirectory: true, size: 0 })
  })

  it('shows all below when recursive, named from the task directory', async () => {
    expect((await list(true)).names).toEqual(['stderr.txt', 'stdout.txt', 'wd', 'wd/b.txt', 'wd/out', 'wd/out/deep', 'wd/out/deep/a.txt'])
  })

  it('takes only names with the prefix', async () => {
    expect((await list(true, 'wd/out/d')).names).toEqual(['wd/out/deep', 'wd/out/deep/a.txt'])
    expect((await list(true, 'std')).names).toEqual(['stderr.txt', 'stdout.txt'])
    expect((await list(true, 'wd/x')).names).toEqual([])
  })

  it('S1: shows links and does not follow them', async () => {
    symlinkSync(root, join(paths.wd, 'link'))
    const { names } = await list(true, 'wd/link')
    expect(names).toEqual(['wd/link'])
  })

  it('says that it left something out', async () => {
    let deep = paths.wd
    for (let depth = 0; depth < 70; depth += 1) deep = join(deep, 'd')
    mkdirSync(deep, { recursive: true })
    expect((await list(true)).more).toBe(true)
  })

  it('holds at most 10,000 entries', async () => {
    for (let number = 0; number < 10_001; number += 1) writeFileSync(join(paths.wd, `${number}`), '')
    const { files, more } = await list(true, 'wd/')
    expect([files.length, more]).toEqual([10_000, true])
  })
})

describe('reading', () => {
  it('gives the bytes of the range', async () => {
    expect(await read('stdout.txt')).toEqual({ text: 'hello', size: 5, final: false })
    expect(await read('stdout.txt', { offset: 1, length: 3 })).toEqual({ text: 'ell', size: 5, final: false })
    expect(await read('stdout.txt', { offset: 5 })).toEqual({ text: '', size: 5, final: false })
    expect(await read('stdout.txt', { length: 0, waitMs: 30_000 })).toEqual({ text: '', size: 5, final: false })
  })

  it('says that nothing will be added once the task has ended', async () => {
    directories.seal(attempt, Date.now())
    expect(await read('stdout.txt', { offset: 5, waitMs: 30_000 })).toEqual({ text: '', size: 5, final: true })
  })

  it('refuses a range past the end, a file that is not there, and an attempt that is not here', async () => {
    await expect(read('stdout.txt', { offset: 6 })).rejects.toMatchObject({ code: 'InvalidRange' })
    await expect(read('wd/none')).rejects.toMatchObject({ code: 'FileNotFound' })
    await expect(handlers().list({ attempt: { ...attempt, epoch: 2 }, recursive: false }, context)).rejects.toMatchObject({
      code: 'TaskFilesCleanedup',
    })
  })

  it('waits for bytes of a file that grows, or is yet to be made', async () => {
    const grown = read('stdout.txt', { offset: 5, waitMs: 30_000 })
    const made = read('wd/new', { waitMs: 30_000 })
    appendFileSync(paths.stdout, ' world')
    writeFileSync(join(paths.wd, 'new'), 'new')
    expect(await grown).toMatchObject({ text: ' world', final: false })
    expect(await made).toMatchObject({ text: 'new' })
  })

  it('stops waiting when the task ends, and when the asker is gone', async () => {
    const gone = new AbortController()
    const left = read('stdout.txt', { offset: 5, waitMs: 30_000, signal: gone.signal })
    gone.abort()
    expect(await left).toMatchObject({ text: '' })
    const ended = read('stdout.txt', { offset: 5, waitMs: 30_000 })
    directories.seal(attempt, Date.now())
    expect(await ended).toEqual({ text: '', size: 5, final: true })
  })
})

describe('S1: nothing outside of the task directory is served', () => {
  it.each(['../../../../../secret', '/etc/passwd', 'wd/../../x', 'wd//a', './stdout.txt', 'wd/', 'a\0b'])(
    'through the name %j',
    async (name) => {
      await expect(read(name)).rejects.toMatchObject({ code: 'InvalidPropertyValue' })
    },
  )

  it('through any name: each component names an entry and nothing else', () => {
    fc.assert(
      fc.property(fc.array(fc.oneof(fc.constantFrom('..', '.', '', '/', 'a', '\0'), fc.string())), (parts) => {
        let components: string[]
        try {
          components = nameComponents(parts.join('/'))
        } catch {
          return
        }
        for (const component of components)
          expect(component === '' || component === '.' || component === '..' || /[/\0]/.test(component)).toBe(false)
      }),
    )
  })

  it('through a link, as the file or on the way to it, nor by exchanging a directory for one', async () => {
    symlinkSync(join(root, 'secret'), join(paths.wd, 'file'))
    symlinkSync(root, join(paths.wd, 'way'))
    await expect(read('wd/file')).rejects.toMatchObject({ code: 'FileNotFound' })
    await expect(read('wd/way/secret')).rejects.toMatchObject({ code: 'FileNotFound' })
    renameSync(paths.wd, join(paths.taskDir, 'was'))
    symlinkSync(root, paths.wd)
    await expect(read('wd/secret')).rejects.toMatchObject({ code: 'FileNotFound' })
    expect((await list(true, 'wd')).names).toEqual(['wd'])
  })

  it('while a task exchanges a directory and a link as fast as it can', async () => {
    mkdirSync(join(paths.wd, 'real'))
    writeFileSync(join(paths.wd, 'real/secret'), 'harmless')
    symlinkSync(root, join(paths.wd, 'link'))
    const seen = new Set<string>()
    for (let round = 0; round < 300; round += 1) {
      const reading = read('wd/real/secret').then(
        ({ text }) => seen.add(text),
        ({ code }) => seen.add(code),
      )
      renameSync(join(paths.wd, 'real'), join(paths.wd, 'aside'))
      renameSync(join(paths.wd, 'link'), join(paths.wd, 'real'))
      await new Promise(setImmediate)
      renameSync(join(paths.wd, 'real'), join(paths.wd, 'link'))
      renameSync(join(paths.wd, 'aside'), join(paths.wd, 'real'))
      await reading
    }
    seen.delete('harmless')
    seen.delete('FileNotFound')
    expect([...seen]).toEqual([])
  })

  it('nor is a pipe, a socket or a directory read, and none of them keeps the reader waiting', async () => {
    execFileSync('mkfifo', [join(paths.wd, 'pipe')])
    const server = createServer()
    await new Promise<void>((resolve) => server.listen(join(paths.wd, 'socket'), resolve))
    for (const name of ['wd/pipe', 'wd/socket', 'wd']) await expect(read(name)).rejects.toMatchObject({ code: 'InvalidPropertyValue' })
    await new Promise((resolve) => server.close(resolve))
  })
})
