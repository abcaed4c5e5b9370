/** A job that the program makes for one call of run or map, and sees to its end. */
import { MeshError, toMeshError } from '../../protocols/errors.ts'
import type { TaskSpec, TaskSpecInput } from '../../protocols/model/task.ts'
import { taskSpecSchema } from '../../protocols/model/task.ts'
import { arrayIndexVariable, type TaskArray } from '../../protocols/model/task-array.ts'
import { firstIssue } from '../../protocols/rpc.ts'
import type { Mesh as Client } from '../mesh/client.ts'
import { addTasks } from '../mesh/submit.ts'

/** What the tasks of a run or map need, and how they are handled. */
export interface TaskOptions {
  /** Pool to run on; default `default`, which is every machine. */
  poolId?: string
  /** Name of the job; default made up. */
  jobId?: string
  /** How often a task runs again after a failure; -1: endlessly. Default 0. Lost machines do not count. */
  retries?: number
  /** A task is ended after this many milliseconds. */
  timeoutMs?: number
  /** Cores that a task needs, as a fraction if need be. */
  cores?: number
  memoryMiB?: number
  gpus?: number
  /** Task slots that a task takes; default 1. */
  slots?: number
  /** Only machines with these labels. */
  labels?: Record<string, string>
  /** Environment variables of the tasks. */
  env?: Record<string, string>
  /** -1000 to 1000, higher first. Default 0. */
  priority?: number
  /** Ends everything: the job is stopped, and the iteration rejects with the signal's reason. */
  signal?: AbortSignal
}

export class OwnJob {
  readonly id: string
  readonly #client: Client
  readonly #signal: AbortSignal

  constructor(client: Client, id: string, signal: AbortSignal) {
    this.#client = client
    this.id = id
    this.#signal = signal
  }

  /** Rejects with JobExists for a name that is taken; a made-up one is new. `ownPoolId`: of a pool that is to be made for it. */
  static async create(
    client: Client,
    kind: 'run' | 'map' | 'group',
    options: TaskOptions,
    retentionTimeMs: number | undefined,
    signal: AbortSignal,
    ownPoolId?: string,
  ): Promise<OwnJob> {
    const { jobId: id = madeUpId(kind), poolId = ownPoolId, priority } = options
    // A task of a pool that does not exist would wait for it for ever.
    if (options.poolId !== undefined) await client.control.call('getPool', { poolId: options.poolId }, { signal })
    try {
      await client.control.call('addJob', { id, poolId, priority, retentionTimeMs }, { signal, persist: true })
    } catch (error) {
      // A repeated request whose first answer was lost finds its own job.
      if (options.jobId !== undefined || !(error instanceof MeshError) || error.code !== 'JobExists') throw error
    }
    return new OwnJob(client, id, signal)
  }

  async add(tasks: Iterable<TaskSpec>): Promise<void> {
    await addTasks(this.#client, this.id, tasks, { signal: this.#signal, isOwnJob: true })
  }

  /** Adds a whole array. False when the coordinator is of an older version that takes none. */
  async addArray(array: TaskArray): Promise<boolean> {
    try {
      await this.#client.control.call('addTaskArray', { jobId: this.id, array }, { signal: this.#signal, persist: true })
    } catch (error) {
      const { code } = toMeshError(error)
      if (code === 'UnsupportedVersion') return false
      // It was added by a request whose answer was lost: the job is this call's own.
      if (code !== 'TaskExists') throw error
    }
    return true
  }

  /** All tasks are in: the job ends when they are complete, whatever becomes of this program. */
  async endByItself(): Promise<void> {
    await this.#client.control.call(
      'updateJob',
      { jobId: this.id, onAllTasksComplete: 'terminatejob' },
      { signal: this.#signal, persist: true },
    )
  }

  /** Stops what still runs. It is told to nobody when that fails: the caller has a better reason to tell. */
  async terminate(terminateReason: string): Promise<void> {
    await this.#client.control.call('terminateJob', { jobId: this.id, terminateReason }).catch(toMeshError)
  }

  /** Removes it with its tasks. */
  async delete(): Promise<void> {
    await this.#client.control.call('deleteJob', { jobId: this.id }).catch(toMeshError)
  }
}

/** A task as options say, checked. Throws InvalidPropertyValue. */
export function taskOf(options: TaskOptions, own: Omit<TaskSpecInput, 'env'>, index?: number): TaskSpec {
  const { env, retries, timeoutMs, cores, memoryMiB, gpus, slots, labels } = options
  const demand = Object.entries({ cores, memoryMiB, gpus, labels }).filter(([, value]) => value !== undefined)
  const variables = Object.entries(env ?? {}).map(([name, value]) => ({ name, value }))
  if (index !== undefined) variables.push({ name: arrayIndexVariable, value: String(index) })
  const read = taskSpecSchema.safeParse({
    ...own,
    ...(variables.length === 0 ? {} : { environmentSettings: variables }),
    constraints: { maxTaskRetryCount: retries ?? 0, ...(timeoutMs === undefined ? {} : { maxWallClockTimeMs: timeoutMs }) },
    ...(slots === undefined ? {} : { requiredSlots: slots }),
    ...(demand.length === 0 ? {} : { resources: Object.fromEntries(demand) }),
  })
  if (!read.success) throw new MeshError('InvalidPropertyValue', `The tasks cannot be made: ${firstIssue(read.error)}`)
  return read.data
}

/** Sorts by time in lists, and is not made up twice. */
export function madeUpId(kind: string): string {
  const now = new Date()
    .toISOString()
    .replaceAll(/[-:]|\..*/g, '')
    .replace('T', '-')
  return `${kind}-${now}-${crypto.randomUUID().slice(0, 8)}`
}
