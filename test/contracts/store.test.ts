import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, describe, expect, it } from 'vitest'
import { createMemoryStore, openLevelStore, type Store } from '../../coordinator/store.ts'
import { CrashDisk } from '../support/stores/crash-disk.ts'
import { CrashStore } from '../support/stores/crash-store.ts'

const cleanups: (() => Promise<void>)[] = []
afterEach(async () => {
  for (const cleanup of cleanups.splice(0).reverse()) await cleanup()
})

async function directory(): Promise<string> {
  const path = await mkdtemp(join(tmpdir(), 'batchmesh-store-'))
  cleanups.push(() => rm(path, { recursive: true, force: true }))
  return path
}

const bytes = (text: string) => new TextEncoder().encode(text)
const text = (value: Uint8Array | undefined) => (value === undefined ? undefined : new TextDecoder().decode(value))

const implementations: [string, () => Promise<Store>][] = [
  ['memory', async () => createMemoryStore()],
  ['crash-prone', async () => new CrashStore()],
  ['LevelDB', async () => openLevelStore(join(await directory(), 'db'))],
]

describe.each(implementations)('the %s store', (_, open) => {
  const opened = async () => {
    const store = await open()
    cleanups.push(() => store.close())
    return store
  }

  it('answers what was written, and undefined for what was not', async () => {
    const store = await opened()
    await store.write(new Map([['a', bytes('1')]]))
    expect(text(await store.get('a'))).toBe('1')
    expect(await store.get('b')).toBeUndefined()
  })

  it('puts and deletes in one batch', async () => {
    const store = await opened()
    await store.write(new Map([['a', bytes('1')]]))
    await store.write(
      new Map([
        ['a', undefined],
        ['b', bytes('2')],
      ]),
    )
    expect((await store.getMany(['a', 'b'])).map(text)).toEqual([undefined, '2'])
  })

  it('scans a range in the order of the keys, up to a limit', async () => {
    const store = await opened()
    await store.write(new Map(['s/3', 's/1', 't/1', 's/2'].map((key) => [key, bytes(key)])))
    const keys: string[] = []
    for await (const [key, value] of store.scan({ gt: 's/', lt: 's/\uffff', limit: 2 })) keys.push(`${key}=${text(value)}`)
    expect(keys).toEqual(['s/1=s/1', 's/2=s/2'])
  })

  it('begins a scan after a key that is given', async () => {
    const store = await opened()
    await store.write(new Map(['s/1', 's/2', 's/3'].map((key) => [key, bytes(key)])))
    const keys: string[] = []
    for await (const [key] of store.scan({ gt: 's/1', lt: 's/\uffff' })) keys.push(key)
    expect(keys).toEqual(['s/2', 's/3'])
  })

  it('clears a range and nothing beside it', async () => {
    const store = await opened()
    await store.write(new Map(['a/1', 'a/2', 'b/1'].map((key) => [key, bytes(key)])))
    await store.clear({ gt: 'a/', lt: 'a/\uffff' })
    expect((await store.getMany(['a/1', 'a/2', 'b/1'])).map(text)).toEqual([undefined, undefined, 'b/1'])
  })

  it('keeps bytes as they are', async () => {
    const store = await opened()
    const all = Uint8Array.from({ length: 256 }, (_unused, i) => i)
    await store.write(new Map([['bytes', all]]))
    expect(new Uint8Array((await store.get('bytes'))!)).toEqual(all)
  })
})

describe('the LevelDB store on disk', () => {
  it('has its rows after it was closed and opened again', async () => {
    const path = join(await directory(), 'db')
    const first = await openLevelStore(path)
    await first.write(new Map([['a', bytes('1')]]))
    await first.close()
    const second = await openLevelStore(path)
    cleanups.push(() => second.close())
    expect(text(await second.get('a'))).toBe('1')
  })

  it('says that another process uses it', async () => {
    const path = join(await directory(), 'db')
    const first = await openLevelStore(path)
    cleanups.push(() => first.close())
    await expect(openLevelStore(path)).rejects.toThrow(/another process is using it/)
  })
})

describe('the crash-prone disk', () => {
  const keysAfter = (chance: number) => {
    const disk = new CrashDisk()
    disk.write(new Map([['a', bytes('1')]]))
    disk.sync()
    disk.write(
      new Map([
        ['a', undefined],
        ['b', bytes('2')],
      ]),
    )
    disk.write(new Map([['c', bytes('3')]]))
    expect(disk.keys()).toEqual(['b', 'c'])
    const lost = disk.crash(chance)
    return { keys: disk.keys(), lost: lost.length }
  }

  it('keeps what was synced, and of the rest the first batches, each whole, or none', () => {
    expect(keysAfter(0)).toEqual({ keys: ['a'], lost: 2 })
    expect(keysAfter(0.5)).toEqual({ keys: ['b'], lost: 1 })
    expect(keysAfter(0.99)).toEqual({ keys: ['b', 'c'], lost: 0 })
  })

  it('answers nothing to a process that has died, and the next one what is durable', async () => {
    const store = new CrashStore()
    await store.write(new Map([['a', bytes('1')]]))
    let answered = false
    void store.write(new Map([['b', bytes('2')]])).then(() => {
      answered = true
    })
    store.crash(0)
    for (let turn = 0; turn < 5; turn += 1) await new Promise(setImmediate)
    expect(answered).toBe(false)
    const next = new CrashStore(store.disk)
    expect((await next.getMany(['a', 'b'])).map(text)).toEqual(['1', undefined])
  })
})
