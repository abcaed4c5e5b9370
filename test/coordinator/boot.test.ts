import { describe, expect, it } from 'vitest'
import { boot } from '../../coordinator/boot.ts'
import { migrate, steps } from '../../coordinator/migrate.ts'
import { type MeshRow, meshKey, storeFormat } from '../../coordinator/rows.ts'
import { createMemoryStore } from '../../coordinator/store.ts'
import { lookUp } from '../../coordinator/task-book.ts'
import { viewTask } from '../../coordinator/view.ts'
import { decode, encode } from '../../protocols/codec.ts'
import { readStatus, readTaskSpec } from '../support/rows.ts'
import { Scene } from '../support/scene.ts'

const self = 'peer-coordinator'

async function storeOf(scene: Scene, format = storeFormat) {
  const store = createMemoryStore()
  await store.write(scene.rows)
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
