/**
 * Dependencies (Azure Batch: task dependencies). A task waits for ids and for inclusive ranges of whole numbers; a
 * range is met when every number in it has a task that completed well. Leading zeros do not count: 4 and 04 are the
 * same place, and the first to succeed fills it. Parents may be added later. A failed parent blocks its children.
 */
import { foldId } from '../protocols/ids.ts'
import type { TaskSpec } from '../protocols/model/task.ts'
import { type Job, succeeded, type Task } from './state.ts'

/** Notes what the task waits for and answers how much that is. */
export function depend(job: Job, task: Task, on: TaskSpec['dependsOn']): number {
  if (on === undefined) return 0
  let waiting = 0
  for (const parent of new Set((on.taskIds ?? []).map(foldId))) {
    const known = job.tasks.get(parent)
    if (typeof known === 'number' && succeeded(known)) continue
    const children = job.dependents.get(parent)
    if (children === undefined) job.dependents.set(parent, [task])
    else children.push(task)
    waiting += 1
  }
  for (const { start, end } of on.taskIdRanges ?? []) {
    let missing = end - start + 1
    for (const n of job.numbersDone) if (n >= start && n <= end) missing -= 1
    if (missing <= 0) continue
    job.rangeWaiters.push({ task, start, end, missing })
    waiting += 1
  }
  return waiting
}

/** A parent has succeeded: the children that wait for nothing more. */
export function release(job: Job, parent: string): Task[] {
  const freed: Task[] = []
  for (const child of job.dependents.get(parent) ?? []) {
    child.waiting -= 1
    if (child.waiting === 0 && isLive(child)) freed.push(child)
  }
  job.dependents.delete(parent)
  const n = job.row.spec.usesTaskDependencies ? wholeNumber(parent) : undefined
  if (n === undefined || job.numbersDone.has(n)) return freed
  job.numbersDone.add(n)
  for (let i = job.rangeWaiters.length - 1; i >= 0; i -= 1) {
    const waiter = job.rangeWaiters[i]!
    if (n < waiter.start || n > waiter.end) continue
    waiter.missing -= 1
    if (waiter.missing > 0) continue
    job.rangeWaiters.splice(i, 1)
    waiter.task.waiting -= 1
    if (waiter.task.waiting === 0 && isLive(waiter.task)) freed.push(waiter.task)
  }
  return freed
}

/** A child may have been terminated while it waited. */
function isLive(task: Task): boolean {
  return task.job.tasks.get(task.id) === task
}

/** The number that an id stands for in ranges, if it is one. */
export function wholeNumber(id: string): number | undefined {
  return /^\d{1,15}$/.test(id) ? Number(id) : undefined
}
