/**
 * `mesh.map`: a task for each input, results as an async iterable.
 *
 * Three things go on at once: the feeder takes inputs and adds tasks, the watcher hears of completed ones, and whoever
 * iterates takes results. At most `ahead` inputs are between the first and the last, so that memory is bounded whatever
 * the source is. When the iteration ends, for whatever reason, all three end and nothing is left running.
 */
import type { TaskEvent } from '../../../protocols/control.ts'
import { MeshError } from '../../../protocols/errors.ts'
import type { TaskSpec } from '../../../protocols/model/task.ts'
import { putStream } from '../../mesh/blobs.ts'
import { type Bundle, bundleFunction, bundleModule } from '../../mesh/bundle/bundle.ts'
import type { Mesh as Client } from '../../mesh/client.ts'
import { piecesOf, readValue, sendBytes, serializeArguments } from '../../mesh/thread-values.ts'
import { completions } from '../completions.ts'
import { OwnJob, taskOf } from '../own-job.ts'
import { MapError } from '../task-error.ts'
import { Bell, untilAborted } from '../until-aborted.ts'
import type { Inputs, MapOptions, RemoteFunction } from './options.ts'
import { mappedStack } from './stack.ts'

const defaultAhead = 1000
/** Tasks in one request: protocols/control.ts takes so many. */
const batchTasks = 1000
/** Requests on their way at once. */
const requestsInFlight = 4
const dayMs = 86_400_000

/** A job that failed is kept so that its tasks can be looked at. */
export const failedRetentionMs = dayMs

type Work<I, R> = ((input: I) => R) | RemoteFunction

export async function* mapInputs<I, R>(
  client: Client,
  work: Work<I, R>,
  inputs: Inputs<I>,
  options: MapOptions,
): AsyncGenerator<unknown, void, undefined> {
  options.signal?.throwIfAborted()
  const bundle = await bundleOf(work)
  const ending = new AbortController()
  const signal = options.signal === undefined ? ending.signal : AbortSignal.any([ending.signal, options.signal])
  const map = new Mapping<I>(client, bundle, inputs, options, signal, typeof work === 'function')
  let isDone = false
  try {
    await map.begin()
    yield* map.results()
    isDone = true
  } catch (error) {
    options.signal?.throwIfAborted()
    throw error
  } finally {
    ending.abort(new MeshError('Aborted'))
    await map.end(isDone)
  }
}

/** Its iterator; undefined for what cannot be iterated. */
function iteratorOf<I>(inputs: Inputs<I>): Iterator<I> | AsyncIterator<I> | undefined {
  // A text is iterable too, and has no `in`.
  const source = inputs as Partial<Iterable<I> & AsyncIterable<I>> | null | undefined
  return source?.[Symbol.asyncIterator]?.() ?? source?.[Symbol.iterator]?.()
}

export function bundleOf(work: ((...args: never[]) => unknown) | RemoteFunction): Promise<Bundle> {
  if (typeof work === 'object' && work !== null && 'module' in work) return bundleModule(work.module, work.export)
  return bundleFunction(work as (...args: never[]) => unknown)
}

class Mapping<I> {
  readonly #client: Client
  readonly #bundle: Bundle
  readonly #inputs: Inputs<I>
  readonly #options: MapOptions
  readonly #signal: AbortSignal
  /** The function came as its source text. */
  readonly #isText: boolean
  readonly #ahead: number
  readonly #working: Promise<void>[] = []
  /** For whoever takes results, and for the feeder, that there is something to do. */
  readonly #news = new Bell()
  readonly #room = new Bell()
  /** Tasks that are not known to be complete, with the position of their input. */
  readonly #pending = new Map<string, number>()
  readonly #arrived = new Map<number, TaskEvent>()
  /** Kept only where they are given back. */
  readonly #kept = new Map<number, I>()
  #job: OwnJob | undefined
  #module = ''
  /** Inputs taken whose results have not been given out. */
  #open = 0
  #isFed = false
  #anyFailed = false
  #trouble: { error: unknown } | undefined

