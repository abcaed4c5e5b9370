/**
 * Queues of a job's ready tasks, one a class. Taking a task out of the middle (it was terminated, or a late report
 * completed it) only clears its `queued` mark; the entry is skipped when its turn comes. An array is one entry, and so
 * are tasks of the roll that were added together: each becomes real when it is taken out.
 */
import type { Demand } from '../protocols/model/resources.ts'
import type { TaskSpec } from '../protocols/model/task.ts'
import { isArray, type Job, type JobArray, type Queue, type Run, type Task, type TaskClass } from './state.ts'
import { claimNext, nextPristine, pristineCount } from './task-book.ts'

/** The class of a task; equal classes of a job are one object. */
export function classOf(job: Job, spec: Pick<TaskSpec, 'requiredSlots' | 'resources' | 'multiInstanceSettings' | 'thread'>): TaskClass {
  const { numberOfInstances: gang = 0, mpi } = spec.multiInstanceSettings ?? {}
  return classWith(job, { slots: spec.requiredSlots, demand: spec.resources ?? {}, gang, thread: spec.thread !== undefined, mpi })
}

export function classWith(job: Job, { slots, demand, gang, thread, mpi }: Omit<TaskClass, 'key'>): TaskClass {
  const plain = `${slots}|${gang}${thread ? '|thread' : ''}${mpi === undefined ? '' : `|${mpi}`}`
  const key = isEmpty(demand) ? plain : `${plain}|${demandText(demand)}`
  return queueOf(job, { key, slots, demand, gang, thread, mpi }).class
}

/** Asks for nothing beyond its slots. */
export function isEmpty(demand: Demand): boolean {
  for (const _ in demand) return false
  return true
}

function demandText(demand: Demand): string {
  const labels = Object.entries(demand.labels ?? {}).sort(([a], [b]) => (a < b ? -1 : 1))
  return JSON.stringify([demand.cores, demand.memoryMiB, demand.gpus, labels])
}

function queueOf(job: Job, kind: TaskClass): Queue {
  let queue = job.queues.get(kind.key)
  if (queue === undefined) {
    queue = { class: kind, again: [], fresh: [], head: 0, size: 0, givenAt: 0 }
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

/** Puts an array in its queue, for all its tasks that nothing has happened to. */
export function enqueueArray(array: JobArray, now: number): void {
  const count = pristineCount(array)
  if (count === 0) return
  const queue = queueOf(array.job, array.class)
  array.queued = true
  array.readySince = now
  queue.fresh.push(array)
  queue.size += count
  array.job.ready += count
}

/** Puts a pristine task of the roll in its queue, with those of its class that were added in the same turn. */
export function enqueueEntry(job: Job, n: number, now: number): void {
  const queue = queueOf(job, job.roll.kindAt(n).class)
  const last = queue.head < queue.fresh.length ? queue.fresh.at(-1) : undefined
  if (last !== undefined && isRun(last) && last.readySince === now) last.end = n + 1
  else queue.fresh.push({ job, class: queue.class, readySince: now, next: n, end: n + 1 })
  queue.size += 1
  job.ready += 1
}

function isRun(entry: Task | JobArray | Run): entry is Run {
  return 'end' in entry
}

/** Whether an entry stands for many tasks. */
function isMany(entry: Task | JobArray | Run): entry is JobArray | Run {
  return isArray(entry) || isRun(entry)
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
  return peekFresh(queue)
}

/** Of those that did not run before. */
function peekFresh(queue: Queue): Task | undefined {
  while (queue.head < queue.fresh.length) {
    const entry = queue.fresh[queue.head]!
    if (isMany(entry)) {
      const task = nextPristine(entry)
      if (task !== undefined) return task
      if (isArray(entry)) entry.queued = false
    } else if (entry.queued) return entry
    advance(queue)
  }
  return undefined
}

/** Takes out the task that {@link peek} shows. */
export function shift(queue: Queue): Task | undefined {
  const task = peek(queue)
  if (task === undefined) return undefined
  const entry = queue.fresh[queue.head]
  if (queue.again.length > 0) queue.again.pop()
  else if (entry !== undefined && isMany(entry)) claimNext(entry, task)
  else advance(queue)
  task.queued = false
  queue.size -= 1
  task.job.ready -= 1
  return task
}

/**
 * The task of a queue of gangs that has waited longest, left in it. Unlike with {@link peek} one that ran before waits anew: a
 * gang that is tried again and again would keep the nodes from all others of its class.
 */
export function oldest(queue: Queue): Task | undefined {
  queue.again = queue.again.filter((task) => task.queued)
  let first: Task | undefined
  for (const task of queue.again) if (first === undefined || task.readySince < first.readySince) first = task
  const fresh = peekFresh(queue)
  return first === undefined || (fresh !== undefined && fresh.readySince < first.readySince) ? fresh : first
}

/** Takes out the task that {@link oldest} shows. */
export function takeOldest(queue: Queue): Task | undefined {
  const task = oldestAsEntry(queue)
  if (task !== undefined) dequeue(task)
  return task
}

/** The task that {@link oldest} shows, in its queue as an entry of its own: the book has it, so that nodes can be held for it. */
export function oldestAsEntry(queue: Queue): Task | undefined {
  const task = oldest(queue)
  const entry = queue.fresh[queue.head]
  if (task === undefined || entry === undefined || !isMany(entry) || queue.again.includes(task)) return task
  claimNext(entry, task)
  queue.again.push(task)
  return task
}

/** Nothing of the job runs any more: its queues are left empty. */
export function emptyQueues(job: Job): void {
  for (const queue of job.queues.values()) {
    for (const entry of queue.again) entry.queued = false
    for (const entry of queue.fresh) if (!isRun(entry)) entry.queued = false
    queue.again = []
    queue.fresh = []
    queue.head = 0
    queue.size = 0
  }
  job.ready = 0
}

function advance(queue: Queue): void {
  queue.head += 1
  // Gives memory back in steps, so that a queue of a million is not copied at every grant.
  if (queue.head >= 4096 && queue.head * 2 >= queue.fresh.length) {
    queue.fresh.splice(0, queue.head)
    queue.head = 0
  }
}
