/**
 * Which tasks of a job a list or a replay has to look at, in the order of their ids. Memory says it as far as it goes;
 * whether a task is shown, and as what, its rows decide (L5). So the first page of a job of a million tasks that has
 * three running reads three rows. Of a job that ended before this process began, only the rows are left to go by.
 */
import { foldId } from '../protocols/ids.ts'
import type { TaskState } from '../protocols/model/task.ts'
import { idAt, positionAfter } from './array-ids.ts'
import { isCompleted, type Mark } from './roll.ts'
import { specKey, specPrefix, statusPrefix, taskOfKey } from './rows.ts'
import { type Job, type JobArray, liveTasks, type Place, succeeded } from './state.ts'
import type { Store } from './store.ts'
import { liveEntries, nextMarked, ownMark, placeOf } from './task-book.ts'

/** Rows fetched at once. */
export const chunk = 1000
/** So many tasks whose ids come in no order are picked out of memory and sorted; of more, their rows are walked through. */
const maxPicked = 10_000

export interface Wanted {
  after?: string
  state?: TaskState
  result?: 'success' | 'failure'
}

/** A task to look at, with what is at hand of its rows. */
export interface Candidate {
  id: string
  /** Of a task of an array, which has no spec row. */
  place?: Place
  spec?: Uint8Array
  status?: Uint8Array
}

/** Candidates in batches of at most `size`. */
export function candidates(store: Store, job: Job, wanted: Wanted, size: number): AsyncGenerator<Candidate[]> {
  const isCompleted = wanted.state === 'completed' || wanted.result !== undefined
  if (job.forgotten && isCompleted) return batched(fromStatuses(store, job, wanted), size)
  const own = ownTasks(store, job, wanted, size)
  return batched(job.arrays.length === 0 ? own : merged(own, arrayTasks(job, wanted)), size)
}

async function* batched(source: AsyncIterable<Candidate> | Iterable<Candidate>, size: number): AsyncGenerator<Candidate[]> {
  let batch: Candidate[] = []
  for await (const candidate of source) {
    batch.push(candidate)
    if (batch.length < size) continue
    yield batch
    batch = []
  }
  if (batch.length > 0) yield batch
}

async function* merged(
  own: AsyncIterable<Candidate> | Iterable<Candidate>,
  arrays: Iterator<Candidate, undefined>,
): AsyncGenerator<Candidate> {
  let next = arrays.next()
  for await (const candidate of own) {
    for (; !next.done && next.value.id < candidate.id; next = arrays.next()) yield next.value
    yield candidate
  }
  for (; !next.done; next = arrays.next()) yield next.value
}

/** The mark of a task held against what is wanted; memory may be ahead of the rows. */
function mayBe(mark: Mark, { state, result }: Wanted): boolean {
  if (isCompleted(mark))
    return (state === undefined || state === 'completed') && (result === undefined || succeeded(mark) === (result === 'success'))
  return result === undefined && (state === undefined || state === 'active')
}

// --- tasks that were added one by one -------------------------------------------------------------------------------

function ownTasks(store: Store, job: Job, wanted: Wanted, size: number): AsyncIterable<Candidate> | Iterable<Candidate> {
  const isAll = wanted.state === undefined && wanted.result === undefined
  if (isAll || job.forgotten) return fromSpecs(store, job, wanted)
  if (wanted.state === 'running') return wanted.result === undefined ? sorted(runningIds(job), wanted) : []
  if (job.roll.isAscending) return fromRoll(store, job, wanted, size)
  return atMost(job, wanted) > maxPicked ? fromSpecs(store, job, wanted) : sorted(wantedIds(job, wanted), wanted)
}

/** How many tasks of the job could be wanted. */
function atMost(job: Job, { state, result }: Wanted): number {
  if (result !== undefined) return result === 'success' ? job.succeeded : job.failed
  return state === 'completed' ? job.succeeded + job.failed : liveTasks(job)
}

function* runningIds(job: Job): Generator<string> {
  for (const { id, place, lease } of liveEntries(job)) if (place === undefined && lease !== undefined) yield id
}

function* sorted(ids: Iterable<string>, { after = '' }: Wanted): Generator<Candidate> {
  for (const id of [...ids].filter((text) => text > after).sort()) yield { id }
}

/**
 * Where ids come in the order of submission, as numbered ones do, a page costs no more than itself. Those of a batch that
 * lie close together are read as one range, which takes a quarter of the time that single rows take.
 */
