/** Joining a mesh with an invitation: the newcomer's side of the enrolment in protocols/membership.ts. */
import { MeshError } from '../protocols/errors.ts'
import { failpoint } from '../protocols/failpoint.ts'
import { certificateTrouble, decodeCertificate, enrolProtocol } from '../protocols/membership.ts'
import { clientSession } from '../protocols/rpc.ts'
import { decodeToken, type Invitation } from '../protocols/token.ts'
import { dialOnce } from './host/dial-once.ts'
import type { HostLogger } from './host.ts'
import { forget, hasKey, type Identity, identityDir, load, machineKey, meshIdOf, publicKeyOf, saveMembership } from './identity.ts'
import { verified } from './membership.ts'

export interface EnrolOptions {
  /** Shown in the list of members. */
  name?: string
  /** Multiaddrs to try besides those of the token. */
  addresses?: readonly string[]
  /** Looks for the founder on the local network too. */
  mdns?: boolean
  signal?: AbortSignal
  logger?: HostLogger
}

/** A member that starts again with its token waits this long for a founder that may be away. */
const againTimeoutMs = 5000

/**
 * Joins the mesh of the token and keeps the membership in the data directory. A repetition after a failure uses the
 * same key, and costs no second use of the invitation; a machine that is a member already starts again with its old
 * token also when that has expired or the founder is away. Rejects with InvalidPropertyValue for a token that is damaged
 * or expired or when the directory belongs to another mesh, AuthenticationFailed when the founder refuses it or is
 * not whom the token names, Unreachable when no address answers.
 */
export async function enrol(dataDir: string, token: string, options: EnrolOptions = {}): Promise<Identity> {
  const invitation = decodeToken(token)
  const existing = await load(dataDir)
  if (existing !== undefined && existing.record.mesh !== invitation.mesh) {
    throw new MeshError(
      'InvalidPropertyValue',
      `The data directory ${dataDir} belongs to the mesh ${existing.record.mesh} already, and the invitation is for ${invitation.mesh}. Leave that mesh first, or choose another directory.`,
    )
  }
  if (invitation.expires <= Date.now()) {
    if (existing !== undefined) return existing
    throw new MeshError(
      'InvalidPropertyValue',
      `The invitation expired at ${new Date(invitation.expires).toISOString()}. Ask for a new one (\`batchmesh invite\`), or check this machine's clock.`,
    )
  }
  if (existing === undefined) return join(dataDir, invitation, options)
  const signals = [AbortSignal.timeout(againTimeoutMs), ...(options.signal === undefined ? [] : [options.signal])]
  try {
    return await join(dataDir, invitation, { ...options, signal: AbortSignal.any(signals) })
  } catch (error) {
    if (options.signal?.aborted || (error instanceof MeshError && error.code === 'AuthenticationFailed')) throw error
    return existing
  }
}

async function join(dataDir: string, invitation: Invitation, options: EnrolOptions): Promise<Identity> {
  const isNew = !(await hasKey(dataDir))
  // Once the founder was asked it may have admitted this key, whose certificate a repetition can still fetch.
  const asked = { founder: false }
  try {
    await ask(dataDir, invitation, options, asked)
  } catch (error) {
    const isRefused = error instanceof MeshError && error.code === 'AuthenticationFailed'
    if (isNew && (isRefused || !asked.founder)) await forget(dataDir)
    throw error
  }
  return (await load(dataDir))!
}

async function ask(dataDir: string, invitation: Invitation, options: EnrolOptions, asked: { founder: boolean }): Promise<void> {
  const key = await machineKey(dataDir)
  failpoint('enrol.key.made')
  const addresses = [...invitation.addresses, ...(options.addresses ?? [])]
  const { channel, close, address } = await dialOnce({
    ...key,
    remote: invitation.founder,
    addresses,
    service: enrolProtocol,
    mesh: options.mdns === true ? invitation.mesh : undefined,
    signal: options.signal,
  })
  try {
    asked.founder = true
    const session = clientSession(enrolProtocol, channel, { calls: {}, notes: {} })
    const callOptions = options.signal === undefined ? {} : { signal: options.signal }
    const answer = await session.call('enrol', { mesh: invitation.mesh, secret: invitation.secret, name: options.name ?? '' }, callOptions)
    failpoint('enrol.founder.answered')
    await checkAnswer(invitation, key.peer, answer)
    await saveMembership(identityDir(dataDir), {
      mesh: invitation.mesh,
      rootPublicKey: answer.rootPublicKey,
      founder: invitation.founder,
      founderAddresses: addresses.includes(address) ? addresses : [...addresses, address],
      certificate: answer.certificate,
    })
    failpoint('enrol.membership.saved')
  } finally {
    await close()
  }
}

/** The founder proves the mesh: its root key hashes to the mesh's name, and it signed what it gives. */
async function checkAnswer(
  invitation: Invitation,
  peer: string,
  answer: { rootPublicKey: Uint8Array; certificate: Uint8Array },
): Promise<void> {
  const { mesh } = invitation
  if (meshIdOf(answer.rootPublicKey) !== mesh) {
    throw new MeshError('AuthenticationFailed', 'The machine that answered does not hold the root key of the mesh in the invitation.')
  }
  const payload = await verified(publicKeyOf(answer.rootPublicKey), 'certificate', answer.certificate)
  const certificate = payload && decodeCertificate(payload)
  if (certificate === undefined)
    throw new MeshError('AuthenticationFailed', 'The certificate that the founder gave is not signed by the root key of the mesh.')
  const trouble = certificateTrouble(certificate, { mesh, peer, now: Date.now(), revoked: new Set() })
  if (trouble !== undefined) throw new MeshError('AuthenticationFailed', `The founder gave a certificate that does not hold. ${trouble}`)
}
