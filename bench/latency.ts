/**
 * One no-op command task on an idle mesh, from the moment before it is submitted until a watch shows it completed.
 * Submitter, coordinator and worker are separate processes. `first of a job`: the worker starts a lane for it, with its
 * namespaces. Baselines in the same run: a spawn of the same program by this process, and a request to the coordinator
 * that goes by the worker's socket and its connection.
 */
import { spawn } from 'node:child_process'
import { setTimeout as sleep } from 'node:timers/promises'
import { type Bench, numbers, table } from './bench.ts'
import { commandTasks, type Pair, WatchedJob, withPair } from './pair.ts'

/** Between two tasks: whatever the last one left to do is done. */
const idleMs = 60
/** Between two jobs: jobs do not follow each other faster on a mesh that is said to be idle. */
const idleBetweenJobsMs = 1000

interface Spread {
  p50: number
  p99: number
}

interface LatencyResult {
  tasks: number
  jobs: number
  taskMs: Spread
  firstOfJobMs: Spread
  spawnMs: Spread
  roundTripMs: Spread
}

export const bench: Bench = {
  usage: '[--tasks 200] [--jobs 20]',
  async run(args) {
    const { tasks, jobs } = numbers(args, { tasks: 200, jobs: 20 })
    const result = await withPair(2, (pair) => measure(pair, tasks, jobs))
    return { result, lines: lines(result) }
  },
}

async function measure({ mesh, viaWorker }: Pair, tasks: number, jobs: number): Promise<LatencyResult> {
  const spawns: number[] = []
  const roundTrips: number[] = []
  const warm: number[] = []
  const cold: number[] = []
  const job = await WatchedJob.open(mesh, 'warm')
  // The first few pay for code that has not run yet.
  const unmeasured = 5
  await viaWorker.control.call('status', {})
  for (let at = 0; at < tasks + unmeasured; at += 1) {
    await sleep(idleMs)
    const took = [
      await spawnMs(),
      await timed(() => viaWorker.control.call('status', {})),
      await job.run(commandTasks(at, 1, '/bin/true'), at + 1),
    ]
    if (at < unmeasured) continue
    for (const [index, list] of [spawns, roundTrips, warm].entries()) list.push(took[index]!)
  }
  await job.close()
  for (let at = 0; at < jobs; at += 1) {
    const fresh = await WatchedJob.open(mesh, `cold-${at}`)
    await sleep(idleBetweenJobsMs)
    cold.push(await fresh.run(commandTasks(0, 1, '/bin/true'), 1))
    await fresh.close()
  }
  return { tasks, jobs, taskMs: spread(warm), firstOfJobMs: spread(cold), spawnMs: spread(spawns), roundTripMs: spread(roundTrips) }
}

function spawnMs(): Promise<number> {
  const start = performance.now()
  return new Promise((resolve, reject) => {
    spawn('/bin/true', { stdio: 'ignore' })
      .once('error', reject)
      .once('close', () => resolve(performance.now() - start))
  })
}

async function timed(work: () => Promise<unknown>): Promise<number> {
  const start = performance.now()
  await work()
  return performance.now() - start
}

function spread(values: number[]): Spread {
  const sorted = values.toSorted((a, b) => a - b)
  const at = (share: number) => sorted[Math.min(sorted.length - 1, Math.floor(sorted.length * share))]!
  return { p50: at(0.5), p99: at(0.99) }
}

function lines(result: LatencyResult): string[] {
  const row = (name: string, { p50, p99 }: Spread) => [name, p50.toFixed(1), p99.toFixed(1)]
  return table(
    ['milliseconds', 'p50', 'p99'],
    [
      row(`task, submitted to seen completed (${result.tasks})`, result.taskMs),
      row(`first task of a job (${result.jobs})`, result.firstOfJobMs),
      row('spawn of the same program', result.spawnMs),
      row('request by way of the worker', result.roundTripMs),
    ],
  )
}