  constructor(client: Client, bundle: Bundle, inputs: Inputs<I>, options: MapOptions, signal: AbortSignal, isText: boolean) {
    this.#client = client
    this.#bundle = bundle
    this.#inputs = inputs
    this.#options = options
    this.#signal = signal
    this.#isText = isText
    this.#ahead = options.ahead ?? defaultAhead
    if (!Number.isInteger(this.#ahead) || this.#ahead < 1)
      throw new MeshError('InvalidPropertyValue', `ahead is a whole number of 1 or more, not ${this.#ahead}.`)
  }

  async begin(): Promise<void> {
    const { code } = this.#bundle
    const signal = this.#signal
    const { id } = await putStream(this.#client, piecesOf(code), { size: code.length, signal })
    this.#module = id
    this.#job = await OwnJob.create(this.#client, 'map', this.#options, this.#options.retentionMs ?? failedRetentionMs, signal)
    for (const work of [this.#feed(), this.#watch()]) {
      this.#working.push(
        work.catch((error: unknown) => {
          this.#trouble ??= { error }
          this.#news.ring()
        }),
      )
    }
    signal.addEventListener('abort', () => {
      this.#trouble ??= { error: signal.reason }
      this.#news.ring()
      this.#room.ring()
    })
  }

  async *results(): AsyncGenerator<unknown, void, undefined> {
    for (let next = 0; ; ) {
      if (this.#trouble !== undefined) throw this.#trouble.error
      const index = this.#options.order === 'completed' ? this.#arrived.keys().next().value : next
      const event = index === undefined ? undefined : this.#arrived.get(index)
      if (index !== undefined && event !== undefined) {
        this.#arrived.delete(index)
        this.#open -= 1
        next += 1
        this.#room.ring()
        yield await this.#result(index, event)
      } else if (this.#isFed && this.#open === 0) return
      else await this.#news.wait()
    }
  }

  /** Everything that goes on ends; the job as well, if it has not. */
  async end(isDone: boolean): Promise<void> {
    if (this.#job !== undefined) {
      if (!isDone) await this.#job.terminate('MapEnded')
      else if (!this.#anyFailed && this.#options.retentionMs === undefined && this.#options.jobId === undefined) await this.#job.delete()
    }
    await Promise.all(this.#working)
  }

  async #result(index: number, event: TaskEvent): Promise<unknown> {
    const { settled, order } = this.#options
    const own = order === 'completed' ? { index, input: this.#kept.get(index) as I } : undefined
    this.#kept.delete(index)
    if (event.result !== 'success') {
      const reason = this.#error(index, event)
      return { ...own, status: 'rejected', reason }
    }
    const value = event.threadResult === undefined ? undefined : await readValue(this.#client, event.threadResult, this.#signal)
    if (settled === true) return { ...own, status: 'fulfilled', value }
    return own === undefined ? value : { ...own, value }
  }

  #error(index: number, event: TaskEvent): MapError {
    const stack = mappedStack(event.threadError?.stack, this.#bundle)
    const threadError = event.threadError === undefined ? undefined : { ...event.threadError, stack }
    return new MapError({ ...event, jobId: this.#job!.id, index, threadError, isText: this.#isText })
  }

  async #watch(): Promise<void> {
    const isNew = (taskId: string) => this.#pending.has(taskId)
    const isDone = () => this.#isFed && this.#pending.size === 0
    for await (const event of completions(this.#client, this.#job!.id, this.#signal, isNew, isDone)) {
      const index = this.#pending.get(event.taskId)!
      this.#pending.delete(event.taskId)
      if (event.result !== 'success') {
        this.#anyFailed = true
        if (this.#options.settled !== true) throw this.#error(index, event)
      }
      this.#arrived.set(index, event)
      this.#news.ring()
    }
  }

  async #feed(): Promise<void> {
    const job = this.#job!
    const iterator = iteratorOf(this.#inputs)
    if (iterator === undefined)
      throw new MeshError('InvalidPropertyValue', 'The inputs of a map are an array, a generator or another (async) iterable.')
    const sending = new Set<Promise<void>>()
    let batch: TaskSpec[] = []
    const flush = async () => {
      if (batch.length === 0) return
      const sent = job.add(batch).finally(() => sending.delete(sent))
      batch = []
      sending.add(sent)
      sent.catch(() => undefined)
      if (sending.size >= requestsInFlight) await Promise.race(sending)
    }
    let isAtEnd = false
    try {
      for (let index = 0; ; index += 1) {
        if (this.#open >= this.#ahead) {
          await flush()
          // Room for a good part of it: a request for each single task would be slow.
          while (this.#open > this.#ahead * 0.75) await untilAborted(this.#room.wait(), this.#signal)
        }
        const asked = Promise.resolve(iterator.next())
        // What there is goes out while the source takes its time.
        if (batch.length > 0 && (await isSlow(asked))) await flush()
        const { done, value } = await untilAborted(asked, this.#signal)
        isAtEnd = done === true
        if (isAtEnd) break
        batch.push(await this.#task(index, value as I))
        if (batch.length === batchTasks) await flush()
      }
      await flush()
      await Promise.all(sending)
    } finally {
      // A source that is still thinking is not waited for.
      if (!isAtEnd) Promise.resolve(iterator.return?.()).catch(() => undefined)
    }
    this.#isFed = true
    this.#news.ring()
    await job.endByItself()
  }

  async #task(index: number, input: I): Promise<TaskSpec> {
    const { name, export: exported } = this.#bundle
    const { order, maxHeapMiB } = this.#options
    let bytes: Uint8Array
    try {
      bytes = serializeArguments([input])
    } catch (error) {
      throw new MeshError(
        'InvalidPropertyValue',
        `Input ${index} cannot be sent: ${(error as Error).message} Inputs and results are what structuredClone takes: plain values, arrays, Maps, typed arrays; no functions.`,
        { cause: error },
      )
    }
    const args = await sendBytes(this.#client, bytes, this.#signal)
    const id = String(index).padStart(8, '0')
    this.#open += 1
    if (order === 'completed') this.#kept.set(index, input)
    this.#pending.set(id, index)
    return taskOf(this.#options, {
      id,
      thread: { module: this.#module, name, export: exported, args, ...(maxHeapMiB === undefined ? {} : { maxHeapMiB }) },
    })
  }
}

const slow = Symbol('slow')

async function isSlow(asked: Promise<unknown>): Promise<boolean> {
  const turn = new Promise<typeof slow>((resolve) => setImmediate(resolve, slow))
  asked.catch(() => undefined)
  return (await Promise.race([asked, turn])) === slow
}
