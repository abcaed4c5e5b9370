/**
 * A line in a job's child process: calls of one function, made by one thread after the other in the order in which they
 * came. The thread is a run of a pool's worker; one that ended under a call, or had to be ended, is followed by another, for
 * what waits.
 */
import { EventEmitter, once } from 'node:events'
import { MessageChannel, type MessagePort, receiveMessageOnPort, type Worker } from 'node:worker_threads'
import type { Piscina } from 'piscina'
import type { Broker } from '../../groups/links/broker.ts'
import type { Answer, Call, FromChild, FromThread, LineSetup, Rallied, Served, ToThread } from './messages.ts'

/** A call that takes longer is said to have begun. */
const sayAfterMs = 5
/** What waits behind a call that takes longer is returned: another line may be free. */
const returnAfterMs = 20

export interface LineParts {
  setup: LineSetup
  pool: Piscina
  /** Which calls have begun ({@link Served}); of the whole child. */
  states: Int32Array
  /** Brings members of a gang together whose threads are in this process. */
  broker: Pick<Broker, 'port'>
  say: (message: FromChild, urgent?: boolean) => void
  /** A thread ended under a call by itself: how that is to be answered. */
  broken(call: Call, error: unknown): Promise<Answer>
}

interface Thread {
  port: MessagePort
  /** `abort` takes the thread out of its pool and ends it. */
  stop: EventEmitter
}

export class Line {
  setup: LineSetup
  readonly #parts: LineParts
  /** Not answered, in order: all but the first wait. */
  readonly #calls: Call[] = []
  readonly #since = new Float64Array(new SharedArrayBuffer(2 * Float64Array.BYTES_PER_ELEMENT))
  readonly #placed = new Int32Array(new SharedArrayBuffer(Int32Array.BYTES_PER_ELEMENT))
  readonly #placing = new Map<number, (problem?: string) => void>()
  #thread: Thread | undefined
  /** A thread is being ended: the next one starts after it. */
  #isEnding = false
  /** The call that was said to have begun. */
  #said = 0

  constructor(parts: LineParts) {
    this.setup = parts.setup
    this.#parts = parts
  }

  add(calls: readonly Call[]): void {
    const { states } = this.#parts
    for (const { id } of calls) Atomics.store(states, id % states.length, id)
    this.#calls.push(...calls)
    this.#give(calls)
  }

  #give(calls: readonly Call[]): void {
    if (calls.length === 0 || this.#isEnding) return
    this.#thread ??= this.#start()
    const told: ToThread = { calls: [...calls] }
    if (calls[0]!.gang === undefined) return this.#thread.port.postMessage(told)
    const broker = this.#parts.broker.port()
    this.#thread.port.postMessage({ ...told, broker } satisfies ToThread, [broker])
  }

  #start(): Thread {
    const { port1: port, port2 } = new MessageChannel()
    const stop = new EventEmitter()
    const thread: Thread = { port, stop }
    const { states, pool } = this.#parts
    const served: Served = { states, since: this.#since, placed: this.#placed, port: port2 }
    port.on('message', (said: FromThread) => this.#heard(said))
    pool.run(served, { signal: stop, transferList: [port2] }).then(
      () => port.close(),
      (error: unknown) => {
        // One that was ended on purpose is followed by another already.
        if (this.#thread === thread) void this.#broke(thread, error)
      },
    )
    port.postMessage({ setup: this.setup } satisfies ToThread)
    return thread
  }

  /** Its thread serves another line from now on. */
  reopen(setup: LineSetup): void {
    this.setup = setup
    this.#thread?.port.postMessage({ setup } satisfies ToThread)
  }

  /** Whether its calls are all answered. */
  get isIdle(): boolean {
    return this.#calls.length === 0 && !this.#isEnding
  }

  /** The call that its thread is at. */
  get current(): Call | undefined {
    const [first] = this.#calls
    return first !== undefined && this.#hasBegun(first) ? first : undefined
  }

  /** Of the thread that serves it, while there is one. */
  get threadId(): number {
    return this.#since[1]!
  }

  #hasBegun({ id }: Call): boolean {
    const { states } = this.#parts
    return Atomics.load(states, id % states.length) === -id
  }

  /** Takes a call back if it has not begun: from then on it cannot. */
  #takeBack({ id }: Call): boolean {
    const { states } = this.#parts
    return Atomics.compareExchange(states, id % states.length, id, 0) === id
  }

  #heard(said: FromThread): void {
    if ('place' in said) return void this.place(said.place).then((problem) => this.#setPlaced(problem))
    if ('rally' in said) return this.#parts.say(said, true)
    const { id, answer, began, ended, last } = said
    if (!this.#forget(id)) return
    if (last) void this.#end(id, { how: answer, began, ended })
    else this.#parts.say({ id, answer, began, ended })
  }

  #forget(id: number): boolean {
    const at = this.#calls.findIndex((call) => call.id === id)
    if (at >= 0) this.#calls.splice(at, 1)
    return at >= 0
  }

