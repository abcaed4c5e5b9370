/** `mesh.map` against a mesh in memory that really calls the functions. */
import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { connect, MapError, type MapOptions, type Mesh, MeshError, remoteModule } from '../../src/index.ts'
import { FakeMesh } from '../cli/fake-mesh.ts'

const workUrl = new URL('./work.ts', import.meta.url)
const work = remoteModule<typeof import('./work.ts')>(workUrl)

let fake: FakeMesh
let mesh: Mesh
beforeEach(async () => {
  fake = new FakeMesh()
  mesh = await connect({ open: fake.open })
})
afterEach(async () => {
  await mesh.close()
  fake.close()
})

/** Ends every job's tasks in the order given, one after the other. */
function gates(): { wait: (index: number) => Promise<void>; open: (index: number) => void } {
  const all = new Map<number, PromiseWithResolvers<void>>()
  const of = (index: number) => all.get(index) ?? all.set(index, Promise.withResolvers()).get(index)!
  return { wait: (index) => of(index).promise, open: (index) => of(index).resolve() }
}

describe('results', () => {
  it('come in the order of the inputs, whatever the order in which they are done', async () => {
    const held = gates()
    Object.assign(globalThis, { holdForTest: held.wait })
    const wait = async (n: number) => {
      await (globalThis as unknown as { holdForTest: (n: number) => Promise<void> }).holdForTest(n)
      return n * 10
    }
    const got = Array.fromAsync(mesh.map(wait, [0, 1, 2]))
    for (const index of [2, 1, 0]) held.open(index)
    expect(await got).toEqual([0, 10, 20])
  })

  it('come as they are completed, with their inputs, where that is asked for', async () => {
    const held = gates()
    Object.assign(globalThis, { holdForTest: held.wait })
    const wait = async (text: string) => {
      await (globalThis as unknown as { holdForTest: (n: number) => Promise<void> }).holdForTest(Number(text))
      return text.length
    }
    const got: unknown[] = []
    for (const next of [1, 0]) held.open(next === 1 ? 1 : -1)
    for await (const one of mesh.map(wait, ['0', '1'], { order: 'completed' })) {
      got.push(one)
      held.open(0)
    }
    expect(got).toEqual([
      { index: 1, input: '1', value: 1 },
      { index: 0, input: '0', value: 1 },
    ])
  })

  it('are whatever the structured clone algorithm takes, there and back', async () => {
    const value = { when: new Date(5), set: new Set([1n]), bytes: new Uint8Array([1, 2]), map: new Map([['a', undefined]]) }
    const [back] = await Array.fromAsync(mesh.map((v: typeof value) => v, [value]))
    expect(back).toEqual(value)
  })

  it('and inputs of more than 64 KiB travel as blobs', async () => {
    const large = 'x'.repeat(200_000)
    const [length, back] = [
      await Array.fromAsync(mesh.map((text: string) => text.length, [large])),
      await Array.fromAsync(mesh.map((count: number) => 'y'.repeat(count), [200_000])),
    ]
    expect(length).toEqual([200_000])
    expect(back).toEqual(['y'.repeat(200_000)])
    expect([...fake.blobs.values()].filter((blob) => blob.length > 200_000)).toHaveLength(2)
  })

  it('of no inputs are none, and nothing is left of the job', async () => {
    expect(await Array.fromAsync(mesh.map((n: number) => n, []))).toEqual([])
    expect([...fake.jobs.keys()]).toEqual([])
  })

  it('are given once each though the connection breaks between them', async () => {
    const held = gates()
    Object.assign(globalThis, { holdForTest: held.wait })
    const wait = async (n: number) => {
      await (globalThis as unknown as { holdForTest: (n: number) => Promise<void> }).holdForTest(n)
      return n
    }
    held.open(0)
    const got: number[] = []
    for await (const { value } of mesh.map(wait, [0, 1], { order: 'completed' })) {
      got.push(value)
      if (value === 0) {
        fake.crash()
        fake.revive()
        held.open(1)
      }
    }
    expect(got).toEqual([0, 1])
  })
})

