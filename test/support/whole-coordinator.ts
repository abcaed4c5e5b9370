/** A whole coordinator on a mesh in memory, with a submitter and a worker that does what the test says. */
import { startCoordinator } from '../../coordinator/coordinator.ts'
import type { Store } from '../../coordinator/store.ts'
import { decode } from '../../protocols/codec.ts'
import { controlProtocol, type JobEvents, type TaskEvent } from '../../protocols/control.ts'
import { filesProtocol } from '../../protocols/files.ts'
import { type ClaimAnswer, leasesProtocol } from '../../protocols/leases.ts'
import { silentLogger } from '../../protocols/logger.ts'
import type { Outcome, TaskSpec } from '../../protocols/model/task.ts'
import { clientSession, type Handlers, serverSession } from '../../protocols/rpc.ts'
import { MemoryNet } from './memory-wire.ts'

const self = 'peer-of-the-coordinator'
const worker = 'peer-of-the-worker'

export type Granted = ClaimAnswer['grants'][number] & { task: TaskSpec }

export interface WholeOptions {
  features?: string[]
  cores?: number
  /** The worker gives compute nodes to whoever asks, and takes what it is told to start. */
  lends?: boolean
  /** Its files. */
  files?: Handlers<(typeof filesProtocol)['server']>['calls']
}

export async function startWhole(store: Store, options: WholeOptions = {}) {
  const net = new MemoryNet()
  const fatal = (error: unknown) => {
    throw error
  }
  const parts = { wire: net.wire(self, ['coordinator']), store, meshId: 'mesh', name: 'here', version: '0', logger: silentLogger, fatal }
  const coordinator = await startCoordinator(parts)
  const seen: TaskEvent[] = []
  let told = () => {}
  const control = clientSession(controlProtocol, await net.wire('peer-of-a-submitter', ['submitter']).open(self, controlProtocol), {
    calls: {},
    notes: {
      jobEvents: ({ events }: JobEvents) => {
        seen.push(...events)
        told()
      },
    },
  })
  const workerWire = net.wire(worker, ['worker'])
  const { files } = options
  if (files !== undefined)
    workerWire.serve(filesProtocol, (channel) => void serverSession(filesProtocol, channel, { calls: files, notes: {} }))
  const taken: Granted[] = []
  let tookOne = () => {}
  const leases = clientSession(leasesProtocol, await workerWire.open(self, leasesProtocol), {
    calls: { retract: () => ({ retracted: [] }), reserve: () => ({ granted: options.lends === true, draining: false }) },
    notes: {
      beat: () => {},
      grant: ({ grants }) => {
        taken.push(...grants.map((grant) => ({ ...grant, task: decode(grant.spec) as TaskSpec })))
        tookOne()
      },
      stop: () => {},
      release: () => {},
      forget: () => {},
    },
  })
  const capacity = { cores: options.cores ?? 4, memoryMiB: 4096, gpus: 0 }
  const machine = { name: 'w', class: 'dedicated' as const, capacity, diskFreeMiB: 1, labels: {}, os: 'linux', arch: 'x64', version: '0' }
  const welcome = await leases.call('hello', {
    machine: { ...machine, isolation: 'process-group', features: options.features, addresses: [], nodeRootDir: '/' },
    incarnation: Date.now(),
    inventory: [],
    reservations: [],
    ownerEpoch: 0,
  })
  const { nodeId } = welcome.nodes[0]!
  let claims = 0
  return {
    coordinator,
    control,
    /** What watches have shown so far. */
    seen,
    /** Resolves at the next note of a watch. Ask before causing it. */
    nextNote: () =>
      new Promise<void>((resolve) => {
        told = resolve
      }),
    /** Claims up to so many tasks; what is not there now is not waited for. */
    async claim(slots: number): Promise<Granted[]> {
      claims += 1
      const room = { ...capacity, cores: slots, slots }
      const { grants } = await leases.call('claim', { requestId: `c${claims}`, nodes: [{ nodeId, room, prefetchSlots: 0 }], waitMs: 0 })
      return grants.map((grant) => ({ ...grant, task: decode(grant.spec) as TaskSpec }))
    },
    /** What the worker was told to start without a claim, as soon as it is so many. */
    async told(count: number): Promise<Granted[]> {
      while (taken.length < count)
        await new Promise<void>((resolve) => {
          tookOne = resolve
        })
      return taken
    },
    started: (grants: readonly Granted[], startTime: number) =>
      leases.note('started', { attempts: grants.map(({ attempt }) => ({ ...attempt, startTime })) }),
    async report(grants: readonly Granted[], exitCode: number | ((task: TaskSpec) => number), more: Partial<Outcome> = {}): Promise<void> {
      const reports = grants.map(({ attempt, task }) => ({
        attempt,
        outcome: { exitCode: typeof exitCode === 'number' ? exitCode : exitCode(task), startTime: 1, endTime: 2, ...more },
      }))
      for (let at = 0; at < reports.length; at += 512) await leases.call('report', { reports: reports.slice(at, at + 512) })
    },
    async stop(): Promise<void> {
      control.close()
      leases.close()
      await coordinator.stop()
    },
  }
}
