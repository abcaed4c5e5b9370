/** Rows of task arrays, read back. */
import { decode, encode } from '../protocols/codec.ts'
import { arrayTask, lastOf, type TaskArray, taskArraySchema } from '../protocols/model/task-array.ts'
import type { ArrayRow } from './rows.ts'

export function readArrayRow(bytes: Uint8Array): { array: TaskArray; creationTime: number } {
  const row = decode(bytes) as ArrayRow
  return { array: taskArraySchema.parse(decode(row.array)), creationTime: row.creationTime }
}

/** What the spec of one of its tasks takes when encoded; the last index makes the longest. */
export function arraySpecBytes(array: TaskArray): number {
  return encode(arrayTask(array, lastOf(array.indexes.at(-1)!))).length
}
