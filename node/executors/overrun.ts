/** What is said of a task that hit a limit of its control group. Pure. */
import type { FailureInfo } from '../../protocols/model/task.ts'
import type { MemoryLimit } from '../ports.ts'
import type { Hits } from './cgroup.ts'

/**
 * Memory: any process that was ended for it fails the task, even one whose parent went on and ended well, because then a part
 * of its work is missing. Processes: only a task that failed is told, because many programs try again with fewer.
 */
export function overrunOf(
  before: Hits,
  after: Hits,
  { exitCode, memory, processes }: { exitCode: number; memory: MemoryLimit | undefined; processes: number | undefined },
): FailureInfo | undefined {
  if (after.oomKills > before.oomKills)
    return { category: 'usererror', code: 'FailureExitCode', reason: 'MemoryLimitExceeded', message: memoryMessage(memory) }
  if (exitCode === 0 || after.refusedForks <= before.refusedForks || processes === undefined) return undefined
  const message = `The task wanted more than ${processes} processes and threads at once, the most that one task may have on this machine, and failed. Let it start fewer; the owner of the machine can allow more (--pids-limit).`
  return { category: 'usererror', code: 'FailureExitCode', reason: 'ProcessLimitExceeded', message }
}

function memoryMessage(memory: MemoryLimit | undefined): string {
  if (memory?.isAsked === true)
    return `The task needed more than the ${memory.limitMiB} MiB of memory that it asked for, and the system ended it. Ask for more (--memory, resources.memoryMiB), or give it less to do.`
  const had =
    memory === undefined ? 'the memory that the machine lends was' : `the ${Math.floor(memory.limitMiB)} MiB of memory of its node were`
  return `The system ended the task, or a part of it, because ${had} used up. Say how much it needs (--memory, resources.memoryMiB): then it gets a machine with so much room.`
}
