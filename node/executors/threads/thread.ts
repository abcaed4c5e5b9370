/**
 * What runs in each thread of a job's child process: it calls one function after the other, as its line gives them.
 *
 * A thread is used again after a function that returned and left nothing running that keeps a thread alive (timers,
 * sockets, open files on their way). In all other cases it says how the call went, and waits to be ended, so that no
 * task meets what another one left. What a module keeps in its own variables stays, as a cache of the job's; what a
 * task unref'd stays too.
 *
 * A task has no directory until its function looks for it: reads a path in it from the environment, prints, or returns
 * what is too large to be said. Then the thread stands still until the node has made it.
 */
import { closeSync, openSync, readFileSync, unlinkSync, writeFileSync, writeSync } from 'node:fs'
import { join } from 'node:path'
import { pathToFileURL } from 'node:url'
import { deserialize, serialize } from 'node:v8'
import { type MessagePort, threadId } from 'node:worker_threads'
import { ownEnvironment } from '../../environment.ts'
import type { TaskPaths } from '../../ports.ts'
import { pathsIn } from '../../task-paths.ts'
import { replaceEnvironment, setEnvironment } from './function-environment.ts'
import type { Member } from './member.ts'
import {
  type Answer,
  argsFileName,
  type Call,
  type FromThread,
  type LineSetup,
  type Rallied,
  resultFileName,
  type Served,
  type ToThread,
} from './messages.ts'
import { blameOf, thrownOf } from './thrown.ts'

/** A larger value goes through a file, past the node's memory (protocols/model/thread-task.ts: maxInlineValueBytes). */
const maxValueBytes = 64 << 10

/** A fault of the task that is no exception of its function. */
class CallError extends Error {
  override readonly name: string = 'Error'
}

type Exported = (...args: unknown[]) => unknown
type Module = Readonly<Record<string, unknown>>

/** The call that runs. */
let current: Running | undefined
/** By file: Node keeps them too, but takes its time to find them. */
const modules = new Map<string, Module>()

// A worker thread's own threads could be started without the permissions of this one.
;(process as { permission?: { drop?(scope: string): void } }).permission?.drop?.('worker')
replaceEnvironment()
redirect(process.stdout, (files) => files.stdout)
redirect(process.stderr, (files) => files.stderr)

/** Writes of the thread go to the task's file before they return; those of nobody's task go nowhere. */
function redirect(stream: NodeJS.WriteStream, fdOf: (files: Files) => number): void {
  stream.write = (chunk: Uint8Array | string, encoding?: unknown, done?: unknown): boolean => {
    const files = current?.files()
    const bytes =
      typeof chunk === 'string' ? Buffer.from(chunk, typeof encoding === 'string' ? (encoding as BufferEncoding) : 'utf8') : chunk
    if (files !== undefined) for (let at = 0; at < bytes.length; ) at += writeSync(fdOf(files), bytes, at)
    const callback = typeof encoding === 'function' ? encoding : done
    if (typeof callback === 'function') process.nextTick(callback as () => void)
    return true
  }
}

interface Files {
  stdout: number
  stderr: number
}

/** Serves one line after the other until it is told to close. */
export default function serve(served: Served): Promise<void> {
  const { states, since } = served
  const port = served.port as MessagePort
  since[1] = threadId
  return new Promise((resolve) => {
    let calls: Call[] = []
    let at = 0
    let isBusy = false
    let isClosed = false
    let setup: LineSetup | undefined
    let broker: MessagePort | undefined
    const next = () => {
      for (; at < calls.length; at += 1) {
        const call = calls[at]!
        if (Atomics.compareExchange(states, call.id % states.length, call.id, -call.id) !== call.id) continue
        at += 1
        return void begin(call)
      }
      isBusy = false
      calls = []
      at = 0
      if (!isClosed) return
      port.close()
      resolve()
    }
    const begin = async (call: Call) => {
      since[0] = Date.now()
      // What is left of a call that went wrong is ended with its thread. What the last one rejected comes out before the next.
      if (await run(new Running(served, port, setup!, call), broker)) setImmediate(next)
    }
    port.on('message', (told: ToThread) => {
      if ('rallied' in told || 'parted' in told) return current?.hear(told)
      if ('setup' in told) setup = told.setup
      else if ('close' in told) isClosed = true
      else {
        calls.push(...told.calls)
        broker = told.broker as MessagePort | undefined
      }
      if (isBusy) return
      isBusy = true
      next()
    })
  })
}

/** Calls the function; false if the thread cannot be used again. */
async function run(call: Running, broker: MessagePort | undefined): Promise<boolean> {
  const { setup } = call
  current = call
  setEnvironment(call)
  process.exitCode = undefined
  let answer: Answer
  let before: number | undefined
  try {
    if (call.isPlaced) call.files()
    const called = await functionOf(setup)
    const args = call.args()
    before = process.getActiveResourcesInfo().length
    answer = broker === undefined ? call.answer(serialized(await called(...args))) : await call.inGang(broker, called, args)
  } catch (error) {
    const thrown = thrownOf(error, setup.module, setup.file)
    try {
      process.stderr.write(`${thrown.stack ?? `${thrown.name}: ${thrown.message}`}\n`)
    } catch {
      // The answer says it as well.
    }
    answer = { how: 'threw', error: thrown, ...call.blame(error) }
  }
  const isClean = broker === undefined && answer.how === 'returned' && process.getActiveResourcesInfo().length <= before!
  current = undefined
  setEnvironment(undefined)
  call.end(answer, !isClean)
  return isClean
}

