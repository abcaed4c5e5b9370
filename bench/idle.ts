/**
 * What a mesh at rest takes: a founder that coordinates and a worker, each with all its processes, as /proc tells.
 * The baseline is a bare Node process that waits.
 */
import { spawn } from 'node:child_process'
import { readFileSync } from 'node:fs'
import { setTimeout as sleep } from 'node:timers/promises'
import { type Bench, numbers, table } from './bench.ts'
import { cpuOfTree, cpuSince, processesOfTree } from './cpu.ts'
import { commandTasks, WatchedJob, withPair } from './pair.ts'

interface Rest {
  /** Proportional share: pages that several processes have count once. */
  pssMiB: number
  /** Of the largest process. */
  rssMiB: number
  processes: number
  /** Of one core. */
  cpuPercent: number
}

interface IdleResult {
  seconds: number
  founder: Rest
  worker: Rest
  /** After it has run tasks, and its lanes are still there. */
  workerAfterTasks: Rest
  bareNode: Rest
}

export const bench: Bench = {
  usage: '[--seconds 30]',
  async run(args) {
    const { seconds } = numbers(args, { seconds: 30 })
    const bare = spawn(process.execPath, ['-e', 'setInterval(() => {}, 1e6)'], { stdio: 'ignore' })
    try {
      const result = await withPair(2, async ({ founder, worker, mesh, viaWorker }) => {
        await viaWorker.local.call('status', {})
        await sleep(5000)
        const [ofFounder, ofWorker, ofBare] = await Promise.all([founder.pid, worker.pid, bare.pid!].map((pid) => rest(pid, seconds)))
        const job = await WatchedJob.open(mesh, 'work')
        await job.run(commandTasks(0, 1000, '/bin/true'), 1000)
        await job.close()
        await sleep(5000)
        const after = await rest(worker.pid, seconds)
        const measured: IdleResult = { seconds, founder: ofFounder!, worker: ofWorker!, workerAfterTasks: after, bareNode: ofBare! }
        return measured
      })
      return { result, lines: lines(result) }
    } finally {
      bare.kill()
    }
  },
}

async function rest(pid: number, seconds: number): Promise<Rest> {
  const before = cpuOfTree(pid)
  const start = performance.now()
  await sleep(seconds * 1000)
  const { own, below } = cpuSince(before, cpuOfTree(pid))
  const cpuMs = own.user + own.system + below.user + below.system
  const pids = processesOfTree(pid)
  return {
    pssMiB: pids.reduce((sum, each) => sum + kiBOf(`/proc/${each}/smaps_rollup`, 'Pss'), 0) / 1024,
    rssMiB: kiBOf(`/proc/${pid}/status`, 'VmRSS') / 1024,
    processes: pids.length,
    cpuPercent: (100 * cpuMs) / (performance.now() - start),
  }
}

function kiBOf(file: string, name: string): number {
  try {
    return Number(new RegExp(`^${name}:\\s+(\\d+) kB$`, 'm').exec(readFileSync(file, 'utf8'))?.[1] ?? 0)
  } catch {
    // It ended meanwhile.
    return 0
  }
}

function lines({ seconds, ...measured }: IdleResult): string[] {
  return [
    `a mesh at rest for ${seconds} s:`,
    ...table(
      ['', 'PSS MiB', 'RSS MiB', 'processes', 'CPU %'],
      Object.entries(measured).map(([name, { pssMiB, rssMiB, processes, cpuPercent }]) => [
        name,
        pssMiB.toFixed(0),
        rssMiB.toFixed(0),
        `${processes}`,
        cpuPercent.toFixed(2),
      ]),
    ),
  ]
}
