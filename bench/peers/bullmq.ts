/** BullMQ on a Redis of its own that appends every write to a file, synced each second or before each answer. */
import { installFromNpm, requireFrom } from './install.ts'
import type { Kind, Peer } from './peer.ts'
import { freePort, program } from './place.ts'
import { WorkerProgram } from './program.ts'

const packages = ['bullmq@6.7.0', 'ioredis@6.0.0']
const perRequest = 1000
const queueName = 'bench'

function peer(kind: Kind, sync: 'everysec' | 'always', tasks: number): Peer {
  return {
    name: `BullMQ, AOF ${sync}${kind === 'function' ? ', functions' : ''}`,
    kind,
    tasks,
    durable: sync === 'always' ? 'queue; a sync for each turn of Redis’ loop' : 'queue; a sync a second',
    lostWithServer: sync === 'always' ? 'nothing' : 'nothing (1 s with the machine)',
    install: (place) => installFromNpm(place, packages),
    start: async (place) => {
      const server = program('redis-server', 'redis-server')
      const port = await freePort()
      const settings = ['--bind', '127.0.0.1', '--dir', place.dir, '--save', '', '--appendonly', 'yes', '--appendfsync', sync]
      const redis = await place.server('redis', [server, '--port', String(port), ...settings])
      await place.answers('redis', redis, port)
      const { Queue } = requireFrom(place.dir, 'bullmq')
      const queue = new Queue(queueName, { connection: { host: '127.0.0.1', port } })
      const worker = await WorkerProgram.start(place, 'bullmq', [place.dir, String(port), queueName, kind])
      return {
        run: async (count) => {
          const ended = worker.ended(count)
          for (let at = 0; at < count; at += perRequest) {
            const opts = { removeOnComplete: true }
            await queue.addBulk(Array.from({ length: Math.min(perRequest, count - at) }, () => ({ name: 'noop', data: {}, opts })))
          }
          await ended
        },
        stop: () => queue.close(),
      }
    },
  }
}

export const bullmq = peer('command', 'everysec', 3000)
export const bullmqAlways = peer('command', 'always', 3000)
export const bullmqFunctions = peer('function', 'everysec', 20_000)
export const bullmqFunctionsAlways = peer('function', 'always', 10_000)
