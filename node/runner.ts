/**
 * The runner: one task's life on this machine, from its lane to its outcome.
 *
 *   fetching --> running --> uploading --> outcome
 *
 * The room and the lane are free when the program has ended; outputs are kept after that (B2). A failure of the task
 * is its outcome. An aborted attempt (`stop`) has none: nothing of it is wanted any more, its processes are gone.
 */
import type { Attempt } from '../protocols/ids.ts'
import type { JobBrief } from '../protocols/leases.ts'
import { splitCommandLine } from '../protocols/model/command-line.ts'
import type { FailureInfo, Outcome, OutputEntry, ResourceFile, TaskSpec } from '../protocols/model/task.ts'
import type { ThreadTask } from '../protocols/model/thread-task.ts'
import { Limit } from './attempt-limit.ts'
import { type NodeFacts, sharedLink, type TaskFacts, taskEnvironment } from './environment.ts'
import { argsFileName } from './executors/threads/messages.ts'
import { asMember } from './gangs/function-member.ts'
import type { Gangs } from './gangs/gangs.ts'
import { lostFailure } from './gangs/member.ts'
import type { Gang } from './gangs/membership.ts'
import { coordinationStderr, runMember } from './gangs/run-member.ts'
import type { Mpi } from './mpi/mpi.ts'
import {
  type Called,
  type DiskWatch,
  type Ended,
  type Executor,
  type GangMember,
  type Lane,
  type Log,
  type MemoryLimit,
  type Seat,
  type Staging,
  type TaskDirectories,
  TaskFailure,
  type TaskPaths,
  type ThreadExecutor,
} from './ports.ts'
import { explainExit, readTail } from './post-mortem.ts'
import { boundedFailure, failureOf, heapOf, stderrTailBytes } from './task-failure.ts'

export interface RunnerParts {
  executor: Executor
  threads: ThreadExecutor
  staging: Staging
  directories: TaskDirectories
  gangs: Gangs
  /** What mpirun needs on the members of gangs. */
  mpi?: Pick<Mpi, 'place'>
  disk?: DiskWatch
  /** Milliseconds since 1970. */
  now(): number
  log: Log
}

export interface Work {
  attempt: Attempt
  spec: TaskSpec
  job: JobBrief
  node: NodeFacts
  gang?: Gang
  /** The memory that it should be content with: the heap of a function that says nothing else. */
  memoryMiB: number
  /** The most that it gets. */
  memory?: MemoryLimit
}

/** What the runner tells while it goes on. `started` comes again if the lane broke and the task starts anew; the others once at most. */
export interface Watcher {
  /** The directory is there. */
  placed(paths: TaskPaths): void
  started(startTime: number): void
  /** The program has ended, or will never start: its room is free. */
  vacated(): void
  uploading(): void
}

/** A lane that breaks under a task is the node's fault: the attempt is tried again, with a fresh lane and directory. */
const maxLaneFailures = 3

/** Runs a task to its outcome; undefined when `stop` ended it. Never rejects. */
export async function runTask(parts: RunnerParts, work: Work, watcher: Watcher, stop: AbortSignal): Promise<Outcome | undefined> {
  const startTime = parts.now()
  let vacated = false
  const vacate = () => {
    if (vacated) return
    vacated = true
    watcher.vacated()
  }
  const run = new Run(parts, work, watcher, stop, vacate)
  try {
    const outcome = await run.whole(startTime)
    if (outcome.failureInfo !== undefined) outcome.failureInfo = boundedFailure(outcome.failureInfo)
    return stop.aborted ? undefined : outcome
  } catch (error) {
    if (stop.aborted) return undefined
    return { failureInfo: boundedFailure(failureOf(error, parts.log, work.attempt)), startTime, endTime: parts.now() }
  } finally {
    vacate()
    run.seal()
  }
}

