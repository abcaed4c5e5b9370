/**
 * Many simulated workers at one coordinator: the real coordinator in a process of its own, real frames over a socket
 * each, and workers in this process whose tasks are timers. How much of their slots' time is spent on tasks, from the
 * first start until the work runs out, and how long heartbeats take meanwhile.
 */
import { monitorEventLoopDelay } from 'node:perf_hooks'
import { setTimeout as sleep } from 'node:timers/promises'
import { controlProtocol } from '../protocols/control.ts'
import { leasesProtocol } from '../protocols/leases.ts'
import { clientSession } from '../protocols/rpc.ts'
import { type Bench, numbers } from './bench.ts'
import { CoordinatorProcess, costBetween } from './fleet/coordinator-process.ts'
import { SimulatedWorker } from './fleet/worker.ts'

/** Workers that connect together. */
const atOnce = 100

interface WorkersResult {
  workers: number
  slots: number
  taskMs: number
  seconds: number
  /** Share of the slots' time that was spent on tasks. */
  efficiency: number
  tasksPerSecond: number
  /** From a heartbeat to its answer, in ms: of machines in a process of their own that only beat, and of the workers, whose process is busy itself. */
  beatMs: Times
  workersBeatMs: Times
  /** Longest that the loops stood still, in ms: the coordinator's, and the one that all workers share. */
  coordinatorLagMs: number
  workersLagMs: number
  /** Cores used. */
  coordinatorCores: number
  workersCores: number
  /** Of the coordinator. */
  cpuUsPerTask: number
  rowsPerBatch: number
  /** Shares of the coordinator's busy time. */
  layers?: Record<string, number>
  top?: { name: string; share: number }[]
}

interface Times {
  count: number
  p50: number
  p99: number
  max: number
}

export const bench: Bench = {
  usage: '[--workers 1000] [--task-ms 1000] [--seconds 20] [--profile 0]',
  async run(args) {
    const options = numbers(args, { workers: 1000, 'task-ms': 1000, seconds: 20, profile: 0 })
    const result = await run(options.workers, options['task-ms'], options.seconds, options.profile)
    return { result, lines: table(result) }
  },
}

async function run(count: number, taskMs: number, seconds: number, top: number): Promise<WorkersResult> {
  const coordinator = await CoordinatorProcess.start('socket')
  const starts: number[] = []
  const beats: number[] = []
  const workers: SimulatedWorker[] = []
  try {
    const connect = async (n: number) => {
      const channel = await coordinator.connect(`worker-${n}`, leasesProtocol)
      const parts = { name: `worker-${n}`, slots: (n % 2) + 1, taskMs }
      const worker = new SimulatedWorker(channel, { ...parts, started: (at) => starts.push(at), beat: (ms) => beats.push(ms) })
      workers.push(worker)
      await worker.hello()
    }
    for (let n = 0; n < count; n += atOnce) await Promise.all(Array.from({ length: Math.min(atOnce, count - n) }, (_, i) => connect(n + i)))
    const slots = workers.reduce((sum, worker) => sum + worker.slots, 0)
    const control = clientSession(controlProtocol, await coordinator.connect('submitter', controlProtocol), {
      calls: {},
      notes: { jobEvents: () => {} },
    })
    await control.call('addJob', { id: 'many' })
    const probed = await coordinator.probe()
    // Asked once, so that what came before is not counted.
    await control.call('status', {})
    const delay = monitorEventLoopDelay({ resolution: 10 })
    delay.enable()
    beats.length = 0
    await probed()
    const before = await coordinator.ask(top > 0 ? 'profile' : 'cost')
    const own = process.cpuUsage()
    // Half as many again as can be done, so that the work does not run out.
    const tasks = Math.ceil((slots * seconds * 1500) / taskMs) + slots
    const array = { indexes: [{ start: 0, end: tasks - 1 }], template: { commandLine: '/bin/true' } }
    await control.call('addTaskArray', { jobId: 'many', array })
    await sleep(seconds * 1000 + 200)
    const cost = costBetween(before, await coordinator.ask(top > 0 ? 'profiled' : 'cost'))
    const { user, system } = process.cpuUsage(own)
    const first = Math.min(...starts.slice(0, slots))
    const last = first + seconds * 1000
    const within = starts.filter((at) => at < last)
    const busyMs = within.reduce((sum, at) => sum + Math.min(taskMs, last - at), 0)
    return {
      workers: count,
      slots,
      taskMs,
      seconds,
      efficiency: busyMs / (slots * seconds * 1000),
      tasksPerSecond: within.length / seconds,
      beatMs: timesOf(await probed()),
      workersBeatMs: timesOf(beats),
      coordinatorLagMs: (await control.call('status', {})).heartbeatLagMs,
      workersLagMs: delay.max / 1e6,
      coordinatorCores: cost.cpuMs / (seconds * 1000),
      workersCores: (user + system) / 1000 / (seconds * 1000),
      cpuUsPerTask: (cost.cpuMs * 1000) / within.length,
      rowsPerBatch: cost.written.rows / cost.written.batches,
      ...(cost.profile === undefined ? {} : { layers: cost.profile.layers, top: cost.profile.top.slice(0, top) }),
    }
  } finally {
    for (const worker of workers) worker.close()
    await coordinator.stop()
  }
}

function timesOf(times: number[]): Times {
  const sorted = times.sort((a, b) => a - b)
  const at = (share: number) => sorted[Math.min(sorted.length - 1, Math.floor(sorted.length * share))] ?? 0
  return { count: times.length, p50: at(0.5), p99: at(0.99), max: at(1) }
}

function table(result: WorkersResult): string[] {
  const { workers, slots, taskMs, seconds } = result
  const beats = ({ p50, p99, max, count }: Times) => `p50 ${ms(p50)}, p99 ${ms(p99)}, at most ${ms(max)} (${count} heartbeats)`
  const ms = (value: number) => `${value.toFixed(0)} ms`
  const percent = (share: number) => `${(share * 100).toFixed(1).padStart(5)} %`
  return [
    `${workers} simulated workers with ${slots} slots, tasks of ${taskMs} ms, ${seconds} s from the first start:`,
    `efficiency ${result.efficiency.toFixed(3)}, ${result.tasksPerSecond.toFixed(0)} tasks/s`,
    `a heartbeat's answer took ${beats(result.beatMs)}`,
    `those of the workers, whose process is busy itself, ${beats(result.workersBeatMs)}`,
    `longest lag of the coordinator's loop ${ms(result.coordinatorLagMs)}, of the loop that all workers share ${ms(result.workersLagMs)}`,
    `cores used: coordinator ${result.coordinatorCores.toFixed(2)} (${result.cpuUsPerTask.toFixed(0)} µs a task, all else included), workers ${result.workersCores.toFixed(2)}`,
    `${result.rowsPerBatch.toFixed(0)} rows a batch`,
    ...Object.entries(result.layers ?? {})
      .sort(([, a], [, b]) => b - a)
      .map(([name, share]) => `${percent(share)} ${name}`),
    ...(result.top ?? []).map(({ name, share }) => `    ${percent(share)} ${name}`),
  ]
}
