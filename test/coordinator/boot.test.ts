import { describe, expect, it } from 'vitest'
import { boot } from '../../coordinator/boot.ts'
import { migrate, steps } from '../../coordinator/migrate.ts'
import { shift } from '../../coordinator/queue.ts'
import { chanceWords } from '../../coordinator/roll.ts'
import { type ArrayRow, arrayKey, type MeshRow, meshKey, statusKey, storeFormat, taskOfKey } from '../../coordinator/rows.ts'
import type { Job, Task } from '../../coordinator/state.ts'
import { createMemoryStore, type Store } from '../../coordinator/store.ts'
import { liveTask, lookUp } from '../../coordinator/task-book.ts'
import { viewCounts, viewTask } from '../../coordinator/view.ts'
import { decode, encode } from '../../protocols/codec.ts'
import { readStatus, readTaskSpec } from '../support/rows.ts'
import { sanityCheck } from '../support/sanity.ts'
import { Scene } from '../support/scene.ts'

const self = 'peer-coordinator'

async function storeOf(scene: Scene, format = storeFormat) {
  const store = createMemoryStore()
  // Until format 3 there was no roll.
  const rows = [...scene.rows].filter(([key]) => format >= 3 || !key.startsWith('roll/'))
  await store.write(new Map(rows))
  await store.write(new Map([[meshKey, encode({ ...scene.state.mesh, format })]]))
  return store
}

function someWork(): Scene {
  const scene = new Scene()
  scene.hello('a', { cores: 4 })
  scene.addJob({ id: 'j' })
  scene.addTasks('j', 't1', 't2')
  scene.claim('a')
  scene.report('a', 'j/t1#1', 0)
  return scene
}

describe('a start', () => {
  it('takes up the work of a store of format 1 and makes it one of this format', async () => {
    const store = await storeOf(someWork(), 1)
    const { state } = await boot(store, self, 0)
    const job = state.jobIds.get('j')!
    expect([job.total, job.succeeded, job.ready]).toEqual([2, 1, 1])
    const row = decode((await store.get(meshKey))!) as MeshRow
    expect(row).toMatchObject({ format: storeFormat, nextJobUid: 2, ownerEpoch: 2 })
  })

  it('refuses a store of a newer format and leaves it as it is', async () => {
    const store = await storeOf(someWork(), storeFormat + 1)
    await expect(boot(store, self, 0)).rejects.toMatchObject({ code: 'UnsupportedVersion' })
    expect(decode((await store.get(meshKey))!)).toMatchObject({ format: storeFormat + 1, ownerEpoch: 1 })
  })

  it('knows how far a task is only when its machine has said so', async () => {
    const scene = someWork()
    const shown = () => {
      const job = scene.state.jobIds.get('j')!
      const { phase, state } = viewTask(scene.state, job, readTaskSpec(scene.rows, 1, 't2')!, 0, readStatus(scene.rows, 1, 't2'))
      return [state, phase]
    }
    scene.claim('a')
    expect(shown()).toEqual(['active', 'fetching'])
    scene.restart()
    expect(shown()).toEqual(['running', undefined])
    scene.hello('a', { inventory: [{ attempt: 'j/t2#1', state: 'uploading' }] })
    expect(shown()).toEqual(['running', 'uploading'])
  })

  it('goes on with arrays as the rows tell, those of a waiting job too', async () => {
    const scene = someWork()
    scene.addArray('j', { indexes: [{ start: 0, end: 99 }], idPrefix: 'N' })
    scene.claim('a', { slots: 3 })
    scene.report('a', 'j/n0000#1', 0)
    scene.addJob({ id: 'linked', usesTaskDependencies: true })
    scene.addArray('linked', { indexes: [{ start: 1, end: 3 }], template: { dependsOn: { taskIdRanges: [{ start: 7, end: 7 }] } } })
    const { state } = await boot(await storeOf(scene), self, 0)
    const job = state.jobIds.get('j')!
    expect([job.total, job.succeeded, job.leased, job.ready]).toEqual([102, 2, 2, 98])
    expect(lookUp(job, 'n0000')).toBe(3)
    expect(lookUp(job, 'n0099')).toMatchObject({ epoch: 0, queued: true, name: 'N0099' })
    const linked = state.jobIds.get('linked')!
    expect([linked.total, linked.ready, linked.arrays[0]!.waiting]).toEqual([3, 0, 1])
  })
})

