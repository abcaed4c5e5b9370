/** Bare piscina: what functions cost without a queue, a disk or another process. */
import { Piscina } from 'piscina'
import type { Peer } from './peer.ts'

const noop = new URL('./programs/noop.ts', import.meta.url).href

export const piscina: Peer = {
  name: 'piscina, 2 threads',
  kind: 'function',
  tasks: 100_000,
  durable: 'no: in the program',
  lostWithServer: 'everything',
  start: async () => {
    const pool = new Piscina({ filename: noop, minThreads: 2, maxThreads: 2 })
    return {
      run: async (tasks) => {
        await Promise.all(Array.from({ length: tasks }, () => pool.run(undefined)))
      },
      stop: () => pool.destroy(),
    }
  },
}
