/** `task create --module`: a function of a module as a task, and how `task show` tells what came of it. */
import { readFile } from 'node:fs/promises'
import { resolve } from 'node:path'
import { inspect } from 'node:util'
import { MeshError } from '../../protocols/errors.ts'
import { blobIdSchema } from '../../protocols/ids.ts'
import type { TaskView } from '../../protocols/model/task.ts'
import { showThreadTask } from '../../protocols/model/thread-task.ts'
import type { Bundle } from '../mesh/bundle/bundle.ts'
import type { Mesh } from '../mesh/client.ts'
import type { JsonObject } from './json-file.ts'
import type { Fields } from './output.ts'

export interface FunctionOptions {
  module?: string
  export?: string
  args?: string
}

/** Stands for the module until it is uploaded, so that everything else can be checked before. */
const anyModule = `b${'a'.repeat(58)}`

/** What is ready to be sent of a task's function. */
interface Prepared {
  /** Of the task as it is checked before the first byte is sent, and as it is submitted but for the blobs. */
  thread: JsonObject
  /** The bundle of a local module; absent where the module is a blob already. */
  code?: Uint8Array<ArrayBuffer>
  args?: Uint8Array
}

/** The functions of some tasks, whose `thread` names a local module or a blob, and arguments as plain values. */
export class Functions {
  readonly #prepared: readonly (Prepared | undefined)[]

  private constructor(prepared: readonly (Prepared | undefined)[]) {
    this.#prepared = prepared
  }

  /** Bundles the modules; nothing is stored yet. Rejects with InvalidPropertyValue when one cannot be, or does not export the function. */
  static async of(tasks: readonly JsonObject[], cwd: string): Promise<Functions> {
    const bundles = new Map<string, Promise<Bundle>>()
    const prepared: (Prepared | undefined)[] = []
    for (const { id, thread } of tasks)
      prepared.push(thread === undefined ? undefined : await prepare(thread as JsonObject, `task ${String(id)}`, cwd, bundles))
    return new Functions(prepared)
  }

  /** The tasks as they can be checked. */
  unsent(tasks: readonly JsonObject[]): JsonObject[] {
    return tasks.map((task, at) => ({ ...task, thread: this.#prepared[at]?.thread }))
  }

  /** Stores modules and large arguments; answers the tasks that name them. */
  async send(mesh: Mesh, tasks: readonly JsonObject[]): Promise<JsonObject[]> {
    const [{ piecesOf, sendBytes }, { putStream }] = await Promise.all([import('../mesh/thread-values.ts'), import('../mesh/blobs.ts')])
    const stored = new Map<Uint8Array<ArrayBuffer>, string>()
    const sent: JsonObject[] = []
    for (const [at, task] of tasks.entries()) {
      const { thread, code, args } = this.#prepared[at] ?? {}
      if (code !== undefined && !stored.has(code)) stored.set(code, (await putStream(mesh, piecesOf(code), { size: code.length })).id)
      const module = code === undefined ? {} : { module: stored.get(code) }
      const values = args === undefined ? {} : { args: await sendBytes(mesh, args) }
      sent.push(thread === undefined ? task : { ...task, thread: { ...thread, ...module, ...values } })
    }
    return sent
  }
}

async function prepare(
  { module, args, ...rest }: JsonObject,
  task: string,
  cwd: string,
  bundles: Map<string, Promise<Bundle>>,
): Promise<Prepared> {
  const { export: exported } = rest
  if (typeof module !== 'string') throw new MeshError('InvalidPropertyValue', `${task}: thread.module must be a local file or a blob id.`)
  if (exported !== undefined && typeof exported !== 'string')
    throw new MeshError('InvalidPropertyValue', `${task}: thread.export must be the name of a function.`)
  if (args !== undefined && !Array.isArray(args))
    throw new MeshError('InvalidPropertyValue', `${task}: thread.args must be an array of the function's arguments, such as [1, "a"].`)
  const bytes = args === undefined ? {} : { args: (await import('../mesh/thread-values.ts')).serializeArguments(args) }
  if (blobIdSchema.safeParse(module).success) return { thread: { ...rest, module }, ...bytes }
  const { bundleModule } = await import('../mesh/bundle/bundle.ts')
  const key = JSON.stringify([module, exported])
  const bundling = bundles.get(key) ?? bundleModule(resolve(cwd, module), exported)
  bundles.set(key, bundling)
  const { code, name, export: found } = await bundling
  return { thread: { name, export: found, ...rest, module: anyModule }, code, ...bytes }
}

/** What `task create --module` asks for, in the shape of a JSON file. */
export async function threadOf(options: FunctionOptions, cwd: string): Promise<JsonObject> {
  return {
    module: options.module,
    ...(options.export === undefined ? {} : { export: options.export }),
    ...(options.args === undefined ? {} : { args: await argumentsOf(options.args, cwd) }),
  }
}

/** A JSON array, or a file that holds one: `@args.json`. */
async function argumentsOf(text: string, cwd: string): Promise<unknown[]> {
  const json = text.startsWith('@') ? await readFile(resolve(cwd, text.slice(1)), 'utf8') : text
  let args: unknown
  try {
    args = JSON.parse(json)
  } catch (error) {
    throw refusal(text, `(${(error as Error).message})`)
  }
  if (!Array.isArray(args)) throw refusal(text, '')
  return args
}

function refusal(text: string, why: string): MeshError {
  return new MeshError(
    'InvalidPropertyValue',
    `--args ${text} is no JSON array of the function's arguments${why === '' ? '' : ` ${why}`}. Write --args '[1, "a"]', or --args @FILE.`,
  )
}

/** What a task runs, in a line. */
export function whatRuns({ commandLine, thread }: Pick<TaskView, 'commandLine' | 'thread'>): string {
  return thread === undefined ? commandLine : showThreadTask(thread)
}

/** What the function returned or threw, for people and for programs. */
export async function shownResult(mesh: Mesh, task: TaskView): Promise<{ fields: Fields; view: unknown }> {
  const { threadError, threadResult } = task
  const fields: Fields = threadError === undefined ? [] : [['threw', threadError.stack ?? `${threadError.name}: ${threadError.message}`]]
  if (threadResult === undefined) return { fields, view: task }
  const { readValue } = await import('../mesh/thread-values.ts')
  const value = await readValue(mesh, threadResult)
  const shown = inspect(value, { depth: 6, maxArrayLength: 100, maxStringLength: 10_000 })
  return { fields: [...fields, ['returned', shown]], view: { ...task, threadResult: isJson(value) ? value : shown } }
}

/** Whether JSON keeps the value as it is; another is shown as text. */
function isJson(value: unknown): boolean {
  if (value === null || ['string', 'boolean'].includes(typeof value)) return true
  if (typeof value === 'number') return Number.isFinite(value)
  if (Array.isArray(value)) return value.every(isJson)
  return typeof value === 'object' && Object.getPrototypeOf(value) === Object.prototype && Object.values(value).every(isJson)
}
