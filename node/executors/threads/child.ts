/** One child process of a job, as the node sees it: started on a lane, told what to call, and watched to its end. */
import { closeSync, constants, fstatSync, openSync, unlinkSync } from 'node:fs'
import { Socket } from 'node:net'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import type { Ended, Lane, MemoryLimit, StartRequest } from '../../ports.ts'
import { readTail } from '../../post-mortem.ts'
import { Channel } from './channel.ts'
import type { Answer, Call, ToChild } from './messages.ts'
import type { Program } from './program.ts'
import { fromChildSchema } from './replies.ts'

/** A child that says nothing for so long while starting is given up. Starts take 50-300 ms; a machine that swaps needs many times that. */
const startTimeoutMs = 30_000
/** A child that does not end a thread for so long is stuck itself, and is ended with all that runs in it. */
const endTimeoutMs = 10_000
/** What a child that ended has said is read at most so long; one that closed its pipes and runs on is ended after it. */
const leaveTimeoutMs = 2000
/** Of what the child wrote itself: Node's last words when it crashes. */
const lastWordsBytes = 2048

/** How a child ended under its calls. */
export interface Crash {
  ended: Ended
  /** How many calls were running. */
  calls: number
  lastWords: string | undefined
}

export interface ChildSetup {
  lane: Lane
  /** A directory of the child's own, which belongs to the lane's user. */
  dir: string
  program: Program
  /** What functions may read, and what they may read and write. */
  reads: readonly string[]
  writes: readonly string[]
  env: Readonly<Record<string, string>>
  /** For the start; its calls bring more. */
  memory: MemoryLimit
}

interface Running {
  answered: (answer: Answer) => void
  crashed: (crash: Crash | Error) => void
}

export class Child {
  /** Resolves when nothing of it runs any more. */
  readonly gone: Promise<void>
  isGone = false
  readonly #setup: ChildSetup
  readonly #calls: number
  readonly #stop = new AbortController()
  readonly #running = new Map<number, Running>()
  readonly #ready = Promise.withResolvers<void>()
  readonly #silent = Promise.withResolvers<void>()
  readonly #channel: Channel
  #lastId = 0

  private constructor(setup: ChildSetup, pipes: { in: string; out: string }) {
    this.#setup = setup
    // Read-write: opening never waits for the child, and writing never fails because it is late.
    this.#calls = openPipe(pipes.in, constants.O_RDWR)
    let answers: number
    try {
      answers = openPipe(pipes.out, constants.O_RDONLY)
    } catch (error) {
      closeSync(this.#calls)
      throw error
    }
    this.#channel = new Channel(
      new Socket({ fd: answers, readable: true, writable: false }),
      new Socket({ fd: this.#calls, readable: false, writable: true }),
      { message: (message) => this.#heard(message), gone: () => this.#left() },
    )
    const { lane, program, reads, writes, dir, env, memory } = setup
    const start: StartRequest = {
      argv: [
        program.node,
        '--disable-warning=PERM0006',
        '--permission',
        '--allow-worker',
        ...[program.dir, ...reads, ...writes].map((path) => `--allow-fs-read=${path}`),
        ...writes.map((path) => `--allow-fs-write=${path}`),
        program.entry,
      ],
      env,
      cwd: dir,
      stdoutPath: join(dir, 'stdout.txt'),
      stderrPath: join(dir, 'stderr.txt'),
      memory,
      pipes,
    }
    this.gone = lane.run(start, this.#stop.signal).then(
      async (ended) => {
        // Calls that it answered before are over, whatever ended it then.
        await Promise.race([this.#silent.promise, sleep(leaveTimeoutMs, undefined, { ref: false })])
        this.#ended(ended)
      },
      (error: unknown) => this.#ended(error instanceof Error ? error : new Error(String(error))),
    )
  }

  /** Starts it and waits until it listens. Rejects with what it said when it does not. */
  static async start(setup: ChildSetup): Promise<Child> {
    const pipes = { in: join(setup.dir, 'calls'), out: join(setup.dir, 'answers') }
    const child = new Child(setup, pipes)
    const timer = setTimeout(() => child.end(), startTimeoutMs)
    try {
      await child.#ready.promise
      for (const pipe of [pipes.in, pipes.out]) unlinkSync(pipe)
      return child
    } catch (error) {
      child.end()
      await child.gone
      throw error
    } finally {
      clearTimeout(timer)
    }
  }

  get calls(): number {
    return this.#running.size
  }

  /**
   * Calls a function. Aborting `signal` ends its thread. Rejects with an Error when the lane broke; resolves to a crash
   * when the child ended by something that runs in it.
   */
  async call(call: Omit<Call, 'id'>, signal: AbortSignal): Promise<Answer | Crash> {
    if (this.isGone) throw new Error('The process of the job’s functions is gone.')
    this.#lastId += 1
    const id = this.#lastId
    let timer: NodeJS.Timeout | undefined
    const onAbort = () => {
      this.#tell({ end: id })
      timer = setTimeout(() => this.end(), endTimeoutMs)
    }
    const outcome = new Promise<Answer | Crash>((resolve, reject) => {
      const crashed = (crash: Crash | Error) => (crash instanceof Error ? reject(crash) : resolve(crash))
      this.#running.set(id, { answered: resolve, crashed })
    })
    this.#tell({ call: { ...call, id } })
    signal.addEventListener('abort', onAbort, { once: true })
    try {
      return await outcome
    } finally {
      this.#running.delete(id)
      signal.removeEventListener('abort', onAbort)
      clearTimeout(timer)
    }
  }

  /** Ends it and all that runs in it. */
  end(): void {
    this.#stop.abort()
  }

  /** It closed its pipes: it is ending, as a rule. */
  #left(): void {
    this.#silent.resolve()
    setTimeout(() => this.end(), leaveTimeoutMs).unref()
  }

  #tell(message: ToChild): void {
    this.#channel.send(message)
  }

  #heard(message: unknown): void {
    const said = fromChildSchema.safeParse(message)
    if (!said.success) throw new Error('The process of the job’s functions says what nobody understands.')
    if ('ready' in said.data) return this.#ready.resolve()
    const { id, answer, stuck } = said.data
    const running = this.#running.get(id)
    this.#running.delete(id)
    running?.answered(answer as Answer)
    // The other calls are the node's own doing then: they start again.
    if (stuck === true) this.end()
  }

  #ended(ended: Ended | Error): void {
    this.isGone = true
    this.#channel.close()
    const lastWords = readTail(join(this.#setup.dir, 'stderr.txt'), lastWordsBytes)
    const said = ended instanceof Error ? ended.message : (lastWords ?? `exit code ${ended.exitCode}`)
    this.#ready.reject(new Error(`The process for the functions of a job did not start: ${said}`))
    this.#ready.promise.catch(() => undefined)
    const running = [...this.#running.values()]
    this.#running.clear()
    for (const { crashed } of running) crashed(ended instanceof Error ? ended : { ended, calls: running.length, lastWords })
  }
}

function openPipe(path: string, flags: number): number {
  const fd = openSync(path, flags | constants.O_NONBLOCK | constants.O_NOFOLLOW)
  if (fstatSync(fd).isFIFO()) return fd
  closeSync(fd)
  throw new Error(`${path} is no pipe.`)
}
