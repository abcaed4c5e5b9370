/** Ctrl-C, SIGTERM and SIGHUP of a node in the foreground. */
import type { Log } from '../../mesh/log.ts'
import type { RunningNode } from '../../mesh/up-options.ts'
import type { World } from '../world.ts'

/** What a shell says of a program that was interrupted. */
const interruptedCode = 130

/** The first signal stops the node in order; a second one ends the process at once, even if closing hangs. Returns the way to undo this. */
export function stopOnInterrupt(world: Pick<World, 'onInterrupt' | 'exit'>, node: Pick<RunningNode, 'stop'>, log: Log): () => void {
  let isStopping = false
  return world.onInterrupt(() => {
    if (isStopping) {
      log('info', 'stopping at once')
      return world.exit(interruptedCode)
    }
    isStopping = true
    log('info', 'stopping; running tasks are given up')
    node.stop({ drain: false }).catch((error: unknown) => log('error', 'the node did not stop cleanly', { error }))
  })
}
