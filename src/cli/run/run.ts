/** One `batchmesh run`, from the first upload to the exit code. */
import { MeshError, toMeshError } from '../../../protocols/errors.ts'
import type { ResourceFile } from '../../../protocols/model/task.ts'
import { Uploader } from '../../mesh/blobs.ts'
import type { Mesh } from '../../mesh/client.ts'
import { addTasks } from '../../mesh/submit.ts'
import type { Context } from '../context.ts'
import { showBytes, showDuration } from '../format.ts'
import { Failures } from './failures.ts'
import { follow } from './follow.ts'
import { collision, gather } from './gather.ts'
import { Interrupts } from './interrupts.ts'
import { type RunPlan, reduceId } from './plan.ts'
import { makeProgress, type Progress } from './progress.ts'
import { type Output, Results } from './results.ts'
import { explainSilence } from './silence.ts'

export interface RunOptions {
  jobId: string
  /** The id was made up by this command, so a job of this name can only be its own. */
  isOwnId: boolean
  poolId?: string
  /** The job is deleted so long after its end; undefined: never. */
  retentionTimeMs?: number
  detach: boolean
  printsStdout: boolean
  quiet: boolean
}

/** Blobs of what a run brings along. */
interface Uploads {
  inputs: string[]
  shared: ResourceFile[]
}

export class Run {
  readonly #context: Context
  readonly #mesh: Mesh
  readonly #plan: RunPlan
  readonly #options: RunOptions
  readonly #progress: Progress
  readonly #interrupts: Interrupts
  readonly #failures = new Failures()
  readonly #positions = new Map<string, number>()
  /** What lay in the reduce step's directory before it ran. */
  readonly #reduceInputs = new Map<string, string>()
  #reduceIsIn = false
  readonly #began = Date.now()
  /** How far the job is: `sending` until the answer to its submission is here, then it is known to be this run's. */
  #job: 'none' | 'sending' | 'ours' = 'none'
  #succeeded = 0
  #failed = 0

  constructor(context: Context, mesh: Mesh, plan: RunPlan, options: RunOptions) {
    this.#context = context
    this.#mesh = mesh
    this.#plan = plan
    this.#options = options
    this.#progress = makeProgress(context.world, options.quiet)
    this.#interrupts = new Interrupts(context.world, this.#progress)
    for (let at = 0; at < plan.count; at += 1) this.#positions.set(plan.taskId(at), at)
  }

  /** Answers the exit code. */
  async execute(): Promise<number> {
    const { jobId } = this.#options
    const { signal } = this.#interrupts
    try {
      // Without a coordinator there is nothing to upload for. From here on a lost one is waited for.
      await this.#checkNames()
      const uploads = await this.#upload()
      await this.#addJob()
      await this.#submit(uploads)
      this.#interrupts.allowDetach()
      if (this.#options.detach) {
        await this.#context.done(jobId, { jobId, tasks: this.#plan.count })
        this.#context.say(`The job goes on by itself. Wait for it, and get its results: batchmesh job wait ${jobId} --to DIR`)
        return 0
      }
      return await this.#watch(uploads)
    } catch (error) {
      if (signal.aborted) return await this.#left()
      await this.#giveUp('SubmissionFailed')
      throw error
    } finally {
      this.#interrupts.close()
      this.#progress.stop()
    }
  }

