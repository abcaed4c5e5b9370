/**
 * Dependencies (Azure Batch: task dependencies). A task waits for ids and for inclusive ranges of whole numbers; a
 * range is met when every number in it has a task that completed well. Leading zeros do not count: 4 and 04 are the
 * same place, and the first to succeed fills it. Parents may be added later. A failed parent blocks its children.
 */
import { foldId } from '../protocols/ids.ts'
import type { TaskSpec } from '../protocols/model/task.ts'
import { addNumber, countNumbers } from './number-set.ts'
import { isArray, type Job, succeeded, type Waiter } from './state.ts'
import { liveTask, lookUp } from './task-book.ts'

/** Notes what a task, or an array as one, waits for and answers how much that is. */
export function depend(job: Job, waiter: Waiter, on: TaskSpec['dependsOn']): number {
  if (on === undefined) return 0
  let waiting = 0
  for (const parent of new Set((on.taskIds ?? []).map(foldId))) {
    const known = lookUp(job, parent)
    if (typeof known === 'number' && succeeded(known)) continue
    const children = job.dependents.get(parent)
    if (children === undefined) job.dependents.set(parent, [waiter])
    else children.push(waiter)
    waiting += 1
  }
  for (const { start, end } of on.taskIdRanges ?? []) {
    const missing = end - start + 1 - countNumbers(job.numbersDone, start, end)
    if (missing <= 0) continue
    job.rangeWaiters.push({ waiter, start, end, missing })
    waiting += 1
  }
  return waiting
}

/** A parent has succeeded: the children that wait for nothing more. */
export function release(job: Job, parent: string): Waiter[] {
  const freed: Waiter[] = []
  for (const child of job.dependents.get(parent) ?? []) {
    child.waiting -= 1
    if (child.waiting === 0 && isLive(child)) freed.push(child)
  }
  job.dependents.delete(parent)
  const n = job.row.spec.usesTaskDependencies ? wholeNumber(parent) : undefined
  if (n === undefined || !addNumber(job.numbersDone, n)) return freed
  for (let i = job.rangeWaiters.length - 1; i >= 0; i -= 1) {
    const range = job.rangeWaiters[i]!
    if (n < range.start || n > range.end) continue
    range.missing -= 1
    if (range.missing > 0) continue
    job.rangeWaiters.splice(i, 1)
    range.waiter.waiting -= 1
    if (range.waiter.waiting === 0 && isLive(range.waiter)) freed.push(range.waiter)
  }
  return freed
}

/** A task may have been terminated while it waited; an array is there as long as its job. */
function isLive(waiter: Waiter): boolean {
  return isArray(waiter) || liveTask(waiter.job, waiter.id) === waiter
}

/** The number that an id stands for in ranges, if it is one. */
export function wholeNumber(id: string): number | undefined {
  return /^\d{1,15}$/.test(id) ? Number(id) : undefined
}

/** Whether a task, or a task of an array, would wait for one of those that are added with it, and so for ever. */
export function waitsForItself(
  on: TaskSpec['dependsOn'],
  own: { hasId(id: string): boolean; hasNumberIn(start: number, end: number): boolean },
): boolean {
  return (
    (on?.taskIds ?? []).some((id) => own.hasId(foldId(id))) ||
    (on?.taskIdRanges ?? []).some(({ start, end }) => own.hasNumberIn(start, end))
  )
}
