/**
 * A node: everything a machine of the mesh has, put together. The coordinator is not part of it: where this machine is
 * the coordinator too, both meet on the wire only.
 */
import { hostname } from 'node:os'
import { filesProtocol } from '../protocols/files.ts'
import type { Logger } from '../protocols/logger.ts'
import type { MachineClass, MachineDescription } from '../protocols/model/machine.ts'
import type { Capacity, Labels } from '../protocols/model/resources.ts'
import { serverSession } from '../protocols/rpc.ts'
import { type BlobExchange, startBlobExchange } from './blobs.ts'
import { Directories } from './directories.ts'
import { DiskGuard } from './disk-guard.ts'
import { leftLanes, startExecutor } from './executors/executor.ts'
import { defaultProcesses } from './executors/limits.ts'
import { canRunThreads, startThreads } from './executors/threads/threads.ts'
import { filesHandlers } from './files.ts'
import { Gangs } from './gangs/gangs.ts'
import { createHost, type Host } from './host.ts'
import { openJournal } from './journal.ts'
import { type Layout, layoutOf, prepareDataDir, privatePaths } from './layout.ts'
import type { Membership } from './membership.ts'
import { type MembershipService, startMembership } from './membership-service.ts'
import { activeFabrics, installedMpi } from './mpi/detect.ts'
import { Mpi } from './mpi/mpi.ts'
import { reachMembers } from './reach-members.ts'
import { removeTree } from './remove-tree.ts'
import { freeDiskMiB, lend, measureMachine } from './resources.ts'
import { spreadJobs } from './spread-jobs.ts'
import { createStaging } from './staging.ts'
import { steadyClock } from './steady-clock.ts'
import { useHashPool } from './store/hash-pool.ts'
import { type BlobStore, openStore } from './store/store.ts'
import type { Worker } from './worker/contract.ts'
import { createWorker } from './worker.ts'

/** Task directories that have expired are looked for this often. */
const expireEveryMs = 10 * 60_000
/** The free disk in heartbeats is measured this often. */
const diskEveryMs = 30_000

export interface NodeOptions {
  membership: Membership
  dataDir: string
  version: string
  name?: string
  port: number
  /** Addresses to listen on; empty means all. */
  listen: readonly string[]
  announce: readonly string[]
  bootstrap: readonly string[]
  mdns: boolean
  lendCpus?: number
  lendMemoryMiB?: number
  /** Lends what is asked for even if the machine has less: for tests, whose tasks hardly use what they take. */
  overcommit?: boolean
  /** Room for blobs; default as the store finds reasonable. */
  blobQuotaMiB?: number
  /** Free disk at which the largest task is ended; default as disk-guard.ts finds reasonable, 0: none. */
  diskReserveMiB?: number
  /** Most processes and threads of one task, default {@link defaultProcesses}. */
  pidsLimit?: number
  labels: Labels
  class: MachineClass
  logger: Logger
}

export interface MeshNode {
  readonly host: Host
  readonly membership: MembershipService
  readonly store: BlobStore
  readonly exchange: BlobExchange
  readonly worker: Worker
  readonly layout: Layout
  /** The machine as it is now. */
  machine(): MachineDescription
  /** Rejects when something broke that the node cannot go on without. */
  readonly broken: Promise<never>
  /** Ends what runs and closes everything. */
  stop(): Promise<void>
}

