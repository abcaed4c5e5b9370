import { describe, expect, it, vi } from 'vitest'
import { createMemoryStore, type Store } from '../../coordinator/store.ts'
import { arrayTask, taskArraySchema } from '../../protocols/model/task-array.ts'
import { startWhole } from '../support/whole-coordinator.ts'

/** A store that counts the rows that are read, and stays open for another start. */
function counted() {
  const store = createMemoryStore()
  const reads = { rows: 0 }
  const counting: Store = {
    ...store,
    get: (key) => {
      reads.rows += 1
      return store.get(key)
    },
    getMany: (keys) => {
      reads.rows += keys.length
      return store.getMany(keys)
    },
    async *scan(range) {
      for await (const entry of store.scan(range)) {
        reads.rows += 1
        yield entry
      }
    },
  }
  return { store: counting, reads }
}

type Whole = Awaited<ReturnType<typeof startWhole>>
type Filter = { state?: 'active' | 'running' | 'completed'; result?: 'success' | 'failure' }

async function pages(mesh: Whole, jobId: string, filter: Filter = {}, limit = 1000): Promise<string[][]> {
  const found: string[][] = []
  let after: string | undefined
  do {
    const page = await mesh.control.call('listTasks', { jobId, limit, after, ...filter })
    found.push(page.items.map(({ id }) => id))
    after = page.next
  } while (after !== undefined)
  return found
}

const template = { commandLine: 'render {index} --out {index:06}.png', outputFiles: [{ filePattern: '{index:06}.png' }] }

