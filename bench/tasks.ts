/**
 * No-op command tasks through a real mesh: a founder that only coordinates and one worker with two slots, separate
 * processes, default isolation, a directory and output files for each task, every grant and result fsynced. As a share
 * of `seq N | xargs -P2 -n1 /bin/true`, measured in turn with it in the same run.
 */
import { availableParallelism } from 'node:os'
import { taskSpecSchema } from '../protocols/model/task.ts'
import type { Mesh } from '../src/mesh/client.ts'
import { connect } from '../src/mesh.ts'
import { type Bench, numbers } from './bench.ts'
import { BenchLab, median, timeShell } from './lab.ts'

const perRequest = 1000

interface TasksResult {
  tasks: number
  rounds: { meshPerSecond: number; xargsPerSecond: number; share: number }[]
  share: number
  meshPerSecond: number
  xargsPerSecond: number
  coordinatorLagMs: number
  workerLagMs: number
  isolation: string
}

export const bench: Bench = {
  usage: '[--tasks 5000] [--rounds 5]',
  async run(args) {
    const result = await benchTasks(numbers(args, { tasks: 5000, rounds: 5 }))
    return { result, lines: tasksLines(result) }
  },
}

function tasksLines(result: TasksResult): string[] {
  const { meshPerSecond, xargsPerSecond, share } = result
  return [
    ...result.rounds.map(
      (round) => `mesh ${round.meshPerSecond.toFixed(0)}/s   xargs ${round.xargsPerSecond.toFixed(0)}/s   share ${round.share.toFixed(2)}`,
    ),
    `\n${result.tasks} no-op command tasks a round, isolation ${result.isolation}, medians of ${result.rounds.length}:`,
    `mesh ${meshPerSecond.toFixed(0)}/s, xargs -P2 ${xargsPerSecond.toFixed(0)}/s, share ${share.toFixed(2)}`,
    `longest lag of a heartbeat: worker ${result.workerLagMs.toFixed(0)} ms, coordinator's loop ${result.coordinatorLagMs.toFixed(0)} ms`,
  ]
}

async function benchTasks(options: { tasks: number; rounds: number }): Promise<TasksResult> {
  const lab = await BenchLab.create()
  try {
    const founder = await lab.up('founder', ['--lend-cpus', '0'])
    const worker = await lab.up('worker', ['--lend-cpus', String(Math.min(2, availableParallelism()))], founder)
    const mesh = await connect({ dataDir: founder.dataDir })
    const node = await connect({ dataDir: worker.dataDir })
    try {
      await oneJob(mesh, 'warm-up', 500)
      await node.local.call('status', {})
      const rounds: TasksResult['rounds'] = []
      for (let round = 0; round < options.rounds; round += 1) {
        const xargsPerSecond = options.tasks / (await timeShell(`seq ${options.tasks} | xargs -P2 -n1 /bin/true`))
        const meshPerSecond = options.tasks / (await oneJob(mesh, `bench-${round}`, options.tasks))
        rounds.push({ meshPerSecond, xargsPerSecond, share: meshPerSecond / xargsPerSecond })
      }
      const local = await node.local.call('status', {})
      const status = await mesh.control.call('status', {})
      return {
        tasks: options.tasks,
        rounds,
        share: median(rounds.map((round) => round.share)),
        meshPerSecond: median(rounds.map((round) => round.meshPerSecond)),
        xargsPerSecond: median(rounds.map((round) => round.xargsPerSecond)),
        coordinatorLagMs: status.heartbeatLagMs,
        workerLagMs: local.heartbeatLagMs,
        isolation: local.isolation,
      }
    } finally {
      await mesh.close()
      await node.close()
    }
  } finally {
    await lab.close()
  }
}

/** Seconds from the first task's submission to the last one's completion, seen by a watch. */
async function oneJob(mesh: Mesh, jobId: string, tasks: number): Promise<number> {
  await mesh.control.call('addJob', { id: jobId })
  const done = new AbortController()
  const start = performance.now()
  const adding = (async () => {
    for (let at = 0; at < tasks; at += perRequest) {
      const batch = Array.from({ length: Math.min(perRequest, tasks - at) }, (_, i) =>
        taskSpecSchema.parse({ id: String(at + i).padStart(7, '0'), commandLine: '/bin/true' }),
      )
      await mesh.control.call('addTasks', { jobId, tasks: batch })
    }
  })()
  let seconds = 0
  for await (const { counts } of mesh.watchJob(jobId, done.signal)) {
    if (counts.failed > 0) throw new Error(`${counts.failed} tasks failed`)
    if (counts.succeeded < tasks) continue
    seconds = (performance.now() - start) / 1000
    break
  }
  done.abort()
  await adding
  await mesh.control.call('deleteJob', { jobId })
  return seconds
}
