/** What `batchmesh run` is going to do, worked out and checked before anything is sent. */
import { posix } from 'node:path'
import { MeshError } from '../../../protocols/errors.ts'
import { joinCommandLine } from '../../../protocols/model/command-line.ts'
import { matchesPatterns } from '../../../protocols/model/file-pattern.ts'
import type { Demand } from '../../../protocols/model/resources.ts'
import type { ResourceFile, TaskSpec } from '../../../protocols/model/task.ts'
import {
  arrayCount,
  arrayTask,
  escapeTemplate,
  type IndexRange,
  maxArrayRanges,
  type TaskArray,
  taskArraySchema,
} from '../../../protocols/model/task-array.ts'
import { firstIssue } from '../../../protocols/rpc.ts'
import { idRanges, RangeBuilder } from '../array.ts'
import { checkTask, type JsonObject } from '../json-file.ts'
import { parseShellTemplate } from '../shell-template.ts'
import { arrayText, expand, expandPattern, parseWordTemplate, type Template, type TemplateValues } from '../template.ts'
import type { StagedShared } from './inputs.ts'
import { ArrayItems, each, type Items, type Positions } from './items.ts'

/** What the options of `run` say, read but not yet put together. */
export interface RunRequest {
  /** One string for `sh -c`, or the words of a program. */
  command: string | readonly string[]
  items: Items
  shared: readonly StagedShared[]
  outputs: readonly string[]
  to?: string
  reduce?: string
  reduceOutputs: readonly string[]
  env: readonly { name: string; value: string }[]
  retries?: number
  timeoutMs?: number
  slots?: number
  demand?: Demand
}

export const reduceId = 'reduce'
/** A task's resource files are one list; see protocols/model/task.ts. */
const maxResourceFiles = 100_000
/** Up to here every task is expanded and checked before the start; beyond, the first and the last, so that the start stays quick. */
const checkedTasks = 10_000
/** A list of ids too long for one request says nothing that the reduce step's submission after all of them does not. */
const maxDependencyRanges = 10_000

export class RunPlan {
  readonly request: RunRequest
  readonly items: Items
  readonly count: number
  readonly #words: readonly Template[]
  readonly #isShell: boolean
  readonly #outputs: readonly Template[]
  readonly #env: readonly { name: string; value: Template }[]
  readonly #to: Template | undefined
  readonly #idWidth: number
  #newestArray: { resourceFiles: readonly ResourceFile[]; array: TaskArray } | undefined

  /** Throws InvalidPropertyValue for whatever can be known to be wrong. */
  constructor(request: RunRequest) {
    const { items } = request
    const word = (text: string) => parseWordTemplate(text, items.columns)
    this.request = request
    this.items = items
    this.count = items.count
    this.#isShell = typeof request.command === 'string'
    this.#words = typeof request.command === 'string' ? [parseShellTemplate(request.command, items.columns)] : request.command.map(word)
    this.#outputs = request.outputs.map(word)
    this.#env = request.env.map(({ name, value }) => ({ name, value: word(value) }))
    this.#to = request.to === undefined ? undefined : word(request.to)
    this.#idWidth = Math.max(4, String(items.lastIndex).length)
    this.#checkNames()
    if (request.to !== undefined && request.outputs.length === 0 && request.reduce === undefined)
      throw usage('--to needs --outputs: it says which of the files that a task makes are written there, such as --outputs "*.png".')
    if (request.reduce !== undefined && parseShellTemplate(request.reduce).names.size > 0)
      throw usage('--reduce takes no placeholders: it runs once, with the outputs of all tasks in its directory. Write {{ for a brace.')
    this.#checkPlaces()
    this.#checkCollisions()
    const areAllChecked = items.kind !== 'array' && this.count <= checkedTasks
    for (let at = 0; at < this.count; at += areAllChecked ? 1 : Math.max(1, this.count - 1)) this.#single(at, [])
    if (request.reduce !== undefined) this.reduceSpec([], this.all)
  }

  /** The positions of all tasks. */
  get all(): Positions {
    return [{ start: 0, end: this.count - 1, step: 1 }]
  }

  values(at: number): TemplateValues {
    return this.items.values(at)
  }

