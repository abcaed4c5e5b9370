/** The work of a kill -9 loop: jobs that are submitted while nodes die, and what was said of each task, held against what is said later. */

import { MeshError } from '../../protocols/errors.ts'
import type { JobView } from '../../protocols/model/job.ts'
import type { TaskView } from '../../protocols/model/task.ts'
import type { Mesh } from '../../src/mesh/client.ts'
import { counted, sh, type Traces } from '../e2e/support/work.ts'
import type { Dice } from '../fuzz/dice.ts'

export const poolId = 'loop'
/** Larger than what lies in a row of the blob store: it is a file, with all that this takes. */
const outputBytes = 100_000

interface Submitted {
  id: string
  /** Ids of tasks whose adding was answered. */
  acknowledged: string[]
  /** It was asked to end with its tasks; nothing more is added to it. */
  closing: boolean
  deleting: boolean
}

/** What a completed task says of itself; it never says anything else again. */
type Result = Pick<TaskView['executionInfo'], 'startTime' | 'endTime' | 'exitCode' | 'result'> & { attempts: TaskView['attempts'] }

export class KillWork {
  readonly #mesh: Mesh
  readonly #dice: Dice
  readonly #starts: string
  readonly #traces: Traces
  readonly #jobs = new Map<string, Submitted>()
  /** By job/task: as it was first seen completed. */
  readonly #results = new Map<string, Result>()
  #numbered = 0
  /** Tasks of all jobs. */
  tasks = 0
  /** Runs of tasks that did not end with a result. */
  lostRuns = 0

  constructor(mesh: Mesh, dice: Dice, traces: Traces, starts: string) {
    this.#mesh = mesh
    this.#dice = dice
    this.#traces = traces
    this.#starts = starts
  }

