/** A run in which nothing starts says why, once: a label that no machine has, a pool without nodes. */
import type { TaskCounts } from '../../../protocols/model/job.ts'
import type { Mesh } from '../../mesh/client.ts'
import { isOutOfReach } from '../../mesh/sessions.ts'

/** Longer than machines need to claim tasks, and to fetch inputs of ordinary size. */
const silenceMs = 10_000

export interface Silence {
  counts(counts: TaskCounts): void
  stop: () => void
}

/** Asks the mesh why a task waits, unless one has started within `afterMs`. */
export function explainSilence(
  mesh: Mesh,
  task: { jobId: string; taskId: string },
  say: (line: string) => void,
  afterMs = silenceMs,
): Silence {
  const ask = async () => {
    try {
      const { summary, details } = await mesh.control.call('explain', task)
      for (const line of [`Nothing runs yet. ${summary}`, ...details.slice(0, 5).map((detail) => `  ${detail}`)]) say(line)
    } catch (error) {
      // The run itself says when the mesh is out of reach.
      if (!isOutOfReach(error)) say(`Nothing runs yet, and why is not known: ${error instanceof Error ? error.message : String(error)}`)
    }
  }
  const timer = setTimeout(() => void ask(), afterMs)
  const stop = () => clearTimeout(timer)
  return {
    counts: ({ running, completed }) => {
      if (running + completed > 0) stop()
    },
    stop,
  }
}
