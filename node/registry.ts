/**
 * The founder's registry, as decisions without I/O: whom it invited, admitted and revoked. Each function gives the
 * registry to persist; what it allows may be acted on only once that is durable.
 */
import { z } from 'zod'
import { bytesSchema } from '../protocols/bytes.ts'
import { MeshError } from '../protocols/errors.ts'
import { type Invite, invitableRoles, type Revocations } from '../protocols/membership.ts'
import { type Role, roles } from '../protocols/wire.ts'

const invitationSchema = z.object({
  /** SHA-256 of the secret: the registry cannot be used to join. */
  secretHash: bytesSchema,
  roles: z.array(z.enum(invitableRoles)),
  expires: z.number().int(),
  usesLeft: z.number().int().min(0),
})
export type OpenInvitation = z.infer<typeof invitationSchema>

const memberSchema = z.object({
  name: z.string(),
  roles: z.array(z.enum(roles)),
  since: z.number().int(),
  /** When its newest certificate ends. */
  expires: z.number().int(),
  revoked: z.boolean(),
  /** The invitation that it came by; absent for the founder. */
  secretHash: bytesSchema.optional(),
})
export type RegisteredMember = z.infer<typeof memberSchema>

export const registrySchema = z.object({
  /** Serial of the newest certificate. */
  serial: z.number().int().min(0),
  revocationsNumber: z.number().int().min(0),
  invitations: z.array(invitationSchema),
  members: z.record(z.string(), memberSchema),
})
export type Registry = z.infer<typeof registrySchema>

export const emptyRegistry: Registry = { serial: 0, revocationsNumber: 0, invitations: [], members: {} }

export function withInvitation(registry: Registry, invite: Invite, secretHash: Uint8Array, now: number): Registry {
  const open = registry.invitations.filter((invitation) => invitation.expires > now)
  const invitation = { secretHash, roles: [...new Set(invite.roles)], expires: now + invite.expiresMs, usesLeft: invite.uses }
  return { ...registry, invitations: [...open, invitation] }
}

/**
 * Admits a peer by an invitation, counting the use. A member that comes again gets its answer without a further use (L4),
 * also when its invitation has ended since, for it could as well renew. `sameHash` compares in constant time. Throws
 * AuthenticationFailed with what is wrong.
 */
export function admit(
  registry: Registry,
  newcomer: { peer: string; name: string; secretHash: Uint8Array; now: number; lifeMs: number },
  sameHash: (a: Uint8Array, b: Uint8Array) => boolean,
): Issued {
  const { peer, now, lifeMs } = newcomer
  const known = Object.hasOwn(registry.members, peer) ? registry.members[peer] : undefined
  if (known?.revoked) {
    throw refusal('This machine was removed from the mesh. To take it back, run `batchmesh leave` there and invite it anew.')
  }
  const matches = registry.invitations.map((invitation) => sameHash(invitation.secretHash, newcomer.secretHash))
  const invitation = registry.invitations[matches.indexOf(true)]
  const again = known?.secretHash !== undefined && sameHash(known.secretHash, newcomer.secretHash)
  const trouble = again ? undefined : invitationTrouble(invitation, now)
  if (known !== undefined && (again || trouble !== undefined)) return renew(registry, peer, now, lifeMs)
  if (invitation === undefined || trouble !== undefined) throw refusal(`${trouble} Ask for a new one (\`batchmesh invite\`).`)
  const invitations = registry.invitations.map((other) => (other === invitation ? { ...other, usesLeft: other.usesLeft - 1 } : other))
  return issued({ ...registry, invitations }, peer, {
    name: newcomer.name,
    // A member that comes with a further invitation has the roles of both.
    roles: [...new Set([...(known?.roles ?? []), ...invitation.roles])],
    since: known?.since ?? now,
    expires: now + lifeMs,
    revoked: false,
    secretHash: invitation.secretHash,
  })
}

function invitationTrouble(invitation: OpenInvitation | undefined, now: number): string | undefined {
  if (invitation === undefined) return 'The invitation is not known here: it was withdrawn, or is long expired.'
  if (invitation.expires <= now) return 'The invitation has expired.'
  if (invitation.usesLeft < 1) return 'The invitation is used up.'
  return undefined
}

