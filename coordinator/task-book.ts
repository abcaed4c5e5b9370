/**
 * The book of a job's tasks: which there are and what became of them. The map holds only what moves: a task comes in
 * when it is claimed, touched by hand or waits for others, and goes out when it is completed, into the mark of its line
 * in the roll (roll.ts) or on a page of its array. One that nothing has happened to is *pristine*: it is made from its
 * line, or its array, for whoever asks. Nothing else reads or changes `job.tasks` and `job.roll`.
 */

import { foldId } from '../protocols/ids.ts'
import type { TaskSpec } from '../protocols/model/task.ts'
import { arrayTask, arrayTaskId, type TaskArray } from '../protocols/model/task-array.ts'
import { type ArrayIds, commonId, idAt, idsOf, indexAt, positionOf, shapeOf, shapesOfId } from './array-ids.ts'
import { inBook, isCompleted, type Kind, type Mark } from './roll.ts'
import type { StatusRow } from './rows.ts'
import { type Completed, isArray, type Job, type JobArray, type Place, type Run, type Task, type TaskClass } from './state.ts'

/** Positions of one page of marks. */
const pageSize = 4096

/** What a new entry of the book is made from. */
export interface NewTask extends Kind<TaskClass> {
  id: string
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
  const task = job.tasks.get(id)
  if (task !== undefined || job.forgotten) return task
  const n = job.roll.find(id)
  if (n !== undefined) {
    const mark = job.roll.markAt(n)
    return isCompleted(mark) ? mark : pristineOf(job, n)
  }
  const place = placeOf(job, id)
  return place === undefined ? undefined : markAt(place.array, place.position) || pristineTask(place.array, place.position)
}

/** The task if it is in the book: it is not completed, and not pristine either. */
export function liveTask(job: Job, id: string): Task | undefined {
  return job.tasks.get(id)
}

/** All tasks in the book. */
export function liveEntries(job: Job): Iterable<Task> {
  return job.tasks.values()
}

/** Whether nothing has ever happened to a task, so that it cannot have a status row either. `place` is that of a task of an array. */
export function isPristine(job: Job, id: string, place: Place | undefined): boolean {
  if (job.forgotten || job.tasks.has(id)) return false
  if (place !== undefined) return markAt(place.array, place.position) === 0
  const n = job.roll.find(id)
  return n !== undefined && job.roll.markAt(n) === 0
}

/** What became of a task that was added by itself. */
export function ownMark(job: Job, id: string): Mark {
  const n = job.roll.find(id)
  return n === undefined ? 0 : job.roll.markAt(n)
}

/** Enters a task in the roll: pristine, and in no queue yet. Answers its number there. */
export function enroll(job: Job, id: string, kind: Kind<TaskClass>): number {
  job.total += 1
  return job.roll.add(id, kind)
}

/** Takes in a task that waits for others, or is known again after a restart or a reactivation. */
export function putTask(job: Job, from: NewTask): Task {
  const task = newTask(job, from)
  if (task.place === undefined) job.roll.setMark(job.roll.find(task.id) ?? enroll(job, from.id, from), inBook)
  job.tasks.set(task.id, task)
  return task
}

/** A pristine task becomes an entry of the book; any other is one already. */
export function makeReal(task: Task): void {
  const { job, place } = task
  if (job.tasks.has(task.id)) return
  if (place === undefined) job.roll.setMark(job.roll.find(task.id)!, inBook)
  else leaveTurn(place)
  job.tasks.set(task.id, task)
}

/** A task of an array is not pristine any more, before its turn has come. */
export function leaveTurn({ array }: Place): void {
  array.ahead += 1
}

/** The task is completed: what is left of it is its mark. */
export function closeTask(job: Job, id: string, place: Place | undefined, mark: Completed): void {
  job.tasks.delete(id)
  if (place === undefined) job.roll.setMark(job.roll.find(id)!, mark)
  else setMark(place, mark)
}

/** A completed task becomes one that is to run again; the caller puts it in anew, at the place that is answered. */
export function reopenTask(job: Job, id: string): Place | undefined {
  const place = job.roll.find(id) === undefined ? placeOf(job, id) : undefined
  if (place !== undefined) setMark(place, 0)
  return place
}

/** A task of the roll that nothing has happened to: it depends on no other, so it is ready as long as its job is active. */
function pristineOf(job: Job, n: number, readySince = 0): Task {
  const task = newTask(job, { id: job.roll.idAt(n), ...job.roll.kindAt(n) })
  task.queued = job.row.state === 'active'
  task.readySince = readySince
  return task
}

// --- what stands for many tasks in a queue --------------------------------------------------------------------------

/** The next pristine task of an array or a run, in turn; it stays pristine. */
export function nextPristine(from: JobArray | Run): Task | undefined {
  return isArray(from) ? nextOfArray(from) : nextOfRun(from)
}

/** Takes out the task that {@link nextPristine} has just given: it becomes an entry of the book. */
export function claimNext(from: JobArray | Run, task: Task): void {
  if (isArray(from)) from.cursor += 1
  else {
    task.job.roll.setMark(from.next, inBook)
    from.next += 1
  }
  task.job.tasks.set(task.id, task)
}

function nextOfRun(run: Run): Task | undefined {
  const { roll } = run.job
  for (; run.next < run.end; run.next += 1)
    if (roll.markAt(run.next) === 0 && roll.kindAt(run.next).class === run.class) return pristineOf(run.job, run.next, run.readySince)
  return undefined
}

function nextOfArray(array: JobArray): Task | undefined {
  for (; array.cursor < array.ids.count; array.cursor += 1) {
    if (markAt(array, array.cursor) === 0) {
      const task = pristineTask(array, array.cursor)
      if (!array.job.tasks.has(task.id)) return task
    }
    array.ahead -= 1
  }
  return undefined
}

// --- arrays ---------------------------------------------------------------------------------------------------------

/** Takes in an array whose tasks are all pristine. */
export function putArray(job: Job, spec: TaskArray, from: Pick<JobArray, 'creationTime' | 'after' | 'class' | 'specBytes'>): JobArray {
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
  const { roll } = job
  // Whichever is shorter: the array, or the roll.
  if (ids.count < roll.size) {
    for (let position = 0; position < ids.count; position += 1) if (roll.find(idAt(ids, position)) !== undefined) return idAt(ids, position)
    return undefined
  }
  const length = ids.prefix.length + ids.digits
  for (let n = 0; n < roll.size; n += 1) {
    const id = foldId(roll.idAt(n))
    if (id.length !== length || !id.startsWith(ids.prefix)) continue
    const digits = id.slice(ids.prefix.length)
    if (/^\d+$/.test(digits) && positionOf(ids, Number(digits)) !== undefined) return id
  }
  return undefined
}

/** What a task of an array is made from. */
export function partsOf({ array, position }: Place): NewTask {
  const { spec, ids, class: kind, specBytes } = array
  const id = arrayTaskId(spec, indexAt(ids, position))
  return { id, class: kind, specBytes, maxTaskRetryCount: spec.template.constraints?.maxTaskRetryCount, place: { array, position } }
}

function pristineTask(array: JobArray, position: number): Task {
  const { waiting, queued, readySince } = array
  return Object.assign(newTask(array.job, partsOf({ array, position })), { waiting, queued, readySince })
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
