/**
 * Machines where a job's program does not exist. A shell and the node say 127 (not found) or 126 (cannot be executed).
 * On a machine where none of the job's programs ever ran, such a task is given to another machine and spends no retry;
 * after the third the machine is left out for the job. While no other machine is there to try, it is an ordinary
 * failure, so that a mistyped command fails instead of waiting for ever.
 */
import type { Outcome } from '../protocols/model/task.ts'
import { type Job, type Machine, poolOf, type State, type Task } from './state.ts'
import { log, putJob, type Turn } from './turn.ts'

const missesToExclude = 3

/** Whether the outcome shows that the program is not on that machine and another machine should have the task. */
export function missedProgram(turn: Turn, task: Task, outcome: Outcome, machine: Machine): boolean {
  const { job } = task
  if (outcome.exitCode !== 126 && outcome.exitCode !== 127) {
    if (outcome.exitCode !== undefined) ranProgram(job, machine)
    return false
  }
  if (job.ranOn.has(machine.peer) || !someOther(turn.state, job, machine)) return false
  const misses = (job.misses.get(machine.peer) ?? 0) + 1
  job.misses.set(machine.peer, misses)
  if (misses >= missesToExclude && !job.excluded.has(machine.peer)) {
    const reason = `its program was not found there (exit code ${outcome.exitCode}, ${misses} times)`
    job.excluded.add(machine.peer)
    job.row.excluded.push({ machine: machine.peer, name: machine.description.name, reason })
    putJob(turn, job)
    log(turn, 'warn', `${machine.description.name} is left out for job ${job.row.spec.id}: ${reason}`, {
      job: job.row.spec.id,
      machine: machine.peer,
    })
  }
  return true
}

export function ranProgram(job: Job, machine: Machine): void {
  job.ranOn.add(machine.peer)
}

/** Whether this machine is left out for the job: only while another one is there to try. */
export function isExcluded(state: State, job: Job, machine: Machine): boolean {
  return job.excluded.has(machine.peer) && someOther(state, job, machine)
}

function someOther(state: State, job: Job, machine: Machine): boolean {
  for (const node of poolOf(state, job)?.nodes.values() ?? []) {
    const other = node.machine
    if (other !== machine && node.ready && other.session !== 0 && !other.draining && !job.excluded.has(other.peer)) return true
  }
  return false
}