describe('the roll of a job, at a start', () => {
  /** Tasks of several kinds, some that wait for others, one that fails, and a job that has ended. */
  function workOfAllKinds(): Scene {
    const scene = someWork()
    scene.addJob({ id: 'ended' })
    scene.addTasks('ended', 'never')
    scene.ask({ kind: 'terminateJob', jobId: 'ended' })
    scene.addJob({ id: 'kinds', usesTaskDependencies: true })
    const retried = { constraints: { maxTaskRetryCount: 2 } }
    scene.addTasks('kinds', 'z', { id: 'Y', requiredSlots: 2, ...retried }, { id: 'child', dependsOn: { taskIds: ['y'] } }, 'x')
    scene.addTasks('kinds', { id: 'gpu', resources: { gpus: 1, labels: { site: 'cellar' } } }, { id: 'later', ...retried })
    scene.addTasks('kinds', { id: 'blocked', dependsOn: { taskIds: ['z'] } })
    scene.claim('a', { slots: 2 })
    scene.report('a', 'kinds/z#1', 1)
    return scene
  }
  const ids = ['z', 'Y', 'child', 'x', 'gpu', 'later', 'blocked']
  const told = (job: Job) =>
    ids.map((id) => lookUp(job, id.toLowerCase())).map((known) => (typeof known === 'object' ? taskOf(known) : known))
  const taskOf = ({ name, id, class: kind, epoch, maxRetries, waiting, queued, specBytes, lease }: Task) => ({
    ...{ name, id, kind: { ...kind }, epoch, maxRetries, waiting, queued, specBytes },
    leased: lease !== undefined,
  })

  it('makes the memory that was, in the order of submission, and reads the specs of those only that wait', async () => {
    const scene = workOfAllKinds()
    const before = scene.state.jobIds.get('kinds')!
    const store = await storeOf(scene)
    const read: string[] = []
    const { state } = await boot(
      {
        ...store,
        getMany: (keys) => {
          read.push(...keys)
          return store.getMany(keys)
        },
        scan: (range) => {
          if (range.gt?.startsWith('spec/')) expect.fail('all specs are read')
          return store.scan(range)
        },
      },
      self,
      0,
    )
    const job = state.jobIds.get('kinds')!
    sanityCheck(state)
    expect(told(job)).toEqual(told(before))
    expect(ids.map((_, n) => job.roll.idAt(n))).toEqual(ids)
    expect(read.map((key) => taskOfKey(key)).sort()).toEqual(['blocked', 'child'])
    expect(state.jobIds.get('ended')!.roll.size).toBe(0)
    expect(viewCounts(state.jobIds.get('ended')!)).toMatchObject({ active: 1 })
  })

  it.each([1, 2])('is made from the specs of a store of format %i, and the next start goes by it', async (format) => {
    const scene = workOfAllKinds()
    const before = scene.state.jobIds.get('kinds')!
    const store = await storeOf(scene, format)
    const first = await boot(store, self, 0)
    sanityCheck(first.state)
    expect(first.migrated.length).toBe(storeFormat - format)
    expect(told(first.state.jobIds.get('kinds')!)).toEqual(told(before))
    const second = await boot(store, self, 0)
    expect(second.migrated).toEqual([])
    expect(told(second.state.jobIds.get('kinds')!)).toEqual(told(before))
  })

  it('of a store of format 3 is taken as it is, with the parts of gangs that its own rows tell', async () => {
    const scene = new Scene()
    for (const name of ['a', 'b']) scene.hello(name, { cores: 1 })
    scene.addPool({ id: 'p', targetDedicatedNodes: 2, enableInterNodeCommunication: true })
    scene.grantAll()
    scene.addJob({ id: 'j', poolId: 'p' })
    scene.addTasks('j', { id: 'g', multiInstanceSettings: { numberOfInstances: 2, coordinationCommandLine: 'x' } })
    const uid = scene.uidOf('j')
    const status = readStatus(scene.rows, uid, 'g')!
    const lease = status.lease!.map((member, index) => (index === 1 ? { ...member, ended: true } : member))
    const store = await storeOf(scene, 3)
    await store.write(new Map([[statusKey(uid, 'g'), encode({ ...status, lease })]]))
    const { state, migrated } = await boot(store, self, 0)
    sanityCheck(state)
    expect(migrated).toHaveLength(1)
    expect([...liveTask(state.jobIds.get('j')!, 'g')!.lease!.parts.keys()]).toEqual([1])
  })

  it('is made anew when the start that made it broke off', async () => {
    const store = await storeOf(workOfAllKinds(), 2)
    let writes = 0
    const failing: Store = {
      ...store,
      write: async (rows) => {
        writes += 1
        if (writes > 1) throw new Error('the disk is gone')
        await store.write(rows)
      },
    }
    await expect(boot(failing, self, 0)).rejects.toThrow('the disk is gone')
    const { state, migrated } = await boot(store, self, 0)
    sanityCheck(state)
    expect(migrated.length).toBe(storeFormat - 2)
    expect(state.jobIds.get('kinds')!.total).toBe(7)
  })

  it('goes with its job', async () => {
    const scene = workOfAllKinds()
    const rolls = () => [...scene.rows.keys()].filter((key) => key.startsWith('roll/')).length
    expect(rolls()).toBe(5)
    for (const jobId of ['j', 'ended', 'kinds']) scene.ask({ kind: 'deleteJob', jobId })
    expect(rolls()).toBe(0)
  })
})