class Run {
  readonly #parts: RunnerParts
  readonly #work: Work
  readonly #watcher: Watcher
  readonly #stop: AbortSignal
  readonly #vacate: () => void
  #paths: TaskPaths | undefined
  #unwatch: (() => void) | undefined

  constructor(parts: RunnerParts, work: Work, watcher: Watcher, stop: AbortSignal, vacate: () => void) {
    this.#parts = parts
    this.#work = work
    this.#watcher = watcher
    this.#stop = stop
    this.#vacate = vacate
  }

  async whole(startTime: number): Promise<Outcome> {
    const limit = new Limit(this.#work.spec, this.#stop)
    let ended: Ended | Called | undefined
    let failureInfo: FailureInfo | undefined
    try {
      ended = await this.#onNode(limit)
    } catch (error) {
      if (limit.failure === undefined) throw error
    } finally {
      limit.clear()
    }
    if (!limit.isDiskFull) this.#unwatch?.()
    this.#vacate()
    this.#stop.throwIfAborted()
    const paths = this.#paths
    if (ended?.killed !== false) failureInfo = limit.failure
    failureInfo ??= ended?.failureInfo
    if (failureInfo === undefined && ended !== undefined && ended.exitCode !== 0) failureInfo = this.#explain(ended, paths!)
    const outcome: Outcome = { exitCode: ended?.exitCode, failureInfo, startTime, endTime: ended?.endTime ?? this.#parts.now() }
    if (ended !== undefined && 'error' in ended) outcome.threadError = ended.error
    if (outcome.failureInfo !== undefined && paths !== undefined) outcome.stderrTail = this.#tail(paths)
    if (limit.isDiskFull) await this.#giveBackRoom()
    else if (ended !== undefined && paths !== undefined && !limit.isLost) {
      if ('value' in ended && ended.value !== undefined) await this.#keepValue(outcome, ended.value, paths)
      await this.#keepOutputs(outcome, paths)
      if (outcome.failureInfo !== undefined) outcome.stderrTail ??= this.#tail(paths)
    }
    return outcome
  }

  /** The last words of the program that failed: of a primary that did not come to its command line, those of its coordination. */
  #tail(paths: TaskPaths): string | undefined {
    const tail = readTail(paths.stderr, stderrTailBytes)
    return tail ?? (this.#work.gang?.index === 0 ? readTail(coordinationStderr(paths), stderrTailBytes) : undefined)
  }

  /** A task that filled the disk keeps none of its files: its outputs could not be stored either. */
  async #giveBackRoom(): Promise<void> {
    if (this.#paths === undefined) return
    const { directories, log } = this.#parts
    await directories
      .empty(this.#paths)
      .catch((error: unknown) =>
        log.warn({ err: error, attempt: this.#work.attempt }, 'the files of a task that filled the disk could not be removed'),
      )
  }

  #explain(ended: Ended, paths: TaskPaths): FailureInfo {
    return explainExit(ended.exitCode, splitCommandLine(this.#work.spec.commandLine)[0]!, paths.wd, this.#env(paths).PATH ?? '')
  }

  /** Runs the task's program on a lane, or calls its function in a thread. */
  async #onNode(limit: Limit): Promise<Ended | Called> {
    const { signal } = limit
    const { executor, threads, directories, log } = this.#parts
    const { attempt, job, spec, gang } = this.#work
    directories.openJob(attempt.jobUid, job.jobId)
    for (let failures = 1; ; failures += 1) {
      let place: Lane | Seat | undefined
      try {
        place = spec.thread === undefined ? await executor.lane(attempt.jobUid) : await threads.seat(job)
        signal.throwIfAborted()
        return 'call' in place ? await this.#function(place, spec.thread!, limit) : await this.#program(place, limit)
      } catch (error) {
        if (error instanceof TaskFailure || signal.aborted || failures >= maxLaneFailures) throw error
        // The others know it already, and would wait for one that begins anew (M1).
        if (gang !== undefined) throw new TaskFailure(lostFailure(gang, gang.index, 'what ran it broke'), { cause: error })
        log.warn({ err: error, attempt, failures }, 'the lane of a task broke; the task starts again')
        if (this.#paths !== undefined) directories.seal(attempt, this.#parts.now(), 0)
      } finally {
        place?.release(limit.isDiskFull)
      }
    }
  }

  /** The directory of the attempt, anew. */
  #place(place: Lane | Seat, limit: Limit): TaskPaths {
    const { attempt, job } = this.#work
    const paths = this.#parts.directories.make(attempt, job.jobId, place.owner)
    const temporary = 'call' in place ? undefined : place.temporaryDir
    this.#unwatch?.()
    const fills = [paths.taskDir, ...(temporary === undefined ? [] : [temporary])]
    this.#unwatch = this.#parts.disk?.watch(fills, (failure) => limit.end(failure))
    if (this.#paths === undefined) this.#watcher.placed(paths)
    this.#paths = paths
    return paths
  }

  async #stage(files: readonly ResourceFile[] | undefined, dir: string, { owner }: Lane | Seat, signal: AbortSignal): Promise<void> {
    if (files === undefined || files.length === 0) return
    await this.#parts.staging.stage(files, dir, owner, signal)
    signal.throwIfAborted()
  }

  async #function(seat: Seat, thread: ThreadTask, limit: Limit): Promise<Called> {
    const { attempt, gang } = this.#work
    const paths = this.#place(seat, limit)
    if (gang === undefined) return await this.#call(seat, thread, paths, limit)
    return await asMember(this.#parts.gangs, { attempt, gang, paths, owner: seat.owner }, limit, (member) =>
      this.#call(seat, thread, paths, limit, member),
    )
  }

  async #call(seat: Seat, thread: ThreadTask, paths: TaskPaths, { signal }: Limit, gang?: GangMember): Promise<Called> {
    const { spec, memoryMiB } = this.#work
    await this.#stage(spec.multiInstanceSettings?.commonResourceFiles, paths.taskDir, seat, signal)
    // Azure: a task's own files are there for the primary.
    if (gang === undefined || gang.rank === 0) await this.#stage(spec.resourceFiles, paths.wd, seat, signal)
    if (thread.args !== undefined && 'blob' in thread.args)
      await this.#stage([{ filePath: argsFileName, blob: thread.args.blob }], paths.taskDir, seat, signal)
    const heapMiB = heapOf(thread, memoryMiB)
    return await seat.call({ thread, paths, env: this.#env(paths), heapMiB, memory: this.#work.memory, gang }, signal, (startTime) =>
      this.#watcher.started(startTime),
    )
  }

  async #program(lane: Lane, limit: Limit): Promise<Ended> {
    const { signal } = limit
    const { spec, gang } = this.#work
    const argv = words(spec.commandLine)
    if (gang !== undefined) return await this.#member(lane, limit, gang, argv)
    const paths = this.#place(lane, limit)
    await this.#stage(spec.resourceFiles, paths.wd, lane, signal)
    const start = {
      argv,
      env: this.#env(paths),
      cwd: paths.wd,
      stdoutPath: paths.stdout,
      stderrPath: paths.stderr,
      memory: this.#work.memory,
    }
    return await lane.run(start, signal, (startTime) => this.#watcher.started(startTime))
  }

  /** A member of a gang of command lines (node/gangs/run-member.ts). */
  async #member(lane: Lane, limit: Limit, gang: Gang, command: readonly string[]): Promise<Ended> {
    const { spec, attempt, job, memory } = this.#work
    const multi = spec.multiInstanceSettings
    const coordination = multi?.coordinationCommandLine === undefined ? undefined : words(multi.coordinationCommandLine)
    const paths = this.#place(lane, limit)
    const stage = (files: readonly ResourceFile[] | undefined, dir: string) => this.#stage(files, dir, lane, limit.signal)
    const hasOwnTemporary = lane.temporaryDir !== undefined
    const link = hasOwnTemporary ? sharedLink : undefined
    const settings = spec.environmentSettings
    const mpi = this.#parts.mpi?.place({ attempt, job, settings, gang, paths, owner: lane.owner, hasOwnTemporary })
    try {
      return await runMember(this.#parts, {
        ...{ lane, attempt, job, gang, paths, coordination, command, memory, limit },
        sharedLink: link,
        env: this.#env(paths, { sharedDir: link, mpi: mpi?.env }),
        stageCommon: () => stage(multi?.commonResourceFiles, paths.taskDir),
        stageOwn: () => stage(spec.resourceFiles, paths.wd),
        started: (startTime) => this.#watcher.started(startTime),
      })
    } finally {
      mpi?.end()
    }
  }

  #env(paths: TaskPaths, more: Pick<TaskFacts, 'sharedDir' | 'mpi'> = {}): Record<string, string> {
    const { spec, job, node, gang } = this.#work
    // Beside wd: temporary files go with the task's directory, and no output pattern finds them.
    return taskEnvironment(node, job, {
      taskId: spec.id,
      paths,
      tmpDir: paths.taskDir,
      environmentSettings: spec.environmentSettings,
      gang,
      ...more,
    })
  }

  /** What a function returned, in the outcome; as a blob at the job's home where it is too large for that (B2). */
  async #keepValue(outcome: Outcome, value: NonNullable<Called['value']>, paths: TaskPaths): Promise<void> {
    if ('bytes' in value) {
      outcome.threadResult = value
      return
    }
    const { job } = this.#work
    this.#watcher.uploading()
    try {
      const to = { home: job.home, jobUid: job.jobUid }
      const { blob, size } = await this.#parts.staging.keep(value.file, paths.taskDir, to, this.#stop)
      outcome.threadResult = { blob, size }
    } catch (error) {
      this.#stop.throwIfAborted()
      outcome.failureInfo = failureOf(error, this.#parts.log, this.#work.attempt)
    }
  }

  async #keepOutputs(outcome: Outcome, paths: TaskPaths): Promise<void> {
    const { spec, job } = this.#work
    const isPrimary = (this.#work.gang?.index ?? 0) === 0
    if (spec.outputFiles === undefined || spec.outputFiles.length === 0 || !isPrimary) return
    this.#watcher.uploading()
    const ended = outcome.failureInfo === undefined ? 'success' : 'failure'
    const to = { home: job.home, jobUid: job.jobUid }
    let outputs: OutputEntry[] = []
    try {
      outputs = await this.#parts.staging.collect(spec.outputFiles, paths.wd, ended, to, this.#stop)
    } catch (error) {
      this.#stop.throwIfAborted()
      // The program's own failure says more than what then went wrong with its files.
      outcome.failureInfo ??= failureOf(error, this.#parts.log, this.#work.attempt)
    }
    if (outputs.length > 0) outcome.outputs = outputs
  }

  seal(): void {
    this.#unwatch?.()
    if (this.#paths === undefined) return
    this.#parts.staging
      .done(this.#paths.wd)
      .catch((error: unknown) => this.#parts.log.warn({ err: error }, 'shared inputs that no task uses could not be removed'))
    try {
      this.#parts.directories.seal(this.#work.attempt, this.#parts.now(), this.#work.spec.constraints?.retentionTimeMs)
    } catch (error) {
      this.#parts.log.warn({ err: error, attempt: this.#work.attempt }, 'the directory of a task could not be sealed')
    }
  }
}

function words(commandLine: string): string[] {
  try {
    return splitCommandLine(commandLine)
  } catch (error) {
    const message = error instanceof Error ? error.message : String(error)
    throw new TaskFailure({ category: 'usererror', code: 'CommandLaunchFailed', message: message.slice(0, 4096) }, { cause: error })
  }
}