  /** All members of the call's gang have come. */
  rallied(id: number, rally: Rallied): void {
    this.#thread?.port.postMessage({ rallied: id, rally } satisfies ToThread)
  }

  /** Another member of the call's gang is gone. */
  parted(id: number, rank: number, why: string): void {
    this.#thread?.port.postMessage({ parted: id, rank, why } satisfies ToThread)
  }

  #setPlaced(problem: string | undefined): void {
    Atomics.store(this.#placed, 0, problem === undefined ? 1 : 2)
    Atomics.notify(this.#placed, 0)
  }

  /** Has the directory of a call made; resolves to what went wrong. */
  place(id: number): Promise<string | undefined> {
    return new Promise((resolve) => {
      this.#placing.set(id, resolve)
      this.#parts.say({ place: id }, true)
    })
  }

  placed(id: number, problem: string | undefined): void {
    const known = this.#calls.find((call) => call.id === id)
    if (known !== undefined && problem === undefined) known.placed = true
    this.#placing.get(id)?.(problem)
    this.#placing.delete(id)
  }

  /** Returns what has not begun of these calls. */
  giveBack(ids: readonly number[]): void {
    const wanted = new Set(ids)
    const returned = this.#calls.filter((call) => wanted.has(call.id) && this.#takeBack(call)).map(({ id }) => id)
    for (const id of returned) this.#forget(id)
    if (returned.length > 0) this.#parts.say({ returned }, true)
  }

  /** Ends a call, and its thread if it has begun. */
  async stop(id: number): Promise<void> {
    const call = this.#calls.find((other) => other.id === id)
    if (call === undefined) return
    if (this.#takeBack(call)) {
      this.#forget(id)
      return this.#parts.say({ id, answer: { how: 'ended' } }, true)
    }
    // No other one may begin in a thread that is to end. If one behind it has, this one is over, and its answer on its way.
    this.giveBack(this.#calls.slice(this.#calls.indexOf(call) + 1).map((behind) => behind.id))
    if (this.#calls.at(-1) !== call) return
    this.#forget(id)
    await this.#end(id, { how: { how: 'ended' } })
  }

  /** Its thread ends, and only then the call. */
  async #end(id: number, { how, ...times }: { how: Answer; began?: number; ended?: number }): Promise<void> {
    const thread = this.#thread
    const { pool, say } = this.#parts
    const before: Worker[] = pool.threads
    this.#thread = undefined
    this.#isEnding = true
    thread?.stop.emit('abort')
    const after = new Set(pool.threads)
    await Promise.all(before.filter((worker) => !after.has(worker) && worker.threadId >= 0).map((worker) => once(worker, 'exit')))
    if (thread !== undefined) this.#drain(thread)
    say({ id, answer: how, ...times })
    this.#goOn()
  }

  /** What the thread said before it ended. */
  #drain({ port }: Thread): void {
    for (let said = receiveMessageOnPort(port); said !== undefined; said = receiveMessageOnPort(port)) {
      const message = said.message as FromThread
      if ('answer' in message && this.#forget(message.id)) {
        const { id, answer, began, ended } = message
        this.#parts.say({ id, answer, began, ended })
      }
    }
    port.close()
  }

  /** It ended under a call by itself: by process.exit, its heap limit, or something that nobody caught; or between two. */
  async #broke(thread: Thread, error: unknown): Promise<void> {
    this.#thread = undefined
    this.#isEnding = true
    this.#drain(thread)
    const call = this.current
    if (call !== undefined) {
      this.#forget(call.id)
      const [began, ended] = [this.#since[0]!, Date.now()]
      this.#parts.say({ id: call.id, answer: await this.#parts.broken(call, error), began, ended })
    }
    this.#goOn()
  }

  #goOn(): void {
    this.#isEnding = false
    this.#give(this.#calls)
  }

  /** Looks after its call; true if there is anything to look after soon. */
  look(now: number): boolean {
    const call = this.current
    if (call === undefined) return this.#calls.length > 0
    const ranMs = now - this.#since[0]!
    if (this.#said !== call.id && ranMs >= sayAfterMs) {
      this.#said = call.id
      this.#parts.say({ began: call.id, at: this.#since[0]! })
    }
    if (ranMs >= returnAfterMs && this.#calls.length > 1) this.giveBack(this.#calls.slice(1).map(({ id }) => id))
    return this.#said !== call.id || this.#calls.length > 1
  }

  /** The call is answered so, and its thread left to whoever ends the child. */
  giveUp(answer: Answer): void {
    const call = this.current
    if (call === undefined) return
    this.#forget(call.id)
    this.#parts.say({ id: call.id, answer, stuck: true }, true)
  }

  /** Its thread ends once it has answered. */
  close(): void {
    this.#thread?.port.postMessage({ close: true } satisfies ToThread)
  }
}
