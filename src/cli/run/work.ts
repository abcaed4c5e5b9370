/** What a run has to do: what was chosen, but for what earlier runs have done. */
import { arrayCount } from '../../../protocols/model/task-array.ts'
import { severalAtOnce } from '../../mesh/batches.ts'
import type { Mesh } from '../../mesh/client.ts'
import { RangeBuilder } from '../array.ts'
import { type Earlier, findEarlier } from './earlier.ts'
import { each, type Positions } from './items.ts'
import type { RunPlan } from './plan.ts'
import type { Results } from './results.ts'
import type { Uploads } from './uploads.ts'

export interface Work {
  positions: Positions
  count: number
  /** How many tasks have succeeded before. */
  kept: number
  /** Reduce steps that have, by what they did. */
  reduces: ReadonlyMap<string, Earlier>
}

/** All that was chosen. */
export function wholeWork(positions: Positions): Work {
  return { positions, count: arrayCount({ indexes: [...positions] }), kept: 0, reduces: new Map() }
}

/** What has not succeeded before. The outputs of what has are brought now, as the task runs again where they cannot be had. */
export async function workLeft(
  mesh: Mesh,
  plan: RunPlan,
  uploads: Uploads,
  results: Results,
  { signal, quiet, say }: { signal: AbortSignal; quiet: boolean; say: (line: string) => void },
): Promise<Work> {
  const { tasks, reduces, active } = await findEarlier(mesh, plan, uploads, signal)
  for (const id of active)
    say(
      `Job ${id} of the same command goes on still: what it has not done yet is run here as well. To wait for it instead: batchmesh job wait ${id}`,
    )
  const kept = new Set<number>()
  await severalAtOnce([...tasks], async ([at, earlier]) => {
    if (await results.keep(plan.taskId(at), earlier)) kept.add(at)
  })
  const lost = tasks.size - kept.size
  if (lost > 0)
    say(
      `Outputs of ${lost === 1 ? '1 earlier task are not to be had any more; it is' : `${lost} earlier tasks are not to be had any more; they are`} run again.`,
    )
  const built = new RangeBuilder()
  for (const at of each(plan.all)) if (!kept.has(at)) built.index(at)
  const count = arrayCount({ indexes: built.ranges })
  if (count > 0 && !quiet) say(resumed(kept.size, count))
  return { positions: built.ranges, count, kept: kept.size, reduces }
}

function resumed(kept: number, count: number): string {
  const tasks = count === 1 ? '1 task is' : `${count} tasks are`
  return kept === 0
    ? `Nothing of it has succeeded before: ${tasks} run.`
    : `${kept} ${kept === 1 ? 'task' : 'tasks'} had succeeded before; ${tasks} run.`
}
