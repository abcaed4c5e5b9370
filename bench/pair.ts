/** A founder that only coordinates and a worker, as two processes; the benchmark's own process submits and watches. */
import { type TaskSpec, taskSpecSchema } from '../protocols/model/task.ts'
import type { Mesh } from '../src/mesh/client.ts'
import { connect } from '../src/mesh.ts'
import { BenchLab, type BenchNode } from './lab.ts'

export interface Pair {
  founder: BenchNode
  worker: BenchNode
  /** Connections through each node's control socket. */
  mesh: Mesh
  viaWorker: Mesh
}

export async function withPair<T>(cpus: number, measure: (pair: Pair) => Promise<T>): Promise<T> {
  const lab = await BenchLab.create()
  try {
    const founder = await lab.up('founder', ['--lend-cpus', '0'])
    const worker = await lab.up('worker', ['--lend-cpus', String(cpus)], founder)
    const mesh = await connect({ dataDir: founder.dataDir })
    const viaWorker = await connect({ dataDir: worker.dataDir })
    try {
      return await measure({ founder, worker, mesh, viaWorker })
    } finally {
      await mesh.close()
      await viaWorker.close()
    }
  } finally {
    await lab.close()
  }
}

export function commandTasks(from: number, count: number, commandLine: string): TaskSpec[] {
  return Array.from({ length: count }, (_, at) => taskSpecSchema.parse({ id: String(from + at).padStart(7, '0'), commandLine }))
}

/** A job with its watch: adds tasks and tells when they are seen completed. */
export class WatchedJob {
  readonly #mesh: Mesh
  readonly #jobId: string
  readonly #done = new AbortController()
  readonly #watching: Promise<void>
  #succeeded = 0
  #changed = () => {}

  private constructor(mesh: Mesh, jobId: string) {
    this.#mesh = mesh
    this.#jobId = jobId
    this.#watching = this.#watch()
  }

  static async open(mesh: Mesh, jobId: string, poolId?: string): Promise<WatchedJob> {
    await mesh.control.call('addJob', { id: jobId, ...(poolId !== undefined && { poolId }) })
    return new WatchedJob(mesh, jobId)
  }

  async #watch(): Promise<void> {
    try {
      for await (const { counts } of this.#mesh.watchJob(this.#jobId, this.#done.signal)) {
        if (counts.failed > 0) throw new Error(`${counts.failed} tasks of ${this.#jobId} failed`)
        this.#succeeded = counts.succeeded
        this.#changed()
      }
    } catch (error) {
      if (!this.#done.signal.aborted) throw error
    }
  }

  /** Milliseconds from the moment before they are submitted until so many in all are seen completed. */
  async run(tasks: TaskSpec[], succeeded: number): Promise<number> {
    const start = performance.now()
    const seen = new Promise<void>((resolve) => {
      this.#changed = () => {
        if (this.#succeeded >= succeeded) resolve()
      }
    })
    await this.#mesh.control.call('addTasks', { jobId: this.#jobId, tasks })
    await Promise.race([seen, this.#watching])
    return performance.now() - start
  }

  async close(): Promise<void> {
    this.#done.abort()
    await this.#watching
    await this.#mesh.control.call('deleteJob', { jobId: this.#jobId })
  }
}
