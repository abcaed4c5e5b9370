/** What came of a call, in the words of a task's outcome. */
import type { FailureInfo } from '../../../protocols/model/task.ts'
import { type Called, type CallRequest, TaskFailure } from '../../ports.ts'
import type { Crash } from './child.ts'
import { type Answer, resultFileName } from './messages.ts'

/** What a program has that was ended by SIGKILL. */
const killedExitCode = 128 + 9
const maxMessageChars = 4096

interface Times {
  startTime: number
  endTime: number
}

/** What was called. */
export type Of = Pick<CallRequest, 'heapMiB' | 'memory' | 'gang'>

export function calledBy(answer: Answer, { heapMiB, gang }: Of, times: Times): Called {
  const failed = (exitCode: number, code: FailureInfo['code'], message: string): Called => {
    const failureInfo: FailureInfo = { category: 'usererror', code, message: message.slice(0, maxMessageChars), ...rankOf(gang) }
    return { ...times, exitCode, killed: false, failureInfo }
  }
  switch (answer.how) {
    case 'returned': {
      const value = answer.value === undefined ? { file: resultFileName } : { bytes: answer.value }
      return { ...times, exitCode: 0, killed: false, value }
    }
    case 'gathered':
      return { ...times, exitCode: 0, killed: false }
    case 'threw': {
      const { error } = answer
      if (answer.after === 'loss') throw memberLost(`${error.name}: ${error.message}`, gang)
      return { ...failed(1, 'ThreadFailed', `${error.name}: ${error.message}`), error }
    }
    case 'exited':
      return failed(
        answer.code,
        'ThreadEnded',
        `The function ended its thread with exit code ${answer.code} (process.exit). That is no result: return a value instead.`,
      )
    case 'memory':
      return failed(killedExitCode, 'ThreadOutOfMemory', outOfMemory(heapMiB))
    case 'ended':
      return { ...times, exitCode: killedExitCode, killed: true }
  }
}

/** The child ended under its calls: the only one did it; of several nobody knows which. Throws for those. */
export function crashedBy({ ended, calls, isSure, lastWords }: Crash, { heapMiB, memory, gang }: Of, times: Times): Called {
  const { exitCode } = ended
  const how = `exit code ${exitCode}${exitCode > 128 ? `, signal ${exitCode - 128}` : ''}`
  if (!isSure) {
    const others = calls > 1 ? `${calls - 1} other${calls > 2 ? 's' : ''}` : 'others'
    const message = `The process that ran this function and ${others} of its job ended (${how}), which one of them has done. Each runs again in a process of its own.`
    throw new TaskFailure({ category: 'servererror', code: 'ThreadHostLost', message })
  }
  const isOver = ended.failureInfo?.reason === 'MemoryLimitExceeded'
  const isMemory = isOver || /JavaScript heap out of memory/.test(lastWords ?? '')
  const fatal = /^(?:FATAL ERROR|#\s*Fatal error).*$/m.exec(lastWords ?? '')?.[0]
  const message = isOver
    ? `The process of the function needed more memory than ${memory?.isAsked === true ? `the ${memory.limitMiB} MiB that its task asked for` : 'its node has'}, and the system ended it: buffers (ArrayBuffer, Buffer) count as well as the heap. Ask for more (resources.memoryMiB of its task), or give it less to do.`
    : isMemory
      ? outOfMemory(heapMiB)
      : `The function ended its process (${how})${fatal === undefined ? '' : `: ${fatal}`}. Node itself crashed, or was killed.`
  const failureInfo: FailureInfo = {
    category: 'usererror',
    code: isMemory ? 'ThreadOutOfMemory' : 'ThreadEnded',
    message: message.slice(0, maxMessageChars),
    ...rankOf(gang),
  }
  return { ...times, exitCode: isMemory ? killedExitCode : exitCode, killed: false, failureInfo }
}

function rankOf(gang: Of['gang']): Pick<FailureInfo, 'rank'> {
  return gang === undefined ? {} : { rank: gang.rank }
}

/** Nobody who knows more has said why: the gang is tried again, as after a lost machine (M1, C1). */
function memberLost(said: string, gang: Of['gang']): TaskFailure {
  const message = `A member of the group was out of reach for rank ${gang?.rank}. ${said}`.slice(0, maxMessageChars)
  return new TaskFailure({ category: 'servererror', code: 'MachineLost', reason: 'MemberLost', message })
}

function outOfMemory(heapMiB: number): string {
  return `The function needed more than the ${heapMiB} MiB of heap that it may have. Give it more (maxHeapMiB of its thread, or resources.memoryMiB of its task), or less to do.`
}
