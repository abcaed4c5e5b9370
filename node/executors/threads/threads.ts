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
import { createHash } from 'node:crypto'
import { join } from 'node:path'
import type { JobUid } from '../../../protocols/ids.ts'
import type { ThreadTask } from '../../../protocols/model/thread-task.ts'
import {
  type Called,
  type CallRequest,
  type Executor,
  type Lane,
  type Seat,
  type Staging,
  type TaskDirectories,
  TaskFailure,
  type ThreadExecutor,
} from '../../ports.ts'
import { Child } from './child.ts'
import { calledBy, crashedBy } from './explain.ts'
import { copyNode, copyProgram, type Program } from './program.ts'

/** Longer than the gaps within a job, short enough to give memory back; as lanes have it. */
const idleChildMs = 60_000
/** Where programs of the system are looked for. */
const systemPath = '/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin'
/** What the process has for itself, without calls: some 60 MB, and what starting takes. */
const hostMiB = 256
/** What a thread's code and stacks take beside what its function may have, generously (host.ts). */
const besideHeapMiB = 64
/** What the script of {@link prepare} says. */
const noNode = 3
const noProgram = 4

export interface ThreadsOptions {
  executor: Executor
  staging: Pick<Staging, 'stage'>
  directories: Pick<TaskDirectories, 'makeOwn' | 'removeOwn' | 'openJob'>
  /** For a copy of the program, open to all users of the machine. */
  runtimeDir: string
  /** Inputs that tasks share: functions may read them. */
  sharedDir: string
  /** A child without calls for so long is ended. Default 60 s. */
  idleMs?: number
  /** The Node binary; default the one that runs the node. */
  node?: string
}

/** Whether this Node can run children: 22.13 and later have the permission model. */
export function canRunThreads(): boolean {
  return process.allowedNodeEnvironmentFlags.has('--permission')
}

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

/** A child, the lane that it holds, and how many hold seats in it. */
interface Place {
  child: Child
  lane: Lane
  dir: string
  holders: number
  isEnding: boolean
  idle: NodeJS.Timeout | undefined
  /** Of the calls that run. */
  callsMiB: number
  /** Most that its process may have: what its calls had together at the most. Memory that was given is not taken back. */
  limitMiB: number
}

class JobThreads {
  readonly #options: ThreadsOptions
  readonly #jobUid: JobUid
  readonly #jobId: string
  readonly #program: (lane: Lane, dir: string) => Promise<Program>
  readonly #places = new Set<Place>()
  readonly #starting = new Set<Promise<Place>>()
  readonly #modules = new Map<string, Promise<string>>()
  readonly #ending = new AbortController()
  #modulesDir: string | undefined
  #count = 0
  /** A child crashed under several calls: one call a child from now on. */
  #apart = false

  constructor(options: ThreadsOptions, jobUid: JobUid, jobId: string, program: (lane: Lane, dir: string) => Promise<Program>) {
    this.#options = options
    this.#jobUid = jobUid
    this.#jobId = jobId
    this.#program = program
  }

  async seat(): Promise<Seat> {
    const place = await this.#hold()
    let isReleased = false
    return {
      owner: place.lane.owner,
      call: (request, signal, onStart) => this.#call(place, request, signal, onStart),
      release: () => {
        if (isReleased) return
        isReleased = true
        this.#release(place)
      },
    }
  }

