/**
 * A task array through a real mesh, with no machine that could run it: how long its submission takes, what the
 * coordinator's process holds more than before while it waits, and how long lists and counts take.
 */
import { readFile } from 'node:fs/promises'
import { setTimeout as sleep } from 'node:timers/promises'
import { connect } from '../src/mesh.ts'
import { type Bench, numbers } from './bench.ts'
import { BenchLab } from './lab.ts'

interface ArrayResult {
  tasks: number
  submitMs: number
  /** Resident memory of the coordinator's process above idle; absent where the system does not tell. */
  aboveIdleMiB?: number
  /** First page of 1,000 of all, of those that run and of those that failed, and the job with its counts. */
  firstPageMs: number
  runningMs: number
  failedMs: number
  countMs: number
  /** Longest that the coordinator's loop stood still. */
  lagMs: number
}

export const bench: Bench = {
  usage: '[--tasks 1000000]',
  async run(args) {
    const result = await benchArray(numbers(args, { tasks: 1_000_000 }).tasks)
    return { result, lines: arrayLines(result) }
  },
}

function arrayLines(result: ArrayResult): string[] {
  const ms = (value: number) => `${value.toFixed(0)} ms`
  return [
    `an array of ${result.tasks} tasks, with no machine to run it:`,
    `submitted in ${ms(result.submitMs)}, ${result.aboveIdleMiB?.toFixed(1) ?? '?'} MiB resident above idle while it waits`,
    `first page of all ${ms(result.firstPageMs)}, of the running ${ms(result.runningMs)}, of the failed ${ms(result.failedMs)}; counts ${ms(result.countMs)}`,
    `longest lag of the coordinator's loop ${ms(result.lagMs)}`,
  ]
}

async function benchArray(tasks: number): Promise<ArrayResult> {
  const lab = await BenchLab.create()
  try {
    const founder = await lab.up('founder', ['--lend-cpus', '0'])
    const mesh = await connect({ dataDir: founder.dataDir })
    try {
      const submit = async (jobId: string, count: number) => {
        await mesh.control.call('addJob', { id: jobId })
        const array = { indexes: [{ start: 0, end: count - 1 }], template: { commandLine: '/bin/echo {index}' } }
        return timed(() => mesh.control.call('addTaskArray', { jobId, array }))
      }
      const pages = (jobId: string) => ({
        all: () => timed(() => mesh.control.call('listTasks', { jobId })),
        running: () => timed(() => mesh.control.call('listTasks', { jobId, state: 'running' })),
        failed: () => timed(() => mesh.control.call('listTasks', { jobId, result: 'failure' })),
        count: () => timed(() => mesh.control.call('getJob', { jobId })),
      })
      // What the code and its first use take is not the array's.
      await submit('warm-up', 1000)
      for (const ask of Object.values(pages('warm-up'))) await ask()
      await mesh.control.call('deleteJob', { jobId: 'warm-up' })
      await sleep(2000)
      await mesh.control.call('status', {})
      const idle = await residentMiB(founder.pid)
      const submitMs = await submit('array', tasks)
      await sleep(1000)
      const held = await residentMiB(founder.pid)
      for (const index of [0, Math.floor(tasks / 2), tasks - 1]) {
        const taskId = String(index).padStart(Math.max(4, String(tasks - 1).length), '0')
        await mesh.control.call('terminateTask', { jobId: 'array', taskId })
      }
      const ask = pages('array')
      return {
        tasks,
        submitMs,
        aboveIdleMiB: idle === undefined || held === undefined ? undefined : held - idle,
        firstPageMs: await ask.all(),
        runningMs: await ask.running(),
        failedMs: await ask.failed(),
        countMs: await ask.count(),
        lagMs: (await mesh.control.call('status', {})).heartbeatLagMs,
      }
    } finally {
      await mesh.close()
    }
  } finally {
    await lab.close()
  }
}

async function timed(work: () => Promise<unknown>): Promise<number> {
  const start = performance.now()
  await work()
  return performance.now() - start
}

async function residentMiB(pid: number): Promise<number | undefined> {
  const status = await readFile(`/proc/${pid}/status`, 'utf8').catch(() => '')
  const kiB = /^VmRSS:\s+(\d+) kB$/m.exec(status)?.[1]
  return kiB === undefined ? undefined : Number(kiB) / 1024
}
