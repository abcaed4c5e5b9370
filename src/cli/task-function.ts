/** `task create --module`: a function of a module as a task, and how `task show` tells what came of it. */
import { readFile } from 'node:fs/promises'
import { resolve } from 'node:path'
import { inspect } from 'node:util'
import { MeshError } from '../../protocols/errors.ts'
import type { TaskView } from '../../protocols/model/task.ts'
import { showThreadTask } from '../../protocols/model/thread-task.ts'
import type { Mesh } from '../mesh/client.ts'
import type { JsonObject } from './json-file.ts'
import type { Fields } from './output.ts'

export interface FunctionOptions {
  module?: string
  export?: string
  args?: string
}

/** Stands for the module until it is uploaded, so that everything else can be checked before. */
export const anyModule = `b${'a'.repeat(58)}`

/** Bundles the module and stores it; the tasks then name it. Rejects with InvalidPropertyValue before anything is stored. */
export async function withFunction(mesh: Mesh, tasks: readonly JsonObject[], options: FunctionOptions, cwd: string): Promise<JsonObject[]> {
  const [{ bundleModule }, values, { putStream }] = await Promise.all([
    import('../mesh/bundle/bundle.ts'),
    import('../mesh/thread-values.ts'),
    import('../mesh/blobs.ts'),
  ])
  const bytes = options.args === undefined ? undefined : values.serializeArguments(await argumentsOf(options.args, cwd))
  const { code, name, export: exported } = await bundleModule(resolve(cwd, options.module!), options.export)
  const args = bytes === undefined ? undefined : await values.sendBytes(mesh, bytes)
  const { id } = await putStream(mesh, values.piecesOf(code), { size: code.length })
  const thread = { module: id, name, export: exported, ...(args === undefined ? {} : { args }) }
  return tasks.map((task) => ({ ...task, thread }))
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
