/** A coordinator and a worker that die at each failpoint: what was promised before holds after. */
import { describe, expect, it, vi } from 'vitest'

vi.hoisted(() => {
  process.env.BATCHMESH_FAILPOINTS = 'test'
})

import { type FailpointName, failpoints, onFailpoint } from '../protocols/failpoint.ts'
import { day } from './support/mini-day.ts'
import { MiniMesh, type Side } from './support/mini-mesh.ts'

/** Of a place that is passed often, so many passings, from the first to the last. */
const mostPassings = 9
/** It dies there, or so many turns of the event loop later: then what it has said is on its way, and its disk at work. */
const latest = 2

function sideOf(name: FailpointName): Side | undefined {
  if (name.startsWith('coordinator.') && !name.startsWith('coordinator.restore.')) return 'coordinator'
  return name.startsWith('worker.') || name.startsWith('journal.') ? 'worker' : undefined
}

async function live(passed: (mesh: MiniMesh, name: FailpointName, nth: number) => void): Promise<string[]> {
  const mesh = new MiniMesh()
  onFailpoint((name, nth) => passed(mesh, name, nth))
  try {
    return await day(mesh)
  } finally {
    onFailpoint(() => {})
    await mesh.stop()
  }
}

function later(turns: number, act: () => void): void {
  if (turns === 0) act()
  else setImmediate(() => later(turns - 1, act))
}

describe('L5 L1 R1: nothing acknowledged is lost, nothing is committed twice and nothing stays reserved where a process dies', () => {
  const names = (Object.keys(failpoints) as FailpointName[]).filter((name) => sideOf(name) !== undefined)

  it.each(names)('at %s', async (name) => {
    let passings = 0
    const undisturbed = await live((_mesh, passed) => {
      if (passed === name) passings += 1
    })
    expect(undisturbed).toEqual([])
    expect(passings, 'how often it is passed').toBeGreaterThan(0)
    const step = Math.max(1, passings / mostPassings)
    for (let at = 1, late = 0; at <= passings; at += step, late = (late + 1) % (latest + 1)) {
      let died = false
      const broken = await live((mesh, passed, nth) => {
        if (died || passed !== name || nth < Math.floor(at)) return
        died = true
        later(late, () => mesh.crash(sideOf(name)!, (nth * 0.37) % 1))
      })
      expect(broken, `died at passing ${Math.floor(at)} of ${passings}`).toEqual([])
      if (at === 1) expect(died).toBe(true)
    }
  })
})
