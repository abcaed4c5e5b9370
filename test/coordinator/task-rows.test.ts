import { describe, expect, it } from 'vitest'
import { addJobToState, newState } from '../../coordinator/make-state.ts'
import { specKey, statusKey } from '../../coordinator/rows.ts'
import { createMemoryStore } from '../../coordinator/store.ts'
import { listTasks, maxLooked, pageBytes } from '../../coordinator/task-rows.ts'
import { encode } from '../../protocols/codec.ts'
import { jobSpecSchema } from '../../protocols/model/job.ts'
import { taskSpecSchema } from '../../protocols/model/task.ts'
import { fixedChance } from '../support/rows.ts'

const status = (result: 'success' | 'failure', outputs: readonly object[] = []) =>
  encode({
    epoch: 1,
    state: 'completed',
    stateTransitionTime: 0,
    retryCount: 0,
    requeueCount: 0,
    result,
    outcome: { exitCode: result === 'success' ? 0 : 1, startTime: 0, endTime: 0, outputs },
  })
const specRow = (id: string) => encode({ creationTime: 0, spec: encode(taskSpecSchema.parse({ id, commandLine: 'true' })) })

function newJob(jobState: 'active' | 'completed') {
  const state = newState('peer-of-the-coordinator', { format: 1, ownerEpoch: 1, nextJobUid: 2, nextReservationId: 1 }, 0, fixedChance)
  const spec = jobSpecSchema.parse({ id: 'j' })
  const row = { uid: 1, spec, state: jobState, creationTime: 0, stateTransitionTime: 0, excluded: [] }
  return { state, job: addJobToState(state, row, jobState === 'completed') }
}

describe('a page of tasks', () => {
  it('looks at a bounded number of them, and the next goes on behind the last that was looked at', async () => {
    const store = createMemoryStore()
    // Of a job that ended before the coordinator's start nothing but the rows tells what failed.
    const { state, job } = newJob('completed')
    const ids = Array.from({ length: 2 * maxLooked + 10 }, (_, i) => String(i).padStart(6, '0'))
    const failed = [5, maxLooked + 7, 2 * maxLooked + 9].map((at) => ids[at]!)
    await store.write(
      new Map(
        ids.flatMap((id) => [
          [specKey(1, id), specRow(id)],
          [statusKey(1, id), status(failed.includes(id) ? 'failure' : 'success')],
        ]),
      ),
    )
    const found: string[][] = []
    let after: string | undefined
    do {
      const page = await listTasks(store, state, job, { after, limit: 1000, result: 'failure' })
      found.push(page.items.map(({ id }) => id))
      after = page.next
    } while (after !== undefined)
    expect(found).toEqual(failed.map((id) => [id]))
  })

  it('ends by its bytes, and the pages together are the whole', async () => {
    const store = createMemoryStore()
    const { state, job } = newJob('active')
    const outputs = Array.from({ length: 300 }, () => ({ path: 'p'.repeat(4000), blob: `b${'a'.repeat(58)}`, size: 1 }))
    const ids = Array.from({ length: 12 }, (_, i) => String(i).padStart(2, '0'))
    for (const id of ids) {
      await store.write(
        new Map([
          [specKey(1, id), specRow(id)],
          [statusKey(1, id), status('success', outputs)],
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
