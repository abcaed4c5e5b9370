/**
 * Executor of thread tasks: functions, called in threads of a child process. A job has one child on a node, started on a
 * lane of the job (executor.ts), so that user, namespaces and temporary directories are those of its commands; the
 * threads of the child keep endless loops, process.exit and full heaps to themselves.
 *
 * What ends the whole child (a crash of Node, a signal) while several calls run cannot be pinned on one of them: all are
 * lost, and from then on each call of that job has a child of its own, so that the next crash names the guilty.
 *
 * A child ends when its job has called nothing for a while, when the job is deleted, and with the node.
 */
import { join } from 'node:path'
import type { JobUid } from '../../../protocols/ids.ts'
import type { Lane, Seat, ThreadExecutor } from '../../ports.ts'
import { JobThreads, systemPath, type ThreadsOptions } from './job-threads.ts'
import { copyNode, copyProgram, type Program } from './program.ts'

/** What the script of {@link prepare} says. */
const noNode = 3
const noProgram = 4

/** Whether this Node can run children: 22.13 and later have the permission model. */
export function canRunThreads(): boolean {
  return process.allowedNodeEnvironmentFlags.has('--permission')
}

export type { ThreadsOptions } from './job-threads.ts'

export function startThreads(options: ThreadsOptions): ThreadExecutor {
  return new Threads(options)
}

class Threads implements ThreadExecutor {
  readonly #options: ThreadsOptions
  readonly #jobs = new Map<JobUid, JobThreads>()
  #program: Promise<Program> | undefined
  #isClosed = false

  constructor(options: ThreadsOptions) {
    this.#options = options
  }

  seat({ jobUid, jobId }: { jobUid: JobUid; jobId: string }): Promise<Seat> {
    if (this.#isClosed) return Promise.reject(new Error('The thread executor is closed.'))
    let job = this.#jobs.get(jobUid)
    if (job === undefined) {
      job = new JobThreads(this.#options, jobUid, jobId, (lane, dir) => this.#readable(lane, dir))
      this.#jobs.set(jobUid, job)
    }
    return job.seat()
  }

  async endJob(jobUid: JobUid): Promise<void> {
    const job = this.#jobs.get(jobUid)
    this.#jobs.delete(jobUid)
    await job?.end()
  }

  async close(): Promise<void> {
    this.#isClosed = true
    await Promise.all([...this.#jobs.keys()].map((jobUid) => this.endJob(jobUid)))
  }

  /** The pipes of a child, made by the lane's user, and the program where that user can read it: tried, not guessed. */
  async #readable(lane: Lane, dir: string): Promise<Program> {
    const known = this.#program
    if (known === undefined) {
      const finding = this.#find(lane, dir)
      this.#program = finding
      finding.catch(() => {
        if (this.#program === finding) this.#program = undefined
      })
      return await finding
    }
    const program = await known
    const problem = await prepare(lane, dir, program)
    if (problem !== undefined) throw unreadable(program, problem)
    return program
  }

  async #find(lane: Lane, dir: string): Promise<Program> {
    const { runtimeDir, node } = this.#options
    let program = await copyProgram(join(runtimeDir, 'threads'))
    if (node !== undefined) program = { ...program, node }
    let problem = await prepare(lane, dir, program)
    if (problem === noNode) {
      program = await copyNode(program, join(runtimeDir, 'node'))
      problem = await prepare(lane, dir, program)
    }
    if (problem !== undefined) throw unreadable(program, problem)
    return program
  }
}

function unreadable({ node, entry }: Program, problem: number): Error {
  const file = problem === noNode ? node : entry
  return new Error(`Tasks cannot ${problem === noNode ? 'execute' : 'read'} ${file}, which runs functions: every user must be able to.`)
}

/** Makes a child's pipes, and says what its user lacks. */
async function prepare(lane: Lane, dir: string, { node, entry }: Program): Promise<number | undefined> {
  const script = `[ -r "$2" ] || exit ${noProgram}
[ -x "$1" ] || exit ${noNode}
rm -f calls answers && mkfifo -m 600 calls answers`
  const { exitCode } = await lane.run(
    {
      argv: ['/bin/sh', '-c', script, 'sh', node, entry],
      env: { PATH: systemPath },
      cwd: dir,
      stdoutPath: join(dir, 'stdout.txt'),
      stderrPath: join(dir, 'stderr.txt'),
    },
    new AbortController().signal,
  )
  if (exitCode === 0) return undefined
  if (exitCode === noNode || exitCode === noProgram) return exitCode
  throw new Error(`The pipes of a process for functions could not be made in ${dir} (exit code ${exitCode}).`)
}
