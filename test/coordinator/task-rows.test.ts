import { describe, expect, it } from 'vitest'
import { specKey, statusKey } from '../../coordinator/rows.ts'
import { addJobToState, newState } from '../../coordinator/state.ts'
import { createMemoryStore } from '../../coordinator/store.ts'
import { listTasks, pageBytes } from '../../coordinator/task-rows.ts'
import { encode } from '../../protocols/codec.ts'
import { jobSpecSchema } from '../../protocols/model/job.ts'
import { taskSpecSchema } from '../../protocols/model/task.ts'

describe('a page of tasks', () => {
  it('ends by its bytes, and the pages together are the whole', async () => {
    const store = createMemoryStore()
    const state = newState('peer-of-the-coordinator', { format: 1, ownerEpoch: 1, nextJobUid: 2, nextReservationId: 1 }, 0)
    const row = {
      uid: 1,
      spec: jobSpecSchema.parse({ id: 'j' }),
      state: 'active' as const,
      creationTime: 0,
      stateTransitionTime: 0,
      excluded: [],
    }
    const job = addJobToState(state, row)
    const outputs = Array.from({ length: 300 }, () => ({ path: 'p'.repeat(4000), blob: `b${'a'.repeat(58)}`, size: 1 }))
    const ids = Array.from({ length: 12 }, (_, i) => String(i).padStart(2, '0'))
    for (const id of ids) {
      const spec = encode(taskSpecSchema.parse({ id, commandLine: 'true' }))
      const status = {
        epoch: 1,
        state: 'completed',
        stateTransitionTime: 0,
        retryCount: 0,
        requeueCount: 0,
        result: 'success',
        outcome: { exitCode: 0, startTime: 0, endTime: 0, outputs },
      }
      await store.write(
        new Map([
          [specKey(1, id), encode({ creationTime: 0, spec })],
          [statusKey(1, id), encode(status)],
        ]),
      )
    }
    const seen: string[] = []
    let pages = 0
    let after: string | undefined
    do {
      const page = await listTasks(store, state, job, { after, limit: 1000 })
      expect(JSON.stringify(page).length).toBeLessThan(2 * pageBytes)
      seen.push(...page.items.map(({ id }) => id))
      pages += 1
      after = page.next
    } while (after !== undefined)
    expect(seen).toEqual(ids)
    expect(pages).toBeGreaterThan(1)
  })
})
