/**
 * Rows of the roll: what a request added, so that a start of the coordinator knows all tasks of a job without reading
 * their specs. Pure.
 */
import { classWith, isEmpty } from './queue.ts'
import type { Kind } from './roll.ts'
import type { RollRow } from './rows.ts'
import type { Job, TaskClass } from './state.ts'

/** A task as its line in the row says it. */
export interface Enrolled {
  /** As given. */
  id: string
  kind: Kind<TaskClass>
  /** It waits for others: for which, its spec says. */
  isDependent: boolean
}

/** The row for tasks in the order of their submission. */
export function makeRollRow(tasks: readonly Enrolled[]): RollRow {
  const row: RollRow = { ids: tasks.map(({ id }) => id).join(' '), runs: [] }
  let last: Enrolled | undefined
  for (const task of tasks) {
    if (last?.kind === task.kind && last.isDependent === task.isDependent) row.runs.at(-1)!.count += 1
    else row.runs.push(runOf(task))
    last = task
  }
  return row
}

function runOf({ kind, isDependent }: Enrolled): RollRow['runs'][number] {
  const { slots, demand, gang, thread, mpi } = kind.class
  const { maxTaskRetryCount, specBytes } = kind
  return {
    count: 1,
    slots,
    demand: isEmpty(demand) ? undefined : demand,
    gang: gang === 0 ? undefined : gang,
    thread: thread || undefined,
    mpi,
    maxTaskRetryCount,
    specBytes,
    dependent: isDependent || undefined,
  }
}

/** The tasks that a row holds. */
export function* readRollRow(job: Job, row: RollRow): Generator<Enrolled> {
  const ids = row.ids.split(' ')
  let at = 0
  for (const run of row.runs) {
    const { slots, demand = {}, gang = 0, thread = false, mpi, maxTaskRetryCount, specBytes } = run
    const kind = { class: classWith(job, { slots, demand, gang, thread, mpi }), maxTaskRetryCount, specBytes }
    for (const end = at + run.count; at < end; at += 1) yield { id: ids[at]!, kind, isDependent: run.dependent === true }
  }
}