describe('the tasks of an array', () => {
  it('are granted with the specs that they are shown with, and as the template says', async () => {
    const mesh = await startWhole(createMemoryStore())
    await mesh.control.call('addJob', { id: 'j' })
    const array = taskArraySchema.parse({ indexes: [{ start: 3, end: 9, step: 3 }], idPrefix: 'F', template })
    expect(await mesh.control.call('addTaskArray', { jobId: 'j', array })).toEqual({ count: 3, firstTaskId: 'F0003', lastTaskId: 'F0009' })
    const granted = await mesh.claim(2)
    expect(granted.map(({ task }) => task)).toEqual([arrayTask(array, 3), arrayTask(array, 6)])
    expect(granted[0]!.task.commandLine).toBe('render 3 --out 000003.png')
    for (const { task } of granted) expect(await mesh.control.call('getTask', { jobId: 'j', taskId: task.id })).toMatchObject({ ...task })
    expect(await mesh.control.call('getTask', { jobId: 'J', taskId: 'f0009' })).toMatchObject({
      id: 'F0009',
      state: 'active',
      attempts: [],
    })
    await expect(mesh.control.call('getTask', { jobId: 'j', taskId: 'F0004' })).rejects.toMatchObject({ code: 'TaskNotFound' })
    await mesh.stop()
  })

  it('S1: may report only outputs that the template names', async () => {
    const mesh = await startWhole(createMemoryStore())
    await mesh.control.call('addJob', { id: 'j' })
    await mesh.control.call('addTaskArray', { jobId: 'j', array: { indexes: [{ start: 1, end: 2 }], template } })
    const output = (path: string) => ({ outputs: [{ path, blob: `b${'a'.repeat(58)}`, size: 1 }] })
    const [one, two] = await mesh.claim(2)
    await mesh.report([one!], 0, output('000001.png'))
    await mesh.report([two!], 0, output('000001.png'))
    const [first, second] = (await mesh.control.call('listTasks', { jobId: 'j' })).items
    expect(first).toMatchObject({ id: '0001', executionInfo: { result: 'success' }, outputs: [{ path: '000001.png' }] })
    expect(second).toMatchObject({
      id: '0002',
      executionInfo: { result: 'failure', failureInfo: { code: 'FileUploadMiscError' } },
      outputs: [],
    })
    await mesh.stop()
  })

  it('are listed between the other tasks in the order of their ids, page after page', async () => {
    const mesh = await startWhole(createMemoryStore())
    await mesh.control.call('addJob', { id: 'j' })
    const commandLine = 'x'
    await mesh.control.call('addTasks', { jobId: 'j', tasks: ['0003a', 'a0', 'A0010', 'zz', '0'].map((id) => ({ id, commandLine })) })
    const add = (idPrefix: string, start: number, end: number, step: number, idDigits?: number) =>
      mesh.control.call('addTaskArray', {
        jobId: 'j',
        array: { indexes: [{ start, end, step }], idPrefix, idDigits, template: { commandLine } },
      })
    await add('', 0, 20, 2)
    await add('', 1, 21, 2)
    await add('A', 0, 9, 1)
    await add('a000', 10, 12, 1, 2)
    await add('b', 0, 0, 1)
    const all = (await pages(mesh, 'j')).flat()
    expect(all).toHaveLength(5 + 11 + 11 + 10 + 3 + 1)
    expect(all.map((id) => id.toLowerCase())).toEqual(all.map((id) => id.toLowerCase()).sort())
    expect(all).toContain('a00011')
    for (const limit of [1, 7, 41]) {
      const found = await pages(mesh, 'j', {}, limit)
      expect(found.flat()).toEqual(all)
      expect(Math.max(...found.map((page) => page.length))).toBe(limit)
    }
    await mesh.stop()
  })

  it('are filtered by state and result without a look at the rows of others, of an array of 100,000', async () => {
    const { store, reads } = counted()
    const mesh = await startWhole(store)
    await mesh.control.call('addJob', { id: 'j' })
    await mesh.control.call('addTaskArray', { jobId: 'j', array: { indexes: [{ start: 0, end: 99_999 }], template: { commandLine: 'x' } } })
    const granted = await mesh.claim(300)
    await mesh.report(granted.slice(0, 200), ({ id }) => (id === '00150' ? 1 : 0))
    await mesh.control.call('terminateTask', { jobId: 'j', taskId: '77777' })
    reads.rows = 0
    expect(await pages(mesh, 'j', { result: 'failure' })).toEqual([['00150', '77777']])
    expect(reads.rows).toBeLessThan(10)
    const running = await mesh.control.call('listTasks', { jobId: 'j', state: 'running', limit: 5 })
    // Granted, but none of them has said that its program began.
    expect(running.items).toEqual([])
    const first = await mesh.control.call('listTasks', { jobId: 'j', state: 'active', limit: 3 })
    expect(first.items.map(({ id, phase }) => [id, phase])).toEqual([
      ['00200', 'fetching'],
      ['00201', 'fetching'],
      ['00202', 'fetching'],
    ])
    expect((await pages(mesh, 'j', { state: 'completed', result: 'success' })).flat()).toHaveLength(199)
    expect(await pages(mesh, 'j', { state: 'active', result: 'success' })).toEqual([[]])
    expect(reads.rows).toBeLessThan(1000)
    expect(await mesh.control.call('getJob', { jobId: 'j' })).toMatchObject({
      counts: { active: 99_799, running: 0, completed: 201, succeeded: 199, failed: 2 },
    })
    await mesh.stop()
  })

  it('are filtered by memory also when they were added one by one', async () => {
    const { store, reads } = counted()
    const mesh = await startWhole(store)
    await mesh.control.call('addJob', { id: 'j' })
    const tasks = Array.from({ length: 1000 }, (_, i) => ({ id: `t${i}`, commandLine: 'x' }))
    await mesh.control.call('addTasks', { jobId: 'j', tasks })
    await mesh.report(await mesh.claim(30), ({ id }) => (Number(id.slice(1)) % 10 === 0 ? 1 : 0))
    reads.rows = 0
    expect(await pages(mesh, 'j', { result: 'failure' }, 2)).toEqual([['t0', 't10'], ['t20']])
    expect(reads.rows).toBeLessThan(20)
    await mesh.stop()
  })

  it('are run again on request, and explained', async () => {
    const mesh = await startWhole(createMemoryStore())
    await mesh.control.call('addJob', { id: 'j' })
    await mesh.control.call('addTaskArray', { jobId: 'j', array: { indexes: [{ start: 0, end: 1 }], template } })
    const task = { jobId: 'j', taskId: '0000' }
    await expect(mesh.control.call('reactivateTask', task)).rejects.toMatchObject({ code: 'TaskNotCompleted' })
    await mesh.report(await mesh.claim(1), 1)
    await mesh.control.call('reactivateTask', task)
    expect(await mesh.control.call('getTask', task)).toMatchObject({ state: 'active', executionInfo: { retryCount: 0 } })
    expect((await mesh.control.call('explain', task)).summary).toMatch(/^Task 0000 waits for its turn/)
    expect((await mesh.control.call('explain', { jobId: 'j' })).summary).toMatch(/2 tasks active/)
    expect((await mesh.claim(2)).map(({ attempt }) => `${attempt.task}#${attempt.epoch}`).sort()).toEqual(['0000#2', '0001#1'])
    await mesh.stop()
  })
})