/** Starts all of a node but the worker, whose `start` is the owner's to call once the coordinator serves. */
export async function startNode(options: NodeOptions): Promise<MeshNode> {
  const { membership, logger, dataDir } = options
  const layout = layoutOf(dataDir)
  const isRoot = process.getuid?.() === 0
  prepareDataDir(layout, isRoot)
  const closers: (() => Promise<void> | void)[] = []
  const stop = async () => {
    for (const close of closers.splice(0).reverse()) await close()
  }
  try {
    // Beside all else: nothing waits for launchers of MPI to say their version.
    let equipment: Pick<MachineDescription, 'mpi' | 'fabrics'> = {}
    void Promise.all([installedMpi(), activeFabrics()]).then(([installed, fabrics]) => {
      equipment = { mpi: installed, fabrics }
    })
    const measured = await measureMachine()
    const has = options.overcommit === true ? { ...measured, cores: Math.max(measured.cores, options.lendCpus ?? 0) } : measured
    const capacity: Capacity = lend(has, { cores: options.lendCpus, memoryMiB: options.lendMemoryMiB ?? has.memoryMiB })
    const directories = new Directories(layout.tasks)
    await spreadJobs(directories.node.workitems)
    const left = leftLanes(layout.run)
    // Early, while this process is small: it starts the spawner that later starts all else.
    const executor = await startExecutor({
      runDir: layout.run,
      seed: dataDir,
      hidePaths: privatePaths(layout),
      spare: true,
      limits: { memoryMiB: capacity.memoryMiB, processes: options.pidsLimit ?? defaultProcesses },
      jobDirs: { root: directories.node.workitems, of: (jobUid) => directories.ofJob(jobUid) },
    })
    closers.push(() => executor.close())
    const journal = await openJournal(layout.journal, Math.floor(Date.now() / 1000))
    closers.push(() => journal.close())
    // The journal's lock is held: nobody else is here.
    const sweeping = Promise.allSettled([...left.map(removeTree), executor.sweepGroups()])
    closers.push(async () => void (await sweeping))
    const store = await openStore(layout.blobs, {
      log: logger,
      quotaBytes: options.blobQuotaMiB === undefined ? undefined : options.blobQuotaMiB * 2 ** 20,
    })
    closers.push(useHashPool(), () => store.close())
    const host = await createHost({
      membership,
      listen: { port: options.port, addresses: listenAddresses(options.listen) },
      announce: options.announce,
      bootstrap: options.bootstrap,
      mdns: options.mdns,
      dataDir,
      logger,
    })
    closers.push(() => host.stop())
    const letFounderGo = host.keepConnected(membership.founderPeer, membership.founderAddresses)
    closers.push(letFounderGo)
    closers.push(reachMembers({ host, membership }))
    const service = startMembership({
      wire: host,
      membership,
      addresses: () => host.addresses(),
      log: (message, details) => logger.info(details, message),
    })
    closers.push(() => service.stop())
    const exchange = startBlobExchange({ wire: host, store, log: logger })
    closers.push(() => exchange.close())
    const staging = createStaging({ store, exchange, sharedDir: layout.shared, homePeer: () => membership.founderPeer, log: logger })

    const threads = startThreads({ executor, staging, directories, runtimeDir: layout.runtime, sharedDir: layout.shared })
    closers.push(() => threads.close())

    let diskFreeMiB = await freeDiskMiB(dataDir)
    const name = options.name ?? hostname()
    const machine = (): MachineDescription => ({
      name,
      class: options.class,
      capacity,
      diskFreeMiB,
      labels: options.labels,
      os: process.platform,
      arch: process.arch,
      version: options.version,
      isolation: executor.tier,
      features: [
        ...(canRunThreads() ? ['threads'] : []),
        ...(executor.limits.memory ? ['memory-limit'] : []),
        ...(executor.limits.processes ? ['process-limit'] : []),
      ],
      ...equipment,
      addresses: host.addresses().slice(0, 64),
      nodeRootDir: layout.tasks,
    })
    const disk = new DiskGuard({
      path: dataDir,
      reserveBytes: options.diskReserveMiB === undefined ? undefined : options.diskReserveMiB * 2 ** 20,
      log: logger,
    })
    closers.push(() => disk.close())
    const gangs = new Gangs({ wire: host, log: logger })
    closers.push(() => gangs.close())
    const mpi = new Mpi({ wire: host, find: gangs.find, directories, runtimeDir: layout.runtime, log: logger })
    closers.push(() => mpi.close())
    gangs.prepare = async (member) => mpi.serve(member)
    const worker = createWorker({
      disk,
      gangs,
      mpi,
      wire: host,
      meshId: membership.mesh,
      coordinator: membership.founderPeer,
      machine,
      capacity,
      executor,
      threads,
      staging,
      directories,
      journal,
      log: logger,
      now: steadyClock(),
      // It would part with a stranger every half minute.
      removed: letFounderGo,
    })
    closers.push(() => worker.stop())
    closers.push(host.serve(filesProtocol, (channel) => void serverSession(filesProtocol, channel, filesHandlers(worker.findAttempt))))
    closers.push(
      repeat(diskEveryMs, async () => {
        diskFreeMiB = await freeDiskMiB(dataDir)
      }),
      repeat(expireEveryMs, async () => {
        await directories.expire(Date.now())
      }),
    )
    return { host, membership: service, store, exchange, worker, layout, machine, broken: journal.broken, stop }
  } catch (error) {
    await stop()
    throw error
  }
}

/** Does something now and then, in the background, until the returned function is called. A failure waits for the next time. */
function repeat(everyMs: number, work: () => Promise<void>): () => void {
  const timer = setInterval(() => void work().catch(() => undefined), everyMs)
  timer.unref()
  return () => clearInterval(timer)
}

/** IP addresses become multiaddrs; what is one already stays. */
function listenAddresses(given: readonly string[]): string[] | undefined {
  if (given.length === 0) return undefined
  return given.map((address) => (address.startsWith('/') ? address : address.includes(':') ? `/ip6/${address}` : `/ip4/${address}`))
}
