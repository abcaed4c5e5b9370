import { setImmediate as turn } from 'node:timers/promises'
import { afterEach, beforeEach, expect, it, vi } from 'vitest'
import { connect } from '../../src/mesh.ts'
import { FakeMesh } from './fake-mesh.ts'

let fake: FakeMesh
beforeEach(() => {
  fake = new FakeMesh()
  vi.useFakeTimers({ toFake: ['setTimeout', 'clearTimeout'] })
})
afterEach(() => {
  vi.useRealTimers()
  fake.close()
})

/** As many turns of the loop as a reconnection takes several times over. */
async function settle(): Promise<void> {
  for (let turns = 0; turns < 50; turns += 1) await turn()
}

it('a watch whose sessions break at once, again and again, tries again after pauses that grow', async () => {
  const mesh = await connect({ open: fake.open })
  await mesh.control.call('addJob', { id: 'j' })
  fake.onCall = (name) => {
    if (name !== 'watch') return
    setImmediate(() => {
      fake.crash()
      fake.revive()
    })
  }
  const stop = new AbortController()
  const watching = (async () => {
    for await (const _ of mesh.watchJob('j', stop.signal));
  })()
  const watches = () => fake.asked.filter((name) => name === 'watch').length
  await settle()
  const first = watches()
  const tried: number[] = []
  for (let step = 0; step < 10; step += 1) {
    await vi.advanceTimersByTimeAsync(100)
    await settle()
    tried.push(watches() - first)
  }
  // After 100 ms, 200 ms more, 400 ms more.
  expect(tried).toEqual([1, 1, 2, 2, 2, 2, 3, 3, 3, 3])
  stop.abort()
  await expect(watching).rejects.toMatchObject({ code: 'Aborted' })
  await mesh.close()
})
