/** Results of tasks as they end: outputs are written, or listed; standard output is printed. */
import { join, resolve, sep } from 'node:path'
import type { TaskEvent } from '../../../protocols/control.ts'
import { MeshError, toMeshError } from '../../../protocols/errors.ts'
import { patternMatcher } from '../../../protocols/model/file-pattern.ts'
import type { OutputEntry } from '../../../protocols/model/task.ts'
import { batches, bulkTimeoutMs, severalAtOnce } from '../../mesh/batches.ts'
import { fetchBlob, readBlob } from '../../mesh/blobs.ts'
import type { Mesh } from '../../mesh/client.ts'
import { isSameFile, writeWhole } from '../../mesh/files.ts'
import { readTaskFile } from '../../mesh/task-files.ts'
import type { World } from '../world.ts'

export interface Output {
  taskId: string
  path: string
  blob: string
  size: number
  mode?: number
  /** The job that made it, where it was an earlier one. */
  jobId?: string
  /** Where it was written. */
  file?: string
}

/** What a task was asked for. Whatever else a machine reports of it is not taken. */
export interface Expected {
  /** Patterns of its outputs. */
  patterns: readonly string[]
  /** Blobs that lay in its directory before it started, by path: unchanged, they are no results. */
  before: ReadonlyMap<string, string>
}

export interface ResultOptions {
  jobId: string
  world: World
  signal: AbortSignal
  /** Directory that a task's outputs go to; undefined: they stay in the mesh. */
  directory: (taskId: string) => string | undefined
  expected: (taskId: string) => Expected | Promise<Expected>
  /** Whether to print a task's standard output (and error). */
  printsStdout: (taskId: string) => boolean
  printsStderr: (taskId: string) => boolean
  /** Called before something is printed. */
  onPrint: () => void
}

/** Tasks whose files are fetched at once. */
const tasksAtOnce = 4

export class Results {
  readonly outputs: Output[] = []
  /** What could not be fetched or written, a sentence each. */
  readonly problems: string[] = []
  /** The first problem that keeps an output from whoever comes next, such as the reduce step. */
  missing: string | undefined
  /** Files that were written; those that were there already are not. */
  written = 0
  /** How many earlier tasks' standard output is not to be had any more. */
  lostTexts = 0
  readonly #mesh: Mesh
  readonly #options: ResultOptions
  readonly #queue: TaskEvent[] = []
  readonly #working = new Set<Promise<void>>()
  readonly #writers = new Map<string, string>()
  #printed: Promise<void> = Promise.resolve()

  constructor(mesh: Mesh, options: ResultOptions) {
    this.#mesh = mesh
    this.#options = options
  }

