/**
 * Membership: who belongs to a mesh, what they may do, and how they come and go.
 *
 * Participants: the *founder*, the machine that made the mesh and alone holds its root key; *members*, each with a
 * certificate that the root key signed; and strangers, who get nothing but the enrolment conversation.
 *
 * A mesh is named by the hash of its root public key, so the name itself proves the key. A certificate says that a peer
 * (named by its own key) has certain roles until a time. libp2p proves at each connection who holds the peer's key; the
 * certificate proves the rest.
 *
 * - **Invitation.** The founder makes a secret with roles, a number of uses and an end, and prints it in a token
 *   (protocols/token.ts) with the mesh's name, its own peer id and its addresses.
 * - **Enrolment** (`/batchmesh/enrol/1`, open to anyone). The newcomer dials the founder's peer id: the handshake proves
 *   that it is the founder. It shows the secret; the founder counts the use, durably, and only then hands out the root
 *   public key and a certificate. The newcomer checks that the key's hash is the mesh's name in its token and that the
 *   key signed the certificate. A repetition by the same peer costs no second use.
 * - **Renewal** (same protocol). Certificates live a day; each member asks for a new one when a third of the life is left.
 *   No secret is needed: the founder knows whom it admitted, and gives no certificate to whom it revoked. A machine that
 *   was away for longer than a day renews with an expired certificate when it is back. One whose certificate has expired
 *   by the clock of another member, which clocks that were set can bring about, renews it when it hears of it. Who asks
 *   again within a minute is given the same certificate.
 * - **Greeting** (`/batchmesh/hello/1`, once a connection, by the side that dialled). Both sides show their certificates
 *   and the number of their revocation list; whoever has the newer list hands it over. The conversation stays open:
 *   renewed certificates and new revocation lists are pushed through it.
 * - **Revocation.** The list of revoked peers is signed by the root key and numbered; the higher number wins, for ever.
 *   Whoever takes in a newer list ends its connections to the peers on it and passes the list on. A revoked peer id is
 *   never admitted again, and the invitation that it came by is withdrawn, because the secret is in the wrong hands.
 *
 * Promised (S1): nothing is served or told to a peer that has not shown a certificate of this mesh, signed by its root
 * key, made out to its own peer id, not expired and not revoked as far as this machine has heard. Not promised: that a
 * revocation is heard at once by a machine that is cut off; it ends at the latest with the certificate.
 *
 * While the founder is away, members with unexpired certificates go on as before. Nobody can be invited, admitted,
 * renewed or revoked: a mesh whose founder stays away for longer than a certificate's life comes to a halt, and goes on
 * when it is back. The root key is in the founder's identity directory: back it up.
 */

import * as dagCbor from '@ipld/dag-cbor'
import { z } from 'zod'
import { bytesSchema, bytesUpTo } from './bytes.ts'
import { MeshError } from './errors.ts'
import { peerIdSchema } from './ids.ts'
import { defineProtocol } from './rpc.ts'
import { type Role, roles } from './wire.ts'

/** Life of a certificate: the time after which a lost or stolen machine that nobody could tell of its revocation is out. */
export const certificateLifeMs = 24 * 60 * 60_000

/** Share of the life that is left when renewal begins: eight hours of a day, a night in which the founder may be off. */
export const renewalShare = 1 / 3

/** Larger ones are refused unread: a certificate has about 300 bytes. */
export const maxCertificateBytes = 4096

/** Larger ones are refused unread: about 15,000 peers revoked within one certificate's life. */
export const maxRevocationsBytes = 1 << 20

export const certificateSchema = z.object({
  /** The mesh: see `meshIdSchema`. */
  mesh: z.string().min(1).max(128),
  peer: peerIdSchema,
  roles: z.array(z.enum(roles)).min(1).max(roles.length),
  /** By the founder's clock, ms since 1970. */
  issuedAt: z.number().int().min(0),
  expires: z.number().int().min(0),
  /** Counts the founder's certificates. */
  serial: z.number().int().min(1),
})
export type Certificate = z.infer<typeof certificateSchema>