class Running {
  readonly setup: LineSetup
  readonly taskDir: string
  isPlaced: boolean
  readonly #served: Served
  readonly #port: MessagePort
  readonly #call: Call
  #files: Files | undefined
  #member: Member | undefined
  #rallied: PromiseWithResolvers<Rallied> | undefined
  /** Who was gone before this one was a member. */
  readonly #lost: { rank: number; why: string }[] = []

  constructor(served: Served, port: MessagePort, setup: LineSetup, call: Call) {
    this.setup = setup
    this.#served = served
    this.#port = port
    this.#call = call
    this.taskDir = join(setup.jobDir, call.dir)
    this.isPlaced = call.placed === true
  }

  get #paths(): TaskPaths {
    return pathsIn(this.taskDir)
  }

  #say(said: FromThread): void {
    this.#port.postMessage(said)
  }

  /** The task's directory is there when this returns. */
  place(): void {
    if (this.isPlaced) return
    const { placed } = this.#served
    Atomics.store(placed, 0, 0)
    this.#say({ place: this.#call.id })
    Atomics.wait(placed, 0, 0)
    if (Atomics.load(placed, 0) !== 1) throw new CallError('The directory of the task could not be made.')
    this.isPlaced = true
    this.files()
  }

  files(): Files {
    this.place()
    const { stdout, stderr } = this.#paths
    this.#files ??= { stdout: openSync(stdout, 'w'), stderr: openSync(stderr, 'w') }
    return this.#files
  }

  make(): Record<string, string> {
    const { env, common } = this.setup
    const { own } = this.#call
    if (own === undefined) return { ...env }
    const task = { taskId: own.taskId, paths: this.#paths, tmpDir: this.taskDir, environmentSettings: own.settings }
    return { ...env, ...ownEnvironment({ commonEnvironmentSettings: common }, task) }
  }

  args(): unknown[] {
    const { args: given, argsInFile } = this.#call
    let args: unknown
    try {
      const bytes = argsInFile === true ? takeFile(join(this.taskDir, argsFileName)) : given
      args = bytes === undefined ? [] : deserialize(bytes)
    } catch (error) {
      throw new CallError(`The arguments could not be read: ${error instanceof Error ? error.message : String(error)}`, { cause: error })
    }
    if (!Array.isArray(args)) throw new CallError('The arguments could not be read: they are no array.')
    return args
  }

  /** Calls the function with its group first; the primary answers with what all members returned. */
  async inGang(broker: MessagePort, called: Exported, args: unknown[]): Promise<Answer> {
    const { Member } = await import('./member.ts')
    const rally = (card: Uint8Array) => {
      this.#rallied = Promise.withResolvers()
      this.#say({ rally: this.#call.id, card })
      return this.#rallied.promise
    }
    this.#member = await Member.join({ gang: this.#call.gang!, broker, rally })
    for (const { rank, why } of this.#lost) this.#member.lost(rank, why)
    const values = await this.#member.part(serialized(await called(this.#member.group, ...args)))
    const answer: Answer = values === undefined ? { how: 'gathered' } : this.answer(values)
    // Nothing can go wrong any more that would have the others do it again.
    await this.#member.leave()
    return answer
  }

  /** Of the others of its gang. */
  hear(told: Extract<ToThread, { rallied: number } | { parted: number }>): void {
    if ('rallied' in told) return this.#rallied?.resolve(told.rally)
    const { rank, why } = told
    if (this.#member === undefined) this.#lost.push({ rank, why })
    else this.#member.lost(rank, why)
  }

  /** What had happened to another member before this one threw. */
  blame(error: unknown): Pick<Extract<Answer, { how: 'threw' }>, 'after'> {
    const after = this.#member === undefined ? undefined : this.#member.isBereft ? 'loss' : blameOf(error)
    return after === undefined ? {} : { after }
  }

  answer(value: Uint8Array): Answer {
    if (value.length <= maxValueBytes) return { how: 'returned', value }
    this.place()
    writeFileSync(join(this.taskDir, resultFileName), value)
    return { how: 'returned', size: value.length }
  }

  end(answer: Answer, last: boolean): void {
    if (this.#files !== undefined) {
      closeSync(this.#files.stdout)
      closeSync(this.#files.stderr)
    }
    this.#say({ id: this.#call.id, answer, began: this.#served.since[0]!, ended: Date.now(), last })
  }
}

function serialized(result: unknown): Uint8Array {
  try {
    return serialize(result)
  } catch (error) {
    const reason = error instanceof Error ? error.message : String(error)
    throw new CallError(
      `The result cannot be sent: ${reason} Return what the structured clone algorithm takes: no functions, no promises in it.`,
    )
  }
}

async function functionOf(setup: LineSetup): Promise<Exported> {
  let module = modules.get(setup.file)
  try {
    module ??= (await import(pathToFileURL(setup.file).href)) as Module
    modules.set(setup.file, module)
  } catch (error) {
    const thrown = thrownOf(error, setup.module, setup.file)
    throw new CallError(`The module ${setup.module} could not be imported: ${thrown.name}: ${thrown.message}`, { cause: error })
  }
  const found = module[setup.export]
  if (typeof found === 'function') return found as Exported
  if (found !== undefined)
    throw new CallError(`The export "${setup.export}" of ${setup.module} is no function but ${article(typeof found)}.`)
  const names = Object.keys(module)
  const has = names.length === 0 ? 'it exports nothing' : `it has ${names.slice(0, 20).join(', ')}`
  throw new CallError(`The module ${setup.module} has no export "${setup.export}"; ${has}.`)
}

function article(type: string): string {
  return /^[aeiou]/.test(type) ? `an ${type}` : `a ${type}`
}

function takeFile(path: string): Uint8Array {
  const bytes = readFileSync(path)
  unlinkSync(path)
  return bytes
}
