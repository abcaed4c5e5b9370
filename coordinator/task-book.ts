/**
 * The book of a job's tasks: which there are and what became of them. A task added by itself is in the job's map for
 * good. Of an array the map holds only what moves: a task comes in when it is claimed or touched by hand, and goes out
 * into a mark on its array's page when it is completed. Nothing else reads or changes `job.tasks`.
 */

import { foldId } from '../protocols/ids.ts'
import type { TaskSpec } from '../protocols/model/task.ts'
import { arrayTask, arrayTaskId, type TaskArray } from '../protocols/model/task-array.ts'
import { type ArrayIds, commonId, idAt, idsOf, indexAt, positionOf, shapeOf, shapesOfId } from './array-ids.ts'
import type { StatusRow } from './rows.ts'
import type { Completed, Job, JobArray, Place, Task, TaskClass } from './state.ts'

/** Positions of one page of marks. */
const pageSize = 4096

/** What a new entry of the book is made from. */
export interface NewTask {
  id: string
  class: TaskClass
  specBytes: number
  maxTaskRetryCount: number | undefined
  place?: Place
  /** Its row, when it has one. */
  status?: StatusRow
}

/** A task that is in no book yet. */
function newTask(job: Job, from: NewTask): Task {
  const { status } = from
  const id = foldId(from.id)
  return {
    job,
    id,
    name: id === from.id ? undefined : from.id,
    place: from.place,
    class: from.class,
    specBytes: from.specBytes,
    epoch: status?.epoch ?? 0,
    retries: status?.retryCount ?? 0,
    requeues: status?.requeueCount ?? 0,
    losses: status?.losses ?? 0,
    maxRetries: from.maxTaskRetryCount ?? job.row.spec.constraints.maxTaskRetryCount,
    waiting: 0,
    queued: false,
    readySince: 0,
    lastEnd: status?.lastEnd,
    lastRan: status?.ranOn,
    history: status?.history,
  }
}

// --- tasks ----------------------------------------------------------------------------------------------------------

/** What is known of a task by its folded id. One that nothing has happened to is made for the asker: it is not in the book. */
export function lookUp(job: Job, id: string): Task | Completed | undefined {
  const known = job.tasks.get(id)
  if (known !== undefined || job.arrays.length === 0 || job.forgotten) return known
  const place = placeOf(job, id)
  return place === undefined ? undefined : markAt(place.array, place.position) || pristineTask(place.array, place.position)
}

/** The task if it is in the book and not completed. */
export function liveTask(job: Job, id: string): Task | undefined {
  const known = job.tasks.get(id)
  return typeof known === 'object' ? known : undefined
}

/** All tasks in the book that are not completed; of arrays only those that move. */
export function* liveEntries(job: Job): Generator<Task> {
  for (const known of job.tasks.values()) if (typeof known === 'object') yield known
}

/** What is known of a task that was added by itself. */
export function ownEntry(job: Job, id: string): Task | Completed | undefined {
  return job.tasks.get(id)
}

/** Tasks in the book that were added one by one, with what is known of them. */
export function* ownEntries(job: Job): Generator<[id: string, known: Task | Completed]> {
  for (const entry of job.tasks) if (typeof entry[1] === 'number' || entry[1].place === undefined) yield entry
}

/** Takes in a task that is new, or known again after a restart or a reactivation. */
export function putTask(job: Job, from: NewTask): Task {
  const task = newTask(job, from)
  if (task.place === undefined && !job.tasks.has(task.id)) job.total += 1
  job.tasks.set(task.id, task)
  return task
}

/** A pristine task becomes an entry of the book; any other is one already. */
export function makeReal(task: Task): void {
  const { job, place } = task
  if (place === undefined || job.tasks.has(task.id)) return
  leaveTurn(place)
  job.tasks.set(task.id, task)
}

/** A task of an array is not pristine any more, before its turn has come. */
export function leaveTurn({ array }: Place): void {
  array.ahead += 1
}

/** The task is completed: what is left of it is its mark. */
export function closeTask(job: Job, id: string, place: Place | undefined, mark: Completed): void {
  if (place === undefined) {
    if (!job.tasks.has(id)) job.total += 1
    job.tasks.set(id, mark)
  } else {
    job.tasks.delete(id)
    setMark(place, mark)
  }
}

/** A completed task becomes one that is to run again; the caller puts it in anew, at the place that is answered. */
export function reopenTask(job: Job, id: string): Place | undefined {
  const place = job.tasks.has(id) ? undefined : placeOf(job, id)
  if (place !== undefined) setMark(place, 0)
  return place
}

// --- arrays ---------------------------------------------------------------------------------------------------------

