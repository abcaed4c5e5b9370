/** What a run is going to do, checked before anything is sent. */
import { MeshError } from '../../../protocols/errors.ts'
import { joinCommandLine } from '../../../protocols/model/command-line.ts'
import type { ResourceFile, TaskSpec } from '../../../protocols/model/task.ts'
import { escapeTemplate, maxArrayRanges, type TaskArray } from '../../../protocols/model/task-array.ts'
import { RangeBuilder } from '../../cli/array.ts'
import { parseShellTemplate } from '../../cli/shell-template.ts'
import { arrayText, expand, expandPattern, parseWordTemplate, type Template } from '../../cli/template.ts'
import { taskOf } from '../own-job.ts'
import { findInputs, findShared, indexesOf, type RunInput, type Shared } from './inputs.ts'
import type { RunOptions } from './options.ts'

export class RunPlan {
  readonly options: RunOptions
  readonly inputs: readonly RunInput[] | undefined
  readonly shared: readonly Shared[]
  readonly indexes: readonly number[]
  readonly #words: readonly Template[]
  readonly #outputs: readonly Template[]
  readonly #idWidth: number

  /** Reads what the options name. Rejects with InvalidPropertyValue for whatever can be known to be wrong. */
  static async make(options: RunOptions): Promise<RunPlan> {
    const cwd = options.cwd ?? process.cwd()
    if (options.inputs !== undefined && options.array !== undefined) throw refusal('Give either inputs or array.')
    const inputs = options.inputs === undefined ? undefined : await findInputs(options.inputs, cwd)
    const indexes = options.array === undefined ? (inputs?.map((_, at) => at) ?? [0]) : [...indexesOf(options.array)]
    if (new Set(indexes).size < indexes.length) throw refusal('array: a number is in it twice.')
    const shared = await findShared(listOf(options.with), cwd)
    return new RunPlan(options, inputs, indexes, shared)
  }

  private constructor(options: RunOptions, inputs: RunInput[] | undefined, indexes: number[], shared: Shared[]) {
    const { command } = options
    if (command.length === 0) throw refusal("There is no command. Give a string, such as 'wc -l {input}', or a program and its arguments.")
    this.options = options
    this.inputs = inputs
    this.indexes = indexes
    this.shared = shared
    this.#words = typeof command === 'string' ? [parseShellTemplate(command)] : command.map((word) => parseWordTemplate(word))
    this.#outputs = listOf(options.outputs).map((pattern) => parseWordTemplate(pattern))
    const ofInput = [...this.#words, ...this.#outputs].flatMap(({ names }) => [...names]).find((name) => name !== 'index')
    if (ofInput !== undefined && inputs === undefined) throw refusal(`{${ofInput}} needs inputs.`)
    this.#idWidth = Math.max(4, String(indexes.reduce((a, b) => Math.max(a, b), 0)).length)
    if (indexes.length > 0) this.spec(0, [])
  }

  taskId(at: number): string {
    return String(this.indexes[at]).padStart(this.#idWidth, '0')
  }

  /** Patterns of the outputs of the task at a position. */
  outputs(at: number): string[] {
    return this.#outputs.map((output) => expandPattern(output, this.#values(at)))
  }

  spec(at: number, resourceFiles: readonly ResourceFile[]): TaskSpec {
    const words = this.#words.map((word) => expand(word, this.#values(at)))
    const index = this.options.array === undefined ? undefined : this.indexes[at]
    return this.#spec(this.options, this.taskId(at), words, this.outputs(at), resourceFiles, index)
  }

  #spec(
    options: RunOptions,
    id: string,
    words: readonly string[],
    patterns: readonly string[],
    resourceFiles: readonly ResourceFile[],
    index?: number,
  ): TaskSpec {
    return taskOf(
      options,
      {
        id,
        commandLine: joinCommandLine(typeof options.command === 'string' ? ['sh', '-c', words[0]!] : words),
        ...(resourceFiles.length === 0 ? {} : { resourceFiles: [...resourceFiles] }),
        ...(patterns.length === 0
          ? {}
          : { outputFiles: patterns.map((filePattern) => ({ filePattern, uploadCondition: 'tasksuccess' as const })) }),
      },
      index,
    )
  }

  /** The tasks of an array, as few arrays: mostly one. */
  *arrays(resourceFiles: readonly ResourceFile[]): Generator<TaskArray> {
    const built = new RangeBuilder()
    for (const index of this.indexes.toSorted((a, b) => a - b)) built.index(index)
    const { env } = this.options
    const literal = Object.fromEntries(Object.entries(env ?? {}).map(([name, value]) => [name, escapeTemplate(value)]))
    const files = resourceFiles.map((file) => ({ ...file, filePath: escapeTemplate(file.filePath) }))
    const spec = this.#spec({ ...this.options, env: literal }, '0', this.#words.map(arrayText), this.#outputs.map(arrayText), files)
    const { id: _, ...template } = spec
    for (let at = 0; at < built.ranges.length; at += maxArrayRanges)
      yield { indexes: built.ranges.slice(at, at + maxArrayRanges), idPrefix: '', idDigits: this.#idWidth, template }
  }

  #values(at: number): { index: number; input?: string } {
    const input = this.inputs?.[at]?.path
    return { index: this.indexes[at]!, ...(input === undefined ? {} : { input }) }
  }
}

function listOf(given: string | readonly string[] | undefined): readonly string[] {
  return typeof given === 'string' ? [given] : (given ?? [])
}

function refusal(message: string): MeshError {
  return new MeshError('InvalidPropertyValue', message)
}
