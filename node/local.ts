/** The node's side of protocols/local.ts: what its owner's programs ask of the node itself. */
import { MeshError } from '../protocols/errors.ts'
import { type LocalProtocol, type LocalStatus, localProtocol } from '../protocols/local.ts'
import { type InvitableRole, invitableRoles } from '../protocols/membership.ts'
import { type CallHandlers, serverSession } from '../protocols/rpc.ts'
import type { Channel } from '../protocols/wire.ts'
import { exportCalls, type Row } from './export.ts'
import { localBlobCalls } from './local-blobs.ts'
import type { Membership } from './membership.ts'
import type { MeshNode } from './node.ts'

export interface LocalOptions {
  node: MeshNode
  membership: Membership
  version: string
  startTime: number
  /** Resolves when the node is about to exit. */
  down: (how: { drain: boolean }) => Promise<void>
  leave: (how: { purge: boolean }) => Promise<void>
  /** The coordinator's rows as they stand when it is called; absent where it runs elsewhere. */
  readRows: (() => AsyncIterable<Row>) | undefined
}

/** Answers one program on the control socket. */
export function acceptLocal(options: LocalOptions, channel: Channel): void {
  const { node, membership } = options
  const blobs = localBlobCalls({ store: node.store, exchange: node.exchange, self: node.host.peer, homePeer: () => membership.founderPeer })
  const calls: CallHandlers<LocalProtocol['server']> = {
    ...blobs,
    ...exportCalls(options.readRows, channel),
    status: () => status(options),
    down: async (how) => {
      await options.down(how)
      return {}
    },
    leave: async (how) => {
      await options.leave(how)
      return {}
    },
    invite: ({ roles, expiresMs, uses }) => {
      const allowed = roles.filter((role): role is InvitableRole => (invitableRoles as readonly string[]).includes(role))
      if (allowed.length < roles.length) {
        throw new MeshError(
          'InvalidPropertyValue',
          'An invitation gives the roles worker, submitter and admin; a mesh has one coordinator, its founder.',
        )
      }
      return node.membership.invite({ roles: allowed, expiresMs, uses })
    },
    revoke: async ({ peer }) => {
      await node.membership.revoke(peer)
      return {}
    },
  }
  serverSession(localProtocol, channel, { calls, notes: {} })
}

function status({ node, membership, version, startTime }: LocalOptions): LocalStatus {
  const machine = node.machine()
  const worker = node.worker.status()
  return {
    peer: node.host.peer,
    name: machine.name,
    meshId: membership.mesh,
    version,
    pid: process.pid,
    startTime,
    roles: [...membership.certificate.roles],
    isCoordinator: membership.founderPeer === node.host.peer,
    connected: worker.connected,
    addresses: node.host.addresses(),
    lends: machine.capacity,
    class: machine.class,
    labels: machine.labels,
    isolation: machine.isolation,
    runningTasks: worker.runningTasks,
    heartbeatLagMs: node.worker.maxLagMs(),
    dataDir: node.layout.dataDir,
    certificateExpires: membership.certificate.expires,
    user: taskUser(),
  }
}

/** The user that tasks run as, as it is told to whoever lends the machine. */
export function taskUser(): string {
  return process.getuid?.() === 0
    ? 'batchmesh (an unprivileged user of its own for each task slot)'
    : (process.env.USER ?? `uid ${process.getuid?.()}`)
}
