/** Rows of task arrays, read back. */
import { decode, encode } from '../protocols/codec.ts'
import { arrayTask, lastOf, type TaskArray, taskArraySchema } from '../protocols/model/task-array.ts'
import type { ArrayRow } from './rows.ts'

export function readArrayRow(bytes: Uint8Array): { array: TaskArray; creationTime: number; after: number } {
  const { array, creationTime, after = Number.POSITIVE_INFINITY } = decode(bytes) as ArrayRow
  return { array: taskArraySchema.parse(decode(array)), creationTime, after }
}

/** What the spec of one of its tasks takes when encoded; the last index makes the longest. */
export function arraySpecBytes(array: TaskArray): number {
  return encode(arrayTask(array, lastOf(array.indexes.at(-1)!))).length
}
