/**
 * What the rooms of a node ask of each other: the runner (one task's life) is written against these, and is tested
 * with fakes of them. Implementations: executors/, staging.ts, journal.ts.
 */
import type { Attempt, JobUid, PeerIdText } from '../protocols/ids.ts'
import type { EnvironmentSettings } from '../protocols/model/job.ts'
import type { IsolationTier } from '../protocols/model/machine.ts'
import type { FailureInfo, OutputEntry, OutputFile, ResourceFile } from '../protocols/model/task.ts'
import type { ThreadError, ThreadTask } from '../protocols/model/thread-task.ts'

/** User and group that a task's processes have; undefined where the node is not root and tasks run as its own user. */
export interface Owner {
  uid: number
  gid: number
}

export interface StartRequest {
  /** The words to execute; no shell. */
  argv: readonly string[]
  /** The whole environment: nothing of the node's own is inherited. */
  env: Readonly<Record<string, string>>
  /** Working directory. */
  cwd: string
  /** Files that get the standard output and error; made anew. Standard input is empty. */
  stdoutPath: string
  stderrPath: string
  /** Most memory that it may have together with all that it starts, where the machine can hold it to that. */
  memory?: MemoryLimit | undefined
  /** Named pipes that become its descriptors 3, to read from, and 4, to write to. Their other ends must be open. */
  pipes?: { in: string; out: string }
}

export interface MemoryLimit {
  limitMiB: number
  /** The task asked for so much; else it is what its compute node has. */
  isAsked: boolean
}

export interface Ended {
  /** 0-255; 128 + n for a program ended by signal n; 126 not executable, 127 not found (as POSIX shells say). */
  exitCode: number
  startTime: number
  endTime: number
  /** The tree was ended by `signal`, not by itself. */
  killed: boolean
  /** It hit a limit: absent for what its exit code alone says. */
  failureInfo?: FailureInfo
}

/**
 * A place where one task at a time runs: a small helper process under one job's isolation. Isolation is per lane, not
 * per task, to stay fast; a lane is renewed when it goes to another job, so no job inherits another's processes.
 */
export interface Lane {
  readonly owner: Owner | undefined
  /**
   * Runs a program to its end. When it has ended, none of its processes is left, daemons included. Aborting `signal`
   * ends the whole tree at once (SIGKILL; with `termMs` in the abort reason SIGTERM first). Rejects only if the lane itself broke.
   */
  run(start: StartRequest, signal: AbortSignal, onStart?: (startTime: number) => void): Promise<Ended>
  /** Where its tasks have their own /tmp; absent where they have none. */
  readonly temporaryDir: string | undefined
  /** Another limit for what runs. */
  limitMemory(memory: MemoryLimit): void
  /** Gives the lane back; for good, if it is spoilt: then what its tasks left in their /tmp goes, too. */
  release(isSpoilt?: boolean): void
}

export interface Executor {
  readonly tier: IsolationTier
  /** A lane for a task of this job; lanes of the same job are reused. */
  lane(jobUid: JobUid): Promise<Lane>
  /** Ends every lane and all that runs on them. */
  close(): Promise<void>
}

/** A member of a gang of functions, as the process that calls its function sees it (gangs/membership.ts). */
export interface GangMember {
  readonly rank: number
  /** IP address where the others reach this machine; empty if it has said none. */
  readonly address: string
  /** Waits for the others, and brings a card for them. Rejects with TaskFailure when they cannot all come. */
  rally(card: Uint8Array, signal: AbortSignal): Promise<{ cards: readonly Uint8Array[]; key: Uint8Array }>
  /** Calls back when another member is lost, once each; the returned function ends it. */
  onLost(handler: (rank: number, reason: string) => void): () => void
}

/** A function to call in a thread (protocols/model/thread-task.ts). */
export interface CallRequest {
  thread: ThreadTask
  /** Arguments that are a blob lie in {@link argsFileName} of the task's directory. */
  paths: TaskPaths
  /** The whole environment that the function sees. */
  env: Readonly<Record<string, string>>
  /** Most that its heap may grow to. */
  heapMiB: number
  /** Most of all that it may take, buffers included. */
  memory?: MemoryLimit | undefined
  /** The function gets its group before its arguments. */
  gang?: GangMember | undefined
}

/** How a call ended. The exit code is 0 after it returned, 1 after it threw, else that of process.exit, or 128 and a signal's number. */
export interface Called extends Ended {
  error?: ThreadError
  /**
   * What it returned: the serialised value, or the name of a file in the task's directory that holds it. Of the primary of a
   * gang: what all members returned, by rank; of the others nothing.
   */
  value?: { bytes: Uint8Array } | { file: string }
}

/** A place for one call at a time, in a child process of the job. */
export interface Seat {
  /** Who the task's files must belong to. */
  readonly owner: Owner | undefined
  /**
   * Calls a function to its end. Aborting `signal` ends its thread. Throws TaskFailure when the module cannot be had, or
   * ThreadHostLost when the child ended under several calls; rejects with another error only if the child or its lane broke.
   */
  call(request: CallRequest, signal: AbortSignal, onStart?: (startTime: number) => void): Promise<Called>
  /** A thread for calls of one function, one after the other, until the seat is released. Rejects as {@link call} does. */
  series(request: SeriesRequest, signal: AbortSignal): Promise<Series>
  /** `isSpoilt` is for lanes. */
  release(isSpoilt?: boolean): void
}

