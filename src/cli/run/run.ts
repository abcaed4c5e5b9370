/** One `batchmesh run`, from the first upload to the exit code. */
import { MeshError, toMeshError } from '../../../protocols/errors.ts'
import type { JobView } from '../../../protocols/model/job.ts'
import type { Mesh } from '../../mesh/client.ts'
import { addTasks } from '../../mesh/submit.ts'
import type { Context } from '../context.ts'
import { digestName, isOfRun, requestDigest, sameTask } from './earlier.ts'
import { Failures } from './failures.ts'
import { type FollowEnd, follow, SeenPositions } from './follow.ts'
import { collision, gather } from './gather.ts'
import { Interrupts } from './interrupts.ts'
import type { Positions } from './items.ts'
import { laterNames } from './names.ts'
import { type RunPlan, reduceId } from './plan.ts'
import { makeProgress, type Progress } from './progress.ts'
import { type Outcome, report } from './report.ts'
import { Results } from './results.ts'
import { sendTasks } from './send.ts'
import { explainSilence } from './silence.ts'
import { type Uploads, upload } from './uploads.ts'
import { type Work, wholeWork, workLeft } from './work.ts'

export interface RunOptions {
  jobId: string
  /** The id was made up by this command, so a job of this name can only be its own. */
  isOwnId: boolean
  poolId?: string
  /** The job is deleted so long after its end; undefined: never. */
  retentionTimeMs?: number
  /** Only the first tasks are run. */
  tryCount?: number
  /** The job is ended when so many tasks have failed. */
  maxFails?: number
  /** What has succeeded in earlier runs is not run again. */
  resume: boolean
  detach: boolean
  printsStdout: boolean
  quiet: boolean
}

