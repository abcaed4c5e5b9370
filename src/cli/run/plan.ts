/** What `batchmesh run` is going to do, worked out and checked before anything is sent. */
import { MeshError } from '../../../protocols/errors.ts'
import { joinCommandLine } from '../../../protocols/model/command-line.ts'
import { matchesPatterns } from '../../../protocols/model/file-pattern.ts'
import type { Demand } from '../../../protocols/model/resources.ts'
import type { ResourceFile, TaskSpec } from '../../../protocols/model/task.ts'
import { toRanges } from '../array.ts'
import { checkTask } from '../json-file.ts'
import {
  expand,
  expandPattern,
  type PlaceholderName,
  parseShellTemplate,
  parseWordTemplate,
  type Template,
  type TemplateValues,
} from '../template.ts'
import type { StagedInput, StagedShared } from './inputs.ts'

/** What the options of `run` say, read but not yet put together. */
export interface RunRequest {
  /** One string for `sh -c`, or the words of a program. */
  command: string | readonly string[]
  inputs?: readonly StagedInput[]
  indexes?: readonly number[]
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

export class RunPlan {
  readonly request: RunRequest
  readonly count: number
  readonly #words: readonly Template[]
  readonly #isShell: boolean
  readonly #outputs: readonly Template[]
  readonly #to: Template | undefined
  readonly #idWidth: number

  /** Throws InvalidPropertyValue for whatever can be known to be wrong. */
  constructor(request: RunRequest) {
    this.request = request
    this.count = request.inputs?.length ?? request.indexes?.length ?? 1
    this.#isShell = typeof request.command === 'string'
    this.#words = typeof request.command === 'string' ? [parseShellTemplate(request.command)] : request.command.map(parseWordTemplate)
    this.#outputs = request.outputs.map(parseWordTemplate)
    this.#to = request.to === undefined ? undefined : parseWordTemplate(request.to)
    const most = (request.indexes ?? []).reduce((a, b) => Math.max(a, b), this.count - 1)
    this.#idWidth = Math.max(4, String(most).length)
    this.#checkNames()
    if (request.to !== undefined && request.outputs.length === 0 && request.reduce === undefined)
      throw usage('--to needs --outputs: it says which of the files that a task makes are written there, such as --outputs "*.png".')
    if (request.reduce !== undefined && parseShellTemplate(request.reduce).names.size > 0)
      throw usage('--reduce takes no placeholders: it runs once, with the outputs of all tasks in its directory. Write {{ for a brace.')
    this.#checkCollisions()
    for (let at = 0; at < this.count; at += this.count > checkedTasks ? this.count - 1 : 1) this.spec(at, [])
    if (request.reduce !== undefined) this.reduceSpec([])
  }

  values(at: number): TemplateValues {
    return { input: this.request.inputs?.[at]?.path, index: this.request.indexes?.[at] ?? at }
  }

  taskId(at: number): string {
    return String(this.values(at).index).padStart(this.#idWidth, '0')
  }

  commandLine(at: number): string {
    const words = this.#words.map((word) => expand(word, this.values(at)))
    return joinCommandLine(this.#isShell ? ['sh', '-c', words[0]!] : words)
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
    return this.#task(this.taskId(at), this.commandLine(at), this.outputs(at), resourceFiles, {})
  }

  reduceSpec(resourceFiles: readonly ResourceFile[]): TaskSpec {
    if (resourceFiles.length > maxResourceFiles)
      throw usage(`--reduce: the tasks made ${resourceFiles.length} files; one task takes at most ${maxResourceFiles}.`)
    const taskIdRanges = toRanges(Array.from({ length: this.count }, (_, at) => this.values(at).index))
    return this.#task(
      reduceId,
      joinCommandLine(['sh', '-c', expand(parseShellTemplate(this.request.reduce!), { index: 0 })]),
      this.reduceOutputs(),
      resourceFiles,
      {
        // A list of single ids too long for one request says nothing that its submission after all of them does not.
        ...(taskIdRanges.length <= 10_000 ? { dependsOn: { taskIdRanges } } : {}),
      },
    )
  }

  #task(id: string, commandLine: string, patterns: readonly string[], resourceFiles: readonly ResourceFile[], more: object): TaskSpec {
    const { env, retries, timeoutMs, slots, demand } = this.request
    return checkTask({
      id,
      commandLine,
      ...(env.length > 0 ? { environmentSettings: env } : {}),
      ...(resourceFiles.length > 0 ? { resourceFiles } : {}),
      ...(patterns.length > 0 ? { outputFiles: patterns.map((filePattern) => ({ filePattern, uploadCondition: 'tasksuccess' })) } : {}),
      constraints: { maxTaskRetryCount: retries ?? 0, ...(timeoutMs === undefined ? {} : { maxWallClockTimeMs: timeoutMs }) },
      ...(slots === undefined ? {} : { requiredSlots: slots }),
      ...(demand === undefined ? {} : { resources: demand }),
      ...more,
    })
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
    const used = new Set<PlaceholderName>(
      [...this.#words, ...this.#outputs, ...(this.#to === undefined ? [] : [this.#to])].flatMap(({ names }) => [...names]),
    )
    const ofInput = [...used].find((name) => name !== 'index')
    if (ofInput !== undefined && this.request.inputs === undefined) throw usage(`{${ofInput}} needs --inputs.`)
  }

  /** Outputs named without a wildcard are known now: two tasks must not write the same file. */
  #checkCollisions(): void {
    const isReduced = this.request.reduce !== undefined
    if (this.#to === undefined && !isReduced) return
    const writers = new Map<string, string>()
    for (const output of this.#outputs) {
      const literal = output.pieces.every((piece) => typeof piece !== 'string' || !/[*?[]/.test(piece))
      if (!literal) continue
      for (let at = 0; at < this.count; at += 1) {
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

function usage(message: string): MeshError {
  return new MeshError('InvalidPropertyValue', message)
}