/** Takes in an array whose tasks are all pristine. */
export function putArray(job: Job, spec: TaskArray, from: Pick<JobArray, 'creationTime' | 'class' | 'specBytes'>): JobArray {
  const ids = idsOf(spec)
  const number = job.arrays.length
  const array: JobArray = {
    job,
    number,
    spec,
    ids,
    ...from,
    cursor: 0,
    ahead: 0,
    pages: new Map(),
    waiting: 0,
    queued: false,
    readySince: 0,
  }
  job.arrays.push(array)
  const shape = shapeOf(ids)
  job.arraysByShape.set(shape, [...(job.arraysByShape.get(shape) ?? []), array])
  job.total += ids.count
  return array
}

/** Where in the job's arrays an id stands. */
export function placeOf(job: Pick<Job, 'arrays' | 'arraysByShape'>, id: string): Place | undefined {
  if (job.arrays.length === 0) return undefined
  for (const { shape, index } of shapesOfId(id)) {
    for (const array of job.arraysByShape.get(shape) ?? []) {
      const position = positionOf(array.ids, index)
      if (position !== undefined) return { array, position }
    }
  }
  return undefined
}

/** The spec of an array's task. */
export function specAt({ array, position }: Place): TaskSpec {
  return arrayTask(array.spec, indexAt(array.ids, position))
}

/** Tasks of the array that nothing has happened to. */
export function pristineCount({ ids, cursor, ahead }: JobArray): number {
  return ids.count - cursor - ahead
}

/** The next task of the array in turn; it stays pristine. */
export function nextPristine(array: JobArray): Task | undefined {
  for (; array.cursor < array.ids.count; array.cursor += 1) {
    if (markAt(array, array.cursor) === 0) {
      const task = pristineTask(array, array.cursor)
      if (!array.job.tasks.has(task.id)) return task
    }
    array.ahead -= 1
  }
  return undefined
}

/** The next task of the array in turn, as an entry of the book. */
export function claimNext(array: JobArray): Task | undefined {
  const task = nextPristine(array)
  if (task === undefined) return undefined
  array.cursor += 1
  array.job.tasks.set(task.id, task)
  return task
}

/** What became of the task at a position; 0 while it is not completed. */
export function markAt(array: JobArray, position: number): Completed {
  return array.pages.get(Math.floor(position / pageSize))?.[position % pageSize] ?? 0
}

/** The first position from `from` on whose mark passes; pages on which nothing is completed are passed over as one. */
export function nextMarked(array: JobArray, from: number, passes: (mark: Completed) => boolean): number {
  const { count } = array.ids
  const emptyPasses = passes(0)
  for (let position = from; position < count; ) {
    const page = array.pages.get(Math.floor(position / pageSize))
    const end = Math.min(count, (Math.floor(position / pageSize) + 1) * pageSize)
    if (page === undefined && emptyPasses) return position
    if (page !== undefined) for (; position < end; position += 1) if (passes(page[position % pageSize]!)) return position
    position = end
  }
  return count
}

/** An id that an array would have in common with what the job has already. */
export function takenId(job: Job, ids: ArrayIds): string | undefined {
  for (const { ids: others } of job.arrays) {
    const id = commonId(ids, others)
    if (id !== undefined) return id
  }
  const length = ids.prefix.length + ids.digits
  // Whichever is shorter: the array, or what the book holds.
  if (ids.count < job.tasks.size) {
    for (let position = 0; position < ids.count; position += 1) if (job.tasks.has(idAt(ids, position))) return idAt(ids, position)
    return undefined
  }
  for (const id of job.tasks.keys()) {
    if (id.length !== length || !id.startsWith(ids.prefix)) continue
    const digits = id.slice(ids.prefix.length)
    if (/^\d+$/.test(digits) && positionOf(ids, Number(digits)) !== undefined) return id
  }
  return undefined
}

function partsOf(array: JobArray, position: number): NewTask {
  const { spec, ids, class: kind, specBytes } = array
  const id = arrayTaskId(spec, indexAt(ids, position))
  return { id, class: kind, specBytes, maxTaskRetryCount: spec.template.constraints?.maxTaskRetryCount, place: { array, position } }
}

function pristineTask(array: JobArray, position: number): Task {
  const { waiting, queued, readySince } = array
  return Object.assign(newTask(array.job, partsOf(array, position)), { waiting, queued, readySince })
}

function setMark({ array, position }: Place, mark: Completed): void {
  const number = Math.floor(position / pageSize)
  let page = array.pages.get(number)
  if (page === undefined) {
    page = new Uint32Array(Math.min(pageSize, array.ids.count - number * pageSize))
    array.pages.set(number, page)
  }
  page[position % pageSize] = mark
}
