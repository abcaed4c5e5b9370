/** Stand-ins for the rooms that the worker is written against. Programs end when a test says so, or at once. */

import { Gangs } from '../../../node/gangs/gangs.ts'
import type {
  Called,
  CallRequest,
  Ended,
  Executor,
  Lane,
  Log,
  Owner,
  Seat,
  Series,
  SeriesCall,
  SeriesRequest,
  Staging,
  StartRequest,
  TaskDirectories,
  TaskPaths,
  ThreadExecutor,
} from '../../../node/ports.ts'
import type { Attempt } from '../../../protocols/ids.ts'
import { attemptKey } from '../../../protocols/ids.ts'
import type { FailureInfo, OutputEntry } from '../../../protocols/model/task.ts'

/** For tests without gangs: nobody is reached. */
export function noGangs(): Gangs {
  const wire = {
    peer: 'nobody',
    open: () => Promise.reject(new Error('nobody')),
    learn: () => {},
    probe: async () => 'unknown' as const,
    serve: () => () => {},
  }
  return new Gangs({ wire, log: silentLog })
}

export const silentLog: Log = { debug: () => {}, info: () => {}, warn: () => {}, error: () => {} }

/** A program that runs: its request, and how to end it. */
export interface Running {
  start: StartRequest
  /** AZ_BATCH_TASK_ID, for short. */
  task: string
  /** By itself, with what limit it hit. */
  end(exitCode?: number, failureInfo?: FailureInfo): void
  killed: boolean
}

/** Far longer than anything takes here: a wait in vain ends with what was waited for, and not with the test's time. */
const waitMs = 20_000

/** Waits until `condition` holds, turn by turn of the event loop. */
export async function until(condition: () => boolean): Promise<void> {
  const deadline = performance.now() + waitMs
  while (!condition()) {
    if (performance.now() > deadline) throw new Error(`It did not come about: ${String(condition)}`)
    await new Promise(setImmediate)
  }
}

export class FakeExecutor implements Executor {
  readonly tier = 'process-group'
  /** Programs end by themselves with this exit code. */
  instantExit: number | undefined
  readonly running: Running[] = []
  readonly started: string[] = []
  owner: Owner | undefined
  lanesOut = 0
  /** Lanes that were given up. */
  spoilt = 0
  /** The next runs reject: their lane broke. */
  breaking = 0
  /** Called for each program that begins. */
  onRun: ((start: StartRequest) => void) | undefined

  async lane(): Promise<Lane> {
    this.lanesOut += 1
    return {
      owner: this.owner,
      run: (start, signal, onStart) => this.#run(start, signal, onStart),
      temporaryDir: undefined,
      limitMemory: () => undefined,
      release: (isSpoilt = false) => {
        this.lanesOut -= 1
        if (isSpoilt) this.spoilt += 1
      },
    }
  }

  async #run(start: StartRequest, signal: AbortSignal, onStart?: (time: number) => void): Promise<Ended> {
    signal.throwIfAborted()
    if (this.breaking > 0) {
      this.breaking -= 1
      throw new Error('the lane broke')
    }
    const startTime = Date.now()
    const task = start.env.AZ_BATCH_TASK_ID ?? ''
    this.started.push(task)
    this.onRun?.(start)
    onStart?.(startTime)
    if (this.instantExit !== undefined) return { exitCode: this.instantExit, startTime, endTime: startTime, killed: false }
    return await new Promise((resolve) => {
      const finish = (exitCode: number, killed: boolean, failureInfo?: FailureInfo) => {
        signal.removeEventListener('abort', onAbort)
        running.killed = killed
        const at = this.running.indexOf(running)
        if (at >= 0) this.running.splice(at, 1)
        resolve({ exitCode, startTime, endTime: Date.now(), killed, ...(failureInfo && { failureInfo }) })
      }
      const onAbort = () => finish(137, true)
      const running: Running = { start, task, killed: false, end: (exitCode = 0, failureInfo) => finish(exitCode, false, failureInfo) }
      signal.addEventListener('abort', onAbort, { once: true })
      this.running.push(running)
    })
  }

  /** The program of a task, once it runs. */
  async program(task: string): Promise<Running> {
    await until(() => this.running.some((running) => running.task === task))
    return this.running.find((running) => running.task === task)!
  }

  async close(): Promise<void> {
    for (const running of [...this.running]) running.end(137)
  }
}

/** Functions whose end a test says beforehand; without that they run until they are stopped. */
export class FakeThreads implements ThreadExecutor {
  readonly calls: CallRequest[] = []
  readonly series: FakeSeries[] = []
  readonly endedJobs: number[] = []
  seatsOut = 0
  outcome: (() => Partial<Called>) | undefined

  async seat(): Promise<Seat> {
    this.seatsOut += 1
    return {
      owner: undefined,
      call: (request, signal, onStart) => this.#call(request, signal, onStart),
      series: async (request) => {
        const series = new FakeSeries(request)
        this.series.push(series)
        return series
      },
      release: () => {
        this.seatsOut -= 1
      },
    }
  }

  async #call(request: CallRequest, signal: AbortSignal, onStart?: (time: number) => void): Promise<Called> {
    this.calls.push(request)
    const times = { startTime: 1, endTime: 2 }
    onStart?.(1)
    if (this.outcome !== undefined) return { ...times, exitCode: 0, killed: false, ...this.outcome() }
    return await new Promise((resolve) =>
      signal.addEventListener('abort', () => resolve({ ...times, exitCode: 137, killed: true }), { once: true }),
    )
  }

  async endJob(jobUid: number): Promise<void> {
    this.endedJobs.push(jobUid)
  }

  async close(): Promise<void> {}
}

