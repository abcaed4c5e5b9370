/** A task of a run that has ended, and what it made. */
import { join, resolve, sep } from 'node:path'
import type { TaskEvent } from '../../../protocols/control.ts'
import { MeshError } from '../../../protocols/errors.ts'
import type { FailureInfo, OutputEntry } from '../../../protocols/model/task.ts'
import { fetchBlob, readBlob } from '../../mesh/blobs.ts'
import type { Mesh as Client } from '../../mesh/client.ts'
import { writeWhole } from '../../mesh/files.ts'
import { readTaskFile } from '../../mesh/task-files.ts'
import { gathered } from '../bytes.ts'
import { TaskError } from '../task-error.ts'

/** A file that a task made and the mesh keeps. */
export class Output {
  /** Relative to the directory of the task. */
  readonly path: string
  readonly size: number
  /** Its id as a blob. */
  readonly blob: string
  readonly #client: Client
  readonly #mode: number | undefined

  /** @internal */
  constructor(client: Client, { path, size, blob, mode }: OutputEntry) {
    this.#client = client
    this.path = path
    this.size = size
    this.blob = blob
    this.#mode = mode
  }

  /** Its bytes. @throws {@link MeshError} `BlobNotFound` */
  read(options: { signal?: AbortSignal } = {}): Promise<Buffer> {
    return gathered(this.stream(options))
  }

  /** Its text, read as UTF-8. @throws {@link MeshError} `BlobNotFound` */
  async text(options: { signal?: AbortSignal } = {}): Promise<string> {
    return (await this.read(options)).toString('utf8')
  }

  /** Its bytes, piece by piece. @throws {@link MeshError} `BlobNotFound` */
  async *stream(options: { signal?: AbortSignal } = {}): AsyncGenerator<Uint8Array, void, undefined> {
    const { kind, size } = await fetchBlob(this.#client, this.blob, options.signal)
    if (kind !== 'file' || size !== this.size)
      throw new MeshError('BlobCorrupt', `${this.path} is not what was reported: a ${kind} of ${size} bytes.`)
    yield* readBlob(this.#client, this.blob, size, options.signal)
  }

  /**
   * Writes it to a file, or, where `to` ends in `/`, into that directory under its own path. It appears whole or not at
   * all; an executable stays one. Answers where it lies.
   * @throws {@link MeshError} `BlobNotFound`
   */
  async save(to: string, options: { signal?: AbortSignal } = {}): Promise<string> {
    const isDirectory = to.endsWith('/') || to.endsWith(sep)
    const root = resolve(to)
    const path = isDirectory ? join(root, this.path) : root
    // The path came from another machine; where names have other separators it could lead out.
    if (isDirectory && !path.startsWith(root.endsWith(sep) ? root : root + sep))
      throw new MeshError('BlobCorrupt', `The path ${this.path} leads out of ${root}.`)
    await writeWhole(path, this.stream(options), this.#mode)
    return path
  }
}

/** A task of a run that has ended. */
export class FinishedTask {
  /** The input as it was given: a path, or the id of a blob. Absent where there are no inputs. */
  readonly input: string | undefined
  /** Position of the input, from 0, or the number of the array. */
  readonly index: number
  readonly jobId: string
  readonly taskId: string
  readonly result: 'success' | 'failure'
  /** Absent when the program did not run. A program that a signal n ended has 128 + n. */
  readonly exitCode: number | undefined
  /** Why it failed. */
  readonly failureInfo: FailureInfo | undefined
  /** The end of the standard error of a failed task. */
  readonly stderrTail: string | undefined
  /** Name of the machine that ran it. */
  readonly machine: string | undefined
  /** Milliseconds since 1970. */
  readonly startTime: number | undefined
  readonly endTime: number | undefined
  /** The files that its patterns name, if it succeeded. */
  readonly outputs: readonly Output[]
  readonly #client: Client

  /** @internal */
  constructor(client: Client, jobId: string, event: TaskEvent, own: { input: string | undefined; index: number; outputs: OutputEntry[] }) {
    this.#client = client
    this.input = own.input
    this.index = own.index
    this.jobId = jobId
    this.taskId = event.taskId
    this.result = event.result ?? 'failure'
    this.exitCode = event.exitCode
    this.failureInfo = event.failureInfo
    this.stderrTail = event.stderrTail
    this.machine = event.machineName
    this.startTime = event.startTime
    this.endTime = event.endTime
    this.outputs = own.outputs.map((output) => new Output(client, output))
  }

  /** Does nothing if the task succeeded. @throws {@link TaskError} if it failed */
  check(): void {
    if (this.result === 'failure') throw new TaskError(this)
  }

  /** What it wrote to standard output, read where it ran. @throws {@link MeshError} `TaskFilesUnavailable`, `TaskFilesCleanedup` */
  stdout(options: { signal?: AbortSignal } = {}): Promise<string> {
    return this.#text('stdout.txt', options)
  }

  /** What it wrote to standard error. @throws {@link MeshError} `TaskFilesUnavailable`, `TaskFilesCleanedup` */
  stderr(options: { signal?: AbortSignal } = {}): Promise<string> {
    return this.#text('stderr.txt', options)
  }

  /** Writes all outputs below a directory, under their own paths. Answers where they lie. */
  async save(directory: string, options: { signal?: AbortSignal } = {}): Promise<string[]> {
    const saved: string[] = []
    for (const output of this.outputs) saved.push(await output.save(`${directory}/`, options))
    return saved
  }

  async #text(name: string, options: { signal?: AbortSignal }): Promise<string> {
    const { jobId, taskId } = this
    return (await gathered(readTaskFile(this.#client, { jobId, taskId }, name, options))).toString('utf8')
  }
}
