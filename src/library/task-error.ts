/** What went wrong with a task, as an error. */
import type { FailureInfo } from '../../protocols/model/task.ts'
import type { ThreadError } from '../../protocols/model/thread-task.ts'

/** What is known of a task that failed. */
export interface FailedTask {
  jobId: string
  taskId: string
  exitCode?: number | undefined
  failureInfo?: FailureInfo | undefined
  stderrTail?: string | undefined
  threadError?: ThreadError | undefined
  /** Position of its input, where it had one. */
  index?: number | undefined
}

/**
 * A task failed. `cause` is what the function threw, with the name, message and stack that it had there; it is absent
 * where no function threw (the program failed, the machine was lost, a limit was reached).
 */
export class TaskError extends Error {
  override readonly name: string = 'TaskError'
  readonly jobId: string
  readonly taskId: string
  /** Absent when nothing ran. */
  readonly exitCode: number | undefined
  /** Why, with a code of Azure Batch's or the mesh's own, such as `ThreadOutOfMemory`. */
  readonly failureInfo: FailureInfo | undefined
  /** The end of what it wrote to standard error. */
  readonly stderrTail: string | undefined

  constructor(task: FailedTask, message = `Task ${task.jobId}/${task.taskId} failed: ${reasonOf(task)}`) {
    super(message, task.threadError === undefined ? undefined : { cause: revived(task.threadError) })
    this.jobId = task.jobId
    this.taskId = task.taskId
    this.exitCode = task.exitCode
    this.failureInfo = task.failureInfo
    this.stderrTail = task.stderrTail
  }
}

/** A call of {@link Mesh.map} failed: a {@link TaskError} that knows which input it was. */
export class MapError extends TaskError {
  override readonly name: string = 'MapError'
  /** Position of the input, from 0. */
  readonly index: number

  constructor(task: FailedTask & { index: number; isText?: boolean }) {
    // isText: the function was sent as its source text.
    const advice = task.isText === true && isMissingName(task) ? outsideAdvice : ''
    super(task, `Input ${task.index} failed: ${reasonOf(task)}${advice} (task ${task.jobId}/${task.taskId})`)
    this.index = task.index
  }
}

/** A call of {@link Mesh.group} failed: a {@link TaskError} that knows whose function it was. */
export class MemberError extends TaskError {
  override readonly name: string = 'MemberError'
  /** Of the member that failed; absent where it was none of them (no node, a time limit, a job that was ended). */
  readonly rank: number | undefined

  constructor(task: FailedTask & { isText?: boolean }) {
    const { failureInfo, threadError, jobId, taskId } = task
    const who = failureInfo?.rank === undefined ? 'The group failed' : `Rank ${failureInfo.rank} of the group failed`
    const advice = task.isText === true && isMissingName({ jobId, taskId, threadError }) ? outsideAdvice : ''
    super(task, `${who}: ${reasonOf(task)}${advice} (task ${jobId}/${taskId})`)
    this.rank = failureInfo?.rank
  }
}

/** Names that no reading of the text finds: in eval, or behind a typeof. */
const outsideAdvice =
  '. If it is defined outside of the function: only its own source text is sent. Pass what it needs as a part of each input, or use remoteModule().'

function isMissingName({ threadError }: FailedTask): boolean {
  return threadError?.name === 'ReferenceError' && / is not defined$/.test(threadError.message)
}

function reasonOf({ threadError, failureInfo, exitCode }: FailedTask): string {
  if (threadError !== undefined) return threadError.message === '' ? threadError.name : `${threadError.name}: ${threadError.message}`
  if (failureInfo !== undefined) return failureInfo.message
  return exitCode === undefined ? 'it did not run.' : `it ended with exit code ${exitCode}.`
}

/** The remote error as one of this process: its name and stack are the remote ones. */
function revived({ name, message, stack }: ThreadError): Error {
  const error = new Error(message)
  Object.defineProperty(error, 'name', { value: name, configurable: true, writable: true })
  Object.defineProperty(error, 'stack', { value: stack ?? `${name}: ${message}`, configurable: true, writable: true })
  return error
}