/** What the calls of a series have in common. */
export interface SeriesRequest {
  thread: Pick<ThreadTask, 'module' | 'name' | 'export'>
  heapMiB: number
  memory?: MemoryLimit | undefined
  /** The part of the environment that they share, and the job's settings in it (environment.ts). */
  env: Record<string, string>
  common?: EnvironmentSettings
}

/** One call of a series, and what becomes of it: `began` perhaps, and then one of `ended`, `returned` and `failed`. */
export interface SeriesCall {
  readonly taskId: string
  /** Name of the task's directory, and whether it is there already. */
  readonly dir: string
  readonly isPlaced: boolean
  readonly args: Uint8Array | undefined
  readonly settings: EnvironmentSettings | undefined
  /** It has gone on for a moment, since then. */
  began(startTime: number): void
  ended(called: Called): void
  /** It has not begun and will not, because it was taken back, or something before it takes long or ended the process. */
  returned(): void
  /** As {@link Seat.call} rejects. */
  failed(error: unknown): void
  /** The function looks for its directory: makes it, or throws. */
  place(): void
}

export interface Series {
  /** Whether each call is to be alone in its process: then only one is handed over at a time. */
  isAlone(): boolean
  /** Hands calls over, to be made in this order. Throws when the process is gone. */
  add(calls: readonly SeriesCall[]): void
  /** Has those returned that have not begun. */
  takeBack(calls: readonly SeriesCall[]): void
  /** Ends a call wherever it is. */
  stop(call: SeriesCall): void
}

/** Calls functions of jobs, in child processes on lanes: the threads of a job share one, jobs share none. */
export interface ThreadExecutor {
  seat(job: { jobUid: JobUid; jobId: string }): Promise<Seat>
  /** Ends all that runs for a job, and what was kept for it. */
  endJob(jobUid: JobUid): Promise<void>
  close(): Promise<void>
}

/** A failure that is the task's outcome, not the node's: it carries what the report will say. */
export class TaskFailure extends Error {
  override readonly name = 'TaskFailure'
  readonly info: FailureInfo

  constructor(info: FailureInfo, options?: ErrorOptions) {
    super(info.message, options)
    this.info = info
  }
}

export interface Staging {
  /** Puts resource files into `wd`, owned by `owner`. Throws TaskFailure when one cannot be had. */
  stage(files: readonly ResourceFile[], wd: string, owner: Owner | undefined, signal: AbortSignal): Promise<void>
  /**
   * Finds the files of `wd` that the patterns name for this way of ending, takes them into the store, and returns when
   * their bytes are durable at `home`, pinned for the job (B2). Waits, retrying, while the home is full or out of reach. Throws
   * TaskFailure when a file cannot be kept (it leads out of the directory, is no regular file, or vanished).
   */
  collect(
    patterns: readonly OutputFile[],
    wd: string,
    ended: 'success' | 'failure',
    to: { home: PeerIdText; jobUid: JobUid },
    signal: AbortSignal,
  ): Promise<OutputEntry[]>
  /** Like {@link collect}, for the one file of this name in `dir`, which is removed then. */
  keep(name: string, dir: string, to: { home: PeerIdText; jobUid: JobUid }, signal: AbortSignal): Promise<OutputEntry>
  /** Nothing runs in `wd` any more: inputs that it shared with others may make room. */
  done(wd: string): Promise<void>
}

/** Keeps tasks from filling the disk of the node. */
export interface DiskWatch {
  /** From now on `end` may be called, once, when these directories are what fills it. Call what it returns when the task has ended. */
  watch(directories: readonly string[], end: (failure: FailureInfo) => void): () => void
}

/** Where the directories of an attempt lie (Azure Batch: files and directories of a node). */
export interface TaskPaths {
  /** `<root>/workitems/<job>/job-<uid>/<task>` with the attempt's epoch appended from the second on. */
  taskDir: string
  wd: string
  stdout: string
  stderr: string
}

/** Finds the directory of an attempt that ran here, for the files service; without paths it has none, or none yet. */
export type FindAttempt = (attempt: Attempt) => { paths: TaskPaths | undefined; running: boolean } | undefined

/** The directories of attempts on this machine (directories.ts). All calls are synchronous: a mkdir is faster than a turn of the thread pool. */
export interface TaskDirectories {
  /** Jobs of which something is kept here. */
  readonly jobs: readonly JobUid[]
  /** Makes the job's directory, before a lane of the job is asked for. */
  openJob(jobUid: JobUid, jobId: string): string
  /** Makes the directory of an attempt, anew and owned by `owner`. */
  make(attempt: Attempt, jobId: string, owner: Owner | undefined): TaskPaths
  /** Makes a directory of the node's own beside those of a job's tasks, anew; it is not kept when the node ends. */
  makeOwn(jobUid: JobUid, jobId: string, name: string, owner: Owner | undefined): string
  removeOwn(path: string): Promise<void>
  /** Gives back the room of an ended attempt's files, all but the beginnings of its stdout.txt and stderr.txt. */
  empty(paths: TaskPaths): Promise<void>
  /** Nothing of the attempt runs any more and its outputs are kept: its retention begins. */
  seal(attempt: Attempt, now: number, retentionMs?: number): void
  /** Removes what ended attempts of a job left. */
  purgeJob(jobUid: JobUid): Promise<void>
  /** Where the directory of an attempt lies, also one from before a restart, while it is there. */
  readonly find: FindAttempt
}

export type { Logger as Log } from '../protocols/logger.ts'