export const revocationsSchema = z.object({
  mesh: z.string().min(1).max(128),
  /** The higher number wins. */
  number: z.number().int().min(0),
  issuedAt: z.number().int().min(0),
  /** `until`: when the last certificate of this peer ends; the entry can be dropped then. */
  revoked: z.array(z.object({ peer: peerIdSchema, until: z.number().int().min(0) })).max(20_000),
})
export type Revocations = z.infer<typeof revocationsSchema>

const signedSchema = z.object({ payload: bytesSchema, signature: bytesSchema })

/** Something that the root key has signed: the bytes as they were signed. */
export type Signed = z.infer<typeof signedSchema>

/** What a signature is about: no signature of one kind passes as another. */
export type SignedKind = 'certificate' | 'revocations'

/** The bytes that the root key signs. */
export function bytesToSign(kind: SignedKind, payload: Uint8Array): Uint8Array {
  const prefix = new TextEncoder().encode(`batchmesh ${kind} 1\n`)
  const whole = new Uint8Array(prefix.length + payload.length)
  whole.set(prefix)
  whole.set(payload, prefix.length)
  return whole
}

export function encodeSigned(signed: Signed): Uint8Array {
  return dagCbor.encode({ payload: signed.payload, signature: signed.signature })
}

/** Undefined for bytes that are no such thing. */
export function decodeSigned(bytes: Uint8Array): Signed | undefined {
  return decodeAs(signedSchema, bytes)
}

export function encodeCertificate(certificate: Certificate): Uint8Array {
  return dagCbor.encode(certificateSchema.parse(certificate))
}

/** Undefined for bytes that are no certificate. The signature must have been checked. */
export function decodeCertificate(payload: Uint8Array): Certificate | undefined {
  return payload.length > maxCertificateBytes ? undefined : decodeAs(certificateSchema, payload)
}

export function encodeRevocations(revocations: Revocations): Uint8Array {
  return dagCbor.encode(revocationsSchema.parse(revocations))
}

/** Undefined for bytes that are no revocation list. The signature must have been checked. */
export function decodeRevocations(payload: Uint8Array): Revocations | undefined {
  return payload.length > maxRevocationsBytes ? undefined : decodeAs(revocationsSchema, payload)
}

function decodeAs<T>(schema: z.ZodType<T>, bytes: Uint8Array): T | undefined {
  try {
    return schema.safeParse(dagCbor.decode(bytes)).data
  } catch {
    return undefined
  }
}

/** Why a certificate does not admit this peer now, as a sentence; undefined when it does. The signature must have been checked. */
export function certificateTrouble(
  certificate: Certificate,
  at: { mesh: string; peer: string; now: number; revoked: ReadonlySet<string> },
): string | undefined {
  if (certificate.mesh !== at.mesh) return `The membership certificate is for another mesh (${certificate.mesh}); this is ${at.mesh}.`
  if (certificate.peer !== at.peer) return `The membership certificate is made out to another machine (${certificate.peer}).`
  if (at.revoked.has(certificate.peer)) return `${removed}: its membership certificate is revoked.`
  if (certificate.expires <= at.now) {
    return `${expired} at ${isoTime(certificate.expires)}, and it is ${isoTime(at.now)} here. It renews itself when the machine reaches the founder; check the clocks if it does not.`
  }
  return undefined
}

const removed = 'This machine was removed from the mesh'
const expired = 'The membership certificate expired'

/** Whether a refusal says that this machine was revoked, which holds for ever; what else is wrong with a certificate may pass. */
export function isRemoval(error: unknown): boolean {
  return error instanceof MeshError && error.code === 'AuthenticationFailed' && error.message.startsWith(removed)
}

/** Whether a refusal says that this machine's certificate has expired, by the other's clock. */
export function isExpiry(error: unknown): boolean {
  return error instanceof MeshError && error.code === 'AuthenticationFailed' && error.message.startsWith(expired)
}

function isoTime(ms: number): string {
  return ms > 8.64e15 ? String(ms) : new Date(ms).toISOString()
}

/** When a certificate is to be renewed. */
export function renewalTime(certificate: Pick<Certificate, 'issuedAt' | 'expires'>): number {
  return certificate.expires - (certificate.expires - certificate.issuedAt) * renewalShare
}

/** Whether the remote may use a service that requires these roles (empty: any member). */
export function mayUse(held: readonly Role[], required: readonly Role[]): boolean {
  return required.length === 0 || required.some((role) => held.includes(role))
}

