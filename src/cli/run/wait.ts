/** `batchmesh job wait`. */
import { resolve } from 'node:path'
import type { TaskEvent } from '../../../protocols/control.ts'
import type { Context } from '../context.ts'
import { interruptible } from '../interrupt.ts'
import { logFiles } from '../submit/logs.ts'
import { Failures } from './failures.ts'
import { follow } from './follow.ts'
import { makeProgress } from './progress.ts'
import { Results } from './results.ts'
import { explainSilence, type Silence } from './silence.ts'

export interface WaitOptions {
  /** Where outputs are written. */
  to?: string
  /** Where the files of standard output go that the script of a `submit` names; default `to`, without it nowhere. */
  logsTo?: string
  quiet: boolean
  onEnded?: (task: TaskEvent) => void
}

/** Follows a job until all its tasks are complete; answers the exit code. */
export async function waitForJob(context: Context, jobId: string, options: WaitOptions): Promise<number> {
  const mesh = await context.mesh()
  const job = await mesh.control.call('getJob', { jobId })
  const progress = makeProgress(context.world, options.quiet)
  const logsTo = options.logsTo ?? options.to
  const { cwd, env } = context.world
  const logs = logsTo === undefined ? undefined : logFiles(mesh, job, resolve(cwd, logsTo), env.USER ?? 'user')
  let logsWritten: Promise<void> = Promise.resolve()
  const problems: string[] = []
  const failures = new Failures()
  let failed = 0
  let succeeded = 0
  let notRun = 0
  let silence: Silence | undefined
  let isInterrupted = false
  try {
    return await interruptible(context.world, async (signal) => {
      const results = new Results(mesh, {
        jobId,
        world: context.world,
        signal,
        directory: () => options.to,
        expected: async (taskId) => {
          const { outputFiles = [], resourceFiles = [] } = await mesh.control.call('getTask', { jobId, taskId }, { signal, persist: true })
          return {
            patterns: outputFiles.map(({ filePattern }) => filePattern),
            before: new Map(resourceFiles.flatMap(({ filePath, blob }) => (blob === undefined ? [] : [[filePath, blob]]))),
          }
        },
        printsStdout: () => false,
        printsStderr: () => false,
        onPrint: () => progress.clear(),
      })
      signal.addEventListener('abort', () => {
        isInterrupted = true
      })
      if (!options.quiet && job.counts.running + job.counts.completed === 0) {
        const { items } = await mesh.control.call('listTasks', { jobId, state: 'active', limit: 1 }, { signal, persist: true })
        const say = (line: string) => {
          progress.clear()
          context.say(line)
        }
        if (items[0] !== undefined) silence = explainSilence(mesh, { jobId, taskId: items[0].id }, say)
      }
      progress.tasks(job.counts.active + job.counts.running + job.counts.completed)
      const end = await follow(mesh, jobId, {
        seen: new Set(),
        signal,
        onCounts: (counts) => {
          progress.counts(counts)
          silence?.counts(counts)
          notRun = counts.active + counts.running
        },
        onEnded: (task) => {
          if (task.result === 'success') succeeded += 1
          else {
            failed += 1
            failures.add(task)
          }
          options.onEnded?.(task)
          if (options.to !== undefined) results.add(task)
          if (logs !== undefined) logsWritten = logsWritten.then(async () => void problems.push(...(await logs.write(task, signal))))
        },
      })
      await results.settled()
      await logsWritten
      problems.push(...results.problems)
      signal.throwIfAborted()
      progress.stop()
      if (!context.isForPeople)
        await context.one(
          [
            ['succeeded', succeeded],
            ['failed', failed],
          ],
          {
            jobId,
            succeeded,
            failed,
            notRun: end === 'ended' ? notRun : 0,
            failures: failures.groups,
            outputs: results.outputs,
            problems,
          },
        )
      for (const line of failures.lines()) context.say(line)
      for (const problem of problems) context.say(`batchmesh: ${problem}`)
      if (end === 'ended') context.say(`batchmesh: the job was ended before ${notRun} of its tasks ran`)
      if (!options.quiet) context.say(`${succeeded} succeeded, ${failed} failed (job ${jobId})`)
      return failed > 0 || problems.length > 0 || end === 'ended' ? 1 : 0
    })
  } finally {
    silence?.stop()
    progress.stop()
    if (isInterrupted) context.say(`Job ${jobId} goes on. Wait again: batchmesh job wait ${jobId}; end it: batchmesh job stop ${jobId}`)
  }
}