export class Run {
  readonly #context: Context
  readonly #mesh: Mesh
  readonly #plan: RunPlan
  #options: RunOptions
  readonly #progress: Progress
  readonly #interrupts: Interrupts
  readonly #failures = new Failures()
  /** What lay in the reduce step's directory before it ran. */
  readonly #reduceInputs = new Map<string, string>()
  #reduceIsIn = false
  /** It has run, now or earlier. */
  #hasReduced = false
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
  }

  /** Answers the exit code. */
  async execute(): Promise<number> {
    const { detach } = this.#options
    const { signal } = this.#interrupts
    try {
      // Without a coordinator there is nothing to upload for. From here on a lost one is waited for.
      await this.#checkNames()
      const { jobId } = this.#options
      const chosen = this.#chosen()
      const uploads = await upload(this.#mesh, this.#plan, chosen, this.#progress, signal)
      const results = this.#results(uploads)
      const say = (line: string) => this.#context.say(line)
      const work = this.#options.resume
        ? await workLeft(this.#mesh, this.#plan, uploads, results, { signal, quiet: this.#options.quiet, say })
        : wholeWork(chosen)
      if (work.count > 0) {
        await this.#addJob()
        await sendTasks(this.#mesh, jobId, this.#plan, work.positions, uploads, { signal, say })
        if (!this.#hasReduce) await this.#endByItself()
        this.#interrupts.allowDetach()
        if (detach) {
          await this.#settle(results)
          await this.#context.done(jobId, { jobId, tasks: work.count, ...(work.kept > 0 ? { kept: work.kept } : {}) })
          this.#context.say(`The job goes on by itself. Wait for it, and get its results: batchmesh job wait ${jobId} --to DIR`)
          return 0
        }
      } else if (!this.#hasReduce) {
        await this.#settle(results)
        return await this.#report(results, work, 'complete')
      }
      return await this.#watch(uploads, results, work)
    } catch (error) {
      if (signal.aborted) return await this.#left()
      await this.#giveUp('SubmissionFailed')
      throw error
    } finally {
      this.#interrupts.close()
      this.#progress.stop()
    }
  }

  #chosen(): Positions {
    const { tryCount } = this.#options
    return tryCount === undefined ? this.#plan.all : [{ start: 0, end: Math.min(tryCount, this.#plan.count) - 1, step: 1 }]
  }

  /** Wrong names are found before the upload; a task of a pool that does not exist would wait for it for ever. */
  async #checkNames(): Promise<void> {
    const { jobId, isOwnId, poolId } = this.#options
    const { signal } = this.#interrupts
    await this.#mesh.control.call('status', {}, { signal })
    if (poolId !== undefined) await this.#mesh.control.call('getPool', { poolId }, { signal })
    if (isOwnId) return
    let other = await this.#jobNamed(jobId)
    if (other !== undefined && !(this.#options.resume && isOfRun(other, this.#plan.request)))
      throw new MeshError(
        'JobExists',
        `There is a job ${jobId} already. Choose another --job-id, or see it with: batchmesh job show ${jobId}`,
      )
    // Where an earlier run has the name, this one takes it up under the next.
    for (const names = laterNames(jobId); other !== undefined; ) {
      const name = names.next().value
      other = await this.#jobNamed(name)
      this.#options = { ...this.#options, jobId: name }
    }
  }

  async #jobNamed(jobId: string): Promise<JobView | undefined> {
    try {
      return await this.#mesh.control.call('getJob', { jobId }, { signal: this.#interrupts.signal })
    } catch (error) {
      if (error instanceof MeshError && error.code === 'JobNotFound') return undefined
      throw error
    }
  }

  async #addJob(): Promise<void> {
    const { jobId, poolId, isOwnId, retentionTimeMs } = this.#options
    this.#job = 'sending'
    try {
      const metadata = [{ name: digestName, value: requestDigest(this.#plan.request) }]
      const job = { id: jobId, poolId, retentionTimeMs, usesTaskDependencies: this.#hasReduce, metadata }
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

  /** Now that all tasks are in, the job may end as soon as they are complete. */
  async #endByItself(): Promise<void> {
    const { signal } = this.#interrupts
    await this.#mesh.control.call(
      'updateJob',
      { jobId: this.#options.jobId, onAllTasksComplete: 'terminatejob' },
      { signal, persist: true },
    )
  }

  #results(uploads: Uploads): Results {
    const { jobId, printsStdout } = this.#options
    const plan = this.#plan
    const printsText = this.#context.isForPeople
    return new Results(this.#mesh, {
      jobId,
      world: this.#context.world,
      signal: this.#interrupts.signal,
      directory: (taskId) => (taskId === reduceId ? plan.reduceDirectory() : plan.directory(plan.positionOf(taskId) ?? 0)),
      expected: (taskId) => {
        if (taskId === reduceId) return { patterns: plan.reduceOutputs(), before: this.#reduceInputs }
        const at = plan.positionOf(taskId)
        return at === undefined ? { patterns: [], before: new Map() } : { patterns: plan.outputs(at), before: uploads.before(at) }
      },
      printsStdout: (taskId) => printsText && (this.#isSingle || taskId === reduceId || printsStdout),
      printsStderr: () => printsText && this.#isSingle,
      onPrint: () => this.#progress.clear(),
    })
  }

  /** One task, whose text passes through. */
  get #isSingle(): boolean {
    const { count } = this.#plan
    return Math.min(count, this.#options.tryCount ?? count) === 1 && !this.#hasReduce
  }

  get #hasReduce(): boolean {
    return this.#plan.request.reduce !== undefined && this.#options.tryCount === undefined
  }

  async #watch(uploads: Uploads, results: Results, work: Work): Promise<number> {
    const { jobId, maxFails } = this.#options
    const { signal } = this.#interrupts
    const plan = this.#plan
    const hidesStderr = this.#isSingle && this.#context.isForPeople
    const silence = explainSilence(this.#mesh, { jobId, taskId: plan.taskId(work.positions[0]?.start ?? 0) }, (line) => {
      this.#progress.clear()
      this.#context.say(line)
    })
    const seen = new SeenPositions(plan.count, (taskId) => plan.positionOf(taskId))
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
            this.#failures.add(hidesStderr ? { ...task, stderrTail: undefined } : task)
          }
          results.add(task)
        },
        isEnough: () => maxFails !== undefined && this.#failed >= maxFails,
      })
    let end: FollowEnd | 'failed' = 'complete'
    let count = work.count
    try {
      if (count > 0) {
        this.#progress.tasks(count)
        end = await until(count).finally(() => silence.stop())
        if (end === 'enough') await this.#giveUp('MaxFails')
      }
      silence.stop()
      await this.#settle(results)
      if (end === 'complete' && this.#hasReduce && (await this.#submitReduce(uploads, results, work))) {
        count += 1
        this.#progress.tasks(count, 'reducing')
        end = await until(count)
        await this.#settle(results)
        this.#hasReduced = end === 'complete'
      }
    } catch (error) {
      if (signal.aborted) throw error
      // What has come so far is shown all the same. Without a reduce step to come, the job goes on by itself.
      end = 'failed'
      await results.settled()
      results.problems.push(`Job ${jobId} could not be followed to its end: ${toMeshError(error).message}`)
      if (this.#hasReduce && !this.#reduceIsIn) await this.#giveUp('ReduceNotRun')
    }
    return await this.#report(results, work, end)
  }

  async #report(results: Results, work: Work, end: FollowEnd | 'failed'): Promise<number> {
    this.#progress.stop()
    const { jobId, quiet, maxFails, tryCount } = this.#options
    const outcome: Outcome = {
      jobId: this.#job === 'none' ? undefined : jobId,
      succeeded: this.#succeeded,
      failed: this.#failed,
      kept: work.kept,
      notRun: Math.max(0, work.count - this.#succeeded - this.#failed),
      end,
      reduced: this.#hasReduced,
      ...(tryCount === undefined ? {} : { tried: work.positions }),
    }
    const options = { quiet, began: this.#began, maxFails }
    return await report(this.#context, this.#mesh, this.#plan, results, this.#failures, outcome, options)
  }

  async #settle(results: Results): Promise<void> {
    await results.settled()
    this.#interrupts.signal.throwIfAborted()
  }

  /** False when the reduce step cannot run, or has run before. */
  async #submitReduce(uploads: Uploads, results: Results, work: Work): Promise<boolean> {
    const { jobId } = this.#options
    const { signal } = this.#interrupts
    let problem = this.#failed > 0 ? `${this.#failed} of its tasks failed` : (results.missing ?? collision(results.outputs))
    if (problem === undefined) {
      for (const { path, blob } of results.outputs) this.#reduceInputs.set(path, blob)
      try {
        const files = await gather(this.#mesh, results.outputs, signal)
        const spec = this.#plan.reduceSpec([...uploads.shared, ...files], work.positions)
        const earlier = work.reduces.get(sameTask(spec))
        if (earlier !== undefined && (await results.keep(reduceId, earlier))) {
          this.#hasReduced = true
          await this.#settle(results)
          this.#context.say(`The reduce step had succeeded before, on the same files (job ${earlier.jobId}).`)
          if (this.#job !== 'none') await this.#endByItself()
          return false
        }
        // Nothing else had to be run.
        if (this.#job === 'none') await this.#addJob()
        this.#interrupts.allowDetach()
        await addTasks(this.#mesh, jobId, [spec], { signal, isOwnJob: true })
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
      const reduce = this.#hasReduce && !this.#reduceIsIn ? ' Its reduce step has not been submitted and will not run.' : ''
      const fails = this.#options.maxFails === undefined ? '' : ' Nobody counts its failures any more (--max-fails).'
      context.say(`batchmesh: detached; job ${jobId} goes on.${reduce}${fails} Wait for it: batchmesh job wait ${jobId}`)
    }
    return 130
  }
}
