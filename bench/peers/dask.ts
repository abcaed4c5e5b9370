/** Dask distributed: a scheduler and two workers of one thread each. */
import { once } from 'node:events'
import { createInterface } from 'node:readline'
import { fileURLToPath } from 'node:url'
import type { Peer } from './peer.ts'
import { freePort, program } from './place.ts'

const source = fileURLToPath(new URL('./programs/dask-noop.py', import.meta.url))

export const dask: Peer = {
  name: 'Dask distributed',
  kind: 'command',
  tasks: 3000,
  durable: 'no: in memory',
  lostWithServer: 'everything',
  start: async (place) => {
    const [scheduler, worker] = [program('dask-scheduler', 'python3-distributed'), program('dask-worker', 'python3-distributed')]
    const port = await freePort()
    const address = `tcp://127.0.0.1:${port}`
    const env = { ...process.env, HOME: place.dir }
    const quiet = ['--no-dashboard', '--host', '127.0.0.1']
    const server = await place.server('dask-scheduler', [scheduler, ...quiet, '--port', String(port)], { env })
    await place.answers('dask-scheduler', server, port)
    const words = [worker, address, ...quiet, '--nworkers', '2', '--nthreads', '1', '--local-directory', place.path('dask')]
    await place.server('dask-worker', words, { env })
    const client = await place.server('dask-client', ['/usr/bin/python3', source, address], { env, stdio: ['pipe', 'pipe', 'inherit'] })
    const said = createInterface(client.stdout!)
    await once(said, 'line')
    return {
      run: async (tasks) => {
        client.stdin!.write(`${tasks}\n`)
        await once(said, 'line')
      },
    }
  },
}
