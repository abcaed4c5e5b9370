/** Standard output and error of the tasks of `batchmesh submit`, in the files that the script names. */
import { isAbsolute, join } from 'node:path'
import { MeshError, toMeshError } from '../../../protocols/errors.ts'
import type { JobView } from '../../../protocols/model/job.ts'
import type { Mesh } from '../../mesh/client.ts'
import { writeWhole } from '../../mesh/files.ts'
import { readTaskFile } from '../../mesh/task-files.ts'
import { errorMetadata, outputMetadata } from './plan.ts'
import { fileName } from './values.ts'

export interface LogFiles {
  /** Writes those of a task that has ended; answers what went wrong. */
  write(task: { taskId: string; machineName?: string | undefined }, signal: AbortSignal): Promise<string[]>
}

/** Undefined for a job that no script was submitted as. Names that are not absolute are below `directory`. */
export function logFiles(mesh: Mesh, job: JobView, directory: string, user: string): LogFiles | undefined {
  const patternOf = (name: string) => job.metadata?.find((entry) => entry.name === name)?.value
  const output = patternOf(outputMetadata)
  if (output === undefined) return undefined
  const error = patternOf(errorMetadata)
  const writers = new Map<string, string>()
  return {
    async write({ taskId, machineName = '' }, signal) {
      const problems: string[] = []
      const parts = {
        jobId: job.id,
        jobName: job.displayName ?? job.id,
        ...(/^\d+$/.test(taskId) ? { index: Number(taskId) } : {}),
        node: machineName,
        user,
      }
      for (const [name, pattern] of [
        ['stdout.txt', output],
        ['stderr.txt', error],
      ] as const) {
        if (pattern === undefined || pattern === '/dev/null') continue
        const named = fileName(pattern, parts)
        const path = isAbsolute(named) ? named : join(directory, named)
        const other = writers.get(path)
        writers.set(path, taskId)
        try {
          if (other !== undefined)
            throw new MeshError('InvalidPropertyValue', `the file is that of task ${other} already; put %a into its name`)
          await writeWhole(path, readTaskFile(mesh, { jobId: job.id, taskId }, name, { signal }))
        } catch (thrown) {
          if (signal.aborted) return problems
          problems.push(`${name} of task ${taskId} could not be written to ${path}: ${toMeshError(thrown).message}`)
        }
      }
      return problems
    },
  }
}