  /** Takes a completed task; returns at once. */
  add(task: TaskEvent): void {
    const { taskId } = task
    const { jobId } = this.#options
    if (this.#options.printsStdout(taskId)) this.#print({ jobId, taskId }, 'stdout.txt')
    if (this.#options.printsStderr(taskId)) this.#print({ jobId, taskId }, 'stderr.txt')
    this.#queue.push(task)
    if (this.#working.size < tasksAtOnce) {
      const worker = this.#work().finally(() => this.#working.delete(worker))
      this.#working.add(worker)
    }
  }

  /**
   * Takes the outputs of a task of an earlier job for those of task `taskId`. False, with nothing taken, when one of them is
   * not to be had any more.
   */
  async keep(taskId: string, earlier: { jobId: string; taskId: string; outputs: readonly OutputEntry[] }): Promise<boolean> {
    const { patterns, before } = await this.#options.expected(taskId)
    const isWanted = patternMatcher(patterns)
    const wanted = earlier.outputs.filter(({ path, blob }) => before.get(path) !== blob && isWanted(path))
    const taken: Output[] = []
    for (const entry of wanted) {
      const output: Output = { taskId, ...entry, jobId: earlier.jobId }
      try {
        await this.#write(output)
      } catch (error) {
        if (this.#options.signal.aborted) throw error
        const { code } = toMeshError(error)
        if (code === 'BlobNotFound' || code === 'BlobCorrupt') {
          for (const { file } of taken) if (file !== undefined) this.#writers.delete(file)
          return false
        }
        // The fault is with this machine, and running the task again does not mend it.
        this.#notWritten(output, error)
      }
      taken.push(output)
    }
    this.outputs.push(...taken)
    if (this.#options.printsStdout(taskId)) this.#print(earlier, 'stdout.txt')
    return true
  }

  /** Resolves when all that was added is written and printed. */
  async settled(): Promise<void> {
    while (this.#working.size > 0) await Promise.all(this.#working)
    await this.#printed
    this.outputs.sort((a, b) => (a.taskId === b.taskId ? (a.path < b.path ? -1 : 1) : a.taskId < b.taskId ? -1 : 1))
  }

  async #work(): Promise<void> {
    for (let task = this.#queue.shift(); task !== undefined; task = this.#queue.shift()) {
      if (task.outputs !== undefined && task.outputs.length > 0) await this.#takeAll(task.taskId, task.outputs)
    }
  }

  async #takeAll(taskId: string, outputs: readonly OutputEntry[]): Promise<void> {
    let expected: Expected
    try {
      expected = await this.#options.expected(taskId)
    } catch (error) {
      if (!this.#options.signal.aborted)
        this.#refuse(`The outputs of task ${taskId} are not taken: what it was asked for is not known: ${toMeshError(error).message}`)
      return
    }
    const { patterns, before } = expected
    const isWanted = patternMatcher(patterns)
    const taken: Output[] = []
    for (const output of outputs) {
      if (before.get(output.path) === output.blob) continue
      if (isWanted(output.path)) taken.push({ taskId, ...output })
      else
        this.#refuse(
          `The machine that ran task ${taskId} reported an output ${output.path}, which none of its patterns names (${patterns.join(', ') || 'it has none'}). It is not taken.`,
        )
    }
    this.outputs.push(...taken)
    if (this.#options.directory(taskId) === undefined) return
    await severalAtOnce(batches(taken), async (batch) => {
      const together = batch.map((at) => taken[at]!)
      const contents = await this.#readSmall(together)
      for (const [at, output] of together.entries()) await this.#take(output, contents[at])
    })
  }

  /** The contents of small files in one request. None where one of them is not to be had: each by itself says which, and why. */
  async #readSmall(outputs: readonly Output[]): Promise<readonly Uint8Array[]> {
    if (outputs.length === 1) return []
    const { signal } = this.#options
    try {
      const ids = outputs.map(({ blob }) => blob)
      return (await this.#mesh.local.call('readSmall', { ids }, { signal, persist: true, timeoutMs: bulkTimeoutMs })).files
    } catch {
      return []
    }
  }

  #refuse(problem: string): void {
    this.problems.push(problem)
    this.missing ??= problem
  }

  async #take(output: Output, content: Uint8Array | undefined): Promise<void> {
    try {
      await this.#write(output, content)
    } catch (error) {
      if (this.#options.signal.aborted) return
      this.#notWritten(output, error)
    }
  }

  #notWritten(output: Output, error: unknown): void {
    const { path, taskId, blob } = output
    this.problems.push(
      `${path} of task ${taskId} (blob ${blob}) could not be written to ${this.#place(output)?.file}: ${toMeshError(error).message}`,
    )
  }

  #place({ taskId, path }: Output): { root: string; file: string } | undefined {
    const directory = this.#options.directory(taskId)
    if (directory === undefined) return undefined
    const root = resolve(this.#options.world.cwd, directory)
    return { root, file: join(root, path) }
  }

  /** Brings an output to its directory, if it has one. What is there already with the same content stays. */
  async #write(output: Output, content?: Uint8Array): Promise<void> {
    const { signal } = this.#options
    const place = this.#place(output)
    if (place === undefined) return
    const { root, file } = place
    const other = this.#writers.get(file)
    if (other !== undefined) {
      this.problems.push(
        `${file} is there already from task ${other}; that of task ${output.taskId} is kept as blob ${output.blob}. Give --to a placeholder, such as {name}/ or {index}/.`,
      )
      return
    }
    this.#writers.set(file, output.taskId)
    try {
      // Where names have other separators than in the mesh, one name of a path could be several.
      if (!file.startsWith(root.endsWith(sep) ? root : root + sep))
        throw new MeshError('BlobCorrupt', 'The path leads out of the directory.')
      const { kind, size } =
        content === undefined ? await fetchBlob(this.#mesh, output.blob, signal) : { kind: 'file', size: content.length }
      if (kind !== 'file') throw new MeshError('BlobCorrupt', 'The blob is a directory, no file.')
      if (size !== output.size) throw new MeshError('BlobCorrupt', `The blob has ${size} bytes, but ${output.size} were reported.`)
      const pieces = () => (content === undefined ? readBlob(this.#mesh, output.blob, size, signal) : [content])
      const isThere = output.jobId !== undefined && (await isSameFile(file, size, pieces))
      if (!isThere) {
        await writeWhole(file, pieces(), output.mode)
        this.written += 1
      }
      output.file = file
    } catch (error) {
      this.#writers.delete(file)
      throw error
    }
  }

  /** One task's text at a time, whole, in the order in which they ended. */
  #print(task: { jobId: string; taskId: string }, name: 'stdout.txt' | 'stderr.txt'): void {
    const { world, jobId, signal } = this.#options
    const stream = name === 'stdout.txt' ? world.stdout : world.stderr
    this.#printed = this.#printed.then(async () => {
      try {
        for await (const piece of readTaskFile(this.#mesh, { jobId: task.jobId, taskId: task.taskId }, name, { signal })) {
          this.#options.onPrint()
          await stream.write(piece)
        }
      } catch (error) {
        // A task that never ran has no such file; why it did not run is said with the failures.
        const { code, message } = toMeshError(error)
        if (signal.aborted) return
        if (task.jobId !== jobId) this.lostTexts += 1
        else if (code !== 'FileNotFound') this.problems.push(`${name} of task ${task.taskId} cannot be read: ${message}`)
      }
    })
  }
}
