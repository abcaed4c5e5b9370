/**
 * Machines that fail one task after the other, at once: something of theirs is broken, and they are free again before any
 * other is, so that they would eat the whole queue. After {@link failuresToSuspect} quick failures in a row of a job's tasks,
 * none of which succeeded there, a machine is *suspect* for the job: it holds one of its tasks at a time, and gets the next
 * {@link probationMs} after a failure, until one succeeds or takes longer. Only while another machine can run the task that
 * is no suspect itself: where all fail, it is the job that is wrong, and it fails as fast as it can. Kept in memory only.
 */
import type { Outcome } from '../protocols/model/task.ts'
import { ageMs } from './clock.ts'
import { othersCan } from './missing-program.ts'
import type { Job, Machine, State, Task, TaskClass } from './state.ts'
import { log, type Turn } from './turn.ts'

/** By chance ten in a row is once in a thousand where half of the tasks fail. */
export const failuresToSuspect = 10
/** A program that found something wrong with its input has mostly worked for longer. */
const quickMs = 5000
/** A machine that eats six tasks a minute does little harm, and is back soon once it works. */
export const probationMs = 10_000

/** A task of the job ended here by itself. True: the machine is suspect, and gives back what it holds unstarted of the job. */
export function judge(turn: Turn, task: Task, outcome: Outcome, machine: Machine): boolean {
  const { job } = task
  const failed = outcome.exitCode !== 0 || outcome.failureInfo !== undefined
  if (!failed || outcome.endTime - outcome.startTime >= quickMs) {
    job.failing.delete(machine.peer)
    return false
  }
  const failures = (job.failing.get(machine.peer)?.failures ?? 0) + 1
  job.failing.set(machine.peer, { failures, at: turn.now })
  if (failures < failuresToSuspect || !isSuspect(turn.state, job, task.class, machine)) return false
  if (failures === failuresToSuspect)
    log(turn, 'warn', `${machine.description.name} ${describeSuspect(job, machine)} (job ${job.row.spec.id})`, {
      job: job.row.spec.id,
      machine: machine.peer,
    })
  return true
}

/** Whether so many tasks of the job failed there in a row, and another machine can have such tasks that is no suspect. */
export function isSuspect(state: State, job: Job, kind: TaskClass, machine: Machine): boolean {
  return hasFailed(job, machine) && othersCan(state, job, kind, machine, (other) => hasFailed(job, other))
}

/** How many more of the job's tasks a suspect may have now. */
export function allowance(job: Job, machine: Machine, now: number): number {
  if (ageMs(job.failing.get(machine.peer)!.at, now) < probationMs) return 0
  for (const { task } of machine.leases.values()) if (task.job === job) return 0
  return 1
}

export function describeSuspect(job: Job, machine: Machine): string {
  return `failed the last ${job.failing.get(machine.peer)!.failures} tasks of the job within seconds each: it gets one at a time, every ${probationMs / 1000} s, until one succeeds`
}

function hasFailed(job: Job, machine: Machine): boolean {
  return (job.failing.get(machine.peer)?.failures ?? 0) >= failuresToSuspect
}
