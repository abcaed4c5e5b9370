/**
 * No-op command tasks through a real mesh: a founder that only coordinates and one worker with two slots, separate
 * processes, default isolation, a directory and output files for each task, every grant and result fsynced. As a share
 * of `seq N | xargs -P2 -n1 /bin/true`, measured in turn with it in the same run.
 */
import { existsSync } from 'node:fs'
import { availableParallelism } from 'node:os'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import type { Mesh } from '../src/mesh/client.ts'
import { type Bench, numbers, table } from './bench.ts'
import { type CpuMs, cpuOfTree, cpuSince } from './cpu.ts'
import { type BenchNode, costOfShell, median } from './lab.ts'
import { commandTasks, withPair } from './pair.ts'

const perRequest = 1000

interface Round {
  meshPerSecond: number
  xargsPerSecond: number
  share: number
}

/** CPU a task in microseconds. */
interface CpuPerTask {
  coordinator: CpuMs
  worker: CpuMs
  /** The worker's lanes with the programs themselves. */
  lanes: CpuMs
  /** The process that adds the tasks and watches the job. */
  submitter: CpuMs
  xargs: CpuMs
}

interface TasksResult {
  tasks: number
  rounds: Round[]
  share: number
  meshPerSecond: number
  xargsPerSecond: number
  cpuUsPerTask: CpuPerTask
  coordinatorLagMs: number
  workerLagMs: number
  isolation: string
}

export const bench: Bench = {
  usage: '[--tasks 20000] [--rounds 3]',
  async run(args) {
    const { tasks, rounds } = numbers(args, { tasks: 20_000, rounds: 3 })
    const result = await benchTasks(tasks, rounds)
    return { result, lines: tasksLines(result) }
  },
}

async function benchTasks(tasks: number, count: number): Promise<TasksResult> {
  return await withPair(Math.min(2, availableParallelism()), async ({ founder, worker, mesh, viaWorker }) => {
    await oneJob(mesh, 'warm-up', 500)
    await removeJob(mesh, worker, 'warm-up')
    await viaWorker.local.call('status', {})
    // Names of their own: jobs of one name share a region of the disk, where ext4 looks through all that was deleted lately.
    const mark = Date.now().toString(36)
    const rounds: Round[] = []
    const spent: CpuPerTask = { coordinator: noCpu(), worker: noCpu(), lanes: noCpu(), submitter: noCpu(), xargs: noCpu() }
    const each = tasks * count
    for (let round = 0; round < count; round += 1) {
      const xargs = await costOfShell(`seq ${tasks} | xargs -P2 -n1 /bin/true`)
      const before = { founder: cpuOfTree(founder.pid), worker: cpuOfTree(worker.pid), own: process.cpuUsage() }
      const meshSeconds = await oneJob(mesh, `bench-${mark}-${round}`, tasks)
      const own = process.cpuUsage(before.own)
      const ofWorker = cpuSince(before.worker, cpuOfTree(worker.pid))
      add(spent.coordinator, cpuSince(before.founder, cpuOfTree(founder.pid)).own, 1000 / each)
      add(spent.worker, ofWorker.own, 1000 / each)
      add(spent.lanes, ofWorker.below, 1000 / each)
      add(spent.submitter, own, 1 / each)
      add(spent.xargs, xargs.cpu, 1000 / each)
      rounds.push({ meshPerSecond: tasks / meshSeconds, xargsPerSecond: tasks / xargs.seconds, share: xargs.seconds / meshSeconds })
      await removeJob(mesh, worker, `bench-${mark}-${round}`)
    }
    const local = await viaWorker.local.call('status', {})
    const status = await mesh.control.call('status', {})
    return {
      tasks,
      rounds,
      share: median(rounds.map((round) => round.share)),
      meshPerSecond: median(rounds.map((round) => round.meshPerSecond)),
      xargsPerSecond: median(rounds.map((round) => round.xargsPerSecond)),
      cpuUsPerTask: spent,
      coordinatorLagMs: status.heartbeatLagMs,
      workerLagMs: local.heartbeatLagMs,
      isolation: local.isolation,
    }
  })
}

const noCpu = (): CpuMs => ({ user: 0, system: 0 })

function add(to: CpuMs, more: CpuMs, factor: number): void {
  to.user += more.user * factor
  to.system += more.system * factor
}

/** Deletes a job and waits until its task directories are gone from the worker: nothing of it falls into the next measurement. */
async function removeJob(mesh: Mesh, worker: BenchNode, jobId: string): Promise<void> {
  await mesh.control.call('deleteJob', { jobId })
  while (existsSync(join(worker.dataDir, 'tasks', 'workitems', jobId))) await sleep(20)
}

/** Seconds from the first task's submission to the last one's completion, seen by a watch. */
async function oneJob(mesh: Mesh, jobId: string, tasks: number): Promise<number> {
  await mesh.control.call('addJob', { id: jobId })
  const done = new AbortController()
  const start = performance.now()
  const adding = (async () => {
    for (let at = 0; at < tasks; at += perRequest) {
      const batch = commandTasks(at, Math.min(perRequest, tasks - at), '/bin/true')
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
  return seconds
}

function tasksLines(result: TasksResult): string[] {
  const { meshPerSecond, xargsPerSecond, share, cpuUsPerTask } = result
  const us = (value: number) => value.toFixed(0)
  return [
    ...result.rounds.map(
      (round) => `mesh ${round.meshPerSecond.toFixed(0)}/s   xargs ${round.xargsPerSecond.toFixed(0)}/s   share ${round.share.toFixed(2)}`,
    ),
    `\n${result.tasks} no-op command tasks a round, isolation ${result.isolation}, medians of ${result.rounds.length}:`,
    `mesh ${meshPerSecond.toFixed(0)}/s, xargs -P2 ${xargsPerSecond.toFixed(0)}/s, share ${share.toFixed(2)}`,
    `longest lag of a heartbeat: worker ${result.workerLagMs.toFixed(0)} ms, coordinator's loop ${result.coordinatorLagMs.toFixed(0)} ms\n`,
    ...table(
      ['CPU us a task', 'user', 'system', 'both'],
      Object.entries(cpuUsPerTask).map(([name, { user, system }]) => [name, us(user), us(system), us(user + system)]),
    ),
  ]
}
