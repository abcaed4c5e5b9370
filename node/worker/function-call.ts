/** One function of a series: from what its thread says of it to the outcome of its task. */
import type { EnvironmentSettings } from '../../protocols/model/job.ts'
import type { FailureInfo, Outcome } from '../../protocols/model/task.ts'
import { maxTimerMs, timeFailure } from '../attempt-limit.ts'
import { directoryName } from '../directories.ts'
import {
  type Called,
  type DiskWatch,
  type Log,
  type SeriesCall,
  type Staging,
  type TaskDirectories,
  TaskFailure,
  type TaskPaths,
} from '../ports.ts'
import { readTail } from '../post-mortem.ts'
import { failureOf, stderrTailBytes } from '../task-failure.ts'
import type { Stopper, Unit } from './units.ts'

export interface CallParts {
  directories: TaskDirectories
  staging: Staging
  disk?: DiskWatch
  log: Log
  /** Milliseconds since 1970. */
  now(): number
  started(unit: Unit): void
  uploading(unit: Unit): void
}

/** What its series hears of it, once each. */
export interface CallEnds {
  /** Nothing of it runs any more; `ranMs` of its slot are over. */
  vacated(call: FunctionCall, ranMs: number): void
  /** It has this outcome; none if it was stopped. */
  over(call: FunctionCall, outcome: Outcome | undefined): void
  /** It has not begun, or is to begin anew. */
  returned(call: FunctionCall): void
  stop(call: FunctionCall): void
}

/** Whether a task is nothing but a function: then many can be handed to a thread at once, and none needs a directory beforehand. */
export function isPlain({ spec, gang }: NonNullable<Unit['work']>): boolean {
  const { thread, resourceFiles, outputFiles } = spec
  if (thread === undefined || gang !== undefined || (thread.args !== undefined && 'blob' in thread.args)) return false
  return (resourceFiles?.length ?? 0) === 0 && (outputFiles?.length ?? 0) === 0
}

export class FunctionCall implements SeriesCall, Stopper {
  readonly unit: Unit
  readonly dir: string
  isStopped = false
  /** It is not to be put back where it is returned. */
  isDropped = false
  /** Resolves when it is known whether it was returned. */
  settled: PromiseWithResolvers<void> | undefined
  readonly #parts: CallParts
  readonly #ends: CallEnds
  readonly #owner: Parameters<TaskDirectories['make']>[2]
  /** Why it is ended from outside, where that is a failure. */
  #failure: FailureInfo | undefined
  #limit: NodeJS.Timeout | undefined
  #unwatch: (() => void) | undefined

  constructor(unit: Unit, owner: Parameters<TaskDirectories['make']>[2], parts: CallParts, ends: CallEnds) {
    this.unit = unit
    this.dir = directoryName(unit.attempt)
    this.#owner = owner
    this.#parts = parts
    this.#ends = ends
  }

  get taskId(): string {
    return this.unit.work!.spec.id
  }

  get isPlaced(): boolean {
    return this.unit.paths !== undefined
  }

  get args(): Uint8Array | undefined {
    const args = this.unit.work!.spec.thread!.args
    return args !== undefined && 'bytes' in args ? args.bytes : undefined
  }

  get settings(): EnvironmentSettings | undefined {
    return this.unit.work!.spec.environmentSettings
  }

  place(): void {
    if (this.unit.paths !== undefined) return
    const { attempt, work } = this.unit
    const paths = this.#parts.directories.make(attempt, work!.job.jobId, this.#owner)
    this.unit.paths = paths
    this.#unwatch = this.#parts.disk?.watch([paths.taskDir], (failure) => this.#fail(failure))
  }

  began(startTime: number): void {
    this.settled?.resolve()
    const { unit } = this
    if (this.isStopped) return
    unit.phase = 'running'
    unit.startTime = startTime
    this.#parts.started(unit)
    const limitMs = unit.work!.spec.constraints?.maxWallClockTimeMs
    if (limitMs !== undefined) this.#wait(startTime + limitMs - this.#parts.now())
  }

