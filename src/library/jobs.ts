/** `mesh.jobs`. */
import type { JobSpecInput, JobView, TaskCounts } from '../../protocols/model/job.ts'
import type { Mesh as Client } from '../mesh/client.ts'
import { pages } from './pages.ts'
import type { Explanation } from './pools.ts'

/** What of a job may change. */
export interface JobUpdate {
  /** `terminatejob`: the job ends by itself when its tasks are complete. */
  onAllTasksComplete?: 'noaction' | 'terminatejob'
  /** -1000 to 1000, higher first. */
  priority?: number
}

/** Jobs: what tasks belong to, and where their defaults come from. */
export class Jobs {
  readonly #client: Client

  /** @internal */
  constructor(client: Client) {
    this.#client = client
  }

  /**
   * Makes a job, on the pool `default` unless it names another. One that is made with `onAllTasksComplete:
   * 'terminatejob'` has no open task yet and ends at once, as in Azure Batch: add its tasks first, then {@link update} it.
   * @throws {@link MeshError} `JobExists`, `PoolNotFound`, `InvalidPropertyValue`
   */
  create(job: JobSpecInput): Promise<JobView> {
    return this.#client.control.call('addJob', job)
  }

  /** All jobs, by id. Jobs that come or go while it lists may be missed. */
  list(options: { limit?: number } = {}): AsyncGenerator<JobView, void, undefined> {
    return pages((after) => this.#client.control.call('listJobs', { after }), options.limit)
  }

  /** @throws {@link MeshError} `JobNotFound` */
  get(jobId: string): Promise<JobView> {
    return this.#client.control.call('getJob', { jobId })
  }

  /** How many tasks of a job are in which state. @throws {@link MeshError} `JobNotFound` */
  async counts(jobId: string): Promise<TaskCounts> {
    return (await this.get(jobId)).counts
  }

  /** @throws {@link MeshError} `JobNotFound`, `JobCompleted` */
  update(jobId: string, change: JobUpdate): Promise<JobView> {
    return this.#client.control.call('updateJob', { jobId, ...change })
  }

  /**
   * Ends a job: its running tasks are stopped, the others do not start.
   * @throws {@link MeshError} `JobNotFound`, `JobCompleted`
   */
  async terminate(jobId: string, options: { reason?: string } = {}): Promise<void> {
    await this.#client.control.call('terminateJob', { jobId, terminateReason: options.reason })
  }

  /** Ends and removes a job with its tasks and their outputs. @throws {@link MeshError} `JobNotFound` */
  async delete(jobId: string): Promise<void> {
    await this.#client.control.call('deleteJob', { jobId })
  }

  /**
   * Waits until all tasks of a job are complete, or the job has ended, and answers the job as it is then. A job without
   * tasks is waited for until it ends. It outlasts a restart of the node and of the coordinator.
   * @throws {@link MeshError} `JobNotFound`; with an aborted signal its reason
   */
  async wait(jobId: string, options: { signal?: AbortSignal } = {}): Promise<JobView> {
    const signal = options.signal ?? new AbortController().signal
    signal.throwIfAborted()
    try {
      for await (const { counts, jobState } of this.#client.watchJob(jobId, signal)) {
        const isDone = counts.completed > 0 && counts.active + counts.running === 0
        if (isDone || jobState === 'completed' || jobState === 'deleting') break
      }
    } catch (error) {
      signal.throwIfAborted()
      throw error
    }
    return this.#client.control.call('getJob', { jobId }, { signal, persist: true })
  }

  /** Why a job does not get on, or that it does. @throws {@link MeshError} `JobNotFound` */
  explain(jobId: string): Promise<Explanation> {
    return this.#client.control.call('explain', { jobId })
  }
}
