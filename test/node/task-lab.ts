/** What the executor tests share: a node's directories and executor in a temporary place, and wild tasks to run in it. */
import { chmodSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { Directories } from '../../node/directories.ts'
import { startExecutor, type TaskExecutor } from '../../node/executors/executor.ts'
import type { TaskLimits } from '../../node/executors/limits.ts'
import type { Ended, Lane, MemoryLimit, TaskPaths } from '../../node/ports.ts'
import type { IsolationTier } from '../../protocols/model/machine.ts'

export const isRoot = process.getuid?.() === 0
const path = '/usr/local/bin:/usr/bin:/bin'

export interface Ran extends Ended {
  stdout: string
  stderr: string
  paths: TaskPaths
}

export class TaskLab {
  readonly root: string
  readonly secret: string
  readonly directories: Directories
  executor!: TaskExecutor
  #tasks = 0

  private constructor(root: string) {
    this.root = root
    mkdirSync(root, { recursive: true })
    // A lane's user must be able to pass through.
    chmodSync(root, 0o711)
    mkdirSync(join(root, 'private'), { recursive: true, mode: 0o700 })
    this.secret = join(root, 'private', 'identity')
    writeFileSync(this.secret, 'the secret key')
    // Permissions alone must not be what protects it.
    chmodSync(this.secret, 0o644)
    chmodSync(join(root, 'private'), 0o755)
    this.directories = new Directories(join(root, 'node'))
  }

  static async open(
    options: { tier?: IsolationTier; root?: string; idleMs?: number; limits?: TaskLimits; spare?: boolean } = {},
  ): Promise<TaskLab> {
    const lab = new TaskLab(options.root ?? mkdtempSync(join(tmpdir(), 'batchmesh-lab-')))
    const { directories } = lab
    lab.executor = await startExecutor({
      runDir: join(lab.root, 'run'),
      seed: lab.root,
      hidePaths: [join(lab.root, 'private')],
      jobDirs: { root: directories.node.workitems, of: (jobUid) => directories.ofJob(jobUid) },
      ...(options.tier === undefined ? {} : { tier: options.tier }),
      ...(options.limits === undefined ? {} : { limits: options.limits }),
      ...(options.idleMs === undefined ? {} : { idleMs: options.idleMs }),
      ...(options.spare === undefined ? {} : { spare: options.spare }),
    })
    return lab
  }

  lane(jobUid = 1): Promise<Lane> {
    this.directories.openJob(jobUid, `job-of-${jobUid}`)
    return this.executor.lane(jobUid)
  }

  /** Runs a program on a lane, in a task directory of its own. */
  async run(
    lane: Lane,
    argv: readonly string[],
    more: {
      jobUid?: number
      env?: Record<string, string>
      signal?: AbortSignal
      memory?: MemoryLimit
      placed?: (paths: TaskPaths) => void
      onStart?: (time: number) => void
    } = {},
  ): Promise<Ran> {
    this.#tasks += 1
    const jobUid = more.jobUid ?? 1
    const attempt = { jobUid, task: `t${this.#tasks}`, epoch: 1 }
    const paths = this.directories.make(attempt, `job-of-${jobUid}`, lane.owner)
    more.placed?.(paths)
    const env = more.env ?? { PATH: path }
    const signal = more.signal ?? new AbortController().signal
    const start = { argv, env, cwd: paths.wd, stdoutPath: paths.stdout, stderrPath: paths.stderr, memory: more.memory }
    const ended = await lane.run(start, signal, more.onStart)
    this.directories.seal(attempt, Date.now())
    return { ...ended, paths, stdout: textOf(paths.stdout), stderr: textOf(paths.stderr) }
  }

  /** A shell script as a program. */
  sh(lane: Lane, script: string, more: Parameters<TaskLab['run']>[2] = {}): Promise<Ran> {
    return this.run(lane, ['sh', '-c', script], more)
  }

  async close(): Promise<void> {
    await this.executor.close()
    rmSync(this.root, { recursive: true, force: true })
  }
}

function textOf(file: string): string {
  try {
    return readFileSync(file, 'utf8')
  } catch {
    return ''
  }
}

let wildTasks = 0

/** Something that occurs in the command lines of one wild task's processes, and nowhere else. */
export function wildTag(): string {
  wildTasks += 1
  // `sleep` takes a fraction, which makes a tag that shows in the command line.
  return `7200.${process.pid}${String(wildTasks).padStart(4, '0')}`
}

/** Shell text of a task that leaves five kinds of processes behind: plain, of another session, double-forked, deaf to SIGTERM, without environment. */
export function wildScript(tag: string, last: string): string {
  return `sleep ${tag} &
setsid sleep ${tag} &
(setsid sh -c 'sleep ${tag} & exit' &) &
sh -c 'trap "" TERM HUP; exec sleep ${tag}' &
(env -i setsid sh -c 'sleep ${tag} & exit' &)
${last}`
}
export const wildCount = 5

/** Process ids of living processes with a tag in their command line, as executed (the scripts that hold it are left out). */
export function processesOf(tag: string): number[] {
  return readdirSync('/proc')
    .filter((name) => /^[0-9]+$/.test(name) && textOf(`/proc/${name}/cmdline`) === `sleep\0${tag}\0`)
    .map(Number)
}

/** Waits until so many processes with the tag live; the test's own limit ends a wait in vain. */
export async function untilCount(tag: string, count: number): Promise<void> {
  while (processesOf(tag).length !== count) await sleep(5)
}
