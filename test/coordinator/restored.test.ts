/** A database restored from a backup: nothing that was given away after the backup is given a second time (L2, R1). */
import { beforeEach, describe, expect, it } from 'vitest'
import { epochJump, numberJump, ownerEpochJump } from '../../coordinator/raise.ts'
import { allRows, RestoredStore } from '../../coordinator/restored.ts'
import { type MachineRow, type MeshRow, machineKey, meshKey, storeFormat } from '../../coordinator/rows.ts'
import { createMemoryStore } from '../../coordinator/store.ts'
import { decode, encode } from '../../protocols/codec.ts'
import type { Rows } from '../support/rows.ts'
import { Scene } from '../support/scene.ts'

let scene: Scene

/** What a restore makes of these rows. */
async function restored(backup: Rows, founder = 'peer-of-nobody'): Promise<Rows> {
  const store = createMemoryStore()
  const target = new RestoredStore(store, founder)
  const rows = [...backup].sort(([a], [b]) => (a < b ? -1 : 1))
  // In several pages, as they come from a file.
  for (let at = 0; at < rows.length; at += 3) await target.add(rows.slice(at, at + 3))
  await target.finish()
  const made: Rows = new Map()
  for await (const [key, value] of store.scan(allRows)) made.set(key, value)
  return made
}

async function restore(backup: Rows): Promise<void> {
  const rows = await restored(backup)
  scene.rows.clear()
  for (const [key, value] of rows) scene.rows.set(key, value)
  scene.restart()
}

beforeEach(() => {
  scene = new Scene()
  scene.hello('a', { cores: 8 })
  scene.hello('b', { cores: 8 })
  scene.addJob({ id: 'j' })
})

describe('L2: after a restore', () => {
  it('an attempt that was granted after the backup is stopped, and its report is refused', async () => {
    scene.addTasks('j', 't')
    const backup = new Map(scene.rows)
    scene.claim('a')
    scene.started('a', 'j/t#1')
    await restore(backup)
    const said = scene.hello('a', { cores: 8, inventory: [{ attempt: 'j/t#1' }] })
    expect(said.join()).toMatch('welcome keep [] ')
    expect(scene.report('a', 'j/t#1', 0).join()).toMatch(/refused/)
    expect(scene.claim('a').at(-1)).toBe(`grant a: j/t#${epochJump + 1}`)
  })

  it('a second attempt that was granted after the backup never counts as the one that the restored coordinator gives', async () => {
    scene.addTasks('j', 't')
    scene.claim('a')
    scene.started('a', 'j/t#1')
    const backup = new Map(scene.rows)
    scene.gone('a', true)
    scene.claim('b')
    scene.started('b', 'j/t#2')
    await restore(backup)
    scene.hello('a', { cores: 8 })
    expect(scene.claim('a').at(-1), 'what a does not have any more is given anew').toBe(`grant a: j/t#${epochJump + 2}`)
    scene.hello('b', { cores: 8, inventory: [{ attempt: 'j/t#2' }] })
    expect(scene.report('b', 'j/t#2', 0).join()).toMatch(/refused/)
    expect(scene.report('a', `j/t#${epochJump + 2}`, 0).join()).toMatch(/accepted/)
  })

  it('L6: an attempt that ran at the backup and still runs goes on under its name', async () => {
    scene.addTasks('j', 't')
    scene.claim('a')
    scene.started('a', 'j/t#1')
    const backup = new Map(scene.rows)
    await restore(backup)
    scene.hello('a', { cores: 8, inventory: [{ attempt: 'j/t#1' }] })
    expect(scene.report('a', 'j/t#1', 0).join()).toMatch(/accepted/)
  })

  it('a task that is ended by its owner leaves no epoch that a forgotten attempt could report for', async () => {
    scene.addTasks('j', 't')
    const backup = new Map(scene.rows)
    scene.claim('a')
    await restore(backup)
    scene.ask({ kind: 'terminateTask', jobId: 'j', taskId: 't' })
    scene.hello('a', { cores: 8, inventory: [{ attempt: 'j/t#1' }] })
    expect(scene.report('a', 'j/t#1', 0).join()).toMatch(/refused/)
  })

  it('a job uid that was given after the backup is not given again', async () => {
    const backup = new Map(scene.rows)
    scene.addJob({ id: 'later' })
    const given = scene.uidOf('later')
    await restore(backup)
    scene.addJob({ id: 'another' })
    expect(scene.uidOf('another')).toBe(given + numberJump)
  })

  it('the owner epoch is above any that workers have obeyed, and a second restore of the same backup is above the first', async () => {
    const { ownerEpoch } = scene.state.mesh
    const backup = new Map(scene.rows)
    for (let start = 0; start < 5; start += 1) scene.restart()
    await restore(backup)
    expect(scene.state.mesh.ownerEpoch).toBe(ownerEpoch + ownerEpochJump + 1)
    await restore(new Map(scene.rows))
    expect(scene.state.mesh).toMatchObject({ ownerEpoch: ownerEpoch + 2 * ownerEpochJump + 2, epochFloor: 2 * epochJump })
  })

  it('the epochs lie above the highest of the backup, also where that is past the jump of an earlier restore', async () => {
    scene.addTasks('j', 't')
    await restore(scene.rows)
    scene.hello('a', { cores: 8 })
    scene.claim('a')
    const rows = await restored(scene.rows)
    expect((decode(rows.get(meshKey)!) as MeshRow).epochFloor).toBe(2 * epochJump + 1)
  })
})

it('the founder’s own machine, whose journal is new, is taken as one that starts anew', async () => {
  const key = machineKey(scene.peer('a'))
  scene.rows.set(key, encode({ ...(decode(scene.rows.get(key)!) as MachineRow), incarnation: 7 }))
  const rows = await restored(scene.rows, scene.peer('a'))
  expect(decode(rows.get(key)!)).toMatchObject({ incarnation: 0 })
  expect(decode(rows.get(machineKey(scene.peer('b')))!)).toMatchObject({ incarnation: 1 })
})

it('rows of a newer format, or without the mesh’s own row, are refused', async () => {
  const rows = new Map(scene.rows)
  rows.set(meshKey, encode({ ...scene.state.mesh, format: storeFormat + 1 }))
  await expect(restored(rows)).rejects.toThrow(`knows formats up to ${storeFormat}`)
  rows.delete(meshKey)
  await expect(restored(rows)).rejects.toThrow('holds no state of a coordinator')
})