async function* fromRoll(store: Store, job: Job, wanted: Wanted, size: number): AsyncGenerator<Candidate> {
  const { roll } = job
  const passes = (mark: Mark) => mayBe(mark, wanted)
  let n = wanted.after === undefined ? 0 : roll.firstAfter(wanted.after)
  for (;;) {
    const batch = new Set<string>()
    const first = roll.nextMarked(n, passes)
    for (n = first; n < roll.size && batch.size < size; n = roll.nextMarked(n + 1, passes)) batch.add(foldId(roll.idAt(n)))
    if (batch.size === 0) return
    if (n - first > 2 * batch.size) for (const id of batch) yield { id }
    else {
      const range = { gte: specKey(job.uid, foldId(roll.idAt(first))), lt: `${specPrefix(job.uid)}\uffff`, limit: n - first }
      for await (const [key, spec] of store.scan(range)) if (batch.has(taskOfKey(key))) yield { id: taskOfKey(key), spec }
    }
  }
}

function* wantedIds({ roll }: Job, wanted: Wanted): Generator<string> {
  const passes = (mark: Mark) => mayBe(mark, wanted)
  for (let n = roll.nextMarked(0, passes); n < roll.size; n = roll.nextMarked(n + 1, passes)) yield foldId(roll.idAt(n))
}

async function* fromSpecs(store: Store, job: Job, wanted: Wanted): AsyncGenerator<Candidate> {
  const prefix = specPrefix(job.uid)
  for await (const [key, spec] of store.scan({
    gt: wanted.after === undefined ? prefix : specKey(job.uid, wanted.after),
    lt: `${prefix}\uffff`,
  })) {
    const id = taskOfKey(key)
    if (job.forgotten || mayBe(ownMark(job, id), wanted)) yield { id, spec }
  }
}

// --- tasks of arrays ------------------------------------------------------------------------------------------------

interface Cursor {
  array: JobArray
  positions: Iterator<number, undefined>
  position: number
  id: string
}

/** The tasks of all arrays in the order of their ids. */
function* arrayTasks(job: Job, wanted: Wanted): Generator<Candidate, undefined> {
  const running = wanted.state === 'running' ? runningPlaces(job) : undefined
  const cursors: Cursor[] = []
  for (const array of job.arrays) {
    const from = wanted.after === undefined ? 0 : positionAfter(array.ids, wanted.after)
    const positions = running === undefined ? positionsOf(array, from, wanted) : runningOf(array, from, running)
    const cursor = moved({ array, positions, position: 0, id: '' })
    if (cursor !== undefined) cursors.push(cursor)
  }
  // The least is last. Most arrays lie beside each other, so it stays there for long.
  cursors.sort((a, b) => (a.id < b.id ? 1 : -1))
  for (let least = cursors.pop(); least !== undefined; least = cursors.pop()) {
    const limit = cursors.at(-1)?.id
    let next: Cursor | undefined = least
    for (; next !== undefined && (limit === undefined || next.id < limit); next = moved(next))
      yield { id: next.id, place: { array: next.array, position: next.position } }
    if (next === undefined) continue
    const { id } = next
    const at = cursors.findLastIndex((other) => other.id > id)
    cursors.splice(at + 1, 0, next)
  }
  return undefined
}

function moved(cursor: Cursor): Cursor | undefined {
  const next = cursor.positions.next()
  if (next.done) return undefined
  return { ...cursor, position: next.value, id: idAt(cursor.array.ids, next.value) }
}

function* positionsOf(array: JobArray, from: number, wanted: Wanted): Generator<number, undefined> {
  const passes = array.job.forgotten ? () => true : (mark: Mark) => mayBe(mark, wanted)
  for (let at = nextMarked(array, from, passes); at < array.ids.count; at = nextMarked(array, at + 1, passes)) yield at
  return undefined
}

function* runningOf(array: JobArray, from: number, running: ReadonlyMap<JobArray, number[]>): Generator<number, undefined> {
  for (const position of running.get(array) ?? []) if (position >= from) yield position
  return undefined
}

function runningPlaces(job: Job): Map<JobArray, number[]> {
  const places = new Map<JobArray, number[]>()
  for (const { place, lease } of liveEntries(job)) {
    if (place === undefined || lease === undefined) continue
    const list = places.get(place.array)
    if (list === undefined) places.set(place.array, [place.position])
    else list.push(place.position)
  }
  for (const list of places.values()) list.sort((a, b) => a - b)
  return places
}

// --- a job that ended before this process began ---------------------------------------------------------------------

async function* fromStatuses(store: Store, job: Job, { after }: Wanted): AsyncGenerator<Candidate> {
  const prefix = statusPrefix(job.uid)
  for await (const [key, status] of store.scan({ gt: prefix + (after ?? ''), lt: `${prefix}\uffff` })) {
    const id = taskOfKey(key)
    yield { id, place: placeOf(job, id), status }
  }
}
