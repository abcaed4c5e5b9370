import { describe, expect, it } from 'vitest'
import type { Batch, Shown } from '../../coordinator/pipeline.ts'
import { type WatchEnd, Watches } from '../../coordinator/watches.ts'
import type { JobEvents, TaskEvent } from '../../protocols/control.ts'

const shown: Shown = { counts: { active: 0, running: 0, completed: 0, succeeded: 0, failed: 0 }, jobState: 'active' }
const nextTurn = () => new Promise<void>((resolve) => setImmediate(resolve))

function done(taskId: string, outputs = 0, pathLength = 10): TaskEvent {
  const output = { path: 'p'.repeat(pathLength), blob: `b${'a'.repeat(58)}`, size: 1 }
  return { taskId, state: 'completed', epoch: 1, outputs: Array.from({ length: outputs }, () => output), retryCount: 0, requeueCount: 0 }
}

function batchOf(...events: TaskEvent[]): Batch {
  return { effects: events.map((event) => ({ kind: 'changed', jobUid: 1, event })), jobs: new Map([[1, shown]]) }
}

/** A watcher that reads when the test lets it. */
function watcher(isSlow = false) {
  const notes: JobEvents[] = []
  let drain = () => {}
  const state = { isSlow, isClosed: false }
  const end: WatchEnd = {
    send: (events) => {
      notes.push(events)
      return !state.isSlow
    },
    drained: () =>
      new Promise<void>((resolve) => {
        drain = resolve
      }),
    close: () => {
      state.isClosed = true
    },
  }
  const seen = () => notes.flatMap(({ events }) => events.map(({ taskId }) => taskId))
  return { end, notes, seen, state, drain: () => drain() }
}

describe('a watch', () => {
  it('shows the past before what happens while it is told', async () => {
    const watches = new Watches()
    const { end, seen } = watcher()
    const id = watches.add(1, shown, end)
    watches.show(batchOf(done('new')))
    await watches.replay(id, [done('old')])
    expect(seen()).toEqual(['old'])
    watches.begin(id)
    expect(seen()).toEqual(['old', 'new'])
  })

  it('cuts notes by their bytes, so that large output lists fit a frame', () => {
    const watches = new Watches()
    const { end, notes, seen } = watcher()
    watches.begin(watches.add(1, shown, end))
    watches.show(batchOf(...Array.from({ length: 12 }, (_, i) => done(String(i), 300, 4000))))
    expect(seen()).toHaveLength(12)
    for (const note of notes) expect(JSON.stringify(note).length).toBeLessThan(8 << 20)
  })

  it('holds what a slow watcher does not take, and goes on when it does', async () => {
    const watches = new Watches()
    const { end, seen, state, drain } = watcher(true)
    watches.begin(watches.add(1, shown, end))
    watches.show(batchOf(done('a')))
    const before = seen()
    watches.show(batchOf(done('b')))
    expect(seen()).toEqual(before)
    state.isSlow = false
    drain()
    await nextTurn()
    drain()
    await nextTurn()
    expect(seen()).toEqual(['a', 'b'])
  })

  it('ends for a watcher that never reads, before it fills the memory', () => {
    const watches = new Watches()
    const { end, state } = watcher(true)
    watches.begin(watches.add(1, shown, end))
    for (let i = 0; i < 40; i += 1) watches.show(batchOf(done(String(i), 300, 4000)))
    expect(state.isClosed).toBe(true)
  })
})