describe('after a restart', () => {
  async function ended(store: Store) {
    const mesh = await startWhole({ ...store, close: async () => {} })
    await mesh.control.call('addJob', { id: 'j' })
    await mesh.control.call('addTasks', { jobId: 'j', tasks: [{ id: '0001b', commandLine: 'x' }] })
    await mesh.control.call('addTaskArray', { jobId: 'j', array: { indexes: [{ start: 0, end: 999 }], template: { commandLine: 'x' } } })
    await mesh.report(await mesh.claim(5), ({ id }) => (id === '0002' ? 1 : 0))
    await mesh.control.call('terminateJob', { jobId: 'j' })
    await mesh.stop()
  }

  it('the tasks of an ended job are listed, filtered and replayed by their rows', async () => {
    const { store } = counted()
    await ended(store)
    const mesh = await startWhole(store)
    expect((await pages(mesh, 'j')).flat()).toHaveLength(1001)
    expect(await pages(mesh, 'j', { result: 'failure' })).toEqual([['0002']])
    expect(await pages(mesh, 'j', { state: 'completed' })).toEqual([['0000', '0001', '0001b', '0002', '0003']])
    expect(await pages(mesh, 'j', { state: 'completed' }, 2)).toEqual([['0000', '0001'], ['0001b', '0002'], ['0003']])
    expect((await pages(mesh, 'j', { state: 'active' })).flat()).toHaveLength(996)
    expect(await pages(mesh, 'j', { state: 'running' })).toEqual([[]])
    expect((await mesh.control.call('getTask', { jobId: 'j', taskId: '0999' })).state).toBe('active')
    const note = mesh.nextNote()
    await mesh.control.call('watch', { jobId: 'j', replay: true })
    await note
    expect(mesh.seen.map(({ taskId, result }) => `${taskId} ${result}`)).toEqual([
      '0000 success',
      '0001 success',
      '0001b success',
      '0002 failure',
      '0003 success',
    ])
    await mesh.stop()
  })

  it('nothing of a deleted job is left', async () => {
    const { store } = counted()
    await ended(store)
    const mesh = await startWhole({ ...store, close: async () => {} })
    await mesh.control.call('deleteJob', { jobId: 'j' })
    await mesh.stop()
    const again = await startWhole({ ...store, close: async () => {} })
    // The removal goes on in the background.
    await vi.waitFor(async () => {
      const left = new Set<string>()
      for await (const [key] of store.scan({ gte: '', lt: '\uffff' })) left.add(key.split('/')[0]!)
      expect(left).toEqual(new Set(['mesh', 'mach', 'evnt']))
    })
    await again.stop()
  })
})
