/**
 * From the format of an older version's store to this one's, a step at a time. What a step changes is on disk together
 * with the new number, so a start that breaks off begins again with the same step. There is no way back: an older
 * version refuses a newer format. Pure; rows that a step adds are written by boot.ts before the number is.
 */
import { type MeshRow, storeFormat } from './rows.ts'

interface Step {
  /** The format that it makes the next one of. */
  readonly from: number
  /** What is new. */
  readonly what: string
  /** Rows that have to be made from those that are there. */
  readonly makes?: 'rolls'
}

export const steps: readonly Step[] = [
  // Nothing is rewritten. The number keeps an older version, which would pass over the new rows, from losing their tasks.
  { from: 1, what: 'task arrays have rows of their own (arry/)' },
  { from: 2, what: 'jobs have a roll of their tasks (roll/), so that a start needs not read every spec', makes: 'rolls' },
  // Nothing is rewritten. An older version would run jobs that wait for others, and leave rows behind when it deletes one.
  { from: 3, what: 'jobs may wait for other jobs, and subtasks have rows (subt/)' },
]

/** The mesh row in this version's format and the steps that led there; undefined for a format that this version does not know. */
export function migrate(row: MeshRow): { row: MeshRow; taken: readonly Step[] } | undefined {
  const at = steps.findIndex((step) => step.from === row.format)
  const isCurrent = row.format === storeFormat
  if (at < 0 && !isCurrent) return undefined
  return { row: { ...row, format: storeFormat }, taken: isCurrent ? [] : steps.slice(at) }
}