  taskId(at: number): string {
    return String(this.values(at).index).padStart(this.#idWidth, '0')
  }

  /** The position of the task with an id, or undefined. */
  positionOf(taskId: string): number | undefined {
    const at = /^\d{1,15}$/.test(taskId) ? this.items.positionOf(Number(taskId)) : undefined
    return at !== undefined && this.taskId(at) === taskId ? at : undefined
  }

  commandLine(at: number): string {
    return this.spec(at, []).commandLine
  }

  /** Patterns of the outputs of the task at a position. */
  outputs(at: number): string[] {
    return this.#outputs.map((output) => expandPattern(output, this.values(at)))
  }

  /** Patterns, as they were given, that name none of these files. `at` is the position of the task that made it; undefined: the reduce step. */
  unmatched(files: readonly { path: string; at: number | undefined }[]): string[] {
    const waiting = new Map(this.#outputs.map((output, index) => [output, `--outputs ${this.request.outputs[index]}`]))
    const waitingReduce = new Set(this.request.reduceOutputs)
    for (const { path, at } of files) {
      if (at === undefined) {
        for (const pattern of waitingReduce) if (matchesPatterns(path, [pattern])) waitingReduce.delete(pattern)
      } else
        for (const output of waiting.keys()) if (matchesPatterns(path, [expandPattern(output, this.values(at))])) waiting.delete(output)
    }
    return [...waiting.values(), ...[...waitingReduce].map((pattern) => `--reduce-outputs ${pattern}`)]
  }

  reduceOutputs(): readonly string[] {
    return this.request.reduceOutputs.length > 0 ? this.request.reduceOutputs : ['**']
  }

  /** The task at a position, with its resource files. */
  spec(at: number, resourceFiles: readonly ResourceFile[]): TaskSpec {
    return this.items.kind === 'array' ? arrayTask(this.#array(resourceFiles), this.values(at).index) : this.#single(at, resourceFiles)
  }

  #single(at: number, resourceFiles: readonly ResourceFile[]): TaskSpec {
    const values = this.values(at)
    const commandLine = this.#join(this.#words.map((word) => expand(word, values)))
    const env = this.#env.map(({ name, value }) => ({ name, value: expand(value, values) }))
    return checkTask({ id: this.taskId(at), ...this.#fields(commandLine, env, this.outputs(at), resourceFiles) })
  }

  /** Tasks of an array, as arrays: as many as their ranges need, mostly one. */
  *arrays(positions: Positions, resourceFiles: readonly ResourceFile[]): Generator<TaskArray> {
    const ranges = this.indexRanges(positions)
    for (let at = 0; at < ranges.length; at += maxArrayRanges)
      yield { ...this.#array(resourceFiles), indexes: ranges.slice(at, at + maxArrayRanges) }
  }

  /** The indexes of the tasks at some positions. */
  indexRanges(positions: Positions): readonly IndexRange[] {
    if (!(this.items instanceof ArrayItems)) return positions
    if (arrayCount({ indexes: [...positions] }) === this.count) return this.items.ranges
    const built = new RangeBuilder()
    for (const at of each(positions)) built.index(this.values(at).index)
    return built.ranges
  }

  /** The array of the last index, for its template. Its tasks mostly have the same resource files, so the newest is kept. */
  #array(resourceFiles: readonly ResourceFile[]): TaskArray {
    if (this.#newestArray?.resourceFiles === resourceFiles) return this.#newestArray.array
    const env = this.#env.map(({ name, value }) => ({ name, value: arrayText(value) }))
    const files = resourceFiles.map((file) => ({ ...file, filePath: escapeTemplate(file.filePath) }))
    const template = this.#fields(this.#join(this.#words.map(arrayText)), env, this.#outputs.map(arrayText), files)
    const { lastIndex } = this.items
    const indexes = [{ start: lastIndex, end: lastIndex }]
    const parsed = taskArraySchema.safeParse({ indexes, idDigits: this.#idWidth, template })
    if (!parsed.success) throw usage(`the tasks: ${firstIssue(parsed.error)}`)
    this.#newestArray = { resourceFiles, array: parsed.data }
    return parsed.data
  }

  /** The task at the end, which waits for those at some positions. */
  reduceSpec(resourceFiles: readonly ResourceFile[], positions: Positions): TaskSpec {
    if (resourceFiles.length > maxResourceFiles)
      throw usage(`--reduce: the tasks made ${resourceFiles.length} files; one task takes at most ${maxResourceFiles}.`)
    const taskIdRanges = idRanges(this.indexRanges(positions), maxDependencyRanges)
    const commandLine = joinCommandLine(['sh', '-c', expand(parseShellTemplate(this.request.reduce!), { index: 0 })])
    // A variable with a placeholder is that of one input.
    const env = this.#env.filter(({ value }) => isLiteral(value)).map(({ name, value }) => ({ name, value: expand(value, { index: 0 }) }))
    return checkTask({
      id: reduceId,
      ...this.#fields(commandLine, env, this.reduceOutputs(), resourceFiles),
      ...(taskIdRanges === undefined || taskIdRanges.length === 0 ? {} : { dependsOn: { taskIdRanges } }),
    })
  }

  #join(words: readonly string[]): string {
    return joinCommandLine(this.#isShell ? ['sh', '-c', words[0]!] : words)
  }

  #fields(
    commandLine: string,
    env: readonly { name: string; value: string }[],
    patterns: readonly string[],
    resourceFiles: readonly ResourceFile[],
  ): JsonObject {
    const { retries, timeoutMs, slots, demand } = this.request
    return {
      commandLine,
      ...(env.length > 0 ? { environmentSettings: env } : {}),
      ...(resourceFiles.length > 0 ? { resourceFiles } : {}),
      ...(patterns.length > 0 ? { outputFiles: patterns.map((filePattern) => ({ filePattern, uploadCondition: 'tasksuccess' })) } : {}),
      constraints: { maxTaskRetryCount: retries ?? 0, ...(timeoutMs === undefined ? {} : { maxWallClockTimeMs: timeoutMs }) },
      ...(slots === undefined ? {} : { requiredSlots: slots }),
      ...(demand === undefined ? {} : { resources: demand }),
    }
  }

  /** Directory (relative to the current one) that outputs of the task go to, or undefined without --to. */
  directory(at: number): string | undefined {
    return this.#to === undefined ? undefined : expand(this.#to, this.values(at)) || '.'
  }

  /** Where the reduce step's outputs go: `--to` up to the directory before its first placeholder. */
  reduceDirectory(): string | undefined {
    const first = this.#to?.pieces[0]
    if (this.#to === undefined) return undefined
    if (typeof first !== 'string') return '.'
    return this.#to.pieces.length === 1 ? first : first.slice(0, first.lastIndexOf('/') + 1) || '.'
  }

  #checkNames(): void {
    const templates = [
      ...this.#words,
      ...this.#outputs,
      ...this.#env.map(({ value }) => value),
      ...(this.#to === undefined ? [] : [this.#to]),
    ]
    const ofInput = templates.flatMap(({ names }) => [...names]).find((name) => name !== 'index')
    if (ofInput === undefined) return
    if (!this.items.hasInput)
      throw usage(
        this.items.kind === 'table'
          ? `{${ofInput}} needs --inputs, which says what file a row brings, such as --inputs '{${[...this.items.columns!][0]}}'.`
          : `{${ofInput}} needs --inputs.`,
      )
    for (let at = 0; at < this.count; at += 1)
      if (this.values(at).input === undefined) throw usage(`{${ofInput}}: the first --inputs names no file for task ${this.taskId(at)}.`)
  }

  /** A cell such as `../../etc` must not lead out of the directory that was named; one that stands first names it itself. */
  #checkPlaces(): void {
    const root = this.reduceDirectory()
    if (root === undefined || typeof this.#to!.pieces[0] !== 'string' || this.items.kind === 'array') return
    for (let at = 0; at < this.count; at += 1) {
      const directory = this.directory(at)!
      const way = posix.relative(root, directory)
      if (way === '..' || way.startsWith('../'))
        throw usage(`--to ${this.request.to}: for task ${this.taskId(at)} that is ${directory}, which leads out of ${root}.`)
    }
  }

  /** Outputs named without a wildcard are known now: two tasks must not write the same file. */
  #checkCollisions(): void {
    const isReduced = this.request.reduce !== undefined
    if (this.#to === undefined && !isReduced) return
    // Places of an array are told apart by {index} or not at all: that shows at its first tasks.
    const checked = this.items.kind === 'array' ? Math.min(this.count, checkedTasks) : this.count
    const writers = new Map<string, string>()
    for (const output of this.#outputs) {
      const literal = output.pieces.every((piece) => typeof piece !== 'string' || !/[*?[]/.test(piece))
      if (!literal) continue
      for (let at = 0; at < checked; at += 1) {
        const path = expand(output, this.values(at))
        const place = isReduced ? path : `${this.directory(at)}/${path}`
        const other = writers.get(place)
        if (other !== undefined && other !== this.taskId(at)) {
          const advice = isReduced
            ? 'Name it by a placeholder, such as {name} or {index}.'
            : 'Give --outputs or --to a placeholder, such as --to out/{name}/ or --to out/{index}/.'
          throw usage(`Tasks ${other} and ${this.taskId(at)} would both write ${place}. ${advice}`)
        }
        writers.set(place, this.taskId(at))
      }
    }
  }
}

function isLiteral({ pieces }: Template): boolean {
  return pieces.every((piece) => typeof piece === 'string')
}

function usage(message: string): MeshError {
  return new MeshError('InvalidPropertyValue', message)
}
