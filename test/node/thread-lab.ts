/** A node's thread executor in a temporary place, and functions to call in it. */
import { readFileSync, writeFileSync } from 'node:fs'
import { chmod, chown, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { deserialize, serialize } from 'node:v8'
import type { TaskLimits } from '../../node/executors/limits.ts'
import { processIds } from '../../node/executors/proc.ts'
import { argsFileName } from '../../node/executors/threads/messages.ts'
import { startThreads, type ThreadsOptions } from '../../node/executors/threads/threads.ts'
import type { Called, GangMember, MemoryLimit, Owner, Seat, TaskPaths, ThreadExecutor } from '../../node/ports.ts'
import type { IsolationTier } from '../../protocols/model/machine.ts'
import type { ResourceFile } from '../../protocols/model/task.ts'
import { threadTaskSchema } from '../../protocols/model/thread-task.ts'
import { TaskLab } from './task-lab.ts'

export interface CallOptions {
  export?: string
  name?: string
  args?: unknown[]
  /** The arguments come as a blob. */
  argsInFile?: boolean
  jobUid?: number
  heapMiB?: number
  memory?: MemoryLimit
  env?: Record<string, string>
  signal?: AbortSignal
  gang?: GangMember
  onStart?: () => void
  /** The task's directory is there. */
  placed?: (paths: TaskPaths) => void
}

export interface Ran extends Called {
  paths: TaskPaths
  stdout: string
  stderr: string
  /** What it returned. */
  result: unknown
}

/** Processes that call functions of nodes below a directory: they may write there. */
export function childrenIn(root: string): number[] {
  return processIds().filter((pid) => {
    try {
      const words = readFileSync(`/proc/${pid}/cmdline`, 'latin1').split('\0')
      return words.includes('--permission') && words.some((word) => word.startsWith(`--allow-fs-write=${root}/`))
    } catch {
      // It ended meanwhile.
      return false
    }
  })
}

const waitingModule = `import { existsSync } from 'node:fs'
export default async (value) => {
  console.log('waiting')
  while (!existsSync(process.env.AZ_BATCH_TASK_DIR + '/go')) await new Promise((resolve) => setTimeout(resolve, 5))
  return value
}`

export class ThreadLab {
  readonly tasks: TaskLab
  readonly threads: ThreadExecutor
  /** How often each module was fetched. */
  readonly fetched: string[] = []
  #count = 0

  constructor(tasks: TaskLab, options: Partial<ThreadsOptions> = {}) {
    this.tasks = tasks
    this.threads = startThreads({
      executor: tasks.executor,
      directories: tasks.directories,
      // A module's text stands for its blob.
      staging: { stage: (files, dir, owner) => this.#stage(files, dir, owner) },
      runtimeDir: join(tasks.root, 'runtime'),
      sharedDir: join(tasks.root, 'shared'),
      ...options,
    })
  }

  static async open(options: { tier?: IsolationTier; idleMs?: number; limits?: TaskLimits } = {}): Promise<ThreadLab> {
    const { idleMs, ...more } = options
    return new ThreadLab(await TaskLab.open(more), idleMs === undefined ? {} : { idleMs })
  }

  async #stage(files: readonly ResourceFile[], dir: string, owner: Owner | undefined): Promise<void> {
    for (const { filePath, blob, fileMode } of files) {
      this.fetched.push(filePath)
      const path = join(dir, filePath)
      await writeFile(path, blob!)
      await chmod(path, Number.parseInt(fileMode ?? '0770', 8))
      if (owner !== undefined) await chown(path, owner.uid, owner.gid)
    }
  }

  seat(jobUid = 1): Promise<Seat> {
    return this.threads.seat({ jobUid, jobId: `job-of-${jobUid}` })
  }

  /** Calls a function of the module with this text, in a task directory of its own. */
  async call(module: string, options: CallOptions = {}): Promise<Ran> {
    const { jobUid = 1 } = options
    const seat = await this.seat(jobUid)
    try {
      return await this.callOn(seat, module, options)
    } finally {
      seat.release()
    }
  }

  async callOn(seat: Seat, module: string, options: CallOptions = {}): Promise<Ran> {
    this.#count += 1
    const { jobUid = 1, args, argsInFile = false, env = {}, heapMiB = 256 } = options
    const attempt = { jobUid, task: `f${this.#count}`, epoch: 1 }
    const { directories } = this.tasks
    const paths = directories.make(attempt, `job-of-${jobUid}`, seat.owner)
    options.placed?.(paths)
    const bytes = args === undefined ? undefined : serialize(args)
    if (argsInFile) await this.#stage([{ filePath: argsFileName, blob: bytes as unknown as string }], paths.taskDir, seat.owner)
    const thread = {
      ...threadTaskSchema.parse({ module: 'bafkreihdwdcefgh4dqkjv67uzcmw7ojee6xedzdetojuzjevtenxquvyku' }),
      module,
      name: options.name ?? 'work.mjs',
      export: options.export ?? 'default',
      ...(bytes === undefined ? {} : { args: argsInFile ? { blob: 'args', size: bytes.length } : { bytes } }),
    }
    const signal = options.signal ?? new AbortController().signal
    try {
      const called = await seat.call(
        {
          thread,
          paths,
          env: { AZ_BATCH_TASK_DIR: paths.taskDir, AZ_BATCH_TASK_WORKING_DIR: paths.wd, ...env },
          heapMiB,
          memory: options.memory,
          gang: options.gang,
        },
        signal,
        options.onStart,
      )
      return {
        ...called,
        paths,
        stdout: textOf(paths.stdout),
        stderr: textOf(paths.stderr),
        result: called.value === undefined ? undefined : deserialize(bytesOf(called.value, paths)),
      }
    } finally {
      directories.seal(attempt, Date.now())
    }
  }

  /** A call that goes on until `go`, and returns what it was given; it runs once this resolves. */
  async waiting(options: CallOptions = {}): Promise<{ ended: Promise<Ran>; go: () => void }> {
    const started = Promise.withResolvers<TaskPaths>()
    const placed = (paths: TaskPaths) => started.resolve(paths)
    const ended = this.call(waitingModule, { args: ['done'], ...options, placed })
    const { taskDir, stdout } = await Promise.race([started.promise, ended.then(({ paths }) => paths)])
    while (textOf(stdout) === '') await sleep(5)
    return { ended, go: () => writeFileSync(join(taskDir, 'go'), '', { mode: 0o644 }) }
  }

  async close(): Promise<void> {
    await this.threads.close()
    await this.tasks.close()
  }
}

function bytesOf(value: NonNullable<Called['value']>, paths: TaskPaths): Uint8Array {
  return 'bytes' in value ? value.bytes : readFileSync(join(paths.taskDir, value.file))
}

function textOf(file: string): string {
  try {
    return readFileSync(file, 'utf8')
  } catch {
    return ''
  }
}
