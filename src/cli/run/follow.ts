/** Following a job to its end: each completed task is handed on once, however often it is replayed. */
import type { TaskEvent } from '../../../protocols/control.ts'
import type { TaskCounts } from '../../../protocols/model/job.ts'
import type { Mesh } from '../../mesh/client.ts'

export interface FollowOptions {
  /** Tasks that have been handed on already; those that are now are added. */
  seen: Set<string>
  signal: AbortSignal
  /** How many tasks must be complete; without it, all that the job has. */
  expected?: number
  onCounts?: (counts: TaskCounts) => void
  onEnded: (task: TaskEvent) => void
}

/** `complete`, or `ended` when the job was ended before its tasks were complete. Rejects with JobNotFound when it was deleted. */
export async function follow(mesh: Mesh, jobId: string, options: FollowOptions): Promise<'complete' | 'ended'> {
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
    const isAllSeen = seen.size >= counts.completed
    if (expected === undefined && isAllSeen && counts.active + counts.running === 0) return 'complete'
    if (isAllSeen && (jobState === 'completed' || jobState === 'deleting')) return 'ended'
  }
  return 'ended'
}
