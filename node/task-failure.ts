/** What the runner and series of functions say alike of tasks: how they failed, and what they may have. */
import type { Attempt } from '../protocols/ids.ts'
import type { FailureInfo } from '../protocols/model/task.ts'
import type { ThreadTask } from '../protocols/model/thread-task.ts'
import { type Log, TaskFailure } from './ports.ts'

/** Of stderr.txt, for the report of a failed attempt. */
export const stderrTailBytes = 2048
const heapStepMiB = 64

/** The heap of a function. One that names none has the task's memory, in steps, because threads of one limit form one pool. */
export function heapOf({ maxHeapMiB }: Pick<ThreadTask, 'maxHeapMiB'>, memoryMiB: number): number {
  return maxHeapMiB ?? Math.max(heapStepMiB, Math.floor(memoryMiB / heapStepMiB) * heapStepMiB)
}

/** Of a failure's message (protocols/model/task.ts). */
const maxMessageChars = 4096

/** A message may quote a command line, or what another machine said, of any length: as whole, the coordinator would refuse the report. */
export function boundedFailure(info: FailureInfo): FailureInfo {
  return info.message.length <= maxMessageChars ? info : { ...info, message: `${info.message.slice(0, maxMessageChars - 1)}…` }
}

export function failureOf(error: unknown, log: Log, attempt: Attempt): FailureInfo {
  if (error instanceof TaskFailure) return error.info
  const code = (error as NodeJS.ErrnoException | undefined)?.code
  log.error({ err: error, attempt }, 'a task failed for a fault of the node')
  const message = error instanceof Error ? error.message : String(error)
  return {
    category: 'servererror',
    code: code === 'ENOSPC' || code === 'EDQUOT' ? 'DiskFull' : 'Unknown',
    message: `The node could not run the task: ${message}`.slice(0, maxMessageChars),
  }
}
