/** Why a job as a whole is where it is: the explanation of one task of each kind that waits. Pure. */
import { type Explanation, explainTask, jobsBefore } from './explain.ts'
import { peek } from './queue.ts'
import type { Job, State } from './state.ts'
import { viewCounts } from './view.ts'

export function queueState(state: State, job: Job, now: number): Explanation {
  const counts = viewCounts(job)
  const { id } = job.row.spec
  const summary = `Job ${id} is ${job.row.state}: ${counts.active} tasks active, ${counts.running} running, ${counts.succeeded} succeeded, ${counts.failed} failed.`
  if (job.row.state !== 'active') return { summary, details: [] }
  const before = jobsBefore(state, job)
  if (before !== undefined) return { summary, details: [`All of it waits for ${before}.`] }
  if (counts.active === 0) return { summary, details: [] }
  const details: string[] = []
  for (const queue of job.queues.values()) {
    const task = peek(queue)
    const found = task === undefined ? undefined : explainTask(state, job, task.id, now)
    if (found !== undefined) details.push(found.summary)
  }
  const waiting = counts.active - job.ready
  if (waiting > 0) details.push(`${waiting} tasks are with a machine and about to start, or wait for other tasks of the job.`)
  return { summary, details }
}
