/** bullmq.ts DIR PORT QUEUE command|function: a worker whose package lies below DIR. */
import { requireFrom } from '../install.ts'
import { oneEnded, ready, runCommand } from './count.ts'

const [dir, port, queue, kind] = process.argv.slice(2)
const { Worker } = requireFrom(dir!, 'bullmq')
const isCommand = kind === 'command'
const worker = new Worker(queue, isCommand ? runCommand : async () => {}, {
  connection: { host: '127.0.0.1', port: Number(port), maxRetriesPerRequest: null },
  // Functions share the loop: more of them at once hide the way to the server.
  concurrency: isCommand ? 2 : 100,
})
worker.on('completed', oneEnded)
worker.on('failed', (_job: unknown, error: Error) => {
  throw error
})
await worker.waitUntilReady()
ready()
