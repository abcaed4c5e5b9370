/** A whole node in this process: the machine's part and, where it founded the mesh, the coordinator's. Only here are both wings put together. */
import { constants } from 'node:fs'
import { access, readdir, rm } from 'node:fs/promises'
import { dirname, join } from 'node:path'
import { type Coordinator, startCoordinator } from '../../coordinator/coordinator.ts'
import { allRows } from '../../coordinator/restored.ts'
import { openLevelStore } from '../../coordinator/store.ts'
import { openControl } from '../../node/control-proxy.ts'
import { type ControlSocket, refuseSecondNode, serveControlSocket } from '../../node/control-socket.ts'
import { enrol } from '../../node/enrol.ts'
import { found, type Identity, load, sweepIdentity } from '../../node/identity.ts'
import { layoutOf } from '../../node/layout.ts'
import { acceptLocal, taskUser } from '../../node/local.ts'
import { Membership } from '../../node/membership.ts'
import { type MeshNode, startNode as startMeshNode } from '../../node/node.ts'
import { controlProtocol } from '../../protocols/control.ts'
import { MeshError } from '../../protocols/errors.ts'
import { localProtocol } from '../../protocols/local.ts'
import type { Logger } from '../../protocols/logger.ts'
import { controlSocketPath } from '../config.ts'
import { version } from '../version.ts'
import type { Log } from './log.ts'
import { sweepRestore } from './restore.ts'
import type { RunningNode, UpOptions } from './up-options.ts'

/** The invitation that a founder prints: long enough to walk to the other machines. */
const firstInvitation = { roles: ['worker', 'submitter'] as ('worker' | 'submitter')[], expiresMs: 86_400_000, uses: 100 }

/** Starts a node; rejects with a sentence on what is wrong when it cannot be. */
export async function startNode(options: UpOptions): Promise<RunningNode> {
  const logger = loggerOf(options.log)
  await refuseReadOnly(options.dataDir)
  // Before anything is written: a second node here would also ask for a second membership.
  await refuseSecondNode(controlSocketPath(options.dataDir))
  await sweepIdentity(options.dataDir)
  await sweepRestore(options.dataDir)
  const { identity, how } = await identify(options, logger)
  let started: Running | undefined
  try {
    const membership = await Membership.open(identity)
    const node = await startMeshNode({ ...options, membership, version, logger })
    const running = new Running(options, membership, node, logger, how === 'founded')
    started = running
    await running.start()
    const invitation = how === 'founded' ? (await node.membership.invite(firstInvitation)).token : undefined
    const { name, class: machineClass, capacity, labels } = node.machine()
    return {
      peer: node.host.peer,
      meshId: membership.mesh,
      name,
      lends: { cores: capacity.cores, memoryMiB: capacity.memoryMiB, class: machineClass, labels },
      addresses: node.host.addresses(),
      how,
      invitation,
      taskUser: taskUser(),
      ended: running.ended,
      stop: (stopOptions) => running.stop(stopOptions),
    }
  } catch (error) {
    await started?.stop({ drain: false })
    // Nobody has an invitation to this mesh: the next start founds one, and says how to add a machine.
    if (how === 'founded') await forgetMesh(options.dataDir)
    throw withAdvice(error)
  }
}

/** Rejects with InvalidPropertyValue where nothing can be written at the data directory, or above it while it is not there. */
async function refuseReadOnly(dataDir: string): Promise<void> {
  for (let path = dataDir; ; path = dirname(path)) {
    try {
      return await access(path, constants.W_OK | constants.X_OK)
    } catch (error) {
      const { code, message } = error as NodeJS.ErrnoException
      if (code === 'ENOENT' && path !== dirname(path)) continue
      throw new MeshError(
        'InvalidPropertyValue',
        `The data directory ${dataDir} cannot be written: ${message}. Make it writable, or choose another with --data.`,
        { cause: error },
      )
    }
  }
}

/** What the system's own words leave open. */
function withAdvice(error: unknown): unknown {
  const { code, message } = error as NodeJS.ErrnoException
  if (code !== 'EMFILE' && code !== 'ENFILE' && !/\b(EMFILE|ENFILE)\b/.test(message)) return error
  return new MeshError('InternalError', `The node may not open enough files: ${message}. Raise the limit: ulimit -n 65536`, {
    cause: error,
  })
}

async function forgetMesh(dataDir: string): Promise<void> {
  for (const name of ['identity', 'journal', 'coordinator']) await rm(join(dataDir, name), { recursive: true, force: true })
}

async function identify(options: UpOptions, logger: Logger): Promise<{ identity: Identity; how: RunningNode['how'] }> {
  const { dataDir, join: token, name } = options
  if (token !== undefined)
    return { identity: await enrol(dataDir, token, { name, addresses: options.bootstrap, mdns: options.mdns, logger }), how: 'joined' }
  const known = await load(dataDir)
  if (known === undefined) await refuseStrayRows(dataDir)
  return known === undefined ? { identity: await found(dataDir, { name }), how: 'founded' } : { identity: known, how: 'resumed' }
}