  get openJobs(): number {
    return [...this.#jobs.values()].filter((job) => !job.deleting).length
  }

  /** Submits a job; each request is repeated until it is answered. */
  async submit(): Promise<void> {
    const dice = this.#dice
    this.#numbered += 1
    const job: Submitted = { id: `j${this.#numbered}`, acknowledged: [], closing: false, deleting: false }
    this.#jobs.set(job.id, job)
    const kind = dice.pick(['plain', 'plain', 'array', 'pool', 'gang', 'outputs'] as const)
    const inPool = kind === 'pool' || kind === 'gang'
    await this.#ask('addJob', { id: job.id, poolId: inPool ? poolId : 'default', usesTaskDependencies: true })
    if (kind === 'array') await this.#addArray(job, 8 + dice.below(24))
    else await this.#addTasks(job, kind, kind === 'gang' ? 2 : 8 + dice.below(16))
    // Before it is asked for: the answer may be lost with a founder that has done it.
    job.closing = true
    await this.#ask('updateJob', { jobId: job.id, onAllTasksComplete: 'terminatejob' })
  }

  async #addTasks(job: Submitted, kind: 'plain' | 'pool' | 'gang' | 'outputs', count: number): Promise<void> {
    const more =
      kind === 'gang'
        ? { multiInstanceSettings: { numberOfInstances: 2, coordinationCommandLine: 'true' } }
        : kind === 'outputs'
          ? { outputFiles: [{ filePattern: 'out.bin' }] }
          : {}
    const tasks = Array.from({ length: count }, (_, n) => ({
      id: `t${n}`,
      commandLine: this.#script(kind === 'outputs'),
      ...more,
      ...(n > 0 && this.#dice.chance(0.1) ? { dependsOn: { taskIds: [`t${n - 1}`] } } : {}),
    }))
    // In two requests, so that a kill can come between them.
    const half = Math.ceil(count / 2)
    for (const part of [tasks.slice(0, half), tasks.slice(half)]) {
      await this.#ask('addTasks', { jobId: job.id, tasks: part })
      job.acknowledged.push(...part.map(({ id }) => id))
      this.tasks += part.length
    }
  }

  async #addArray(job: Submitted, count: number): Promise<void> {
    const array = { indexes: [{ start: 0, end: count - 1 }], template: { commandLine: this.#script(false) } }
    await this.#ask('addTaskArray', { jobId: job.id, array })
    job.acknowledged.push(...Array.from({ length: count }, (_, n) => String(n).padStart(4, '0')))
    this.tasks += count
  }

  #script(hasOutput: boolean): string {
    const output = hasOutput ? `head -c ${outputBytes} /dev/urandom > out.bin; ` : ''
    return sh(`echo $AZ_BATCH_JOB_ID/$AZ_BATCH_TASK_ID >> ${this.#starts}; ${output}sleep 0.0${1 + this.#dice.below(9)}`)
  }

  /** What exists already was added by a request whose answer was lost. */
  async #ask(name: 'addJob' | 'addTasks' | 'addTaskArray' | 'updateJob', body: object): Promise<void> {
    try {
      const answer = (await this.#mesh.control.call(name, body as never, { persist: true })) as { results?: { error?: { code: string } }[] }
      for (const { error } of answer.results ?? [])
        if (error !== undefined && error.code !== 'TaskExists') throw new Error(`a task was refused: ${error.code}`)
    } catch (error) {
      if (!(error instanceof MeshError) || (error.code !== 'JobExists' && error.code !== 'TaskExists')) throw error
    }
  }

  /** Looks at jobs as they are now: what was acknowledged is there, what was completed is as it was. Deletes some that have ended. */
  async check(): Promise<void> {
    for (const job of this.#jobs.values()) {
      if (job.deleting || job.acknowledged.length === 0) continue
      const known = [...job.acknowledged]
      const view = await this.view(job.id)
      const tasks = await this.#tasksOf(job.id)
      const byId = new Map(tasks.map((task) => [task.id, task]))
      for (const id of known) if (!byId.has(id)) throw new Error(`L5: ${job.id}/${id} was acknowledged and is gone`)
      for (const task of tasks) this.#checkTask(job.id, task)
      if (view.state !== 'completed') continue
      await this.#checkEnded(job, tasks)
      if (this.#dice.chance(0.5)) await this.#delete(job)
    }
  }

  #checkTask(jobId: string, task: TaskView): void {
    const key = `${jobId}/${task.id}`
    const known = this.#results.get(key)
    if (task.state !== 'completed') {
      if (known !== undefined) throw new Error(`L1: ${key} was completed and is ${task.state} again`)
      return
    }
    const { startTime, endTime, exitCode, result } = task.executionInfo
    const now: Result = { startTime, endTime, exitCode, result, attempts: task.attempts }
    if (known === undefined) {
      this.#results.set(key, now)
      this.lostRuns += task.attempts.length - 1
      const ends = task.attempts.map(({ end }) => end)
      if (isKilledTooOften(task)) return
      if (result !== 'success' || task.executionInfo.retryCount > 0)
        throw new Error(`C1: ${key} ended with ${result} (${task.executionInfo.failureInfo?.message}) after ${ends.join(', ')}`)
      if (ends.filter((end) => end === 'success').length !== 1 || ends.at(-1) !== 'success')
        throw new Error(`L1: ${key} has the attempts ${ends.join(', ')}`)
    } else if (JSON.stringify(known) !== JSON.stringify(now))
      throw new Error(`L1: the result of ${key} was ${JSON.stringify(known)} and is ${JSON.stringify(now)}`)
  }

  /** Each task of an ended job has its result; it ran at least once, and never without an attempt of its own. */
  async #checkEnded(job: Submitted, tasks: readonly TaskView[]): Promise<void> {
    if (!job.closing) throw new Error(`${job.id} has ended before it was closed`)
    const starts = counted(await this.#traces.lines('starts'))
    for (const task of tasks) {
      const { id, state, attempts, outputs, outputFiles } = task
      const key = `${job.id}/${id}`
      if (state !== 'completed') throw new Error(`${job.id} has ended, but ${id} is ${state}`)
      const ran = starts.get(key) ?? 0
      const granted = attempts.at(-1)!.epoch
      if (ran < 1 || ran > granted) throw new Error(`L1: ${key} ran ${ran} times in ${granted} attempts`)
      if (outputFiles === undefined || isKilledTooOften(task)) continue
      const [output] = outputs
      if (output?.size !== outputBytes) throw new Error(`B2: ${key} succeeded and has the outputs ${JSON.stringify(outputs)}`)
      const { complete, pins } = await this.#mesh.local.call('blobStat', { id: output.blob }, { persist: true })
      if (!complete || pins.length === 0) throw new Error(`B2: the output of ${key} is not whole, or not pinned, at its home`)
    }
  }

  async #delete(job: Submitted): Promise<void> {
    job.deleting = true
    await this.#mesh.control.call('deleteJob', { jobId: job.id }, { persist: true }).catch((error: unknown) => {
      // The request that deleted it was not answered.
      if (!(error instanceof MeshError) || error.code !== 'JobNotFound') throw error
    })
  }

  async deleteAll(): Promise<void> {
    for (const job of this.#jobs.values()) if (!job.deleting) await this.#delete(job)
  }

  /** Ids of jobs that have not ended. */
  async open(): Promise<string[]> {
    const open: string[] = []
    for (const job of this.#jobs.values()) {
      if (job.deleting) continue
      const view = await this.view(job.id)
      if (view.state !== 'completed') open.push(`${job.id} (${JSON.stringify(view.counts)})`)
    }
    return open
  }

  async view(jobId: string): Promise<JobView> {
    return (await this.#mesh.control.call('getJob', { jobId }, { persist: true })) as JobView
  }

  async #tasksOf(jobId: string): Promise<TaskView[]> {
    return (await this.#mesh.control.call('listTasks', { jobId }, { persist: true })).items
  }
}

/** C1: a task whose machines all end under it is given up. This loop can be what ends them, where rounds are quicker than tasks. */
function isKilledTooOften({ executionInfo, attempts }: TaskView): boolean {
  const lost = attempts.filter(({ end }) => end === 'lost').length
  // The newest ten attempts are known, the last of which has another end.
  return executionInfo.failureInfo?.code === 'MachineLost' && executionInfo.retryCount === 0 && lost >= 9
}
