/** Reading tasks from their rows: one, a page, or all that are completed. Rows that can be read are durable (L5). */

import { decode } from '../protocols/codec.ts'
import type { TaskEvent } from '../protocols/control.ts'
import { foldId } from '../protocols/ids.ts'
import type { TaskSpec, TaskView } from '../protocols/model/task.ts'
import { type Candidate, candidates, chunk, type Wanted } from './candidates.ts'
import { type SpecRow, type StatusRow, specKey, statusKey } from './rows.ts'
import type { Job, Place, State } from './state.ts'
import type { Store } from './store.ts'
import { isPristine, placeOf, specAt } from './task-book.ts'
import { viewTask } from './view.ts'

/** Even a small page may have to look at more tasks than it shows. */
const leastBatch = 100
/** Rows in one page or note: an eighth of the frame limit, for a view is larger than its rows. */
export const pageBytes = 4 << 20

/** Tasks that one request looks at: half a second or two, well within the deadline of a call, however few of them are wanted. */
export const maxLooked = 20_000

export interface TaskRows {
  spec: TaskSpec
  creationTime: number
  status: StatusRow | undefined
  /** Of both rows on disk. */
  bytes: number
}

export async function readTask(store: Store, job: Job, taskId: string): Promise<TaskRows | undefined> {
  const id = foldId(taskId)
  const [found] = await readAll(store, job, [{ id, place: placeOf(job, id) }])
  return found?.[1]
}

/** What is not at hand of some tasks' rows is read; a task that has none is left out. One that nothing has happened to has no status row. */
async function readAll(store: Store, job: Job, batch: readonly Candidate[]): Promise<[id: string, rows: TaskRows][]> {
  const keys = new Set<string>()
  for (const { id, place, spec, status } of batch) {
    if (place === undefined && spec === undefined) keys.add(specKey(job.uid, id))
    if (status === undefined && !isPristine(job, id, place)) keys.add(statusKey(job.uid, id))
  }
  const rows = await store.getMany([...keys])
  const read = new Map([...keys].map((key, i) => [key, rows[i]]))
  return batch.flatMap(({ id, place, spec, status }) => {
    const statusBytes = status ?? read.get(statusKey(job.uid, id))
    const specBytes = spec ?? read.get(specKey(job.uid, id))
    const about = place === undefined ? (specBytes === undefined ? undefined : readSpecRow(specBytes)) : specOfArray(place)
    if (about === undefined) return []
    const statusRow = statusBytes === undefined ? undefined : (decode(statusBytes) as StatusRow)
    const found: TaskRows = { ...about, status: statusRow, bytes: about.bytes + (statusBytes?.length ?? 0) }
    return [[id, found]]
  })
}

function readSpecRow(bytes: Uint8Array): Omit<TaskRows, 'status'> {
  const row = decode(bytes) as SpecRow
  // Checked when it was written.
  return { spec: decode(row.spec) as TaskSpec, creationTime: row.creationTime, bytes: bytes.length }
}

function specOfArray(place: Place): Omit<TaskRows, 'status'> {
  const { creationTime, specBytes } = place.array
  return { spec: specAt(place), creationTime, bytes: specBytes }
}

async function* scanTasks(store: Store, job: Job, wanted: Wanted, size = chunk): AsyncGenerator<[task: string, rows: TaskRows]> {
  for await (const batch of candidates(store, job, wanted, size)) yield* await readAll(store, job, batch)
}

export interface TaskFilter extends Wanted {
  limit: number
}

/** A page of a job's tasks in the order of their ids. It may hold fewer than asked for, even none, and yet have a next one. */
export async function listTasks(store: Store, state: State, job: Job, filter: TaskFilter): Promise<{ items: TaskView[]; next?: string }> {
  const items: TaskView[] = []
  let bytes = 0
  let looked = 0
  const size = Math.min(chunk, Math.max(leastBatch, filter.limit))
  for await (const [task, { spec, creationTime, status, bytes: rowBytes }] of scanTasks(store, job, filter, size)) {
    const view = viewTask(state, job, spec, creationTime, status)
    looked += 1
    if (isWanted(view, filter)) {
      items.push(view)
      bytes += rowBytes
    }
    if (items.length >= filter.limit || bytes >= pageBytes || looked >= maxLooked) return { items, next: task }
  }
  return { items }
}

function isWanted({ state, executionInfo }: TaskView, wanted: TaskFilter): boolean {
  return (wanted.state === undefined || state === wanted.state) && (wanted.result === undefined || executionInfo.result === wanted.result)
}

/** The completed tasks of a job as the events that a watch would have shown, a page at a time. */
export async function* completedEvents(store: Store, job: Job): AsyncGenerator<TaskEvent[]> {
  let page: TaskEvent[] = []
  let bytes = 0
  for await (const [, { spec, status, bytes: size }] of scanTasks(store, job, { state: 'completed' })) {
    if (status?.state !== 'completed') continue
    page.push({
      taskId: spec.id,
      state: 'completed',
      epoch: status.epoch,
      machine: status.ranOn?.machine,
      machineName: status.ranOn?.machineName,
      nodeId: status.ranOn?.nodeId,
      startTime: status.outcome?.startTime,
      endTime: status.outcome?.endTime,
      result: status.result,
      exitCode: status.outcome?.exitCode,
      failureInfo: status.outcome?.failureInfo,
      stderrTail: status.outcome?.stderrTail,
      outputs: status.outcome?.outputs,
      threadResult: status.outcome?.threadResult,
      threadError: status.outcome?.threadError,
      retryCount: status.retryCount,
      requeueCount: status.requeueCount,
    })
    bytes += size
    if (page.length < chunk && bytes < pageBytes) continue
    yield page
    page = []
    bytes = 0
  }
  yield page
}
