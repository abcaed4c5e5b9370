/** Reading tasks from their rows: one, a page, or all that are completed. Rows that can be read are durable (L5). */

import { pipe } from 'it-pipe'
import { decode } from '../protocols/codec.ts'
import type { TaskEvent } from '../protocols/control.ts'
import { foldId } from '../protocols/ids.ts'
import { type TaskSpec, type TaskState, type TaskView, taskSpecSchema } from '../protocols/model/task.ts'
import { type SpecRow, type StatusRow, specKey, specPrefix, statusKey, taskOfKey } from './rows.ts'
import type { Job, State } from './state.ts'
import type { Store } from './store.ts'
import { viewTask } from './view.ts'

const chunk = 1000
/** Rows in one page or note: an eighth of the frame limit, for a view is larger than its rows. */
export const pageBytes = 4 << 20

export interface TaskRows {
  spec: TaskSpec
  creationTime: number
  status: StatusRow | undefined
  /** Of both rows on disk. */
  bytes: number
}

export async function readTask(store: Store, job: Job, taskId: string): Promise<TaskRows | undefined> {
  const id = foldId(taskId)
  const [spec, status] = await store.getMany([specKey(job.uid, id), statusKey(job.uid, id)])
  return spec === undefined ? undefined : parse(spec, status)
}

function parse(specBytes: Uint8Array, statusBytes: Uint8Array | undefined): TaskRows {
  const row = decode(specBytes) as SpecRow
  const status = statusBytes === undefined ? undefined : (decode(statusBytes) as StatusRow)
  const bytes = specBytes.length + (statusBytes?.length ?? 0)
  return { spec: taskSpecSchema.parse(decode(row.spec)), creationTime: row.creationTime, status, bytes }
}

async function* scanTasks(store: Store, job: Job, after: string | undefined): AsyncGenerator<[task: string, rows: TaskRows]> {
  const prefix = specPrefix(job.uid)
  let from = after === undefined ? prefix : prefix + after
  for (;;) {
    const specs: [string, Uint8Array][] = []
    for await (const entry of store.scan({ gt: from, lt: `${prefix}\uffff`, limit: chunk })) specs.push(entry)
    const statuses = await store.getMany(specs.map(([key]) => statusKey(job.uid, taskOfKey(key))))
    for (const [i, [key, value]] of specs.entries()) yield [taskOfKey(key), parse(value, statuses[i])]
    if (specs.length < chunk) return
    from = specs.at(-1)![0]
  }
}

export interface TaskFilter {
  after?: string
  limit: number
  state?: TaskState
  result?: 'success' | 'failure'
}

/** A page of a job's tasks in the order of their ids. */
export async function listTasks(store: Store, state: State, job: Job, filter: TaskFilter): Promise<{ items: TaskView[]; next?: string }> {
  const items: TaskView[] = []
  let bytes = 0
  const wanted = pipe(
    scanTasks(store, job, filter.after),
    (source) => shown(source, state, job),
    (source) => matching(source, filter),
  )
  for await (const [task, view, size] of wanted) {
    items.push(view)
    bytes += size
    if (items.length >= filter.limit || bytes >= pageBytes) return { items, next: task }
  }
  return { items }
}

type Shown = [task: string, view: TaskView, bytes: number]

async function* shown(source: AsyncIterable<[string, TaskRows]>, state: State, job: Job): AsyncGenerator<Shown> {
  for await (const [task, rows] of source) yield [task, viewTask(state, job, rows.spec, rows.creationTime, rows.status), rows.bytes]
}

async function* matching(source: AsyncIterable<Shown>, { state, result }: TaskFilter): AsyncGenerator<Shown> {
  for await (const item of source) {
    const [, view] = item
    if ((state === undefined || view.state === state) && (result === undefined || view.executionInfo.result === result)) yield item
  }
}

/** The completed tasks of a job as the events that a watch would have shown, a page at a time. */
export async function* completedEvents(store: Store, job: Job): AsyncGenerator<TaskEvent[]> {
  let page: TaskEvent[] = []
  let bytes = 0
  for await (const [, { spec, status, bytes: size }] of scanTasks(store, job, undefined)) {
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