describe('modules', () => {
  it('are bundled with what they import, types and packages too', async () => {
    expect(await Array.fromAsync(mesh.map(work.default, [1, 2]))).toEqual([2, 4])
    expect(await Array.fromAsync(mesh.map(work.firstCell, ['a,b\nc,d']))).toEqual(['a'])
    expect(await Array.fromAsync(mesh.map(work.nameOf, ['/x/y.z']))).toEqual(['y.z'])
  })

  it('have the types of their functions', async () => {
    const texts: string[] = await Array.fromAsync(mesh.map(work.firstCell, ['a']))
    expect(texts).toEqual(['a'])
    const one: AsyncGenerator<{ index: number; input: string; value: string }> = mesh.map(work.firstCell, ['a'], { order: 'completed' })
    const options: MapOptions = { order: 'completed' }
    expect(await Array.fromAsync(mesh.map(work.firstCell, ['a'], options))).toHaveLength(1)
    // @ts-expect-error: it takes texts
    mesh.map(work.firstCell, [1])
    // @ts-expect-error: it gives texts
    const numbers: AsyncGenerator<number> = mesh.map(work.firstCell, ['a'])
    // @ts-expect-error: it is no function
    expect([one, numbers, work.notAFunction]).toHaveLength(3)
    // @ts-expect-error: a function of this program has types as well
    mesh.map((n: number) => n, ['a'])
  })

  it('can be named by a path', async () => {
    const path = join(import.meta.dirname, 'work.ts')
    expect(await Array.fromAsync(mesh.map<number, number>({ module: path }, [21]))).toEqual([42])
  })

  it('are refused before anything is sent when there is no such file or export', async () => {
    const nowhere = mesh.map({ module: './nowhere.ts' }, [1])
    await expect(nowhere.next()).rejects.toThrow(/There is no module .*nowhere\.ts/)
    const nothing = mesh.map({ module: workUrl, export: 'treble' }, [1])
    await expect(nothing.next()).rejects.toThrow(/has no export "treble". It exports: .*firstCell/)
    await expect(mesh.map({ module: 'https://example.com/x.js' }, [1]).next()).rejects.toThrow(/path or a file URL/)
    expect(fake.jobs.size).toBe(0)
  })
})

