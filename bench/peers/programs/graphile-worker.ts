/** graphile-worker.ts DIR CONNECTION command|function: a worker whose package lies below DIR. */
import { EventEmitter } from 'node:events'
import { requireFrom } from '../install.ts'
import { oneEnded, ready, runCommand } from './count.ts'

const [dir, connectionString, kind] = process.argv.slice(2)
const { run, Logger } = requireFrom(dir!, 'graphile-worker')
const isCommand = kind === 'command'
const events = new EventEmitter()
events.on('job:success', oneEnded)
await run({
  connectionString,
  events,
  logger: new Logger(() => () => {}),
  noHandleSignals: true,
  taskList: { noop: isCommand ? runCommand : () => {} },
  // Functions share the loop, so more of them at once cost nothing; the batches are what its own performance page advises.
  preset: {
    worker: {
      concurrentJobs: isCommand ? 2 : 24,
      localQueue: { size: isCommand ? 50 : 500 },
      completeJobBatchDelay: isCommand ? 0 : 10,
      failJobBatchDelay: isCommand ? 0 : 10,
    },
  },
})
ready()