/** A new mesh must not take over the jobs of another: its rows name machines and attempts that it knows nothing of. */
async function refuseStrayRows(dataDir: string): Promise<void> {
  const { coordinator } = layoutOf(dataDir)
  const found = await readdir(coordinator).catch((): string[] => [])
  // LevelDB's own mark of a database.
  if (!found.includes('CURRENT')) return
  throw new MeshError(
    'InvalidPropertyValue',
    `${coordinator} holds the jobs of a mesh whose identity is gone. Move it away to found a new mesh here, or restore a backup (batchmesh mesh restore).`,
  )
}

class Running {
  readonly ended: Promise<void>
  readonly #options: UpOptions
  readonly #membership: Membership
  readonly #node: MeshNode
  readonly #logger: Logger
  readonly #isNewMesh: boolean
  readonly #startTime = Date.now()
  readonly #ending = Promise.withResolvers<void>()
  #coordinator: Coordinator | undefined
  #readRows: (() => AsyncIterable<[string, Uint8Array]>) | undefined
  #socket: ControlSocket | undefined
  #draining = new AbortController()
  #stopping: Promise<void> | undefined

  constructor(options: UpOptions, membership: Membership, node: MeshNode, logger: Logger, isNewMesh: boolean) {
    this.#isNewMesh = isNewMesh
    this.#options = options
    this.#membership = membership
    this.#node = node
    this.#logger = logger
    this.ended = this.#ending.promise
    // Whoever started the node awaits it; until then a failure must not end the process unheard.
    this.ended.catch(() => undefined)
    node.broken.catch((error: unknown) => this.#fatal(error))
  }

  get #isCoordinator(): boolean {
    return this.#membership.founderPeer === this.#node.host.peer
  }

  async start(): Promise<void> {
    const { host, worker, layout } = this.#node
    if (this.#isCoordinator) {
      const store = await openLevelStore(layout.coordinator)
      this.#readRows = () => store.scan(allRows)
      this.#coordinator = await startCoordinator({
        wire: host,
        store,
        meshId: this.#membership.mesh,
        name: this.#node.machine().name,
        version,
        logger: this.#logger,
        isNewMesh: this.#isNewMesh,
        fatal: (error) => this.#fatal(error),
      })
      const coordinator = this.#coordinator
      this.#membership.onChange(() => {
        for (const peer of this.#membership.revokedPeers()) coordinator.revoked(peer)
      })
    }
    if (this.#options.worker !== false) worker.start()
    const services = [
      {
        service: localProtocol,
        open: async () => (channel: Parameters<typeof acceptLocal>[1]) => acceptLocal(this.#localOptions(), channel),
      },
      { service: controlProtocol, open: () => openControl(host, this.#membership.founderPeer) },
    ]
    this.#socket = await serveControlSocket(controlSocketPath(this.#options.dataDir), services, { peer: host.peer })
  }

  #localOptions(): Parameters<typeof acceptLocal>[0] {
    return {
      node: this.#node,
      membership: this.#membership,
      version,
      startTime: this.#startTime,
      down: async ({ drain }) => {
        if (drain) await this.#drain(false)
        this.#soon(() => this.stop({ drain: false }))
      },
      leave: (how) => this.#leave(how),
      readRows: this.#readRows,
    }
  }

  async #leave({ purge }: { purge: boolean }): Promise<void> {
    if (this.#isCoordinator && !purge) {
      throw new MeshError(
        'InvalidPropertyValue',
        'This machine founded the mesh: if it leaves, the mesh is gone. To end the mesh and delete its jobs and blobs: batchmesh leave --purge. To stop only: batchmesh down',
      )
    }
    await this.#farewell()
    this.#soon(async () => {
      await this.#close()
      const { dataDir } = this.#options
      const doomed = purge ? await readdir(dataDir) : ['identity', 'journal']
      for (const name of doomed) await rm(join(dataDir, name), { recursive: true, force: true })
      this.#ending.resolve()
    })
  }

  /** Gives everything back for good; what runs is not waited for. */
  async #farewell(): Promise<void> {
    await this.#node.worker.drain({ leaving: true, signal: AbortSignal.timeout(1000) }).catch(() => undefined)
  }

  /** After the answer to the present request has gone out. */
  #soon(work: () => Promise<void>): void {
    setTimeout(() => void work().catch((error: unknown) => this.#ending.reject(error)), 20)
  }

  async stop({ drain, leaving }: { drain: boolean; leaving?: boolean }): Promise<void> {
    if (drain && this.#stopping === undefined) await this.#drain(leaving === true)
    else this.#draining.abort()
    if (leaving === true && !drain && this.#stopping === undefined) await this.#farewell()
    await this.#close()
    this.#ending.resolve()
  }

  async #drain(leaving: boolean): Promise<void> {
    this.#logger.info({}, 'taking no new tasks; waiting for the running ones')
    await this.#node.worker.drain({ leaving, signal: this.#draining.signal }).catch((error: unknown) => {
      if (!this.#draining.signal.aborted) throw error
    })
  }

  #close(): Promise<void> {
    this.#stopping ??= (async () => {
      await this.#coordinator?.stop()
      await this.#node.stop()
      await this.#socket?.close()
    })()
    return this.#stopping
  }

  #fatal(error: unknown): void {
    this.#logger.error({ error: String(error) }, 'the node cannot go on')
    this.#ending.reject(error)
  }
}

function loggerOf(log: Log): Logger {
  const at = (level: Parameters<Log>[0]) => (fields: object, message: string) => log(level, message, { ...fields })
  return { debug: at('debug'), info: at('info'), warn: at('warn'), error: at('error') }
}
