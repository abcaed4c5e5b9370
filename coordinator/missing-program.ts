/**
 * Machines where a job's program does not exist. A shell and the node say 127 (not found) or 126 (cannot be executed).
 * On a machine where none of the job's programs ever ran, such a task is given to another machine and spends no retry;
 * after the third the machine is left out for the job. While no others are there that could run it, it is an ordinary
 * failure, so that a mistyped command fails instead of waiting for ever.
 *
 * A machine that cannot run tasks at all (its lanes break, its disk is full) would end one after the other within no
 * time: its tasks go elsewhere too, and it is left out in the same way.
 */
import { fits } from '../protocols/model/resources.ts'
import type { Outcome } from '../protocols/model/task.ts'
import { mpiVersion } from './gang-members.ts'
import { suits, wholeOf } from './room.ts'
import { type Job, type Machine, poolOf, type State, type Task, type TaskClass } from './state.ts'
import { log, putJob, type Turn } from './turn.ts'

const missesToExclude = 3
/** The reason is part of the job's row and view, one for each machine. */
const maxReasonLength = 500

/** Whether the outcome shows that the program is not on that machine and another machine should have the task. */
export function missedProgram(turn: Turn, task: Task, outcome: Outcome, machine: Machine): boolean {
  const { job } = task
  // A function that ends its thread with such a code was there.
  if (task.class.thread || (outcome.exitCode !== 126 && outcome.exitCode !== 127)) {
    if (outcome.exitCode !== undefined) ranProgram(job, machine)
    return false
  }
  if (job.ranOn.has(machine.peer) || !othersCan(turn.state, job, task.class, machine)) return false
  countMiss(turn, job, machine, (misses) => `its program was not found there (exit code ${outcome.exitCode}, ${misses} times)`)
  return true
}

/**
 * Whether the outcome is a fault of the machine, so that the task is lost there rather than failed (C1): it could not be
 * started at all, or, where another machine could take it, its files had no room on the disk. A thread task whose host
 * process died was there together with others, any of which may be to blame: it is lost, and nothing is held against the machine.
 */
export function machineFault(turn: Turn, task: Task, outcome: Outcome, machine: Machine): boolean {
  const { exitCode, failureInfo } = outcome
  if (failureInfo?.code === 'ThreadHostLost') return true
  if (exitCode !== undefined || failureInfo?.category !== 'servererror') return false
  const others = othersCan(turn.state, task.job, task.class, machine)
  if (failureInfo.code !== 'Unknown' && !(failureInfo.code === 'DiskFull' && others)) return false
  if (others) countMiss(turn, task.job, machine, (misses) => `it could not run tasks (${misses} times; last: ${failureInfo.message})`)
  return true
}

/** Counts a task that could not run on a machine; the third time the machine is left out for the job. */
function countMiss(turn: Turn, job: Job, machine: Machine, reasonOf: (misses: number) => string): void {
  const misses = (job.misses.get(machine.peer) ?? 0) + 1
  job.misses.set(machine.peer, misses)
  if (misses < missesToExclude || job.excluded.has(machine.peer)) return
  const reason = reasonOf(misses).slice(0, maxReasonLength)
  job.excluded.add(machine.peer)
  job.row.excluded.push({ machine: machine.peer, name: machine.description.name, reason })
  putJob(turn, job)
  log(turn, 'warn', `${machine.description.name} is left out for job ${job.row.spec.id}: ${reason}`, {
    job: job.row.spec.id,
    machine: machine.peer,
  })
}

export function ranProgram(job: Job, machine: Machine): void {
  job.ranOn.add(machine.peer)
}

/** Whether this machine is left out for such tasks of the job: only while others are there that could run them. */
export function isExcluded(state: State, job: Job, kind: TaskClass, machine: Machine): boolean {
  return job.excluded.has(machine.peer) && othersCan(state, job, kind, machine)
}

/** Whether other machines could run such a task now, besides those that are left out for the job, or `without`. */
export function othersCan(
  state: State,
  job: Job,
  kind: TaskClass,
  machine: Machine,
  without: (other: Machine) => boolean = () => false,
): boolean {
  const needed = Math.max(1, kind.gang)
  // Nodes of one version of MPI count together, where the gang asks for one.
  const found = new Map<string | undefined, number>()
  for (const node of poolOf(state, job)?.nodes.values() ?? []) {
    const other = node.machine
    if (other === machine || !node.ready || other.session === 0 || other.draining || job.excluded.has(other.peer)) continue
    if (without(other)) continue
    if (!fits(wholeOf(node), kind.slots, kind.demand) || !suits(other, kind)) continue
    const version = kind.mpi === undefined ? undefined : mpiVersion(other, kind.mpi)
    found.set(version, (found.get(version) ?? 0) + 1)
    if (found.get(version) === needed) return true
  }
  return false
}
