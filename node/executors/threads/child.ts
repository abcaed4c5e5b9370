/** One child process of a job, as the node sees it: started on a lane, told what to call, and watched to its end. */
import { closeSync, constants, fstatSync, openSync, unlinkSync } from 'node:fs'
import { Socket } from 'node:net'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import type { z } from 'zod'
import type { Ended, Lane, MemoryLimit, StartRequest } from '../../ports.ts'
import { readTail } from '../../post-mortem.ts'
import { Channel } from './channel.ts'
import { type Answer, type Call, type LineSetup, maxCallId, type Rallied, type ToChild } from './messages.ts'
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
  /** How many calls were running, as far as is known here: the first of each line. */
  calls: number
  /** No other call was there, so that this one has done it. */
  isSure: boolean
  lastWords: string | undefined
}

/** What becomes of a call: `began` perhaps, and then exactly one of `answered`, `returned` and `crashed`. */
export interface CallEvents {
  /** It has gone on for a moment, since then. */
  began(at: number): void
  answered(answer: Answer, times: { startTime: number; endTime: number }): void
  /** It has not begun and will not. */
  returned(): void
  /** The child is gone. */
  crashed(crash: Crash | Error): void
  /** Makes its directory; throws when that cannot be. */
  place(): void
  /** A member of a gang is ready to meet the others. */
  rally?(card: Uint8Array): void
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

interface Outstanding {
  line: number
  events: CallEvents
  handedAt: number
  ending?: NodeJS.Timeout
}

/** A thread of the child, as the node sees it: calls of one function, made one after the other. */
export interface ChildLine {
  /** Hands calls over, and gives their numbers. */
  add(calls: readonly { call: Omit<Call, 'id'>; events: CallEvents }[]): number[]
  /** Has those returned that have not begun. */
  takeBack(ids: readonly number[]): void
  /** Ends a call, with its thread if it has begun: it is answered so. */
  stop(id: number): void
  /** All members of the call's gang have come; another one is gone. */
  rallied(id: number, rally: Rallied): void
  parted(id: number, rank: number, why: string): void
  close(): void
}

export class Child {
  /** Resolves when nothing of it runs any more. */
  readonly gone: Promise<void>
  isGone = false
  readonly #setup: ChildSetup
  readonly #callsFd: number
  readonly #stop = new AbortController()
  /** In the order handed over. */
  readonly #outstanding = new Map<number, Outstanding>()
  readonly #ready = Promise.withResolvers<void>()
  readonly #silent = Promise.withResolvers<void>()
  readonly #channel: Channel
  #lastId = 0
  #lastLine = 0

