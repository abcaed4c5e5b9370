/** graphile-worker on a PostgreSQL of its own, with that one's default durability. */
import { readdirSync } from 'node:fs'
import { chown, mkdir } from 'node:fs/promises'
import { join } from 'node:path'
import { setTimeout as pause } from 'node:timers/promises'
import { installFromNpm, requireFrom } from './install.ts'
import { Missing } from './missing.ts'
import type { Kind, Peer } from './peer.ts'
import { asUser, freePort, type Place, program } from './place.ts'
import { WorkerProgram } from './program.ts'

const packages = ['graphile-worker@0.17.3']
const servers = '/usr/lib/postgresql'
const perRequest = 1000

function postgres(name: string): string {
  let versions: string[] = []
  try {
    versions = readdirSync(servers)
  } catch {
    throw new Missing('postgres is not installed: apt-get install postgresql (--install does it)')
  }
  return program(name, 'postgresql', [...versions.map((number) => join(servers, number, 'bin'))])
}

/** A new database cluster; answers its connection string. */
async function startPostgres(place: Place): Promise<string> {
  const user = asUser('postgres')
  const data = place.path('postgres')
  await mkdir(data, { mode: 0o700 })
  if (user.uid !== undefined) await chown(data, user.uid, user.gid!)
  await place.run([postgres('initdb'), '-D', data, '-U', 'bench', '--auth=trust', '--no-instructions'], user)
  const port = await freePort()
  const settings = ['listen_addresses=127.0.0.1', 'unix_socket_directories=', 'shared_buffers=256MB', 'max_wal_size=4GB']
  const words = [postgres('postgres'), '-D', data, '-p', String(port), ...settings.flatMap((setting) => ['-c', setting])]
  const server = await place.server('postgresql', words, { ...user, cwd: data })
  await place.answers('postgresql', server, port)
  return `postgres://bench@127.0.0.1:${port}/postgres`
}

function peer(kind: Kind, tasks: number): Peer {
  return {
    name: kind === 'command' ? 'graphile-worker' : 'graphile-worker, functions',
    kind,
    tasks,
    durable:
      kind === 'command' ? 'queue; a sync for 1,000 added, for each 1 to 2 ended' : 'queue; a sync for 1,000 added, for 10 ms of ended',
    lostWithServer: 'nothing',
    install: (place) => installFromNpm(place, packages),
    start: async (place) => {
      const connectionString = await startPostgres(place)
      const { makeWorkerUtils } = requireFrom(place.dir, 'graphile-worker')
      const utils = await makeWorkerUtils({ connectionString })
      await utils.migrate()
      const worker = await WorkerProgram.start(place, 'graphile-worker', [place.dir, connectionString, kind])
      const isEmpty = () =>
        utils.withPgClient(async (client: { query(text: string): Promise<{ rows: unknown[] }> }) => {
          const { rows } = await client.query('select 1 from graphile_worker.jobs limit 1')
          return rows.length === 0
        }) as Promise<boolean>
      return {
        run: async (count) => {
          const ended = worker.ended(count)
          for (let at = 0; at < count; at += perRequest) {
            const jobs = Array.from({ length: Math.min(perRequest, count - at) }, () => ({ identifier: 'noop', payload: {} }))
            await utils.addJobs(jobs)
          }
          await ended
          while (!(await isEmpty())) await pause(5)
        },
        stop: () => utils.release(),
      }
    },
  }
}

export const graphileWorker = peer('command', 3000)
export const graphileWorkerFunctions = peer('function', 40_000)
