/** Membership on the wire: the founder serves it, everybody uses it. See protocols/membership.ts. */
import { MeshError } from '../protocols/errors.ts'
import type { PeerIdText } from '../protocols/ids.ts'
import { enrolProtocol, type Invite, type Member, membershipProtocol, renewalTime } from '../protocols/membership.ts'
import { clientSession, serverSession } from '../protocols/rpc.ts'
import type { Wire } from '../protocols/wire.ts'
import type { Founder } from './founder.ts'
import type { Membership } from './membership.ts'

/** Between tries of a renewal: often enough that a founder that is on for minutes is met. */
const renewalRetryMs = 30_000

/** Longest wait without a look at the clock: the machine may sleep, and its clock may be set. */
const lookMs = 60_000

export interface MembershipServiceOptions {
  wire: Wire
  membership: Membership
  /** Where this machine can be dialled: goes into the tokens of the founder. */
  addresses: () => readonly string[]
  log?: ((message: string, details: object) => void) | undefined
}

export interface MembershipService {
  /** Only the founder does; others ask it over the wire, as admins. Rejects with Unreachable when it is away. */
  invite(invite: Invite): Promise<{ token: string; expires: number }>
  revoke(peer: PeerIdText): Promise<void>
  members(): Promise<Member[]>
  /** Ends serving and renewing. */
  stop(): void
}

/** Serves membership where this machine is the founder, and keeps its own certificate fresh. */
export function startMembership(options: MembershipServiceOptions): MembershipService {
  const { membership } = options
  const own = membership.founder === undefined ? undefined : founderSide(options, membership.founder)
  const stopServing = own === undefined ? () => {} : serve(options, own.founder, own)
  const stopRenewing = startRenewing(options)
  const side = own ?? askFounder(options)
  return {
    invite: (invite) => side.invite(invite),
    revoke: (peer) => side.revoke(peer),
    members: () => side.members(),
    stop() {
      stopRenewing()
      stopServing()
    },
  }
}

type Side = Pick<MembershipService, 'invite' | 'revoke' | 'members'>

function founderSide({ membership, addresses }: MembershipServiceOptions, founder: Founder): Side & { founder: Founder } {
  return {
    founder,
    invite: (invite) => founder.invite(invite, addresses()),
    async revoke(peer) {
      await membership.takeRevocations(await founder.revoke(peer))
    },
    members: () => Promise.resolve(founder.members()),
  }
}

function serve({ wire, membership }: MembershipServiceOptions, founder: Founder, side: Side): () => void {
  const checkMesh = (mesh: string) => {
    if (mesh !== membership.mesh)
      throw new MeshError('AuthenticationFailed', `This machine is the founder of the mesh ${membership.mesh}, not of ${mesh}.`)
  }
  const stopEnrol = wire.serve(enrolProtocol, (channel) => {
    const peer = channel.remote.peer
    serverSession(enrolProtocol, channel, {
      calls: {
        enrol: async ({ mesh, secret, name }) => {
          checkMesh(mesh)
          return { rootPublicKey: membership.rootPublicKeyBytes, certificate: await founder.admit(peer, secret, name) }
        },
        renew: async ({ mesh }) => {
          checkMesh(mesh)
          return { certificate: await founder.renew(peer) }
        },
      },
      notes: {},
    })
  })
  const stopAdmin = wire.serve(membershipProtocol, (channel) => {
    serverSession(membershipProtocol, channel, {
      calls: {
        invite: (invite) => side.invite(invite),
        revoke: async ({ peer }) => {
          await side.revoke(peer)
          return {}
        },
        members: async () => ({ members: await side.members() }),
      },
      notes: {},
    })
  })
  return () => {
    stopEnrol()
    stopAdmin()
  }
}

function askFounder({ wire, membership }: MembershipServiceOptions): Side {
  const ask = async <T>(what: (session: ReturnType<typeof adminSession>) => Promise<T>): Promise<T> => {
    const session = adminSession(await openFounder(wire, membership))
    try {
      return await what(session)
    } finally {
      session.close()
    }
  }
  return {
    invite: (invite) => ask((session) => session.call('invite', invite)),
    revoke: (peer) => ask(async (session) => void (await session.call('revoke', { peer }))),
    members: () => ask(async (session) => (await session.call('members', {})).members),
  }
}

function adminSession(channel: Parameters<typeof clientSession>[1]) {
  return clientSession(membershipProtocol, channel, { calls: {}, notes: {} })
}

async function openFounder(wire: Wire, membership: Membership) {
  wire.learn(membership.founderPeer, membership.founderAddresses)
  try {
    return await wire.open(membership.founderPeer, membershipProtocol)
  } catch (error) {
    if (!(error instanceof MeshError) || error.code !== 'Unreachable') throw error
    throw new MeshError('Unreachable', `Only the founder of the mesh can do this, and it cannot be reached now. ${error.message}`, {
      cause: error,
    })
  }
}

/**
 * Renews this machine's certificate in time, for ever; at once when it has expired while the machine was off, or when a member
 * says that it has. The clock may be set at any time: no wait is long, and each ends with a look at the clock as it is then.
 */
function startRenewing({ wire, membership, log }: MembershipServiceOptions): () => void {
  let timer: ReturnType<typeof setTimeout> | undefined
  let stopped = false
  let isTrying = false
  let isAskedFor = false
  /** By a clock that nobody sets. */
  let triedAt = Number.NEGATIVE_INFINITY
  const plan = () => {
    clearTimeout(timer)
    if (stopped || isTrying) return
    const { issuedAt, expires } = membership.certificate
    // A short-lived certificate is retried within its life.
    const retryMs = Math.min(renewalRetryMs, Math.max(100, (expires - issuedAt) / 20))
    const dueMs = isAskedFor ? 0 : renewalTime(membership.certificate) - membership.now()
    const waitMs = Math.max(dueMs, triedAt + retryMs - performance.now(), 0)
    timer = setTimeout(() => void (waitMs <= lookMs ? attempt() : plan()), Math.min(waitMs, lookMs)).unref()
  }
  const attempt = async () => {
    if (!isAskedFor && membership.now() < renewalTime(membership.certificate)) return plan()
    triedAt = performance.now()
    isTrying = true
    try {
      await membership.adopt(await renewed(wire, membership))
      isAskedFor = false
      log?.('the membership certificate was renewed', { expires: membership.certificate.expires })
    } catch (error) {
      log?.('the membership certificate could not be renewed; trying again', { error: (error as Error).message })
    }
    isTrying = false
    plan()
  }
  const forget = membership.onChange((change) => {
    if (change !== 'expired') return
    isAskedFor = true
    plan()
  })
  plan()
  return () => {
    stopped = true
    forget()
    clearTimeout(timer)
  }
}

async function renewed(wire: Wire, membership: Membership): Promise<Uint8Array> {
  if (membership.founder !== undefined) return membership.founder.renew(membership.peer)
  wire.learn(membership.founderPeer, membership.founderAddresses)
  const session = clientSession(enrolProtocol, await wire.open(membership.founderPeer, enrolProtocol), { calls: {}, notes: {} })
  try {
    return (await session.call('renew', { mesh: membership.mesh })).certificate
  } finally {
    session.close()
  }
}
