/** The coordinator in a process of its own, with the real store: started by coordinator-process.ts, and asked over Node's channel between the two. */
import { join } from 'node:path'
import { startCoordinator } from '../../coordinator/coordinator.ts'
import { openLevelStore, type Store } from '../../coordinator/store.ts'
import { createHost } from '../../node/host.ts'
import { found } from '../../node/identity.ts'
import { Membership } from '../../node/membership.ts'
import { startMembership } from '../../node/membership-service.ts'
import { silentLogger } from '../../protocols/logger.ts'
import type { Wire } from '../../protocols/wire.ts'
import type { Cost, Question, Served } from './coordinator-process.ts'
import { ProfiledSpan } from './profile.ts'
import { socketWire } from './socket-wire.ts'

const [dir = '', wireName = ''] = process.argv.slice(2)
const written = { batches: 0, rows: 0, bytes: 0 }
const span = new ProfiledSpan()

const { wire, served } = wireName === 'libp2p' ? await overLibp2p() : await overSockets()
await startCoordinator({
  wire,
  store: counted(await openLevelStore(join(dir, 'coordinator'))),
  meshId: 'bench',
  name: 'bench',
  version: '0',
  logger: silentLogger,
  fatal: (error) => {
    throw error
  },
})
// Never longer than the benchmark, also when that is killed.
process.on('disconnect', () => process.exit())
process.on('message', (question: Question) => void answer(question))
process.send!(served)

async function overSockets(): Promise<{ wire: Wire; served: Served }> {
  const path = join(dir, 'coordinator.sock')
  const peer = 'peer-of-the-coordinator'
  return { wire: await socketWire(path, peer), served: { peer, address: path } }
}

async function overLibp2p(): Promise<{ wire: Wire; served: Served }> {
  const membership = await Membership.open(await found(join(dir, 'founder'), {}), {})
  const host = await createHost({ membership, listen: { port: 0, addresses: ['/ip4/127.0.0.1'] } })
  const service = startMembership({ wire: host, membership, addresses: () => host.addresses() })
  const { token } = await service.invite({ roles: ['worker', 'submitter'], uses: 10_000, expiresMs: 3_600_000 })
  return { wire: host, served: { peer: host.peer, address: token } }
}

function counted(store: Store): Store {
  return {
    ...store,
    write(rows) {
      written.batches += 1
      for (const [key, value] of rows) {
        written.rows += 1
        written.bytes += key.length + (value?.length ?? 0)
      }
      return store.write(rows)
    },
  }
}

async function answer(question: Question): Promise<void> {
  if (question === 'profile') await span.start()
  const { user, system } = process.cpuUsage()
  const thread = process.threadCpuUsage()
  const cost: Cost = { cpuMs: (user + system) / 1000, threadMs: (thread.user + thread.system) / 1000, written: { ...written } }
  if (question === 'profiled') cost.profile = await span.stop()
  process.send!(cost)
}
