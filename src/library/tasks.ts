/** `mesh.tasks`. */

import { MeshError } from '../../protocols/errors.ts'
import type { FileEntry } from '../../protocols/files.ts'
import type { SubtaskView } from '../../protocols/model/subtask.ts'
import { type TaskSpecInput, type TaskState, type TaskView, taskSpecSchema } from '../../protocols/model/task.ts'
import { arrayCount, type TaskArrayInput, taskArraySchema } from '../../protocols/model/task-array.ts'
import { firstIssue } from '../../protocols/rpc.ts'
import type { Mesh as Client } from '../mesh/client.ts'
import { addTasks } from '../mesh/submit.ts'
import { readTaskFile } from '../mesh/task-files.ts'
import { readValue } from '../mesh/thread-values.ts'
import { gathered } from './bytes.ts'
import { pages } from './pages.ts'
import type { Explanation } from './pools.ts'
import { TaskError } from './task-error.ts'

/** Which tasks of a job to list. */
export interface TaskFilter {
  state?: TaskState
  result?: 'success' | 'failure'
  /** At most so many. */
  limit?: number
}

/** Tasks. Each belongs to a job and has an id that is its own there. */
export class Tasks {
  readonly #client: Client

  /** @internal */
  constructor(client: Client) {
    this.#client = client
  }

  /**
   * Adds one task, or many: as many requests as it takes, of up to 1,000 tasks each. When one is refused those before
   * it may have been added.
   * @throws {@link MeshError} `JobNotFound`, `TaskExists`, `JobCompleted`, `InvalidPropertyValue` with the task's id
   */
  async add(jobId: string, tasks: TaskSpecInput | Iterable<TaskSpecInput>, options: { signal?: AbortSignal } = {}): Promise<void> {
    const { signal } = options
    signal?.throwIfAborted()
    const several = Symbol.iterator in tasks ? tasks : [tasks]
    await addTasks(this.#client, jobId, checked(several), signal === undefined ? {} : { signal })
  }

  /**
   * Adds a task for each of many indexes: a template that is sent and stored once, however many tasks it stands for.
   * @returns the ids of the first and last task, and their number
   * @throws {@link MeshError} `JobNotFound`, `TaskExists` (then none was added), `InvalidPropertyValue`
   */
  async addArray(jobId: string, array: TaskArrayInput): Promise<{ count: number; firstTaskId: string; lastTaskId: string }> {
    const read = taskArraySchema.safeParse(array)
    if (!read.success) throw new MeshError('InvalidPropertyValue', `The array cannot be added: ${firstIssue(read.error)}`)
    if (arrayCount(read.data) === 0) throw new MeshError('InvalidPropertyValue', 'The array has no index.')
    return await this.#client.control.call('addTaskArray', { jobId, array })
  }

  /** The tasks of a job, by id. Tasks that come or change while it lists may be missed. @throws {@link MeshError} `JobNotFound` */
  list(jobId: string, filter: TaskFilter = {}): AsyncGenerator<TaskView, void, undefined> {
    const { limit, ...rest } = filter
    return pages((after) => this.#client.control.call('listTasks', { jobId, after, ...rest }), limit)
  }

  /** @throws {@link MeshError} `JobNotFound`, `TaskNotFound` */
  get(jobId: string, taskId: string): Promise<TaskView> {
    return this.#client.control.call('getTask', { jobId, taskId })
  }

  /** Stops a task; it completes as failed. @throws {@link MeshError} `TaskNotFound`, `TaskCompleted` */
  async terminate(jobId: string, taskId: string): Promise<void> {
    await this.#client.control.call('terminateTask', { jobId, taskId })
  }

  /** Runs a failed task again. @throws {@link MeshError} `TaskNotFound`, `TaskNotCompleted`, `TaskSucceeded`, `JobCompleted` */
  async reactivate(jobId: string, taskId: string): Promise<void> {
    await this.#client.control.call('reactivateTask', { jobId, taskId })
  }

  /**
   * What the function of a completed thread task returned.
   * @throws {@link TaskError} when it failed; {@link MeshError} `TaskNotFound`, `TaskNotCompleted`
   */
  async result(jobId: string, taskId: string, options: { signal?: AbortSignal } = {}): Promise<unknown> {
    const task = await this.get(jobId, taskId)
    if (task.state !== 'completed') throw new MeshError('TaskNotCompleted', `Task ${taskId} is ${task.state}.`)
    const { result, failureInfo, exitCode } = task.executionInfo
    if (result !== 'success') throw new TaskError({ ...task, taskId, jobId, failureInfo, exitCode })
    return task.threadResult === undefined ? undefined : readValue(this.#client, task.threadResult, options.signal)
  }

  /**
   * The members of a multi-instance task but the primary, whose state is that of the task itself; of its newest attempt. None of
   * an ordinary task, or of one that has not run.
   * @throws {@link MeshError} `JobNotFound`, `TaskNotFound`
   */
  async subtasks(jobId: string, taskId: string): Promise<SubtaskView[]> {
    return (await this.#client.control.call('listSubtasks', { jobId, taskId })).items
  }

  /**
   * A file in a task's directory, such as `stdout.txt`, `stderr.txt` or `wd/out.png`, read where the task ran; with
   * `subtask` in the directory of that member of a multi-instance task.
   * @throws {@link MeshError} `FileNotFound`, `TaskFilesUnavailable`, `TaskFilesCleanedup`
   */
  readFile(jobId: string, taskId: string, name: string, options: { subtask?: number; signal?: AbortSignal } = {}): Promise<Buffer> {
    return gathered(readTaskFile(this.#client, { jobId, taskId }, name, options))
  }

  /** Like {@link readFile}, piece by piece; with `follow` it waits for the task and goes on until it has ended. */
  streamFile(
    jobId: string,
    taskId: string,
    name: string,
    options: { follow?: boolean; subtask?: number; signal?: AbortSignal } = {},
  ): AsyncGenerator<Uint8Array> {
    return readTaskFile(this.#client, { jobId, taskId }, name, options)
  }

  /**
   * What is in a task's directory, or a subtask's, at most 10,000 entries. `prefix` picks names that begin so.
   * @throws {@link MeshError} `TaskNotFound`, `TaskFilesUnavailable`, `TaskFilesCleanedup`
   */
  async files(
    jobId: string,
    taskId: string,
    options: { recursive?: boolean; prefix?: string; subtask?: number } = {},
  ): Promise<FileEntry[]> {
    return (await this.#client.control.call('listTaskFiles', { jobId, taskId, ...options })).files
  }

  /** Why a task waits, or that it does not. @throws {@link MeshError} `TaskNotFound` */
  explain(jobId: string, taskId: string): Promise<Explanation> {
    return this.#client.control.call('explain', { jobId, taskId })
  }
}

function* checked(tasks: Iterable<TaskSpecInput>) {
  for (const task of tasks) {
    const read = taskSpecSchema.safeParse(task)
    if (!read.success) throw new MeshError('InvalidPropertyValue', `Task ${String(task.id)} cannot be added: ${firstIssue(read.error)}`)
    yield read.data
  }
}
