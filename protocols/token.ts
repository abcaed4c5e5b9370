/**
 * Invitation tokens: all that a machine needs to join a mesh, in one line that survives mail and chat.
 *
 * `bm1_` and the base58 of (dag-cbor of the invitation, then its CRC-32 in four bytes). Base58 has no character that a
 * terminal, a shell or a double click treats specially; the checksum tells a paste that was cut off from a wrong one.
 * Who holds a token can join: treat it as a password.
 */
import * as dagCbor from '@ipld/dag-cbor'
import { base58btc } from 'multiformats/bases/base58'
import { z } from 'zod'
import { bytesSchema } from './bytes.ts'
import { MeshError } from './errors.ts'
import { peerIdSchema } from './ids.ts'

const prefix = 'bm1_'

/** Base58 takes quadratic time; a real token has 300 to 1,500 characters. */
const maxTokenChars = 8192

/** 128 bits: cannot be guessed. */
export const secretBytes = 16

const invitationSchema = z.object({
  mesh: z.string().min(1).max(128),
  /** Peer id of the founder, which admits. */
  founder: peerIdSchema,
  /** Where the founder can be dialled. */
  addresses: z.array(z.string().max(512)).max(64),
  secret: bytesSchema.refine((secret) => secret.length === secretBytes),
  /** Ms since 1970, by the founder's clock. */
  expires: z.number().int().min(0),
})
export type Invitation = z.infer<typeof invitationSchema>

export function encodeToken(invitation: Invitation): string {
  const body = dagCbor.encode(invitationSchema.parse(invitation))
  const whole = new Uint8Array(body.length + 4)
  whole.set(body)
  new DataView(whole.buffer).setUint32(body.length, crc32(body))
  return prefix + base58btc.baseEncode(whole)
}

/** The invitation in a token. White space, as from a line break of a terminal, does not matter. Throws InvalidPropertyValue with a sentence that says what is wrong. */
export function decodeToken(text: string): Invitation {
  const token = text.replace(/\s+/g, '')
  if (token === '') throw bad('The invitation is empty')
  if (!token.startsWith(prefix)) {
    if (/^bm\d+_/.test(token))
      throw new MeshError('UnsupportedVersion', 'The invitation was made by a newer batchmesh; update this machine.')
    throw bad(`This is not an invitation: it should begin with ${prefix}`)
  }
  if (token.length > maxTokenChars) throw bad(`The invitation is too long (${token.length} characters)`)
  const bytes = decodeBase58(token.slice(prefix.length))
  if (bytes === undefined) throw bad('The invitation contains characters that no invitation has')
  const body = bytes.subarray(0, Math.max(0, bytes.length - 4))
  if (bytes.length < 5 || new DataView(bytes.buffer, bytes.byteOffset).getUint32(body.length) !== crc32(body)) {
    throw bad('The invitation is cut off or mistyped: its checksum does not match')
  }
  const invitation = decodeInvitation(body)
  if (invitation === undefined) throw bad('The invitation cannot be read')
  return invitation
}

function decodeBase58(text: string): Uint8Array | undefined {
  try {
    return base58btc.baseDecode(text)
  } catch {
    return undefined
  }
}

function decodeInvitation(body: Uint8Array): Invitation | undefined {
  try {
    return invitationSchema.safeParse(dagCbor.decode(body)).data
  } catch {
    return undefined
  }
}

function bad(what: string): MeshError {
  return new MeshError('InvalidPropertyValue', `${what}. Copy the whole line that \`batchmesh invite\` printed.`)
}

/** CRC-32 (ISO 3309), bit by bit: a token is short. */
function crc32(bytes: Uint8Array): number {
  let crc = 0xffffffff
  for (const byte of bytes) {
    crc ^= byte
    for (let bit = 0; bit < 8; bit += 1) crc = (crc >>> 1) ^ (crc & 1 ? 0xedb88320 : 0)
  }
  return (crc ^ 0xffffffff) >>> 0
}
