/**
 * What earlier runs have done already. The mesh remembers it: a job of `run` carries a digest of what was asked for, and
 * its tasks say the rest. A task need not run again when one with the same command line, environment, output patterns and
 * input contents has succeeded; what machine it asked for does not matter.
 *
 * Only jobs that were submitted from this machine count: what another submitter says has succeeded is not taken on trust.
 */
import { createHash } from 'node:crypto'
import { MeshError } from '../../../protocols/errors.ts'
import type { JobView } from '../../../protocols/model/job.ts'
import type { OutputEntry, TaskSpec, TaskView } from '../../../protocols/model/task.ts'
import type { Mesh } from '../../mesh/client.ts'
import { each, type Positions } from './items.ts'
import { type RunPlan, type RunRequest, reduceId } from './plan.ts'
import type { Uploads } from './uploads.ts'

/** Metadata of the jobs of `run`: the digest by which a later run finds them. */
export const digestName = 'batchmesh.run'

/** A task that has succeeded. */
export interface Earlier {
  jobId: string
  taskId: string
  outputs: readonly OutputEntry[]
}

export interface EarlierRuns {
  /** By the position of the task in this run. */
  tasks: ReadonlyMap<number, Earlier>
  /** Reduce steps, by what they would be. */
  reduces: ReadonlyMap<string, Earlier>
  /** Jobs of the same run that go on. */
  active: readonly string[]
}

/** What of a request every run of it has in common, whichever inputs there are. */
export function requestDigest({ command, outputs, env, shared }: RunRequest): string {
  return digestOf([command, outputs, env.map(({ name, value }) => [name, value]), shared.map(({ path }) => path)])
}

/** Whether a job is one of the same run. */
export function isOfRun({ metadata = [] }: JobView, request: RunRequest): boolean {
  const digest = requestDigest(request)
  return metadata.some(({ name, value }) => name === digestName && value === digest)
}

/** Equal for tasks that would do the same. */
export function sameTask({ commandLine, environmentSettings = [], outputFiles = [], resourceFiles = [] }: TaskSpec | TaskView): string {
  return digestOf([
    commandLine,
    environmentSettings.map(({ name, value }) => [name, value]),
    outputFiles.map(({ filePattern }) => filePattern),
    // Their order says nothing.
    resourceFiles.map(({ filePath, blob, httpUrl, fileMode }) => JSON.stringify([filePath, blob, httpUrl, fileMode])).sort(),
  ])
}

function digestOf(value: unknown): string {
  return createHash('sha256').update(JSON.stringify(value)).digest('base64url')
}

/** Looks through the jobs of earlier runs, newest first, for tasks that this run need not run again. */
export async function findEarlier(mesh: Mesh, plan: RunPlan, uploads: Uploads, signal: AbortSignal): Promise<EarlierRuns> {
  const jobs = await earlierJobs(mesh, plan.request, signal)
  const active = jobs.filter(({ state }) => state === 'active').map(({ id }) => id)
  const tasks = new Map<number, Earlier>()
  const reduces = new Map<string, Earlier>()
  if (jobs.length === 0) return { tasks, reduces, active }
  const wanted = new Wanted(plan, uploads, plan.all)
  for (const { id } of jobs) {
    for await (const task of succeededTasks(mesh, id, signal)) {
      const earlier: Earlier = { jobId: id, taskId: task.id, outputs: task.outputs }
      if (task.id === reduceId) {
        const key = sameTask(task)
        if (!reduces.has(key)) reduces.set(key, earlier)
      } else {
        const at = wanted.take(sameTask(task))
        if (at !== undefined) tasks.set(at, earlier)
      }
      if (wanted.isEmpty && plan.request.reduce === undefined) return { tasks, reduces, active }
    }
  }
  return { tasks, reduces, active }
}

/** Positions by what their tasks would do. Where several would do the same, one that has succeeded stands for one of them. */
class Wanted {
  readonly #positions = new Map<string, number | number[]>()

  constructor(plan: RunPlan, uploads: Uploads, positions: Positions) {
    for (const at of each(positions)) {
      const key = sameTask(plan.spec(at, uploads.files(at)))
      const before = this.#positions.get(key)
      this.#positions.set(key, before === undefined ? at : typeof before === 'number' ? [at, before] : [at, ...before])
    }
  }

  get isEmpty(): boolean {
    return this.#positions.size === 0
  }

  take(key: string): number | undefined {
    const found = this.#positions.get(key)
    if (found === undefined) return undefined
    const at = typeof found === 'number' ? found : found.pop()!
    if (typeof found === 'number' || found.length === 0) this.#positions.delete(key)
    return at
  }
}

async function earlierJobs(mesh: Mesh, request: RunRequest, signal: AbortSignal): Promise<JobView[]> {
  const { peer } = await mesh.local.call('status', {}, { signal })
  const found: JobView[] = []
  let after: string | undefined
  do {
    const page = await mesh.control.call('listJobs', { after }, { signal, persist: true })
    found.push(...page.items.filter((job) => job.submitterPeer === peer && job.state !== 'deleting' && isOfRun(job, request)))
    after = page.next
  } while (after !== undefined)
  return found.sort((a, b) => b.uid - a.uid)
}

/** A job that is deleted meanwhile has no more. */
async function* succeededTasks(mesh: Mesh, jobId: string, signal: AbortSignal): AsyncGenerator<TaskView> {
  try {
    let after: string | undefined
    do {
      const page = await mesh.control.call('listTasks', { jobId, state: 'completed', result: 'success', after }, { signal, persist: true })
      yield* page.items
      after = page.next
    } while (after !== undefined)
  } catch (error) {
    if (!(error instanceof MeshError) || error.code !== 'JobNotFound') throw error
  }
}
