/**
 * Task arrays: one row for all their tasks, one entry in the queue. What a job's arrays are together is bounded: an id
 * is looked for in each array that it could belong to, a list merges them all, and a new one is held against the others.
 */
import { foldId } from '../protocols/ids.ts'
import type { TaskArray } from '../protocols/model/task-array.ts'
import { arrayCount, arrayTaskId, lastOf } from '../protocols/model/task-array.ts'
import { hasId, hasNumberIn, idsOf } from './array-ids.ts'
import { depend } from './dependencies.ts'
import type { ControlEvent } from './events.ts'
import { activeJob, specError } from './jobs.ts'
import { classOf } from './queue.ts'
import { type ArrayRow, arrayKey } from './rows.ts'
import type { Job, JobArray } from './state.ts'
import { putArray, takenId } from './task-book.ts'
import { ready } from './tasks.ts'
import { answer, refuse, type Turn } from './turn.ts'

/** Arrays of one job: more of them are better one array with a list of ranges. */
export const maxArrays = 1000
/** Ranges of all arrays of one job, some 100 bytes of memory each. */
export const maxRanges = 1_000_000

export function onAddTaskArray(turn: Turn, event: Extract<ControlEvent, { kind: 'addTaskArray' }>): void {
  const job = activeJob(turn, event.jobId, event.replyTo)
  if (job === undefined) return
  const { array, encoded, specBytes } = event
  const error = arrayError(job, array, specBytes)
  if (error !== undefined) return refuse(turn, event.replyTo, error.code, error.message)
  const from = { creationTime: turn.now, after: job.roll.size, specBytes }
  const added = makeArray(job, array, from)
  const row: ArrayRow = { creationTime: from.creationTime, after: from.after, array: encoded }
  turn.out.push({ kind: 'put', key: arrayKey(job.uid, added.number), value: row })
  added.waiting = depend(job, added, array.template.dependsOn)
  if (added.waiting === 0) ready(turn, added, false)
  answer(turn, event.replyTo, {
    count: arrayCount(array),
    firstTaskId: arrayTaskId(array, array.indexes[0]!.start),
    lastTaskId: arrayTaskId(array, lastOf(array.indexes.at(-1)!)),
  })
  turn.out.push({ kind: 'changed', jobUid: job.uid })
}

/** Makes the memory of an array. Queues nothing. */
export function makeArray(job: Job, array: TaskArray, from: Pick<JobArray, 'creationTime' | 'after' | 'specBytes'>): JobArray {
  return putArray(job, array, { ...from, class: classOf(job, array.template) })
}

function arrayError(job: Job, array: TaskArray, specBytes: number): ReturnType<typeof specError> {
  const { id } = job.row.spec
  const ids = idsOf(array)
  const error = specError(job, 'A task of the array', array.template, specBytes, {
    hasId: (other) => hasId(ids, other),
    hasNumberIn: (start, end) => hasNumberIn(ids, start, end),
  })
  if (error !== undefined) return error
  if (job.arrays.length >= maxArrays)
    return {
      code: 'InvalidPropertyValue',
      message: `Job ${id} has ${maxArrays} arrays already; give one array a list of ranges instead.`,
    }
  const ranges = job.arrays.reduce((sum, { ids }) => sum + ids.ranges.length, array.indexes.length)
  if (ranges > maxRanges)
    return { code: 'InvalidPropertyValue', message: `The arrays of job ${id} would have more than ${maxRanges} ranges together.` }
  const taken = takenId(job, ids)
  if (taken === undefined) return undefined
  const shown = array.idPrefix + taken.slice(foldId(array.idPrefix).length)
  return {
    code: 'TaskExists',
    message: `The task ${shown} exists already in job ${id}, so nothing of the array was added. Give it another idPrefix.`,
  }
}
