/** `batchmesh task create JOB --array`: many tasks that differ in one number, sent as one. */
import { MeshError } from '../../protocols/errors.ts'
import { type IndexRange, type TaskArray, taskArraySchema } from '../../protocols/model/task-array.ts'
import { firstIssue } from '../../protocols/rpc.ts'
import type { Mesh } from '../mesh/client.ts'
import type { JsonObject } from './json-file.ts'

/** The array of a task, in whose texts `{index}` stands for the number. Throws InvalidPropertyValue. */
export function arrayOf(indexes: readonly IndexRange[], idPrefix: string | undefined, task: JsonObject): TaskArray {
  const parsed = taskArraySchema.safeParse({ indexes, idPrefix, template: task })
  if (!parsed.success) throw new MeshError('InvalidPropertyValue', `the task array: ${firstIssue(parsed.error)}`)
  return parsed.data
}

/** Adds an array; rejects with UnsupportedVersion where the coordinator knows none. */
export async function addArray(mesh: Mesh, jobId: string, array: TaskArray) {
  try {
    return await mesh.control.call('addTaskArray', { jobId, array })
  } catch (error) {
    if (!(error instanceof MeshError) || error.code !== 'UnsupportedVersion') throw error
    throw new MeshError(
      'UnsupportedVersion',
      'The coordinator is of an older version that takes no task arrays. Update it, or add the tasks one by one (batchmesh run --array does that by itself).',
      { cause: error },
    )
  }
}
