/** Batchmesh itself: a founder that only coordinates and a worker with two slots, as separate processes, with their defaults. */

import type { TaskSpecInput } from '../../protocols/model/task.ts'
import { connect, type Mesh } from '../../src/index.ts'
import { BenchLab } from '../lab.ts'
import type { Kind, Peer } from './peer.ts'

const perRequest = 1000

function peer(kind: Kind, tasks: number): Peer {
  return {
    name: kind === 'command' ? 'Batchmesh' : 'Batchmesh, functions',
    kind,
    tasks,
    durable: 'queue and outcomes; a sync for each batch of the moment',
    lostWithServer: 'nothing; running tasks go on',
    start: async () => {
      const lab = await BenchLab.create()
      const founder = await lab.up('founder', ['--lend-cpus', '0'])
      await lab.up('worker', ['--lend-cpus', '2'], founder)
      const mesh = await connect({ dataDir: founder.dataDir })
      const what = await taskOf(mesh, kind)
      let jobs = 0
      return {
        run: async (count) => {
          jobs += 1
          await oneJob(mesh, `bench-${jobs}`, what, count)
        },
        stop: async () => {
          await mesh.close()
          await lab.close()
        },
      }
    },
  }
}

async function taskOf(mesh: Mesh, kind: Kind): Promise<Omit<TaskSpecInput, 'id'>> {
  if (kind === 'command') return { commandLine: '/bin/true' }
  return { thread: { module: (await mesh.blobs.putBytes('export default () => {}')).id } }
}

/** Until the last task has ended. The job is then deleted: it takes its rows along, as the others do. */
async function oneJob(mesh: Mesh, id: string, what: Omit<TaskSpecInput, 'id'>, count: number): Promise<void> {
  await mesh.jobs.create({ id })
  const done = new AbortController()
  const ended = (async () => {
    for await (const { counts } of mesh.watchJob(id, done.signal)) {
      if (counts.failed > 0) throw new Error(`${counts.failed} tasks failed`)
      if (counts.succeeded === count) return
    }
  })()
  for (let at = 0; at < count; at += perRequest) {
    const length = Math.min(perRequest, count - at)
    await mesh.tasks.add(
      id,
      Array.from({ length }, (_, n) => ({ id: String(at + n), ...what })),
    )
  }
  await ended
  done.abort()
  await mesh.jobs.delete(id)
}

export const batchmesh = peer('command', 8000)
export const batchmeshFunctions = peer('function', 20_000)
