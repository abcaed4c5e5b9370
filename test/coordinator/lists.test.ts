import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { createMemoryStore, type Store } from '../../coordinator/store.ts'
import { startWhole } from '../support/whole-coordinator.ts'

type Filter = { state?: 'active' | 'running' | 'completed'; result?: 'success' | 'failure' }
const filters: Filter[] = [
  {},
  { state: 'active' },
  { state: 'running' },
  { state: 'completed' },
  { result: 'success' },
  { result: 'failure' },
  { state: 'active', result: 'failure' },
]

async function started(ids: readonly string[], store: Store = createMemoryStore()) {
  const mesh = await startWhole(store)
  await mesh.control.call('addJob', { id: 'j' })
  for (let at = 0; at < ids.length; at += 7) {
    const tasks = ids.slice(at, at + 7).map((id) => ({ id, commandLine: 'x' }))
    await mesh.control.call('addTasks', { jobId: 'j', tasks })
  }
  return mesh
}

type Mesh = Awaited<ReturnType<typeof startWhole>>

async function listed(mesh: Mesh, filter: Filter, limit: number) {
  const found = []
  let after: string | undefined
  do {
    const page = await mesh.control.call('listTasks', { jobId: 'j', limit, after, ...filter })
    expect(page.items.length).toBeLessThanOrEqual(limit)
    found.push(...page.items)
    after = page.next
  } while (after !== undefined)
  return found
}

const ordered = fc.integer({ min: 1, max: 60 }).map((count) => Array.from({ length: count }, (_, i) => `F${String(i).padStart(3, '0')}`))
const inAnyOrder = ordered.chain((ids) => fc.shuffledSubarray(ids, { minLength: 1 }))

describe('a list of tasks that were added one by one', () => {
  it('shows those that a filter is for, each once, in the order of their ids, in whatever order they were added', async () => {
    await fc.assert(
      fc.asyncProperty(
        fc.oneof(ordered, inAnyOrder),
        fc.record({
          claimed: fc.nat(30),
          reported: fc.nat(30),
          ended: fc.nat(60),
          again: fc.boolean(),
          limit: fc.integer({ min: 1, max: 80 }),
        }),
        async (ids, { claimed, reported, ended, again, limit }) => {
          const mesh = await started(ids)
          const granted = await mesh.claim(claimed)
          await mesh.report(granted.slice(0, reported), ({ id }) => (Number(id.slice(1)) % 3 === 0 ? 1 : 0))
          const taskId = ids[ended % ids.length]!
          await mesh.control.call('terminateTask', { jobId: 'j', taskId }).catch(() => {})
          if (again) await mesh.control.call('reactivateTask', { jobId: 'j', taskId }).catch(() => {})
          const all = await Promise.all([...ids].sort().map((id) => mesh.control.call('getTask', { jobId: 'j', taskId: id })))
          for (const { state, result } of filters) {
            const expected = all.filter(
              (view) => (state === undefined || view.state === state) && (result === undefined || view.executionInfo.result === result),
            )
            expect(await listed(mesh, { state, result }, limit)).toEqual(expected)
          }
          await mesh.stop()
        },
      ),
      { numRuns: 40 },
    )
  })

  it('looks at rows of no others, and at status rows of none that nothing has happened to', async () => {
    const store = createMemoryStore()
    let read: string[] = []
    const mesh = await started(
      Array.from({ length: 500 }, (_, i) => String(i).padStart(4, '0')),
      {
        ...store,
        getMany: (keys) => {
          read.push(...keys)
          return store.getMany(keys)
        },
        async *scan(range) {
          for await (const entry of store.scan(range)) {
            read.push(entry[0])
            yield entry
          }
        },
      },
    )
    await mesh.report(await mesh.claim(200), 0)
    for (const taskId of ['0250', '0470']) await mesh.control.call('terminateTask', { jobId: 'j', taskId })
    const readBy = async (filter: Filter, limit: number) => {
      read = []
      const page = await mesh.control.call('listTasks', { jobId: 'j', limit, ...filter })
      const of = (kind: string) => read.filter((key) => key.startsWith(kind)).length
      return [page.items[0]?.id, page.items.length, of('spec/'), of('stat/')]
    }
    expect(await readBy({ result: 'failure' }, 1000)).toEqual(['0250', 2, 2, 2])
    expect(await readBy({ state: 'active' }, 100)).toEqual(['0200', 100, 101, 0])
    expect(await readBy({ state: 'completed' }, 100)).toEqual(['0000', 100, 100, 100])
    expect(await readBy({ state: 'running' }, 100)).toEqual([undefined, 0, 0, 0])
    expect(await readBy({}, 500)).toEqual(['0000', 500, 500, 202])
    await mesh.stop()
  })
})
