/**
 * Tasks with an id and a command line of their own, as many as asked for, submitted to a real founder through its
 * control socket with no machine that could run them: the rate until all are acknowledged, what the coordinator's
 * process holds for each while it waits, how long lists and counts take, and how long a restart. The baseline of the
 * rate is the database alone: as many rows with the same specs, a thousand a synced batch, before and after.
 */
import { readFile, rm } from 'node:fs/promises'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { fileURLToPath } from 'node:url'
import { specKey } from '../coordinator/rows.ts'
import { openLevelStore } from '../coordinator/store.ts'
import { encode } from '../protocols/codec.ts'
import { maxTasksPerAdd } from '../protocols/control.ts'
import { addTasks } from '../src/mesh/submit.ts'
import { connect } from '../src/mesh.ts'
import { type Bench, numbers } from './bench.ts'
import { BenchLab, type BenchNode, median } from './lab.ts'
import type { Probed } from './memory-probe.ts'

/** Requests on their way at once, as the command line has them (src/mesh/submit.ts). */
const requestsInFlight = 4
/** Idle for so long, a process gives back what it needed while it worked: V8 shrinks its heap only then. */
const restMs = 20_000
/** Rows of the baseline. */
const bareCount = 200_000
/** How often each list is asked for. */
const asks = 7

interface PendingResult {
  tasks: number
  /** Through the protocol: requests that are ready to be sent, acknowledged. */
  protocolPerSecond: number
  /** Rows that the database alone takes. */
  rowsPerSecond: number
  /** CPU of the founder for each of these, all its threads. */
  coordinatorCpuMicros: number
  /** The way that the command line and the library go: from specs, a tenth as many. */
  libraryPerSecond: number
  /** Above idle, after garbage collection, for each task. */
  heapBytesPerTask: number
  residentBytesPerTask: number
  /** Medians in ms, at the client: pages of 1,000 by filter, and the job with its counts. */
  lists: Record<string, number>
  /** A start of the founder with these tasks, and with none, in ms. */
  restartMs: number
  idleStartMs: number
}

export const bench: Bench = {
  usage: '[--tasks 1000000]',
  async run(args) {
    const result = await benchPending(numbers(args, { tasks: 1_000_000 }).tasks)
    return { result, lines: pendingLines(result) }
  },
}

function pendingLines(result: PendingResult): string[] {
  const round = (value: number) => value.toFixed(0)
  return [
    `${result.tasks} tasks with an id and a command line each, with no machine to run them:`,
    `submitted ${round(result.protocolPerSecond)}/s through the protocol, ${round(result.libraryPerSecond)}/s from specs as the command line does; founder's CPU ${result.coordinatorCpuMicros.toFixed(1)} µs a task`,
    `the database alone takes ${round(result.rowsPerSecond)} rows/s: share ${(result.protocolPerSecond / result.rowsPerSecond).toFixed(2)}`,
    `held above idle ${result.heapBytesPerTask.toFixed(1)} B a task in heap and buffers, ${result.residentBytesPerTask.toFixed(0)} B resident`,
    `lists, medians of ${asks}: ${Object.entries(result.lists)
      .map(([name, ms]) => `${name} ${ms.toFixed(1)} ms`)
      .join(', ')}`,
    `restart ${round(result.restartMs)} ms, ${round(result.idleStartMs)} ms without tasks`,
  ]
}

const idOf = (n: number) => `frame-${String(n).padStart(7, '0')}`
const specOf = (n: number) => ({
  id: idOf(n),
  commandLine: `render --scene city.blend --seed ${(n * 7919) % 1_000_003} --out ${n}.png`,
  requiredSlots: 1,
})

