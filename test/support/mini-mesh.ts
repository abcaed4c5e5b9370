/**
 * A whole mesh in this process whose coordinator and worker can be killed at any step: the real coordinator and the real
 * worker on disks that drop what was not synced, a wire in memory, programs that end at once, and a submitter that asks
 * again whatever was not answered. What a dead process still does reaches nobody.
 */
import { type Coordinator, startCoordinator } from '../../coordinator/coordinator.ts'
import type { StatusRow } from '../../coordinator/rows.ts'
import type { Journal } from '../../node/journal.ts'
import type { Ended, Executor, StartRequest } from '../../node/ports.ts'
import type { Worker } from '../../node/worker/contract.ts'
import { createWorker } from '../../node/worker.ts'
import { decode } from '../../protocols/codec.ts'
import { controlProtocol } from '../../protocols/control.ts'
import { MeshError } from '../../protocols/errors.ts'
import { silentLogger } from '../../protocols/logger.ts'
import { clientSession } from '../../protocols/rpc.ts'
import type { Wire } from '../../protocols/wire.ts'
import { MemoryNet } from './memory-wire.ts'
import { type Batch, CrashDisk } from './stores/crash-disk.ts'
import { CrashJournalDisk } from './stores/crash-journal.ts'
import { CrashStore } from './stores/crash-store.ts'
import { FakeDirectories, FakeStaging, FakeThreads, noGangs, silentLog } from './worker/fake-parts.ts'

const coordinatorPeer = 'peer-of-the-coordinator'
const workerPeer = 'peer-of-the-worker'
export type Side = 'coordinator' | 'worker'

const lent = { cores: 4, memoryMiB: 4096, gpus: 0 }
const machine = {
  name: 'w',
  class: 'dedicated',
  capacity: lent,
  diskFreeMiB: 1,
  labels: {},
  os: 'linux',
  arch: 'x64',
  version: '0',
} as const

/** One life of a process. */
interface Life {
  dead: boolean
  /** Ends what the test's own process would keep of it. */
  bury: () => void
}

export class MiniMesh {
  readonly rows = new CrashDisk()
  readonly journal = new CrashDisk()
  /** How often the program of each attempt was started. */
  readonly ran = new Map<string, number>()
  /** Promises found broken. */
  readonly broken: string[] = []
  worker: Worker | undefined
  readonly #net = new MemoryNet()
  #coordinatorLife: (Life & { store: CrashStore }) | undefined
  #workerLife: (Life & { disk: CrashJournalDisk }) | undefined
  #control: ReturnType<typeof MiniMesh.prototype.open> | undefined

