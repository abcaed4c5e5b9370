/** Following a job to its end: each completed task is handed on once, however often it is replayed. */
import type { TaskEvent } from '../../../protocols/control.ts'
import type { TaskCounts } from '../../../protocols/model/job.ts'
import type { Mesh } from '../../mesh/client.ts'

/** Tasks that have been handed on: a set of ids, or something smaller. */
export interface Seen {
  readonly size: number
  has(taskId: string): boolean
  add(taskId: string): void
}

export interface FollowOptions {
  /** Tasks that have been handed on already; those that are now are added. */
  seen: Seen
  signal: AbortSignal
  /** How many tasks must be complete; without it, all that the job has. */
  expected?: number
  onCounts?: (counts: TaskCounts) => void
  onEnded: (task: TaskEvent) => void
  /** Asked after each change whether to follow no more. */
  isEnough?: () => boolean
}

export type FollowEnd = 'complete' | 'ended' | 'enough'

/** `complete`, or `ended` when the job was ended before its tasks were complete, or `enough`. Rejects with JobNotFound when it was deleted. */
export async function follow(mesh: Mesh, jobId: string, options: FollowOptions): Promise<FollowEnd> {
  const { seen, expected } = options
  for await (const { events, counts, jobState } of mesh.watchJob(jobId, options.signal)) {
    for (const event of events) {
      if (event.state !== 'completed' || seen.has(event.taskId)) continue
      seen.add(event.taskId)
      options.onEnded(event)
    }
    options.onCounts?.(counts)
    // Counts may run ahead of the events, which come in batches.
    if (seen.size >= (expected ?? Number.POSITIVE_INFINITY)) return 'complete'
    if (options.isEnough?.()) return 'enough'
    const isAllSeen = seen.size >= counts.completed
    if (expected === undefined && isAllSeen && counts.active + counts.running === 0) return 'complete'
    if (isAllSeen && (jobState === 'completed' || jobState === 'deleting')) return 'ended'
  }
  return 'ended'
}

/** Ids that stand for positions as one bit each: a run may have millions of tasks. */
export class SeenPositions implements Seen {
  size = 0
  readonly #bits: Uint8Array
  readonly #others = new Set<string>()
  readonly #positionOf: (taskId: string) => number | undefined

  constructor(count: number, positionOf: (taskId: string) => number | undefined) {
    this.#bits = new Uint8Array(Math.ceil(count / 8))
    this.#positionOf = positionOf
  }

  has(taskId: string): boolean {
    const at = this.#positionOf(taskId)
    return at === undefined ? this.#others.has(taskId) : (this.#bits[at >> 3]! & (1 << (at & 7))) !== 0
  }

  add(taskId: string): void {
    if (this.has(taskId)) return
    this.size += 1
    const at = this.#positionOf(taskId)
    if (at === undefined) this.#others.add(taskId)
    else this.#bits[at >> 3]! |= 1 << (at & 7)
  }
}