  private constructor(setup: ChildSetup, pipes: { in: string; out: string }) {
    this.#setup = setup
    // Read-write: opening never waits for the child, and writing never fails because it is late.
    this.#callsFd = openPipe(pipes.in, constants.O_RDWR)
    let answers: number
    try {
      answers = openPipe(pipes.out, constants.O_RDONLY)
    } catch (error) {
      closeSync(this.#callsFd)
      throw error
    }
    this.#channel = new Channel(
      new Socket({ fd: answers, readable: true, writable: false }),
      new Socket({ fd: this.#callsFd, readable: false, writable: true }),
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

  /** A new line. Its calls are all told of the child's end. */
  open(setup: Omit<LineSetup, 'line'>): ChildLine {
    this.#lastLine += 1
    const line = this.#lastLine
    this.#tell({ open: { ...setup, line } })
    return {
      add: (calls) => this.#add(line, calls),
      takeBack: (ids) => this.#tell({ back: [...ids], line }, true),
      stop: (id) => this.#stopCall(line, id),
      rallied: (rallied, rally) => this.#tell({ rallied, line, rally }, true),
      parted: (parted, rank, why) => this.#tell({ parted, line, rank, why }, true),
      close: () => this.#tell({ close: line }),
    }
  }

  #add(line: number, calls: readonly { call: Omit<Call, 'id'>; events: CallEvents }[]): number[] {
    if (this.isGone) throw new Error('The process of the job’s functions is gone.')
    const handedAt = Date.now()
    const sent: Call[] = []
    for (const { call, events } of calls) {
      this.#lastId = this.#lastId === maxCallId ? 1 : this.#lastId + 1
      this.#outstanding.set(this.#lastId, { line, events, handedAt })
      sent.push({ ...call, id: this.#lastId })
    }
    this.#tell({ calls: sent, line })
    return sent.map(({ id }) => id)
  }

  #stopCall(line: number, id: number): void {
    const call = this.#outstanding.get(id)
    if (call === undefined || call.ending !== undefined) return
    this.#tell({ end: id, line }, true)
    call.ending = setTimeout(() => this.end(), endTimeoutMs)
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

  #tell(message: ToChild, urgent = false): void {
    this.#channel.send(message, urgent)
  }

  #heard(message: unknown): void {
    const said = fromChildSchema.safeParse(message)
    if (!said.success) throw new Error('The process of the job’s functions says what nobody understands.')
    const { data } = said
    if ('ready' in data) this.#ready.resolve()
    else if ('answer' in data) this.#answered(data)
    else if ('began' in data) {
      const call = this.#outstanding.get(data.began)
      call?.events.began(within(data.at, call.handedAt, Date.now()))
    } else if ('returned' in data) for (const id of data.returned) this.#forget(id)?.events.returned()
    else if ('rally' in data) this.#outstanding.get(data.rally)?.events.rally?.(data.card)
    else this.#place(data.place)
  }

  #answered({ id, answer, began, ended, stuck }: Said): void {
    const call = this.#forget(id)
    if (call !== undefined) {
      const now = Date.now()
      const startTime = within(began ?? call.handedAt, call.handedAt, now)
      call.events.answered(answer as Answer, { startTime, endTime: within(ended ?? now, startTime, now) })
    }
    // The other calls are the node's own doing then: they start again.
    if (stuck === true) this.end()
  }

  #place(id: number): void {
    const call = this.#outstanding.get(id)
    if (call === undefined) return
    let problem: string | undefined
    try {
      call.events.place()
    } catch (error) {
      problem = error instanceof Error ? error.message : String(error)
    }
    this.#tell({ placed: id, line: call.line, problem }, true)
  }

  #forget(id: number): Outstanding | undefined {
    const call = this.#outstanding.get(id)
    this.#outstanding.delete(id)
    clearTimeout(call?.ending)
    return call
  }

  #ended(ended: Ended | Error): void {
    this.isGone = true
    this.#channel.close()
    const lastWords = readTail(join(this.#setup.dir, 'stderr.txt'), lastWordsBytes)
    const said = ended instanceof Error ? ended.message : (lastWords ?? `exit code ${ended.exitCode}`)
    this.#ready.reject(new Error(`The process for the functions of a job did not start: ${said}`))
    this.#ready.promise.catch(() => undefined)
    const all = [...this.#outstanding.values()]
    this.#outstanding.clear()
    const firsts = new Map<number, Outstanding>()
    for (const call of all) {
      clearTimeout(call.ending)
      if (!firsts.has(call.line)) firsts.set(call.line, call)
    }
    // Those behind the first of each line may have begun as well, but nobody will say so: they run again.
    for (const call of all) {
      if (firsts.get(call.line) !== call) call.events.returned()
      else call.events.crashed(ended instanceof Error ? ended : { ended, calls: firsts.size, isSure: all.length === 1, lastWords })
    }
  }
}

type Said = Extract<z.infer<typeof fromChildSchema>, { answer: unknown }>

/** A time that a child says, as far as it can be true. */
function within(time: number, from: number, to: number): number {
  return Math.max(from, Math.min(time, to))
}

function openPipe(path: string, flags: number): number {
  const fd = openSync(path, flags | constants.O_NONBLOCK | constants.O_NOFOLLOW)
  if (fstatSync(fd).isFIFO()) return fd
  closeSync(fd)
  throw new Error(`${path} is no pipe.`)
}