  /** Starts both; one that dies while it starts is started again. */
  async start(): Promise<void> {
    while (this.#coordinatorLife === undefined || this.#coordinatorLife.dead) await this.#startCoordinator()
    while (this.#workerLife === undefined || this.#workerLife.dead) await this.#startWorker()
  }

  /** The process dies, in the middle of what it does; what it does after this reaches nobody. `chance`: how much of its disk's end is lost. */
  crash(side: Side, chance: number): void {
    const life = side === 'coordinator' ? this.#coordinatorLife : this.#workerLife
    if (life === undefined || life.dead) return
    life.dead = true
    if (side === 'coordinator') this.#coordinatorLife!.store.crash(chance)
    else this.#workerLife!.disk.crash(chance)
    this.#net.die(side === 'coordinator' ? coordinatorPeer : workerPeer)
    setImmediate(() => life.bury())
  }

  async #startCoordinator(): Promise<void> {
    const store = new WatchedStore(this.rows, (batch) => this.#written(batch))
    const life: Life & { store: CrashStore } = { dead: false, bury: () => {}, store }
    this.#coordinatorLife = life
    this.#net.heal(coordinatorPeer)
    const wire = this.#net.wire(coordinatorPeer, ['coordinator'])
    const died = Promise.withResolvers<undefined>()
    const parts = { wire, store, meshId: 'mesh', name: 'here', version: '0', logger: silentLogger }
    const starting = startCoordinator({ ...parts, fatal: (error) => this.#fatal(life, error) })
    // In a start that dies some step waits for ever.
    life.bury = () => died.resolve(undefined)
    const started: Coordinator | undefined = await Promise.race([starting, died.promise]).catch(() => undefined)
    if (started !== undefined) life.bury = () => void started.stop()
    if (life.dead) life.bury()
  }

  async #startWorker(): Promise<void> {
    const disk = new CrashJournalDisk(this.journal)
    const life: Life & { disk: CrashJournalDisk } = { dead: false, bury: () => {}, disk }
    this.#workerLife = life
    this.#net.heal(workerPeer)
    const journal: Journal | undefined = await disk.open().catch(() => undefined)
    if (journal === undefined || life.dead) return
    journal.broken.catch((error: unknown) => this.#fatal(life, error))
    const worker = createWorker({
      wire: mortal(this.#net.wire(workerPeer, ['worker']), life),
      meshId: 'mesh',
      coordinator: coordinatorPeer,
      capacity: lent,
      executor: this.#programs(life),
      threads: new FakeThreads(),
      staging: new FakeStaging(),
      directories: new FakeDirectories(),
      gangs: noGangs(),
      journal,
      log: silentLog,
      random: () => 0,
      machine: () => ({ ...machine, isolation: 'process-group', addresses: [], nodeRootDir: '/nowhere' }),
    })
    life.bury = () => void worker.stop()
    this.worker = worker
    worker.start()
  }

  #fatal(life: Life, error: unknown): void {
    if (!life.dead) this.broken.push(`it gave up: ${String(error)}`)
  }

  #programs(life: Life): Executor {
    const run = async (start: StartRequest, signal: AbortSignal, onStart?: (time: number) => void): Promise<Ended> => {
      const startTime = Date.now()
      if (!life.dead) this.ran.set(start.cwd, (this.ran.get(start.cwd) ?? 0) + 1)
      onStart?.(startTime)
      for (let turn = 0; turn < 3 || (life.dead && !signal.aborted); turn += 1) await new Promise(setImmediate)
      return { exitCode: 0, startTime, endTime: Date.now(), killed: signal.aborted }
    }
    return {
      tier: 'process-group',
      lane: async () => ({ owner: undefined, temporaryDir: undefined, limitMemory: () => undefined, run, release: () => {} }),
      close: async () => {},
    }
  }

  /** L1, L2: a result that is on the disk stays as it is. */
  #written(batch: Batch): void {
    for (const [key, value] of batch) {
      const before = this.rows.get(key)
      if (!key.startsWith('stat/') || value === undefined || before === undefined) continue
      const [was, is] = [decode(before), decode(value)] as [StatusRow, StatusRow]
      const same = is.state === 'completed' && is.epoch === was.epoch && is.result === was.result
      if (was.state === 'completed' && !same)
        this.broken.push(`${key} was ${was.result} at epoch ${was.epoch} and is ${is.state} at ${is.epoch}`)
      if (is.epoch < was.epoch) this.broken.push(`${key} went back from epoch ${was.epoch} to ${is.epoch}`)
    }
  }

  async open() {
    const channel = await this.#net.wire('peer-of-a-submitter', ['submitter']).open(coordinatorPeer, controlProtocol)
    return clientSession(controlProtocol, channel, { calls: {}, notes: { jobEvents: () => {} } })
  }

  /** Asks until there is an answer, and starts again whoever has died. A refusal that says that it was done before is an answer. */
  async ask<T>(call: (session: Awaited<ReturnType<MiniMesh['open']>>) => Promise<T>, doneBefore?: string): Promise<T | undefined> {
    for (;;) {
      await this.start()
      this.#control ??= this.open()
      try {
        return await call(await this.#control)
      } catch (error) {
        if (!(error instanceof MeshError)) throw error
        if (error.code === doneBefore) return undefined
        if (this.#coordinatorLife?.dead !== true && error.code !== 'Unreachable' && error.code !== 'NoCoordinator') throw error
        this.#control = undefined
      }
    }
  }

  async stop(): Promise<void> {
    const control = await this.#control?.catch(() => undefined)
    control?.close()
    await this.worker?.stop()
    for (const side of ['worker', 'coordinator'] as const) this.crash(side, 0)
    await new Promise(setImmediate)
  }
}

class WatchedStore extends CrashStore {
  readonly #written: (batch: Batch) => void

  constructor(disk: CrashDisk, written: (batch: Batch) => void) {
    super(disk)
    this.#written = written
  }

  override write(rows: Batch): Promise<void> {
    this.#written(rows)
    return super.write(rows)
  }
}

/** A dead process opens nothing. */
function mortal(wire: Wire, life: Life): Wire {
  return {
    ...wire,
    open: (...words) => (life.dead ? Promise.reject(new MeshError('Unreachable')) : wire.open(...words)),
    subscribe: (topic, handler) => wire.subscribe(topic, (data, from) => void (life.dead || handler(data, from))),
  }
}