/** A new certificate for a member. Throws AuthenticationFailed for a peer that is none, or was revoked. */
export function renew(registry: Registry, peer: string, now: number, lifeMs: number): Issued {
  const member = Object.hasOwn(registry.members, peer) ? registry.members[peer] : undefined
  if (member === undefined)
    throw refusal('This machine is not a member of the mesh. Join it with an invitation (`batchmesh invite` on the founder).')
  if (member.revoked) throw refusal('This machine was removed from the mesh: its certificate is not renewed.')
  return issued(registry, peer, { ...member, expires: Math.max(member.expires, now + lifeMs) })
}

/** The registry to persist, and what the certificate says. */
interface Issued {
  registry: Registry
  roles: readonly Role[]
  serial: number
  expires: number
}

/** Enters the founder itself, or any member whose roles are given outright. */
export function enter(registry: Registry, peer: string, name: string, held: readonly Role[], now: number, lifeMs: number): Issued {
  return issued(registry, peer, { name, roles: [...held], since: now, expires: now + lifeMs, revoked: false })
}

function issued(registry: Registry, peer: string, member: RegisteredMember): Issued {
  const serial = registry.serial + 1
  const next: Registry = { ...registry, serial, members: { ...registry.members, [peer]: member } }
  return { registry: next, roles: member.roles, serial, expires: member.expires }
}

/** Revokes a member and withdraws its invitation. Throws MachineNotFound for a peer that never was a member. */
export function revoke(registry: Registry, peer: string): Registry {
  const member = Object.hasOwn(registry.members, peer) ? registry.members[peer] : undefined
  if (member === undefined) throw new MeshError('MachineNotFound', `No machine with the peer id ${peer} was ever a member of this mesh.`)
  if (member.roles.includes('coordinator')) {
    throw new MeshError('InvalidPropertyValue', 'The founder cannot be revoked: it holds the root key of the mesh.')
  }
  const members = { ...registry.members, [peer]: { ...member, revoked: true } }
  const sameSecret = (hash: Uint8Array) => member.secretHash !== undefined && String(hash) === String(member.secretHash)
  const invitations = registry.invitations.filter((invitation) => !sameSecret(invitation.secretHash))
  return { ...registry, members, invitations, revocationsNumber: registry.revocationsNumber + 1 }
}

/** The list to sign: peers whose certificates could still be shown. */
export function revocations(registry: Registry, mesh: string, now: number): Revocations {
  const revoked = Object.entries(registry.members)
    .filter(([, member]) => member.revoked && member.expires > now)
    .map(([peer, member]) => ({ peer, until: member.expires }))
  return { mesh, number: registry.revocationsNumber, issuedAt: now, revoked }
}

function refusal(message: string): MeshError {
  return new MeshError('AuthenticationFailed', message)
}

/** Certificates that a mesh gives between two backups are fewer than this: 20,000 members renew for a century. */
export const serialJump = 1_000_000_000

/**
 * The registry of a restored founder. Serials pass over those that were given after the backup, because members keep the
 * certificate with the highest. Open invitations are withdrawn: how often they were used since is not known. Who was
 * revoked after the backup is learnt from the members ({@link mergeRevocations}).
 */
export function restoredRegistry(registry: Registry): Registry {
  return { ...registry, serial: registry.serial + serialJump, invitations: [] }
}

/**
 * Takes in a list that this founder signed but does not remember, because it was restored from an older backup: nobody on
 * it becomes a member again. Undefined when the registry is as new.
 */
export function mergeRevocations(registry: Registry, list: Pick<Revocations, 'number' | 'revoked'>): Registry | undefined {
  if (list.number <= registry.revocationsNumber) return undefined
  const members = { ...registry.members }
  for (const { peer, until } of list.revoked) {
    const known = Object.hasOwn(members, peer) ? members[peer]! : { name: '', roles: [], since: 0, expires: until }
    members[peer] = { ...known, expires: Math.max(known.expires, until), revoked: true }
  }
  return { ...registry, members, revocationsNumber: list.number + 1 }
}
