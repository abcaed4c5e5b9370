/** A whole node in this process: the machine's part and, where it founded the mesh, the coordinator's. Here alone both wings are put together. */
import { rm } from 'node:fs/promises'
import { join } from 'node:path'
import { type Coordinator, startCoordinator } from '../../coordinator/coordinator.ts'
import { openLevelStore } from '../../coordinator/store.ts'
import { openControl } from '../../node/control-proxy.ts'
import { serveControlSocket } from '../../node/control-socket.ts'
import { enrol } from '../../node/enrol.ts'
import { forget, found, type Identity, load } from '../../node/identity.ts'
import { layoutOf } from '../../node/layout.ts'
import { acceptLocal, taskUser } from '../../node/local.ts'
import { Membership } from '../../node/membership.ts'
import { type MeshNode, startNode as startMeshNode } from '../../node/node.ts'
import { controlProtocol } from '../../protocols/control.ts'
import { localProtocol } from '../../protocols/local.ts'
import type { Logger } from '../../protocols/logger.ts'
import { controlSocketPath } from '../config.ts'
import { version } from '../version.ts'
import type { Log } from './log.ts'
import type { RunningNode, UpOptions } from './up-options.ts'

/** The first invitation that a founder prints: long enough to walk to the other machines. */
const firstInvitation = { roles: ['worker', 'submitter'] as ('worker' | 'submitter')[], expiresMs: 86_400_000, uses: 100 }

export async function startNode(options: UpOptions): Promise<RunningNode> {
  const logger = loggerOf(options.log)
  const { identity, how } = await identify(options)
  const membership = await Membership.open(identity)
  const startTime = Date.now()
  const isCoordinator = membership.founderPeer === identity.peer
  const node = await startMeshNode({ ...options, membership, version, logger })
  const ending = Promise.withResolvers<void>()
  const fatal = (error: unknown) => {
    options.log('error', 'the node cannot go on', { error })
    ending.reject(error)
  }
  node.broken.catch(fatal)
  let coordinator: Coordinator | undefined
  const parts = { node, logger, stopped: undefined as Promise<void> | undefined }
  let socket: Awaited<ReturnType<typeof serveControlSocket>> | undefined
  const stop = ({ drain }: { drain: boolean }): Promise<void> => {
    draining.abort()
    parts.stopped ??= (async () => {
      if (drain) await drained(node, {})
      await coordinator?.stop()
      await node.stop()
      // Last, and not awaited by whoever asked over it: the answer goes out on it.
      setImmediate(() => void socket?.close())
      ending.resolve()
    })()
    return parts.stopped
  }
  const draining = new AbortController()
  try {
    if (isCoordinator) coordinator = await runCoordinator(options, membership, node, logger, fatal)
    node.worker.start()
    socket = await serveControlSocket(
      controlSocketPath(options.dataDir),
      [
        {
          service: localProtocol,
          open: async () => (channel) =>
            acceptLocal(
              {
                node,
                membership,
                version,
                startTime,
                down: async ({ drain }) => {
                  if (drain) await drained(node, {})
                  void stop({ drain: false })
                },
                leave: async ({ purge }) => {
                  if (isCoordinator && !purge) {
                    throw mayNotLeave()
                  }
                  await drainedForGood(node)
                  void stop({ drain: false })
                    .then(() => forget(options.dataDir))
                    .then(() => (purge ? purgeData(options.dataDir) : undefined))
                },
              },
              channel,
            ),
        },
        { service: controlProtocol, open: () => openControl(node.host, membership.founderPeer) },
      ],
      { peer: node.host.peer },
    )
    const invitation = how === 'founded' ? (await node.membership.invite(firstInvitation)).token : undefined
    return {
      peer: node.host.peer,
      meshId: membership.mesh,
      name: node.machine().name,
      addresses: node.host.addresses(),
      how,
      invitation,
      taskUser: taskUser(),
      ended: ending.promise,
      stop,
    }
  } catch (error) {
    await stop({ drain: false })
    throw error
  }
}
