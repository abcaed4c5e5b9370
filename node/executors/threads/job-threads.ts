/** The functions of one job on this node: its children, and the modules that were fetched for it. */
import { createHash } from 'node:crypto'
import { basename, dirname, join } from 'node:path'
import type { JobUid } from '../../../protocols/ids.ts'
import type { ThreadTask } from '../../../protocols/model/thread-task.ts'
import {
  type Called,
  type CallRequest,
  type Executor,
  type Lane,
  type Seat,
  type Series,
  type SeriesCall,
  type SeriesRequest,
  type Staging,
  type TaskDirectories,
  TaskFailure,
} from '../../ports.ts'
import { type CallEvents, Child, type ChildLine } from './child.ts'
import { calledBy, crashedBy, type Of } from './explain.ts'
import { GangCall } from './gang-call.ts'
import type { Rallied } from './messages.ts'
import type { Program } from './program.ts'

/** Longer than the gaps within a job, short enough to give memory back; as lanes have it. */
const idleChildMs = 60_000
/** Where programs of the system are looked for. */
export const systemPath = '/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin'

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
  /** How long a member of a gang that failed because of another one lets that say so first. Default: gang-call.ts. */
  otherSaysMs?: number
  /** The Node binary; default the one that runs the node. */
  node?: string
}

/** What the process has for itself, without calls: some 60 MB, and what starting takes. */
const hostMiB = 256
/** What a thread's code and stacks take beside what its function may have, generously (host.ts). */
const besideHeapMiB = 64

type LineRequest = SeriesRequest & { jobDir: string }

/** A child, the lane that it holds, and how many hold seats in it. */
interface Place {
  child: Child
  lane: Lane
  dir: string
  holders: number
  isEnding: boolean
  idle: NodeJS.Timeout | undefined
  /** Of the lines that are open: each makes one call at a time. */
  linesMiB: number
  /** Most that its process may have: what its lines had together at the most. Memory that was given is not taken back. */
  limitMiB: number
}

export class JobThreads {
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
    const lines: ChildLine[] = []
    let isReleased = false
    return {
      owner: place.lane.owner,
      call: (request, signal, onStart) => this.#call(place, request, signal, onStart),
      series: (request, signal) => this.#series(place, request, lines, signal),
      release: () => {
        if (isReleased) return
        isReleased = true
        for (const line of lines) line.close()
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
      return { child, lane, dir, holders: 0, isEnding: false, idle: undefined, linesMiB: 0, limitMiB: hostMiB }
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
    const { thread, paths, env, heapMiB, memory } = request
    const gang = request.gang === undefined ? undefined : new GangCall(request.gang, signal, this.#options.otherSaysMs)
    const line = await this.#line(place, { thread, heapMiB, memory, env, jobDir: dirname(paths.taskDir) }, signal)
    const startTime = Date.now()
    const stopped = (): Called => calledBy({ how: 'ended' }, request, { startTime, endTime: Date.now() })
    if (signal.aborted) return stopped()
    const { promise, resolve, reject } = Promise.withResolvers<Called>()
    const args = thread.args === undefined ? {} : 'bytes' in thread.args ? { args: thread.args.bytes } : { argsInFile: true as const }
    const call = { dir: basename(paths.taskDir), placed: true as const, ...args, ...(gang === undefined ? {} : { gang: gang.facts }) }
    const own = this.#events(request, {
      began: () => {},
      ended: resolve,
      returned: () => reject(new Error('The process of the function was ended.')),
      failed: (error) => (signal.aborted ? resolve(stopped()) : reject(error)),
      place: () => {},
    })
    const tell = {
      rallied: (rally: Rallied) => line.rallied(id, rally),
      parted: (rank: number, why: string) => line.parted(id, rank, why),
      stop: () => line.stop(id),
    }
    const id = line.add([{ call, events: gang?.events(own, tell) ?? own }])[0]!
    onStart?.(startTime)
    const onAbort = tell.stop
    signal.addEventListener('abort', onAbort, { once: true })
    try {
      return await (gang?.settled(promise) ?? promise)
    } finally {
      signal.removeEventListener('abort', onAbort)
      line.close()
    }
  }

  async #series(place: Place, request: SeriesRequest, lines: ChildLine[], signal: AbortSignal): Promise<Series> {
    const { directories } = this.#options
    const line = await this.#line(place, { ...request, jobDir: directories.openJob(this.#jobUid, this.#jobId) }, signal)
    const ids = new Map<SeriesCall, number>()
    const known = (calls: readonly SeriesCall[]) => calls.map((call) => ids.get(call)).filter((id) => id !== undefined)
    lines.push(line)
    return {
      isAlone: () => this.#apart,
      add: (calls) => {
        const sent = calls.map((call) => {
          const { dir, taskId, settings, args, isPlaced } = call
          const over = (tell: () => void) => {
            ids.delete(call)
            tell()
          }
          const events = this.#events(request, {
            began: (at) => call.began(at),
            ended: (called) => over(() => call.ended(called)),
            returned: () => over(() => call.returned()),
            failed: (error) => over(() => call.failed(error)),
            place: () => call.place(),
          })
          return { call: { dir, own: { taskId, settings }, args, ...(isPlaced ? { placed: true as const } : {}) }, events }
        })
        for (const [at, id] of line.add(sent).entries()) ids.set(calls[at]!, id)
      },
      takeBack: (calls) => line.takeBack(known(calls)),
      stop: (call) => {
        for (const id of known([call])) line.stop(id)
      },
    }
  }

  async #line(place: Place, of: LineRequest, signal: AbortSignal): Promise<ChildLine> {
    const { thread, heapMiB, memory, jobDir, env, common } = of
    const file = await this.#module(thread, signal)
    if (place.child.isGone) throw new Error('The process of the job’s functions is gone.')
    const wantsMiB = besideHeapMiB + Math.max(heapMiB, memory?.limitMiB ?? 0)
    place.linesMiB += wantsMiB
    if (hostMiB + place.linesMiB > place.limitMiB) {
      place.limitMiB = hostMiB + place.linesMiB
      place.lane.limitMemory({ limitMiB: place.limitMiB, isAsked: false })
    }
    const line = place.child.open({ file, module: thread.name, export: thread.export, heapMiB, jobDir, env, common })
    return {
      ...line,
      close: () => {
        place.linesMiB -= wantsMiB
        line.close()
      },
    }
  }

  /** What the child says of a call, in the words of its outcome. */
  #events(of: Of, call: Pick<SeriesCall, 'began' | 'ended' | 'returned' | 'failed' | 'place'>): CallEvents {
    let startTime = Date.now()
    const tell = (how: () => Called) => {
      let called: Called
      try {
        called = how()
      } catch (error) {
        return call.failed(error)
      }
      call.ended(called)
    }
    return {
      began: (at) => {
        startTime = at
        call.began(at)
      },
      answered: (answer, times) => tell(() => calledBy(answer, of, times)),
      returned: () => call.returned(),
      crashed: (crash) => {
        if (crash instanceof Error) return call.failed(crash)
        // The node itself ended it: its job is over, or the child was stuck.
        if (crash.ended.killed) return call.failed(new Error('The process of the function was ended by the node.'))
        if (!crash.isSure) this.#apart = true
        tell(() => crashedBy(crash, of, { startTime, endTime: Date.now() }))
      },
      place: () => call.place(),
    }
  }

  /** The module's file: fetched once a job, for all to read and nobody to change. */
  async #module(thread: Pick<ThreadTask, 'module' | 'name'>, signal: AbortSignal): Promise<string> {
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
