/** Gearman: jobs in the background, so that the server and not the client holds them; two workers that start a program each. */
import { connect } from 'node:net'
import { setTimeout as pause } from 'node:timers/promises'
import type { Peer, Started } from './peer.ts'
import { freePort, type Place, program } from './place.ts'

async function start(place: Place, queue: readonly string[]): Promise<Started> {
  const [server, client] = [program('gearmand', 'gearman-job-server'), program('gearman', 'gearman-tools')]
  const port = await freePort()
  const words = [server, '-L', '127.0.0.1', '-p', String(port), '-l', place.path('gearmand.out'), '-P', place.path('gearmand.pid')]
  const gearmand = await place.server('gearmand', [...words, ...queue, ...(process.getuid?.() === 0 ? ['-u', 'root'] : [])])
  await place.answers('gearmand', gearmand, port)
  const at = ['-h', '127.0.0.1', '-p', String(port), '-f', 'noop']
  for (const name of ['worker-1', 'worker-2']) await place.server(name, [client, '-w', ...at, '--', '/bin/true'])
  return {
    run: async (tasks) => {
      await place.run(['sh', '-c', `seq ${tasks} | ${client} -b -n ${at.join(' ')} > /dev/null`])
      while ((await waiting(port)) > 0) await pause(10)
    },
  }
}

/** Jobs that wait or run, by the server's text protocol: `noop TOTAL RUNNING WORKERS`. */
function waiting(port: number): Promise<number> {
  return new Promise((resolve, reject) => {
    const socket = connect(port, '127.0.0.1', () => socket.write('status\n'))
    let text = ''
    socket.on('error', reject)
    socket.on('data', (piece) => {
      text += piece.toString()
      if (!/^\.$/m.test(text)) return
      socket.destroy()
      resolve(Number(/^noop\t(\d+)/m.exec(text)?.[1] ?? 0))
    })
  })
}

export const gearman: Peer = {
  name: 'Gearman',
  kind: 'command',
  tasks: 8000,
  durable: 'no: in memory',
  lostWithServer: 'the queue',
  start: (place) => start(place, []),
}

export const gearmanSqlite: Peer = {
  name: 'Gearman, SQLite',
  kind: 'command',
  tasks: 2000,
  durable: 'queue; a sync for each task and each end',
  lostWithServer: 'nothing',
  start: (place) => start(place, ['--queue-type=libsqlite3', `--libsqlite3-db=${place.path('queue.db')}`]),
}