/** A thread whose calls begin and end as a test says. */
export class FakeSeries implements Series {
  readonly request: SeriesRequest
  /** Not begun, in order. */
  readonly waiting: SeriesCall[] = []
  readonly stopped: SeriesCall[] = []
  /** To be taken back, whether they had begun or not. */
  readonly asked: SeriesCall[] = []
  alone = false
  isGone = false

  constructor(request: SeriesRequest) {
    this.request = request
  }

  isAlone(): boolean {
    return this.alone
  }

  add(calls: readonly SeriesCall[]): void {
    if (this.isGone) throw new Error('The process is gone.')
    this.waiting.push(...calls)
  }

  takeBack(calls: readonly SeriesCall[]): void {
    this.asked.push(...calls)
    for (const call of calls) {
      const at = this.waiting.indexOf(call)
      if (at < 0) continue
      this.waiting.splice(at, 1)
      call.returned()
    }
  }

  stop(call: SeriesCall): void {
    this.stopped.push(call)
    const at = this.waiting.indexOf(call)
    if (at >= 0) this.waiting.splice(at, 1)
    call.ended({ exitCode: 137, killed: true, startTime: 0, endTime: 0 })
  }

  /** The next call begins; it ends when it is told. */
  next(): SeriesCall {
    return this.waiting.shift()!
  }
}

/** Staging that waits where a test wants it to. */
export class FakeStaging implements Staging {
  /** Set: staging and collecting wait for it (or for the abort). */
  gate: Promise<void> | undefined
  stageError: Error | undefined
  collectError: Error | undefined
  outputs: OutputEntry[] = []
  readonly staged: string[] = []
  readonly collected: { wd: string; ended: string; home: string }[] = []
  readonly kept: { name: string; dir: string; home: string }[] = []
  /** Working directories in which nothing runs any more. */
  readonly finished: string[] = []
  waiting = 0

  async stage(files: Parameters<Staging['stage']>[0], _wd: string, _owner: Owner | undefined, signal: AbortSignal): Promise<void> {
    await this.#wait(signal)
    if (this.stageError !== undefined) throw this.stageError
    this.staged.push(...files.map((file) => file.filePath))
  }

  async collect(...[, wd, ended, to, signal]: Parameters<Staging['collect']>): Promise<OutputEntry[]> {
    await this.#wait(signal)
    if (this.collectError !== undefined) throw this.collectError
    this.collected.push({ wd, ended, home: to.home })
    return this.outputs
  }

  async keep(...[name, dir, to, signal]: Parameters<Staging['keep']>): Promise<OutputEntry> {
    await this.#wait(signal)
    if (this.collectError !== undefined) throw this.collectError
    this.kept.push({ name, dir, home: to.home })
    return { path: name, blob: `b${'r'.repeat(30)}`, size: 7 }
  }

  async done(wd: string): Promise<void> {
    this.finished.push(wd)
  }

  async #wait(signal: AbortSignal): Promise<void> {
    if (this.gate === undefined) return
    this.waiting += 1
    const aborted = Promise.withResolvers<never>()
    const onAbort = () => aborted.reject(signal.reason as Error)
    if (signal.aborted) onAbort()
    signal.addEventListener('abort', onAbort, { once: true })
    try {
      await Promise.race([this.gate, aborted.promise])
    } finally {
      signal.removeEventListener('abort', onAbort)
      this.waiting -= 1
    }
  }
}

/** Directories in name only. */
export class FakeDirectories implements TaskDirectories {
  readonly opened: string[] = []
  readonly made: string[] = []
  readonly sealed: string[] = []
  readonly purged: number[] = []
  readonly emptied: string[] = []
  readonly #open = new Set<string>()

  openJob(_jobUid: number, jobId: string): string {
    this.opened.push(jobId)
    return `/nowhere/workitems/${jobId}`
  }

  make(attempt: Attempt, jobId: string): TaskPaths {
    const key = attemptKey(attempt)
    if (this.#open.has(key)) throw new Error(`The attempt ${key} runs already.`)
    this.#open.add(key)
    this.made.push(key)
    return pathsOf(`/nowhere/workitems/${jobId}/job-1/${attempt.task}${attempt.epoch > 1 ? `.${attempt.epoch}` : ''}`)
  }

  makeOwn(_jobUid: number, jobId: string, name: string): string {
    return `/nowhere/workitems/${jobId}/job-1/+${name}`
  }

  async removeOwn(): Promise<void> {}

  async empty({ taskDir }: TaskPaths): Promise<void> {
    this.emptied.push(taskDir)
  }

  seal(attempt: Attempt): void {
    this.#open.delete(attemptKey(attempt))
    this.sealed.push(attemptKey(attempt))
  }

  get jobs(): number[] {
    return [...new Set(this.sealed.map((key) => Number(key.split('/')[0])))].filter((uid) => !this.purged.includes(uid))
  }

  purgeJob(jobUid: number): Promise<void> {
    this.purged.push(jobUid)
    return Promise.resolve()
  }

  readonly find: TaskDirectories['find'] = (attempt) =>
    this.made.includes(attemptKey(attempt)) ? { paths: pathsOf(`/nowhere/workitems/Job/job-1/${attempt.task}`), running: false } : undefined
}

function pathsOf(taskDir: string): TaskPaths {
  return { taskDir, wd: `${taskDir}/wd`, stdout: `${taskDir}/stdout.txt`, stderr: `${taskDir}/stderr.txt` }
}
