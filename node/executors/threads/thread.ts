/**
 * What runs in each thread of a job's child process: it calls one function after the other.
 *
 * A thread is used again after a function that returned and left nothing running that keeps a thread alive (timers,
 * sockets, open files on their way). In all other cases it says how the call went, and waits to be ended, so that no
 * task meets what another one left. What a module keeps in its own variables stays, as a cache of the job's; what a
 * task unref'd stays too.
 */
import { closeSync, openSync, readFileSync, unlinkSync, writeFileSync, writeSync } from 'node:fs'
import { join } from 'node:path'
import { pathToFileURL } from 'node:url'
import { deserialize, serialize } from 'node:v8'
import { parentPort, threadId } from 'node:worker_threads'
import { type Answer, argsFileName, type Call, type PlacedCall, resultFileName } from './messages.ts'
import { thrownOf } from './thrown.ts'

/** A larger value goes through a file, past the node's memory (protocols/model/thread-task.ts: maxInlineValueBytes). */
const maxValueBytes = 64 << 10

/** What an ended thread's last call was. */
export interface LastWord {
  last: number
  answer: Answer
}

/** A fault of the task that is no exception of its function. */
class CallError extends Error {
  override readonly name: string = 'Error'
}

interface Files {
  stdout: number
  stderr: number
}

type Module = Readonly<Record<string, unknown>>

let files: Files | undefined
/** By file: Node keeps them too, but takes its time to find them. */
const modules = new Map<string, Module>()

// A worker thread's own threads could be started without the permissions of this one.
;(process as { permission?: { drop?(scope: string): void } }).permission?.drop?.('worker')
redirect(process.stdout, () => files?.stdout)
redirect(process.stderr, () => files?.stderr)

/** Writes of the thread go to the task's file before they return; those of nobody's task go nowhere. */
function redirect(stream: NodeJS.WriteStream, fdOf: () => number | undefined): void {
  stream.write = (chunk: Uint8Array | string, encoding?: unknown, done?: unknown): boolean => {
    const fd = fdOf()
    const bytes =
      typeof chunk === 'string' ? Buffer.from(chunk, typeof encoding === 'string' ? (encoding as BufferEncoding) : 'utf8') : chunk
    if (fd !== undefined) for (let at = 0; at < bytes.length; ) at += writeSync(fd, bytes, at)
    const callback = typeof encoding === 'function' ? encoding : done
    if (typeof callback === 'function') process.nextTick(callback as () => void)
    return true
  }
}

/** Calls the function. Answers only when the thread can be used again; else its last word goes to the program that started it. */
export default async function run(call: PlacedCall): Promise<Answer> {
  Atomics.store(call.places, call.id % call.places.length, threadId)
  const own: Files = { stdout: openSync(call.stdout, 'w'), stderr: openSync(call.stderr, 'w') }
  files = own
  setEnvironment(JSON.parse(call.env) as Record<string, string>)
  process.exitCode = undefined
  let answer: Answer
  let before: number | undefined
  try {
    const called = await functionOf(call)
    const args = argumentsOf(call)
    before = process.getActiveResourcesInfo().length
    const result: unknown = await called(...args)
    answer = answerOf(result, call)
  } catch (error) {
    const thrown = thrownOf(error, call.module, call.file)
    process.stderr.write(`${thrown.stack ?? `${thrown.name}: ${thrown.message}`}\n`)
    answer = { how: 'threw', error: thrown }
  }
  const isClean = answer.how === 'returned' && process.getActiveResourcesInfo().length <= before!
  files = undefined
  closeSync(own.stdout)
  closeSync(own.stderr)
  if (isClean) return answer
  parentPort!.postMessage({ last: call.id, answer } satisfies LastWord)
  return await new Promise<never>(() => {})
}

function setEnvironment(env: Readonly<Record<string, string>>): void {
  for (const name of Object.keys(process.env)) if (!(name in env)) delete process.env[name]
  for (const name in env) if (process.env[name] !== env[name]) process.env[name] = env[name]
}

async function functionOf(call: Call): Promise<(...args: unknown[]) => unknown> {
  let module = modules.get(call.file)
  try {
    module ??= (await import(pathToFileURL(call.file).href)) as Module
    modules.set(call.file, module)
  } catch (error) {
    const thrown = thrownOf(error, call.module, call.file)
    throw new CallError(`The module ${call.module} could not be imported: ${thrown.name}: ${thrown.message}`, { cause: error })
  }
  const found = module[call.export]
  if (typeof found === 'function') return found as (...args: unknown[]) => unknown
  if (found !== undefined) throw new CallError(`The export "${call.export}" of ${call.module} is no function but ${article(typeof found)}.`)
  const names = Object.keys(module)
  const has = names.length === 0 ? 'it exports nothing' : `it has ${names.slice(0, 20).join(', ')}`
  throw new CallError(`The module ${call.module} has no export "${call.export}"; ${has}.`)
}

function article(type: string): string {
  return /^[aeiou]/.test(type) ? `an ${type}` : `a ${type}`
}

function argumentsOf(call: Call): unknown[] {
  let args: unknown
  try {
    const bytes = call.argsInFile ? takeFile(join(call.taskDir, argsFileName)) : call.args
    args = bytes === undefined ? [] : deserialize(bytes)
  } catch (error) {
    throw new CallError(`The arguments could not be read: ${error instanceof Error ? error.message : String(error)}`, { cause: error })
  }
  if (!Array.isArray(args)) throw new CallError('The arguments could not be read: they are no array.')
  return args
}

function takeFile(path: string): Uint8Array {
  const bytes = readFileSync(path)
  unlinkSync(path)
  return bytes
}

function answerOf(result: unknown, call: Call): Answer {
  let value: Uint8Array
  try {
    value = serialize(result)
  } catch (error) {
    const reason = error instanceof Error ? error.message : String(error)
    throw new CallError(
      `The result cannot be sent: ${reason} Return what the structured clone algorithm takes: no functions, no promises in it.`,
    )
  }
  if (value.length <= maxValueBytes) return { how: 'returned', value }
  writeFileSync(join(call.taskDir, resultFileName), value)
  return { how: 'returned', size: value.length }
}
