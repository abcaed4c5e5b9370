/** `mesh.group`: one task, a gang whose members call the function, on a pool that is there for it alone unless one is named. */
import type { TaskEvent } from '../../../protocols/control.ts'
import { MeshError } from '../../../protocols/errors.ts'
import { putStream } from '../../mesh/blobs.ts'
import type { Bundle } from '../../mesh/bundle/bundle.ts'
import type { Mesh as Client } from '../../mesh/client.ts'
import { piecesOf, readValue, sendBytes, serializeArguments } from '../../mesh/thread-values.ts'
import { completions } from '../completions.ts'
import { bundleOf, failedRetentionMs } from '../map/map.ts'
import type { RemoteFunction } from '../map/options.ts'
import { mappedStack } from '../map/stack.ts'
import { madeUpId, OwnJob, taskOf } from '../own-job.ts'
import { MemberError } from '../task-error.ts'
import { poolOfGroup } from './nodes.ts'
import type { GroupOptions } from './options.ts'

/** Members of one gang: protocols/model/task.ts takes so many. */
const maxSize = 100_000
const taskId = 'group'

export type GroupWork = ((...args: never[]) => unknown) | RemoteFunction

/** What each member returned, by rank. */
export async function runGroup(
  client: Client,
  given: number | GroupOptions,
  work: GroupWork,
  args: readonly unknown[],
): Promise<unknown[]> {
  const options = typeof given === 'object' && given !== null ? given : { size: given }
  const { size } = options
  if (!Number.isInteger(size) || size < 1 || size > maxSize)
    throw new MeshError('InvalidPropertyValue', `The size of a group is a whole number from 1 to ${maxSize}, not ${String(size)}.`)
  options.signal?.throwIfAborted()
  const ending = new AbortController()
  const signal = options.signal === undefined ? ending.signal : AbortSignal.any([ending.signal, options.signal])
  const run = new Run(client, options, work, signal)
  try {
    return await run.whole(args)
  } catch (error) {
    await run.stop()
    options.signal?.throwIfAborted()
    throw error
  } finally {
    ending.abort(new MeshError('Aborted'))
  }
}

class Run {
  readonly #client: Client
  readonly #options: GroupOptions
  readonly #work: GroupWork
  readonly #signal: AbortSignal
  #job: OwnJob | undefined

  constructor(client: Client, options: GroupOptions, work: GroupWork, signal: AbortSignal) {
    this.#client = client
    this.#options = options
    this.#work = work
    this.#signal = signal
  }

  async whole(args: readonly unknown[]): Promise<unknown[]> {
    const given = bytesOf(args)
    const bundle = await bundleOf(this.#work)
    const pool = await this.#pool()
    const job = await this.#add(bundle, given, pool?.id)
    // Last of all: a program that dies before leaves no nodes, one that dies later a job that ends by itself, and its pool with it.
    if (pool !== undefined) await this.#client.control.call('addPool', pool, { signal: this.#signal, persist: true }).catch(unlessThere)
    const event = await this.#ended(job)
    if (event.result !== 'success') throw this.#error(event, bundle)
    const values = event.threadResult === undefined ? [] : await readValue(this.#client, event.threadResult, this.#signal)
    if (this.#options.retentionMs === undefined && this.#options.jobId === undefined) await job.delete()
    return values as unknown[]
  }

  /** Ends the job, if it has not ended. */
  async stop(): Promise<void> {
    await this.#job?.terminate('GroupEnded')
  }

  /** The pool that is to be made; undefined where one is named, which must be able to hold gangs. */
  async #pool() {
    const { poolId, size } = this.#options
    if (poolId === undefined) {
      const { items } = await this.#client.control.call('listMachines', {}, { signal: this.#signal })
      return poolOfGroup(madeUpId('group'), this.#options, items)
    }
    const pool = await this.#client.control.call('getPool', { poolId }, { signal: this.#signal })
    if (pool.enableInterNodeCommunication && pool.taskSlotsPerNode === 1) return undefined
    const problem = pool.enableInterNodeCommunication ? `has ${pool.taskSlotsPerNode} task slots a node` : 'has no inter-node communication'
    throw new MeshError(
      'InvalidPropertyValue',
      `The pool ${poolId} ${problem}, so it runs no groups. Name one that was made with enableInterNodeCommunication and one task slot a node, or none: then a pool of ${size} nodes is made for the group.`,
    )
  }

  async #add({ code, name, export: exported }: Bundle, given: Uint8Array, ownPoolId: string | undefined): Promise<OwnJob> {
    const signal = this.#signal
    const options = this.#options
    const args = await sendBytes(this.#client, given, signal)
    const { id: module } = await putStream(this.#client, piecesOf(code), { size: code.length, signal })
    const { maxHeapMiB, retentionMs = failedRetentionMs } = options
    const task = taskOf(options, {
      id: taskId,
      thread: { module, name, export: exported, args, ...(maxHeapMiB === undefined ? {} : { maxHeapMiB }) },
      multiInstanceSettings: { numberOfInstances: options.size },
    })
    this.#job = await OwnJob.create(this.#client, 'group', options, retentionMs, signal, ownPoolId)
    await this.#job.add([task])
    await this.#job.endByItself()
    return this.#job
  }

  async #ended(job: OwnJob): Promise<TaskEvent> {
    let ended: TaskEvent | undefined
    const isNew = () => ended === undefined
    for await (const event of completions(this.#client, job.id, this.#signal, isNew, () => ended !== undefined)) {
      ended = event
      break
    }
    if (ended === undefined) throw new MeshError('JobCompleted', `The job ${job.id} was ended before its group ran.`)
    return ended
  }

  #error(event: TaskEvent, bundle: Bundle): MemberError {
    const stack = mappedStack(event.threadError?.stack, bundle)
    const threadError = event.threadError === undefined ? undefined : { ...event.threadError, stack }
    return new MemberError({ ...event, jobId: this.#job!.id, threadError, isText: typeof this.#work === 'function' })
  }
}

/** A repeated request whose first answer was lost finds its own pool. */
function unlessThere(error: unknown): void {
  if (!(error instanceof MeshError) || error.code !== 'PoolExists') throw error
}

function bytesOf(args: readonly unknown[]): Uint8Array {
  try {
    return serializeArguments(args)
  } catch (error) {
    throw new MeshError(
      'InvalidPropertyValue',
      `The arguments of the group cannot be sent: ${(error as Error).message} Arguments and results are what structuredClone takes: plain values, arrays, Maps, typed arrays; no functions.`,
      { cause: error },
    )
  }
}