  /** Wrong names are found before the upload; a task of a pool that does not exist would wait for it for ever. */
  async #checkNames(): Promise<void> {
    const { jobId, isOwnId, poolId } = this.#options
    const { signal } = this.#interrupts
    await this.#mesh.control.call('status', {}, { signal })
    if (poolId !== undefined) await this.#mesh.control.call('getPool', { poolId }, { signal })
    if (isOwnId) return
    try {
      await this.#mesh.control.call('getJob', { jobId }, { signal })
    } catch (error) {
      if (error instanceof MeshError && error.code === 'JobNotFound') return
      throw error
    }
    throw new MeshError(
      'JobExists',
      `There is a job ${jobId} already. Choose another --job-id, or see it with: batchmesh job show ${jobId}`,
    )
  }

  async #upload(): Promise<Uploads> {
    const { inputs = [], shared } = this.#plan.request
    const brought = inputs.filter(({ isShared }) => !isShared)
    this.#progress.upload(
      brought.reduce((sum, { size }) => sum + size, 0) +
        shared.reduce((sum, { files }) => sum + files.reduce((s, { size }) => s + size, 0), 0),
    )
    const uploader = new Uploader(this.#mesh, { signal: this.#interrupts.signal, onBytes: (count) => this.#progress.uploaded(count) })
    const staged: ResourceFile[] = []
    for (const { path, source } of shared) staged.push({ filePath: path, blob: (await uploader.put(source)).id, shared: true })
    const blobs = await uploader.putFiles(brought)
    let next = 0
    const ids = inputs.map(({ isShared }) => (isShared ? '' : blobs[next++]!.id))
    this.#progress.stop()
    return { inputs: ids, shared: staged }
  }

  async #addJob(): Promise<void> {
    const { jobId, poolId, isOwnId, retentionTimeMs } = this.#options
    this.#job = 'sending'
    try {
      const job = { id: jobId, poolId, retentionTimeMs, usesTaskDependencies: this.#plan.request.reduce !== undefined }
      await this.#mesh.control.call('addJob', job, { signal: this.#interrupts.signal, persist: true })
    } catch (error) {
      // A repeated request whose first answer was lost finds its own job.
      if (!isOwnId || !(error instanceof MeshError) || error.code !== 'JobExists') throw error
    }
    this.#job = 'ours'
  }

  /** Whether a job of this id can only be this run's. */
  get #isOurs(): boolean {
    return this.#job === 'ours' || (this.#job === 'sending' && this.#options.isOwnId)
  }

  /** After a failure: a job that nobody will complete must not stay for ever. */
  async #giveUp(terminateReason: string): Promise<void> {
    const { jobId } = this.#options
    if (!this.#isOurs) return
    try {
      await this.#mesh.control.call('terminateJob', { jobId, terminateReason })
    } catch (error) {
      const { code, message } = toMeshError(error)
      if (code !== 'JobNotFound' && code !== 'JobCompleted') this.#context.say(`batchmesh: job ${jobId} could not be stopped: ${message}`)
    }
  }

  async #submit(uploads: Uploads): Promise<void> {
    const { jobId } = this.#options
    const { signal } = this.#interrupts
    const plan = this.#plan
    const tasks = function* () {
      for (let at = 0; at < plan.count; at += 1) {
        const input = plan.request.inputs?.[at]
        const own: ResourceFile[] = input === undefined || input.isShared ? [] : [{ filePath: input.path, blob: uploads.inputs[at]! }]
        yield plan.spec(at, [...uploads.shared, ...own])
      }
    }
    await addTasks(this.#mesh, jobId, tasks(), { signal, isOwnJob: true })
    if (plan.request.reduce === undefined) await this.#endByItself()
  }

  /** Now that all tasks are in, the job may end as soon as they are complete. */
  async #endByItself(): Promise<void> {
    const { signal } = this.#interrupts
    await this.#mesh.control.call(
      'updateJob',
      { jobId: this.#options.jobId, onAllTasksComplete: 'terminatejob' },
      { signal, persist: true },
    )
  }

  async #watch(uploads: Uploads): Promise<number> {
    const { jobId } = this.#options
    const { signal } = this.#interrupts
    const plan = this.#plan
    const isSingle = plan.count === 1 && plan.request.reduce === undefined
    const printsText = this.#context.isForPeople
    const results = new Results(this.#mesh, {
      jobId,
      world: this.#context.world,
      signal,
      directory: (taskId) => (taskId === reduceId ? plan.reduceDirectory() : plan.directory(this.#positions.get(taskId) ?? 0)),
      expected: (taskId) => {
        if (taskId === reduceId) return { patterns: plan.reduceOutputs(), before: this.#reduceInputs }
        const at = this.#positions.get(taskId)
        if (at === undefined) return { patterns: [], before: new Map() }
        const input = plan.request.inputs?.[at]
        return { patterns: plan.outputs(at), before: new Map(input === undefined ? [] : [[input.path, uploads.inputs[at]!]]) }
      },
      printsStdout: (taskId) => printsText && (isSingle || taskId === reduceId || this.#options.printsStdout),
      printsStderr: () => printsText && isSingle,
      onPrint: () => this.#progress.clear(),
    })
    const silence = explainSilence(this.#mesh, { jobId, taskId: plan.taskId(0) }, (line) => {
      this.#progress.clear()
      this.#context.say(line)
    })
    const seen = new Set<string>()
    const until = (expected: number) =>
      follow(this.#mesh, jobId, {
        seen,
        signal,
        expected,
        onCounts: (counts) => {
          this.#progress.counts(counts)
          silence.counts(counts)
        },
        onEnded: (task) => {
          if (task.result === 'success') this.#succeeded += 1
          else {
            this.#failed += 1
            // The whole stderr of a single task is printed anyway.
            this.#failures.add(isSingle && printsText ? { ...task, stderrTail: undefined } : task)
          }
          results.add(task)
        },
      })
    this.#progress.tasks(plan.count)
    let end: 'complete' | 'ended' | 'failed'
    try {
      end = await until(plan.count).finally(() => silence.stop())
      await this.#settle(results)
      if (end === 'complete' && plan.request.reduce !== undefined && (await this.#submitReduce(uploads, results))) {
        this.#progress.tasks(plan.count + 1, 'reducing')
        end = await until(plan.count + 1)
        await this.#settle(results)
      }
    } catch (error) {
      if (signal.aborted) throw error
      // What has come so far is shown all the same. Without a reduce step to come, the job goes on by itself.
      end = 'failed'
      await results.settled()
      results.problems.push(`Job ${jobId} could not be followed to its end: ${toMeshError(error).message}`)
      if (plan.request.reduce !== undefined && !this.#reduceIsIn) await this.#giveUp('ReduceNotRun')
    }
    this.#progress.stop()
    return await this.#report(results, end)
  }

  async #settle(results: Results): Promise<void> {
    await results.settled()
    this.#interrupts.signal.throwIfAborted()
  }

  /** False when the reduce step cannot run. */
  async #submitReduce(uploads: Uploads, results: Results): Promise<boolean> {
    const { jobId } = this.#options
    const { signal } = this.#interrupts
    let problem = this.#failed > 0 ? `${this.#failed} of its tasks failed` : (results.missing ?? collision(results.outputs))
    if (problem === undefined) {
      for (const { path, blob } of results.outputs) this.#reduceInputs.set(path, blob)
      try {
        const files = await gather(this.#mesh, results.outputs, signal)
        await addTasks(this.#mesh, jobId, [this.#plan.reduceSpec([...uploads.shared, ...files])], { signal, isOwnJob: true })
        this.#reduceIsIn = true
      } catch (error) {
        if (signal.aborted) throw error
        problem = toMeshError(error).message
      }
    }
    if (problem !== undefined) {
      if (this.#failed === 0 && !results.problems.includes(problem)) results.problems.push(problem)
      this.#context.say(`The reduce step is not run: ${problem}`)
      await this.#giveUp('ReduceNotRun')
      return false
    }
    await this.#endByItself()
    return true
  }

  async #report(results: Results, end: 'complete' | 'ended' | 'failed'): Promise<number> {
    const { jobId } = this.#options
    const context = this.#context
    const notRun = this.#plan.count - this.#positionsSeen()
    if (context.format === 'json' || context.hasQuery) {
      await context.one([], {
        jobId,
        succeeded: this.#succeeded,
        failed: this.#failed,
        notRun,
        outputs: results.outputs,
        failures: this.#failures.groups,
        problems: results.problems,
      })
    } else if (results.outputs.length > 0 && (context.format === 'tsv' || this.#plan.request.to === undefined)) {
      await context.list<Output>(
        [
          { title: 'task', value: (o) => o.taskId },
          { title: 'path', value: (o) => o.path },
          { title: 'size', value: (o) => showBytes(o.size), right: true },
          { title: 'blob', value: (o) => o.blob },
          ...(this.#plan.request.to === undefined ? [] : [{ title: 'file', value: (o: Output) => o.file }]),
        ],
        results.outputs,
      )
    }
    for (const line of this.#failures.lines()) context.say(line)
    for (const problem of results.problems) context.say(`batchmesh: ${problem}`)
    if (end === 'ended' && notRun > 0) context.say(`batchmesh: the job was ended before ${notRun} of its tasks ran`)
    if (end === 'complete' && this.#failed === 0) {
      const made = results.outputs.map(({ taskId, path }) => ({ path, at: this.#positions.get(taskId) }))
      for (const pattern of this.#plan.unmatched(made)) context.say(`batchmesh: ${pattern} named no file that was made`)
    }
    const isGood = this.#failed === 0 && results.problems.length === 0 && end === 'complete'
    if (!this.#options.quiet) {
      const written = results.outputs.filter(({ file }) => file !== undefined).length
      const files = this.#plan.request.to === undefined ? '' : `, ${written} ${written === 1 ? 'file' : 'files'} written`
      context.say(
        `${this.#succeeded} succeeded, ${this.#failed} failed${files} in ${showDuration(Date.now() - this.#began)} (job ${jobId})`,
      )
    }
    return isGood ? 0 : 1
  }

  #positionsSeen(): number {
    return Math.min(this.#plan.count, this.#succeeded + this.#failed)
  }

  /** Ends as the user decided at the interruption. */
  async #left(): Promise<number> {
    const { jobId } = this.#options
    const context = this.#context
    this.#progress.stop()
    if (this.#job === 'none') context.say('batchmesh: interrupted; nothing was submitted')
    else if (!this.#isOurs)
      context.say(`batchmesh: interrupted while job ${jobId} was being submitted; whether it is there: batchmesh job show ${jobId}`)
    else if (this.#interrupts.decision === 'stop') {
      await this.#mesh.control.call('terminateJob', { jobId, terminateReason: 'UserTerminate' }).catch((error: unknown) => {
        if (this.#job === 'ours' || toMeshError(error).code !== 'JobNotFound') throw error
      })
      context.say(`batchmesh: interrupted; job ${jobId} is being stopped`)
    } else {
      const reduce =
        this.#plan.request.reduce !== undefined && !this.#reduceIsIn ? ' Its reduce step has not been submitted and will not run.' : ''
      context.say(`batchmesh: detached; job ${jobId} goes on.${reduce} Wait for it: batchmesh job wait ${jobId}`)
    }
    return 130
  }
}
