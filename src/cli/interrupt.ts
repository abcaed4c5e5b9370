/** Ctrl-C during work that can be given up as a whole. */
import type { World } from './world.ts'

/** Runs `work`; Ctrl-C aborts its signal, and the command ends with Aborted once the work has cleaned up. */
export async function interruptible<T>(world: World, work: (signal: AbortSignal) => Promise<T>): Promise<T> {
  const abort = new AbortController()
  const unhook = world.onInterrupt(() => abort.abort())
  try {
    return await work(abort.signal)
  } finally {
    unhook()
  }
}