async function benchPending(tasks: number): Promise<PendingResult> {
  const lab = await BenchLab.create()
  const memory = join(lab.dir, 'memory')
  const env = { NODE_OPTIONS: `--import ${fileURLToPath(new URL('memory-probe.ts', import.meta.url))}`, BENCH_MEMORY: memory }
  const up = () => timed(() => lab.up('founder', ['--lend-cpus', '0'], undefined, env))
  try {
    const first = await up()
    const connected = await connect({ dataDir: first.value.dataDir })
    try {
      await connected.control.call('addJob', { id: 'warm-up' })
      await submit(connected, 'warm-up', 5000)
      for (const ask of Object.values(questions(connected, 'warm-up'))) await ask()
      await connected.control.call('deleteJob', { jobId: 'warm-up' })
      const idle = await rested(first.value, memory)
      await connected.control.call('addJob', { id: 'pending' })
      const before = await bareRows(join(lab.dir, 'before'))
      const seconds = (await submit(connected, 'pending', tasks)) / 1000
      const done = await probe(first.value, memory)
      const after = await bareRows(join(lab.dir, 'after'))
      const held = await rested(first.value, memory)
      for (const n of [0, Math.floor(tasks / 2), tasks - 1])
        await connected.control.call('terminateTask', { jobId: 'pending', taskId: idOf(n) })
      const lists: Record<string, number> = {}
      for (const [name, ask] of Object.entries(questions(connected, 'pending'))) {
        const times: number[] = []
        for (let i = 0; i < asks; i += 1) times.push((await timed(ask)).ms)
        lists[name] = median(times)
      }
      await connected.control.call('addJob', { id: 'library' })
      const some = Math.ceil(tasks / 10)
      const library = await timed(() => addTasks(connected, 'library', specs(some)))
      await connected.control.call('deleteJob', { jobId: 'library' })
      await lab.cli(first.value, ['down'])
      const again = await up()
      return {
        tasks,
        protocolPerSecond: tasks / seconds,
        rowsPerSecond: (before + after) / 2,
        coordinatorCpuMicros: ((done.cpuMs - idle.cpuMs) * 1000) / tasks,
        libraryPerSecond: (some / library.ms) * 1000,
        heapBytesPerTask: (held.heapBytes - idle.heapBytes) / tasks,
        residentBytesPerTask: (held.residentBytes - idle.residentBytes) / tasks,
        lists,
        restartMs: again.ms,
        idleStartMs: first.ms,
      }
    } finally {
      await connected.close()
    }
  } finally {
    await lab.close()
  }
}

type Connected = Awaited<ReturnType<typeof connect>>

function questions(mesh: Connected, jobId: string): Record<string, () => Promise<unknown>> {
  return {
    first: () => mesh.control.call('listTasks', { jobId }),
    active: () => mesh.control.call('listTasks', { jobId, state: 'active' }),
    running: () => mesh.control.call('listTasks', { jobId, state: 'running' }),
    failed: () => mesh.control.call('listTasks', { jobId, result: 'failure' }),
    count: () => mesh.control.call('getJob', { jobId }),
  }
}

/** Milliseconds until the last task is acknowledged. */
async function submit(mesh: Connected, jobId: string, count: number): Promise<number> {
  let next = 0
  const sender = async () => {
    while (next < count) {
      const from = next
      next = Math.min(count, from + maxTasksPerAdd)
      const tasks = Array.from({ length: next - from }, (_, i) => specOf(from + i))
      const { results } = await mesh.control.call('addTasks', { jobId, tasks })
      const refused = results.find(({ error }) => error !== undefined)
      if (refused !== undefined) throw new Error(refused.error!.message)
    }
  }
  return (await timed(() => Promise.all(Array.from({ length: requestsInFlight }, sender)))).ms
}

/** Rows a second. */
async function bareRows(path: string): Promise<number> {
  const store = await openLevelStore(path)
  const { ms } = await timed(async () => {
    for (let from = 0; from < bareCount; from += maxTasksPerAdd) {
      const made = Array.from({ length: maxTasksPerAdd }, (_, i) => specOf(from + i))
      await store.write(new Map(made.map((spec) => [specKey(1, spec.id), encode(spec)])))
    }
  })
  await store.close()
  return (bareCount / ms) * 1000
}

function* specs(count: number): Generator<ReturnType<typeof specOf>> {
  for (let n = 0; n < count; n += 1) yield specOf(n)
}

/** What a node holds once it has given back what it needed while it worked: the pages that a collection frees go a moment later. */
async function rested(node: BenchNode, memory: string): Promise<Probed> {
  await sleep(restMs)
  await probe(node, memory)
  await sleep(restMs / 4)
  return await probe(node, memory)
}

async function probe({ pid }: BenchNode, memory: string): Promise<Probed> {
  const path = `${memory}.${pid}`
  await rm(path, { force: true })
  process.kill(pid, 'SIGUSR2')
  for (;;) {
    const text = await readFile(path, 'utf8').catch(() => undefined)
    if (text !== undefined) return JSON.parse(text) as Probed
    await sleep(20)
  }
}

async function timed<T>(work: () => Promise<T>): Promise<{ ms: number; value: T }> {
  const start = performance.now()
  const value = await work()
  return { ms: performance.now() - start, value }
}