describe('the queue after a start', () => {
  /** Empties it. */
  const inTurn = (job: Job) => {
    const ids: string[] = []
    for (const queue of job.queues.values()) for (let task = shift(queue); task !== undefined; task = shift(queue)) ids.push(task.id)
    return ids
  }

  it('is in the order of submission, with arrays between tasks that were added by themselves; what ran before comes first', async () => {
    const scene = new Scene()
    scene.hello('a', { cores: 4 })
    scene.addJob({ id: 'j', usesTaskDependencies: true })
    scene.addTasks('j', 'ran', 'done', 'z1', 'a1')
    scene.claim('a', { slots: 2 })
    scene.report('a', 'j/done#1', 0)
    scene.addArray('j', { indexes: [{ start: 1, end: 2 }], idPrefix: 'm' })
    scene.addArray('j', { indexes: [{ start: 1, end: 2 }], idPrefix: 'b' })
    scene.addTasks('j', 'z2', { id: 'free', dependsOn: { taskIds: ['done'] } }, { id: 'bound', dependsOn: { taskIds: ['z1'] } }, 'a2')
    scene.addArray('j', { indexes: [{ start: 1, end: 1 }], idPrefix: 'l' })
    scene.gone('a', true)
    const { state } = await boot(await storeOf(scene), self, 0)
    const order = ['ran', 'z1', 'a1', 'm0001', 'm0002', 'b0001', 'b0002', 'z2', 'free', 'a2', 'l0001']
    expect(inTurn(state.jobIds.get('j')!)).toEqual(order)
    scene.restart()
    expect(inTurn(scene.state.jobIds.get('j')!)).toEqual(order)
  })

  it('of a store of format 2, whose arrays do not tell, has them last', async () => {
    const scene = new Scene()
    scene.addJob({ id: 'j' })
    scene.addArray('j', { indexes: [{ start: 1, end: 2 }], idPrefix: 'm' })
    scene.addTasks('j', 'b', 'a')
    const store = await storeOf(scene, 2)
    const { after: _, ...row } = decode((await store.get(arrayKey(1, 0)))!) as ArrayRow
    await store.write(new Map([[arrayKey(1, 0), encode(row)]]))
    const { state } = await boot(store, self, 0)
    expect(inTurn(state.jobIds.get('j')!)).toEqual(['a', 'b', 'm0001', 'm0002'])
  })
})

it('draws the words that hashes of ids are made of anew at each start', async () => {
  const [one, two] = [await boot(createMemoryStore(), self, 0), await boot(createMemoryStore(), self, 0)]
  expect(one.state.chance).toHaveLength(chanceWords)
  expect(one.state.chance).not.toEqual(two.state.chance)
})

describe('the steps from older formats', () => {
  it('follow each other and end at this format', () => {
    expect(steps.map(({ from }) => from)).toEqual(Array.from({ length: storeFormat - 1 }, (_, i) => i + 1))
  })

  it('are taken from where a store stands', () => {
    const row = { ownerEpoch: 3, nextJobUid: 7, nextReservationId: 9 }
    expect(migrate({ ...row, format: 1 })).toEqual({ row: { ...row, format: storeFormat }, taken: steps })
    expect(migrate({ ...row, format: storeFormat })).toEqual({ row: { ...row, format: storeFormat }, taken: [] })
    expect(migrate({ ...row, format: 0 })).toBeUndefined()
    expect(migrate({ ...row, format: storeFormat + 1 })).toBeUndefined()
  })
})

describe('an empty store', () => {
  it('L2 R1: of a mesh that has been there before gives nothing that it can have given', async () => {
    const now = 1_790_000_000_000
    const { state } = await boot(createMemoryStore(), self, now, false)
    expect(state.mesh).toMatchObject({ ownerEpoch: 1_790_000_000, nextJobUid: 1_790_000_000, nextReservationId: 1_790_000_000 })
  })

  it('of a new mesh begins with 1', async () => {
    const { state } = await boot(createMemoryStore(), self, 1_790_000_000_000)
    expect(state.mesh).toMatchObject({ ownerEpoch: 1, nextJobUid: 1, nextReservationId: 1 })
  })
})