  #wait(leftMs: number): void {
    const step = Math.max(0, Math.min(leftMs, maxTimerMs))
    const { spec } = this.unit.work!
    this.#limit = setTimeout(() => (leftMs > step ? this.#wait(leftMs - step) : this.#fail(timeFailure(spec))), step)
  }

  /** It is ended for this; the first of several counts. */
  #fail(failure: FailureInfo): void {
    if (this.#failure !== undefined || this.isStopped) return
    this.#failure = failure
    this.#ends.stop(this)
  }

  stop(): void {
    if (this.isStopped) return
    this.isStopped = true
    this.#ends.stop(this)
  }

  returned(): void {
    clearTimeout(this.#limit)
    this.#ends.returned(this)
  }

  failed(error: unknown): void {
    clearTimeout(this.#limit)
    // A lane that broke is the node's fault, and the task starts again by itself.
    if (!(error instanceof TaskFailure) && !this.isStopped) {
      this.unit.isAlone = true
      this.#unwatch?.()
      if (this.unit.paths !== undefined) this.#seal(this.unit.attempt, 0)
      this.unit.paths = undefined
      return this.#ends.returned(this)
    }
    this.settled?.resolve()
    const now = this.#parts.now()
    this.#ends.vacated(this, 0)
    const failureInfo = failureOf(error, this.#parts.log, this.unit.attempt)
    this.#over({ failureInfo, startTime: this.unit.startTime ?? now, endTime: now })
  }

  ended(called: Called): void {
    this.settled?.resolve()
    clearTimeout(this.#limit)
    const { startTime, endTime } = called
    this.#ends.vacated(this, endTime - startTime)
    const failureInfo = called.killed ? (this.#failure ?? called.failureInfo) : called.failureInfo
    const outcome: Outcome = { exitCode: called.exitCode, startTime, endTime }
    if (failureInfo !== undefined) outcome.failureInfo = failureInfo
    if (called.error !== undefined) outcome.threadError = called.error
    if (called.value === undefined || this.isStopped) this.#over(outcome)
    else if ('bytes' in called.value) {
      outcome.threadResult = called.value
      this.#over(outcome)
    } else this.unit.ended = this.#keep(outcome, called.value.file)
  }

  /** B2: a value that is too large to be said is a blob at the job's home. */
  async #keep(outcome: Outcome, file: string): Promise<void> {
    const { unit } = this
    const { job } = unit.work!
    unit.phase = 'uploading'
    this.#parts.uploading(unit)
    const stopping = new AbortController()
    this.stop = () => {
      this.isStopped = true
      stopping.abort()
    }
    try {
      const to = { home: job.home, jobUid: job.jobUid }
      const { blob, size } = await this.#parts.staging.keep(file, unit.paths!.taskDir, to, stopping.signal)
      outcome.threadResult = { blob, size }
    } catch (error) {
      if (!this.isStopped) outcome.failureInfo = failureOf(error, this.#parts.log, unit.attempt)
    }
    this.#over(outcome)
  }

  #over(outcome: Outcome): void {
    const { paths } = this.unit
    if (paths === undefined) outcome.noFiles = true
    else if (outcome.failureInfo !== undefined) outcome.stderrTail = readTail(paths.stderr, stderrTailBytes)
    // A task that filled the disk keeps none of its files.
    if (paths !== undefined && this.#failure?.code === 'DiskFull') this.unit.ended = this.#empty(paths).then(() => this.#close(outcome))
    else this.#close(outcome)
  }

  async #empty(paths: TaskPaths): Promise<void> {
    const { directories, log } = this.#parts
    await directories
      .empty(paths)
      .catch((error: unknown) =>
        log.warn({ err: error, attempt: this.unit.attempt }, 'the files of a task that filled the disk could not be removed'),
      )
  }

  #close(outcome: Outcome): void {
    const { paths, attempt, work } = this.unit
    this.#unwatch?.()
    if (paths !== undefined) this.#seal(attempt, work!.spec.constraints?.retentionTimeMs)
    this.#ends.over(this, this.isStopped ? undefined : outcome)
  }

  #seal(attempt: Unit['attempt'], retentionMs: number | undefined): void {
    try {
      this.#parts.directories.seal(attempt, this.#parts.now(), retentionMs)
    } catch (error) {
      this.#parts.log.warn({ err: error, attempt }, 'the directory of a task could not be sealed')
    }
  }
}