/** Roles that an invitation may give. A second coordinator is refused: a mesh has one active coordinator for now, its founder. */
export const invitableRoles = ['worker', 'submitter', 'admin'] as const satisfies readonly Role[]
export type InvitableRole = (typeof invitableRoles)[number]

export const founderRoles: readonly Role[] = ['worker', 'coordinator', 'submitter', 'admin']

const certificateBytes = bytesUpTo(maxCertificateBytes)
const revocationsBytes = bytesUpTo(maxRevocationsBytes)
const nothing = z.object({})

/** Where the sender can be dialled; a hint. */
const addressesSchema = z.array(z.string().max(512)).max(64)

const pushed = {
  /** The sender's certificate was renewed. */
  certificate: z.object({ certificate: certificateBytes }),
  /** The sender has a newer list. */
  revocations: z.object({ revocations: revocationsBytes }),
}

export const helloProtocol = defineProtocol({
  protocol: '/batchmesh/hello/1',
  requires: 'anyone',
  maxFrameBytes: maxRevocationsBytes + 64 * 1024,
  maxInFlight: 4,
  timeoutMs: 10_000,
  server: {
    calls: {
      /** Refused with AuthenticationFailed unless the certificate holds; only then the server shows its own. */
      hello: {
        request: z.object({
          certificate: certificateBytes,
          revocationsNumber: z.number().int().min(0),
          addresses: addressesSchema.default([]),
          /** The client's clock, ms since 1970: a server whose certificate has expired by it renews that. */
          time: z.number().int().min(0).optional(),
        }),
        answer: z.object({
          certificate: certificateBytes,
          revocationsNumber: z.number().int().min(0),
          /** Only when it is newer than the client's. */
          revocations: revocationsBytes.optional(),
          addresses: addressesSchema.default([]),
        }),
      },
    },
    notes: pushed,
  },
  client: { calls: {}, notes: pushed },
})

export const enrolProtocol = defineProtocol({
  protocol: '/batchmesh/enrol/1',
  requires: 'anyone',
  // A certificate, a key and a secret: nobody without a certificate can make this machine hold more.
  maxFrameBytes: 16 * 1024,
  maxInFlight: 2,
  timeoutMs: 20_000,
  server: {
    calls: {
      enrol: {
        request: z.object({ mesh: z.string().max(128), secret: bytesSchema, name: z.string().max(255).default('') }),
        answer: z.object({ rootPublicKey: bytesSchema, certificate: certificateBytes }),
      },
      renew: { request: z.object({ mesh: z.string().max(128) }), answer: z.object({ certificate: certificateBytes }) },
    },
    notes: {},
  },
  client: { calls: {}, notes: {} },
})

export const memberSchema = z.object({
  peer: peerIdSchema,
  name: z.string(),
  roles: z.array(z.enum(roles)),
  /** When it was admitted. */
  since: z.number(),
  /** When its newest certificate ends. */
  expires: z.number(),
  revoked: z.boolean(),
})
export type Member = z.infer<typeof memberSchema>

export const inviteSchema = z.object({
  roles: z
    .array(
      z.enum(invitableRoles, {
        error: `an invitation can give the roles ${invitableRoles.join(', ')}; the coordinator is the founder, and a mesh has one for now`,
      }),
    )
    .min(1),
  /** How long the invitation holds. */
  expiresMs: z
    .number()
    .int()
    .positive()
    .max(366 * 24 * 60 * 60_000),
  uses: z.number().int().min(1).max(100_000),
})
export type Invite = z.infer<typeof inviteSchema>

/** Asked of the founder by admins. */
export const membershipProtocol = defineProtocol({
  protocol: '/batchmesh/membership/1',
  requires: ['admin'],
  maxFrameBytes: 4 << 20,
  maxInFlight: 8,
  timeoutMs: 20_000,
  server: {
    calls: {
      invite: { request: inviteSchema, answer: z.object({ token: z.string(), expires: z.number() }) },
      /** Answers once the new revocation list is durable at the founder. */
      revoke: { request: z.object({ peer: peerIdSchema }), answer: nothing },
      members: { request: nothing, answer: z.object({ members: z.array(memberSchema).max(20_000) }) },
    },
    notes: {},
  },
  client: { calls: {}, notes: {} },
})
