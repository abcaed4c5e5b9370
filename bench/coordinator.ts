/**
 * What a task costs the coordinator: CPU of its process, user and system, with workers that report what they are granted
 * as succeeded at once. The coordinator has a process of its own, the real store (every grant and result fsynced) and
 * real connections; workers and submitter share another process.
 */
import { setTimeout as sleep } from 'node:timers/promises'
import { controlProtocol } from '../protocols/control.ts'
import { leasesProtocol } from '../protocols/leases.ts'
import { clientSession } from '../protocols/rpc.ts'
import { type Bench, numbers } from './bench.ts'
import { CoordinatorProcess, type Cost, costBetween, type WireName } from './fleet/coordinator-process.ts'
import type { Profile } from './fleet/profile.ts'
import { SimulatedWorker } from './fleet/worker.ts'

const perRequest = 1000

interface Run {
  what: string
  tasks: number
  seconds: number
  /** Per task, in microseconds: adding it, and all from its grant to its result. */
  submitUs: number
  runUs: number
  /** Of `runUs`, on the thread that JavaScript runs on; the rest is the database's and the collector's threads. */
  threadUs: number
  rows: number
  rowBytes: number
  perBatch: number
  /** `threadUs`, shared out by a profile of another run. */
  layers: Record<string, number>
  top: { name: string; us: number }[]
}

interface Way {
  what: string
  wire: WireName
  array: boolean
  watched: boolean
}

const ways: Way[] = [
  { what: 'array, libp2p', wire: 'libp2p', array: true, watched: false },
  { what: 'array, libp2p, watched', wire: 'libp2p', array: true, watched: true },
  { what: 'one by one, libp2p', wire: 'libp2p', array: false, watched: false },
  { what: 'array, socket', wire: 'socket', array: true, watched: false },
]

export const bench: Bench = {
  usage: '[--tasks 50000] [--workers 4] [--way 0 for all, or 1 to 4] [--top 0]',
  async run(args) {
    const { tasks, workers, way, top } = numbers(args, { tasks: 50_000, workers: 4, way: 0, top: 0 })
    const result: Run[] = []
    for (const each of way === 0 ? ways : [ways[way - 1]!]) result.push(await run(each, tasks, workers))
    return { result, lines: table(result, top) }
  },
}

async function run({ what, wire, array, watched }: Way, tasks: number, workerCount: number): Promise<Run> {
  const coordinator = await CoordinatorProcess.start(wire)
  const handlers = { calls: {}, notes: { jobEvents: () => {} } }
  try {
    const control = clientSession(controlProtocol, await coordinator.connect('submitter', controlProtocol), handlers)
    const submit = async (jobId: string, count: number) => {
      await control.call('addJob', { id: jobId })
      if (watched) await control.call('watch', { jobId })
      if (array) {
        const range = { indexes: [{ start: 0, end: count - 1 }], template: { commandLine: '/bin/true' } }
        return void (await control.call('addTaskArray', { jobId, array: range }))
      }
      for (let at = 0; at < count; at += perRequest) {
        const some = Array.from({ length: Math.min(perRequest, count - at) }, (_, i) => ({
          id: `task-${at + i}`,
          commandLine: '/bin/true',
        }))
        await control.call('addTasks', { jobId, tasks: some })
      }
    }
    const crew = async (jobId: string) => {
      const workers: SimulatedWorker[] = []
      for (let n = 0; n < workerCount; n += 1) {
        const channel = await coordinator.connect(`${jobId}-worker-${n}`, leasesProtocol)
        workers.push(new SimulatedWorker(channel, { name: `worker-${n}`, slots: 2, taskMs: 0 }))
      }
      return workers
    }
    const work = async (workers: readonly SimulatedWorker[], jobId: string, count: number) => {
      const since = performance.now()
      await Promise.all(workers.map((worker) => worker.hello()))
      while ((await control.call('getJob', { jobId })).counts.succeeded < count) await sleep(50)
      for (const worker of workers) worker.close()
      return (performance.now() - since) / 1000
    }
    await submit('warm-up', 5000)
    await work(await crew('warm-up'), 'warm-up', 5000)
    // Connected before and welcomed after, so that connecting, adding and running are told apart.
    const workers = await crew('measured')
    const before = await coordinator.ask('cost')
    await submit('measured', tasks)
    const between = await coordinator.ask('cost')
    const seconds = await work(workers, 'measured', tasks)
    const after = await coordinator.ask('cost')
    // The profiler has its price: it gets a run of its own.
    const others = await crew('profiled')
    await submit('profiled', tasks)
    await coordinator.ask('profile')
    await work(others, 'profiled', tasks)
    const { profile } = await coordinator.ask('profiled')
    return described(what, tasks, seconds, costBetween(before, between), costBetween(between, after), profile!)
  } finally {
    await coordinator.stop()
  }
}

function described(what: string, tasks: number, seconds: number, submit: Cost, run: Cost, profile: Profile): Run {
  const us = (ms: number) => (ms * 1000) / tasks
  const { batches, rows, bytes } = run.written
  return {
    what,
    tasks,
    seconds,
    submitUs: us(submit.cpuMs),
    runUs: us(run.cpuMs),
    threadUs: us(run.threadMs),
    rows: rows / tasks,
    rowBytes: bytes / tasks,
    perBatch: rows / batches,
    layers: Object.fromEntries(Object.entries(profile.layers).map(([layer, share]) => [layer, share * us(run.threadMs)])),
    top: profile.top.map(({ name, share }) => ({ name, us: share * us(run.threadMs) })),
  }
}

function table(runs: readonly Run[], top: number): string[] {
  const us = (value: number) => value.toFixed(1).padStart(6)
  return runs.flatMap((run) => [
    `${run.what}: ${run.tasks} tasks, ${(run.tasks / run.seconds).toFixed(0)}/s`,
    `${us(run.runUs)} µs of CPU a task from grant to result, of it ${run.threadUs.toFixed(1)} on the main thread; ${us(run.submitUs)} to add it`,
    `${run.rows.toFixed(2)} rows, ${run.rowBytes.toFixed(0)} bytes a task, ${run.perBatch.toFixed(0)} rows a batch`,
    ...Object.entries(run.layers)
      .sort(([, a], [, b]) => b - a)
      .map(([layer, value]) => `${us(value)} µs ${layer}`),
    ...run.top.slice(0, top).map(({ name, us: value }) => `    ${us(value)} µs ${name}`),
    '',
  ])
}
