/**
 * No-op functions as tasks through a real mesh: a founder that only coordinates and one worker with two slots, separate
 * processes, one array, every grant and result fsynced. As a share of bare piscina with as many threads, measured in
 * turn with it in the same run; and what a task costs each process in processor time, which is the steadier figure.
 */
import { execFile } from 'node:child_process'
import { availableParallelism } from 'node:os'
import { fileURLToPath } from 'node:url'
import { promisify } from 'node:util'
import { putStream } from '../src/mesh/blobs.ts'
import type { Mesh } from '../src/mesh/client.ts'
import { piecesOf } from '../src/mesh/thread-values.ts'
import { connect } from '../src/mesh.ts'
import { type Bench, numbers } from './bench.ts'
import { type CpuMs, cpuOfTree } from './cpu.ts'
import { BenchLab, median } from './lab.ts'

const run = promisify(execFile)
const module = Buffer.from('export default () => undefined\n')

interface Rate {
  perSecond: number
  /** Processor time a call, over all threads. */
  cpuMicros: number
}

interface Round {
  mesh: Rate & { coordinatorMicros: number; workerMicros: number; childMicros: number; clientMicros: number }
  piscina: Rate
  share: number
}

interface ThreadsResult {
  tasks: number
  threads: number
  isolation: string
  rounds: Round[]
  share: number
}

export const bench: Bench = {
  usage: '[--tasks 20000] [--rounds 5]',
  async run(args) {
    const result = await benchThreads(numbers(args, { tasks: 20_000, rounds: 5 }))
    return { result, lines: lines(result) }
  },
}

function lines({ tasks, threads, isolation, rounds, share }: ThreadsResult): string[] {
  const middle = (of: (round: Round) => number) => median(rounds.map(of)).toFixed(0)
  return [
    ...rounds.map(
      ({ mesh, piscina, share: part }) =>
        `mesh ${mesh.perSecond.toFixed(0)}/s, ${mesh.cpuMicros.toFixed(0)} µs   piscina ${piscina.perSecond.toFixed(0)}/s, ${piscina.cpuMicros.toFixed(0)} µs   share ${part.toFixed(3)}`,
    ),
    `\n${tasks} no-op functions a round, ${threads} threads, isolation ${isolation}, medians of ${rounds.length}:`,
    `mesh ${middle(({ mesh }) => mesh.perSecond)}/s, piscina ${middle(({ piscina }) => piscina.perSecond)}/s, share ${share.toFixed(3)}`,
    `processor time a task: coordinator ${middle(({ mesh }) => mesh.coordinatorMicros)} µs, worker ${middle(({ mesh }) => mesh.workerMicros)} µs, its child with the threads ${middle(({ mesh }) => mesh.childMicros)} µs, submitter ${middle(({ mesh }) => mesh.clientMicros)} µs; piscina ${middle(({ piscina }) => piscina.cpuMicros)} µs`,
  ]
}

async function benchThreads(options: { tasks: number; rounds: number }): Promise<ThreadsResult> {
  const threads = Math.min(2, availableParallelism())
  const lab = await BenchLab.create()
  try {
    const founder = await lab.up('founder', ['--lend-cpus', '0'])
    const worker = await lab.up('worker', ['--lend-cpus', String(threads)], founder)
    const mesh = await connect({ dataDir: founder.dataDir })
    const node = await connect({ dataDir: worker.dataDir })
    try {
      const { id: blob } = await putStream(mesh, piecesOf(module), { size: module.length })
      const { isolation } = await node.local.call('status', {})
      await oneJob(mesh, 'warm-up', blob, 2000, () => {})
      const rounds: Round[] = []
      for (let round = 0; round < options.rounds; round += 1) {
        const piscina = await piscinaRate(options.tasks, threads)
        const spent = spentBy(founder.pid, worker.pid)
        let micros: ReturnType<typeof spent> | undefined
        const seconds = await oneJob(mesh, `bench-${round}`, blob, options.tasks, () => {
          micros = spent()
        })
        const { coordinator, worker: ofWorker, child, client } = micros!
        const each = (total: number) => total / options.tasks
        const rate = { perSecond: options.tasks / seconds, cpuMicros: each(coordinator + ofWorker + child) }
        const parts = {
          coordinatorMicros: each(coordinator),
          workerMicros: each(ofWorker),
          childMicros: each(child),
          clientMicros: each(client),
        }
        rounds.push({ mesh: { ...rate, ...parts }, piscina, share: rate.perSecond / piscina.perSecond })
      }
      return { tasks: options.tasks, threads, isolation, rounds, share: median(rounds.map(({ share }) => share)) }
    } finally {
      await mesh.close()
      await node.close()
    }
  } finally {
    await lab.close()
  }
}

async function piscinaRate(calls: number, threads: number): Promise<Rate> {
  const script = fileURLToPath(new URL('./piscina.ts', import.meta.url))
  const { stdout } = await run(process.execPath, [script, String(calls), String(threads)])
  const { seconds, cpuMicros: micros } = JSON.parse(stdout) as { seconds: number; cpuMicros: number }
  return { perSecond: calls / seconds, cpuMicros: micros / calls }
}

/** What the processes of a round use from now on. Each job has a child of its own below the worker. */
function spentBy(coordinator: number, worker: number) {
  const now = () => {
    const client = process.cpuUsage()
    const micros = ({ user, system }: CpuMs) => (user + system) * 1000
    const tree = cpuOfTree(worker)
    return {
      coordinator: micros(cpuOfTree(coordinator).own),
      worker: micros(tree.own),
      child: micros(tree.below),
      client: client.user + client.system,
    }
  }
  const before = now()
  return () => {
    const after = now()
    return {
      coordinator: after.coordinator - before.coordinator,
      worker: after.worker - before.worker,
      child: after.child - before.child,
      client: after.client - before.client,
    }
  }
}

/** Seconds from the array's submission to its last task's completion, seen by a watch; `done` is called then. */
async function oneJob(mesh: Mesh, jobId: string, blob: string, tasks: number, done: () => void): Promise<number> {
  await mesh.control.call('addJob', { id: jobId })
  const ended = new AbortController()
  const start = performance.now()
  const array = { indexes: [{ start: 0, end: tasks - 1 }], template: { thread: { module: blob } } }
  await mesh.control.call('addTaskArray', { jobId, array })
  let seconds = 0
  for await (const { counts } of mesh.watchJob(jobId, ended.signal)) {
    if (counts.failed > 0) throw new Error(`${counts.failed} tasks failed`)
    if (counts.succeeded < tasks) continue
    seconds = (performance.now() - start) / 1000
    done()
    break
  }
  ended.abort()
  await mesh.control.call('deleteJob', { jobId })
  return seconds
}
