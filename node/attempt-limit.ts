/** How an attempt is ended from outside. */
import type { FailureInfo, TaskSpec } from '../protocols/model/task.ts'

/** The longest that a timer of Node can wait. */
export const maxTimerMs = 2 ** 31 - 1

/** What ends a task from outside: its wall-clock limit and a full disk, which are its failure, and `stop`, which is none. */
export class Limit {
  readonly signal: AbortSignal
  failure: FailureInfo | undefined
  readonly #controller = new AbortController()
  readonly #spec: TaskSpec
  readonly #stop: AbortSignal
  readonly #onStop: () => void
  #timer: NodeJS.Timeout | undefined

  constructor(spec: TaskSpec, stop: AbortSignal) {
    this.#spec = spec
    this.#stop = stop
    this.#onStop = () => this.#controller.abort(stop.reason)
    this.signal = this.#controller.signal
    if (stop.aborted) this.#onStop()
    else stop.addEventListener('abort', this.#onStop, { once: true })
    const limitMs = spec.constraints?.maxWallClockTimeMs
    if (limitMs !== undefined) this.#wait(limitMs)
  }

  get isDiskFull(): boolean {
    return this.failure?.code === 'DiskFull'
  }

  /** The attempt is lost with a member of its gang, and will be made again as a whole (M1). */
  get isLost(): boolean {
    return this.failure?.reason === 'MemberLost'
  }

  /** The first of several is the failure; none is once the task is stopped. */
  end(failure: FailureInfo): void {
    if (this.signal.aborted) return
    this.failure = failure
    this.#controller.abort(new Error(failure.message))
  }

  #wait(leftMs: number): void {
    const step = Math.min(leftMs, maxTimerMs)
    this.#timer = setTimeout(() => (leftMs > step ? this.#wait(leftMs - step) : this.end(timeFailure(this.#spec))), step)
  }

  clear(): void {
    clearTimeout(this.#timer)
    this.#stop.removeEventListener('abort', this.#onStop)
  }
}

/** Azure Batch: the task is ended and fails; it is not retried, because the exit code is not the program's own. */
export function timeFailure(spec: TaskSpec): FailureInfo {
  const limitMs = spec.constraints!.maxWallClockTimeMs!
  return {
    category: 'servererror',
    code: 'MaxWallClockTimeExpiry',
    message: `The task was ended after ${limitMs / 1000} s, its maxWallClockTime. Give it more time, or less to do.`,
  }
}