  async #hold(): Promise<Place> {
    for (;;) {
      if (this.#ending.signal.aborted) throw new Error('The job was ended on this machine.')
      for (const place of this.#places) {
        if (place.isEnding || place.child.isGone || (this.#apart && place.holders > 0)) continue
        clearTimeout(place.idle)
        place.holders += 1
        return place
      }
      const [standing] = this.#starting
      if (standing === undefined || this.#apart) await this.#start()
      else await standing
    }
  }

  #start(): Promise<Place> {
    const starting = this.#open()
    this.#starting.add(starting)
    const started = () => this.#starting.delete(starting)
    starting.then((place) => {
      started()
      this.#places.add(place)
      void place.child.gone.then(() => this.#clear(place))
      // Nobody may want it any more.
      this.#rest(place)
    }, started)
    return starting
  }

  async #open(): Promise<Place> {
    const { executor, directories, sharedDir } = this.#options
    directories.openJob(this.#jobUid, this.#jobId)
    const lane = await executor.lane(this.#jobUid)
    this.#count += 1
    let dir: string | undefined
    try {
      dir = directories.makeOwn(this.#jobUid, this.#jobId, `threads-${this.#count}`, lane.owner)
      const program = await this.#program(lane, dir)
      const env = { PATH: systemPath, LANG: 'C.UTF-8', HOME: dir, TMPDIR: dir }
      // Node takes a path for a directory only if it is there: the one of shared inputs may come later.
      const writes = [directories.openJob(this.#jobUid, this.#jobId)]
      const memory = { limitMiB: hostMiB, isAsked: false }
      const child = await Child.start({ memory, lane, dir, program, reads: [`${sharedDir}/*`], writes, env })
      if (this.#ending.signal.aborted) child.end()
      return { child, lane, dir, holders: 0, isEnding: false, idle: undefined, callsMiB: 0, limitMiB: hostMiB }
    } catch (error) {
      lane.release()
      if (dir !== undefined) await directories.removeOwn(dir)
      throw error
    }
  }

  #release(place: Place): void {
    place.holders -= 1
    this.#rest(place)
  }

  #rest(place: Place): void {
    if (place.holders > 0 || place.child.isGone) return
    clearTimeout(place.idle)
    place.idle = setTimeout(() => {
      place.isEnding = true
      place.child.end()
    }, this.#options.idleMs ?? idleChildMs)
    place.idle.unref()
  }

  /** The child is gone: its lane can serve others. */
  async #clear(place: Place): Promise<void> {
    clearTimeout(place.idle)
    this.#places.delete(place)
    place.lane.release()
    await this.#options.directories.removeOwn(place.dir).catch(() => undefined)
  }

  async #call(place: Place, request: CallRequest, signal: AbortSignal, onStart?: (startTime: number) => void): Promise<Called> {
    const { thread, paths, env, heapMiB } = request
    const file = await this.#module(thread, signal)
    const startTime = Date.now()
    const call = {
      file,
      module: thread.name,
      export: thread.export,
      ...(thread.args !== undefined && 'bytes' in thread.args ? { args: thread.args.bytes } : {}),
      argsInFile: thread.args !== undefined && 'blob' in thread.args,
      heapMiB,
      taskDir: paths.taskDir,
      stdout: paths.stdout,
      stderr: paths.stderr,
      env: JSON.stringify(env),
    }
    if (signal.aborted) return calledBy({ how: 'ended' }, call, { startTime, endTime: startTime })
    const wantsMiB = besideHeapMiB + Math.max(heapMiB, request.memory?.limitMiB ?? 0)
    place.callsMiB += wantsMiB
    place.limitMiB = Math.max(place.limitMiB, hostMiB + place.callsMiB)
    place.lane.limitMemory({ limitMiB: place.limitMiB, isAsked: false })
    const ending = place.child.call(call, signal)
    onStart?.(startTime)
    const ended = await ending.finally(() => {
      place.callsMiB -= wantsMiB
    })
    const times = { startTime, endTime: Date.now() }
    if ('how' in ended) return calledBy(ended, call, times)
    if (signal.aborted) return calledBy({ how: 'ended' }, call, times)
    // The node itself ended it: its job is over, or the child was stuck.
    if (ended.ended.killed) throw new Error('The process of the function was ended by the node.')
    if (ended.calls > 1) this.#apart = true
    return crashedBy(ended, { heapMiB, memory: request.memory }, times)
  }

  /** The module's file: fetched once a job, for all to read and nobody to change. */
  async #module(thread: ThreadTask, signal: AbortSignal): Promise<string> {
    const { module: blob, name } = thread
    const fileName = fileNameOf(name)
    const key = `${blob}/${fileName}`
    let fetching = this.#modules.get(key)
    if (fetching === undefined) {
      fetching = this.#fetch(blob, fileName)
      this.#modules.set(key, fetching)
      fetching.catch(() => this.#modules.delete(key))
    }
    const aborted = Promise.withResolvers<never>()
    const onAbort = () => aborted.reject(signal.reason as Error)
    if (signal.aborted) onAbort()
    signal.addEventListener('abort', onAbort, { once: true })
    try {
      return await Promise.race([fetching, aborted.promise])
    } finally {
      signal.removeEventListener('abort', onAbort)
    }
  }

  async #fetch(blob: string, fileName: string): Promise<string> {
    this.#modulesDir ??= this.#options.directories.makeOwn(this.#jobUid, this.#jobId, 'modules', undefined)
    // A short name of the blob: paths have an end.
    const filePath = `${createHash('sha256').update(blob).digest('hex').slice(0, 16)}-${fileName}`
    try {
      await this.#options.staging.stage([{ filePath, blob, fileMode: '0444' }], this.#modulesDir, undefined, this.#ending.signal)
    } catch (error) {
      if (!(error instanceof TaskFailure)) throw error
      const message = error.info.message.replace(`The resource file ${filePath}`, `The module ${fileName}`)
      throw new TaskFailure({ ...error.info, message }, { cause: error })
    }
    return join(this.#modulesDir, filePath)
  }

  async end(): Promise<void> {
    this.#ending.abort(new Error('The job was ended on this machine.'))
    await Promise.allSettled(this.#starting)
    const places = [...this.#places]
    for (const { child } of places) child.end()
    await Promise.all(places.map(({ child }) => child.gone))
    await Promise.all(places.map((place) => this.#clear(place)))
    await Promise.allSettled(this.#modules.values())
    if (this.#modulesDir !== undefined) await this.#options.directories.removeOwn(this.#modulesDir)
  }
}

/** A name that a file can have, and that Node takes for an ES module. */
function fileNameOf(name: string): string {
  const plain = name.replaceAll(/[^\w.@+-]+/g, '_').slice(-100)
  return plain.endsWith('.mjs') ? plain : `${plain}.mjs`
}