describe('failures', () => {
  it('reject with the input, the remote message, and a stack of the lines in the module', async () => {
    const error = await Array.fromAsync(mesh.map(work.check, [{ amount: 1 }, { amount: -3 }])).catch((thrown: unknown) => thrown)
    expect(error).toBeInstanceOf(MapError)
    const { index, cause, message, taskId } = error as MapError
    expect({ index, taskId }).toEqual({ index: 1, taskId: '00000001' })
    expect(message).toContain('Input 1 failed: RangeError: -3 is less than nothing')
    const line =
      readFileSync(workUrl, 'utf8')
        .split('\n')
        .findIndex((text) => text.includes('throw new RangeError')) + 1
    expect(cause).toMatchObject({ name: 'RangeError', message: '-3 is less than nothing' })
    expect((cause as Error).stack).toContain(`test/library/work.ts:${line}:`)
  })

  it('for a name that was nowhere in the text as such say what is sent of a function', async () => {
    const missing = (name: string): never => {
      throw new ReferenceError(`${name} is not defined`)
    }
    const messageOf = (results: AsyncIterable<unknown>) => Array.fromAsync(results).catch((error: Error) => error.message)
    expect(await messageOf(mesh.map(missing, ['rate']))).toMatch(
      /^Input 0 failed: ReferenceError: rate is not defined\. If it is defined outside of the function: /,
    )
    expect(await messageOf(mesh.map(work.missing, ['rate']))).toMatch(/^Input 0 failed: ReferenceError: rate is not defined \(task /)
  })

  it('end the job, and it stays to be looked at', async () => {
    await Array.fromAsync(mesh.map(work.check, [{ amount: -1 }])).catch(() => undefined)
    const [id] = fake.jobs.keys()
    expect(fake.view(id!)).toMatchObject({ state: 'completed', retentionTimeMs: 86_400_000 })
  })

  it('are results like others where it is settled', async () => {
    const got = await Array.fromAsync(mesh.map(work.check, [{ amount: -1 }, { amount: 2 }], { settled: true }))
    expect(got).toMatchObject([
      { status: 'rejected', reason: { index: 0 } },
      { status: 'fulfilled', value: 2 },
    ])
    const other = await Array.fromAsync(mesh.map(work.check, [{ amount: -1 }], { settled: true, order: 'completed' }))
    expect(other).toMatchObject([{ status: 'rejected', index: 0, input: { amount: -1 } }])
  })

  it('of a source end the job and are passed on', async () => {
    const source = function* () {
      yield 1
      throw new Error('the source is dry')
    }
    await expect(Array.fromAsync(mesh.map((n: number) => n, source()))).rejects.toThrow('the source is dry')
    expect([...fake.jobs.values()].map(({ state }) => state)).toEqual(['completed'])
  })

  it('tell of inputs that are none', async () => {
    for (const inputs of [5, undefined, { length: 1 }])
      await expect(mesh.map((n: unknown) => n, inputs as unknown as unknown[]).next()).rejects.toThrow(/^The inputs of a map are an array/)
    expect(await mesh.map((text: string) => text, 'ab').next()).toMatchObject({ value: 'a' })
  })

  it('name the input that cannot be sent', async () => {
    const inputs: unknown[] = [1, { f: () => 1 }]
    await expect(Array.fromAsync(mesh.map((n: unknown) => n, inputs))).rejects.toThrow(/^Input 1 cannot be sent: .*could not be cloned/)
  })
})

describe('the source', () => {
  it('may be endless: no more is taken than ahead of what was used', async () => {
    let taken = 0
    let ended = false
    const source = async function* () {
      try {
        for (;;) yield taken++
      } finally {
        ended = true
      }
    }
    let used = 0
    for await (const n of mesh.map((n: number) => n, source(), { ahead: 5 })) {
      expect(n).toBe(used)
      used += 1
      // One more may have been asked for.
      expect(taken).toBeLessThanOrEqual(used + 6)
      if (used === 40) break
    }
    expect(ended).toBe(true)
  })

  it('is not waited for once the loop is left', async () => {
    const source = async function* () {
      yield 1
      await new Promise(() => {})
    }
    for await (const n of mesh.map((n: number) => n, source())) {
      expect(n).toBe(1)
      break
    }
    expect([...fake.jobs.values()].map(({ state, reason }) => [state, reason])).toEqual([['completed', 'MapEnded']])
  })

  it('is sent in few requests', async () => {
    const inputs = Array.from({ length: 1100 }, (_, n) => n)
    let last = -1
    for await (const n of mesh.map((n: number) => n, inputs, { ahead: 2000 })) last = n
    expect(last).toBe(1099)
    expect(fake.asked.filter((name) => name === 'addTasks').length).toBeLessThanOrEqual(3)
  })
})

it('an aborted signal ends it with its reason, and the job', async () => {
  const abort = new AbortController()
  const reason = new Error('enough')
  fake.gate = new Promise(() => {})
  const got = Array.fromAsync(mesh.map((n: number) => n, [1], { signal: abort.signal }))
  fake.onCall = (name) => {
    if (name === 'addTasks') abort.abort(reason)
  }
  await expect(got).rejects.toBe(reason)
  expect([...fake.jobs.values()].map(({ state }) => state)).toEqual(['completed'])
  await expect(mesh.map((n: number) => n, [1], { signal: abort.signal }).next()).rejects.toBe(reason)
})

it('closing the mesh ends what is under way', async () => {
  fake.gate = new Promise(() => {})
  const got = Array.fromAsync(mesh.map((n: number) => n, [1]))
  got.catch(() => undefined)
  fake.onCall = (name) => {
    if (name === 'updateJob') void mesh.close()
  }
  await expect(got).rejects.toMatchObject({ code: 'Aborted' })
})

it('a job that somebody else ends rejects with JobCompleted', async () => {
  fake.gate = new Promise(() => {})
  const got = Array.fromAsync(mesh.map((n: number) => n, [1]))
  fake.onCall = (name) => {
    if (name === 'updateJob') fake.end([...fake.jobs.keys()][0]!)
  }
  const error = await got.catch((thrown: unknown) => thrown)
  expect(error).toBeInstanceOf(MeshError)
  expect(error).toMatchObject({ code: 'JobCompleted' })
})

it('options reach the tasks', async () => {
  const options = { jobId: 'named', retries: 2, timeoutMs: 1000, cores: 2, maxHeapMiB: 64, env: { A: 'b' }, labels: { gpu: 'a' }, slots: 2 }
  await Array.fromAsync(mesh.map((n: number) => n, [1], options))
  const { spec } = [...fake.jobs.get('named')!.tasks.values()][0]!
  expect(spec).toMatchObject({
    thread: { export: 'default', maxHeapMiB: 64 },
    constraints: { maxTaskRetryCount: 2, maxWallClockTimeMs: 1000 },
    environmentSettings: [{ name: 'A', value: 'b' }],
    resources: { cores: 2, labels: { gpu: 'a' } },
    requiredSlots: 2,
  })
  await expect(mesh.map((n: number) => n, [1], { ahead: 0 }).next()).rejects.toThrow(/ahead is a whole number/)
})
