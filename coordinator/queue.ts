/**
 * Queues of a job's ready tasks, one a class. Taking a task out of the middle (it was terminated, or a late report
 * completed it) only clears its `queued` mark; the entry is skipped when its turn comes.
 */
import type { Demand } from '../protocols/model/resources.ts'
import type { TaskSpec } from '../protocols/model/task.ts'
import type { Job, Queue, Task, TaskClass } from './state.ts'

/** The class of a task; equal classes of a job are one object. */
export function classOf(job: Job, spec: Pick<TaskSpec, 'requiredSlots' | 'resources' | 'multiInstanceSettings'>): TaskClass {
  const gang = spec.multiInstanceSettings?.numberOfInstances ?? 0
  const demand: Demand = spec.resources ?? {}
  const key = spec.resources === undefined ? `${spec.requiredSlots}|${gang}` : `${spec.requiredSlots}|${gang}|${demandText(demand)}`
  return queueOf(job, { key, slots: spec.requiredSlots, demand, gang }).class
}

function demandText(demand: Demand): string {
  const labels = Object.entries(demand.labels ?? {}).sort(([a], [b]) => (a < b ? -1 : 1))
  return JSON.stringify([demand.cores, demand.memoryMiB, demand.gpus, labels])
}

function queueOf(job: Job, kind: TaskClass): Queue {
  let queue = job.queues.get(kind.key)
  if (queue === undefined) {
    queue = { class: kind, again: [], fresh: [], head: 0, size: 0 }
    job.queues.set(kind.key, queue)
  }
  return queue
}

/** Puts a ready task in its queue; `again` ahead of those that never ran. */
export function enqueue(task: Task, again: boolean, now: number): void {
  const queue = queueOf(task.job, task.class)
  task.queued = true
  task.readySince = now
  if (again) queue.again.push(task)
  else queue.fresh.push(task)
  queue.size += 1
  task.job.ready += 1
}

export function dequeue(task: Task): void {
  if (!task.queued) return
  task.queued = false
  queueOf(task.job, task.class).size -= 1
  task.job.ready -= 1
}

/** The task whose turn it is, left in the queue. */
export function peek(queue: Queue): Task | undefined {
  while (queue.again.length > 0) {
    const task = queue.again[queue.again.length - 1]!
    if (task.queued) return task
    queue.again.pop()
  }
  while (queue.head < queue.fresh.length) {
    const task = queue.fresh[queue.head]!
    if (task.queued) return task
    advance(queue)
  }
  return undefined
}

/** Takes out the task that {@link peek} showed. */
export function shift(queue: Queue): Task | undefined {
  const task = peek(queue)
  if (task === undefined) return undefined
  if (queue.again.length > 0) queue.again.pop()
  else advance(queue)
  task.queued = false
  queue.size -= 1
  task.job.ready -= 1
  return task
}

/** All tasks of a queue, each once. Forgets the entries of those that were taken out of the middle. */
export function queuedIn(queue: Queue): Task[] {
  const again = new Set(queue.again.filter((task) => task.queued))
  const fresh = new Set(queue.fresh.slice(queue.head).filter((task) => task.queued && !again.has(task)))
  queue.again = [...again]
  queue.fresh = [...fresh]
  queue.head = 0
  return [...queue.again, ...queue.fresh]
}

function advance(queue: Queue): void {
  queue.head += 1
  // Gives memory back in steps, so that a queue of a million is not copied at every grant.
  if (queue.head >= 4096 && queue.head * 2 >= queue.fresh.length) {
    queue.fresh.splice(0, queue.head)
    queue.head = 0
  }
}
