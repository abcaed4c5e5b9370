/** The tasks of a run on their way to its job: an array as one, all else one by one. */
import { MeshError } from '../../../protocols/errors.ts'
import type { TaskSpec } from '../../../protocols/model/task.ts'
import { arrayCount, arrayTask, type TaskArray } from '../../../protocols/model/task-array.ts'
import type { Mesh } from '../../mesh/client.ts'
import { addTasks } from '../../mesh/submit.ts'
import { each, type Positions } from './items.ts'
import type { RunPlan } from './plan.ts'
import type { Uploads } from './uploads.ts'

export interface SendOptions {
  signal: AbortSignal
  /** Told what is worth knowing. */
  say: (line: string) => void
}

export async function sendTasks(
  mesh: Mesh,
  jobId: string,
  plan: RunPlan,
  positions: Positions,
  uploads: Uploads,
  { signal, say }: SendOptions,
): Promise<void> {
  if (plan.items.kind === 'array') {
    for (const array of plan.arrays(positions, uploads.shared)) await sendArray(mesh, jobId, array, { signal, say })
    return
  }
  const tasks = function* () {
    for (const at of each(positions)) yield plan.spec(at, uploads.files(at))
  }
  await addTasks(mesh, jobId, tasks(), { signal, isOwnJob: true })
}

async function sendArray(mesh: Mesh, jobId: string, array: TaskArray, { signal, say }: SendOptions): Promise<void> {
  try {
    await mesh.control.call('addTaskArray', { jobId, array }, { signal, persist: true })
  } catch (error) {
    if (!(error instanceof MeshError)) throw error
    // The job is this command's own: an array that is there was added by a request whose answer was lost.
    if (error.code === 'TaskExists') return
    if (error.code !== 'UnsupportedVersion') throw error
    say(`The coordinator is of an older version that takes no arrays: ${arrayCount(array)} tasks are sent one by one.`)
    await addTasks(mesh, jobId, tasksOf(array), { signal, isOwnJob: true })
  }
}

function* tasksOf(array: TaskArray): Generator<TaskSpec> {
  for (const { start, end, step } of array.indexes) for (let index = start; index <= end; index += step) yield arrayTask(array, index)
}
