/**
 * Invitation tokens: all that a machine needs to join a mesh, in one line that survives mail and chat.
 *
 * `bm1_` and the base58 of (dag-cbor of the invitation, then its CRC-32 in four bytes). Base58 has no character that a
 * terminal, a shell or a double click treats specially; the checksum tells a paste that was cut off from a wrong one.
 * Who holds a token can join: treat it as a password.
 */
import * as dagCbor from '@ipld/dag-cbor'
import { multiaddr } from '@multiformats/multiaddr'
import { base36 } from 'multiformats/bases/base36'
import { base58btc } from 'multiformats/bases/base58'
import { z } from 'zod'
import { bytesSchema } from './bytes.ts'
import { MeshError } from './errors.ts'
import type { PeerIdText } from './ids.ts'

const prefix = 'bm1_'

/** Base58 takes quadratic time; a real token has 150 to 400 characters. */
const maxTokenChars = 4096

/** 128 bits: cannot be guessed. */
export const secretBytes = 16

/** Of a founder with many interfaces; each costs the token 11 to 30 characters. */
const maxAddresses = 8

export interface Invitation {
  mesh: string
  /** Peer id of the founder, which admits. */
  founder: PeerIdText
  /** Where the founder can be dialled: multiaddrs without its peer id. */
  addresses: string[]
  secret: Uint8Array
  /** Ms since 1970, by the founder's clock; whole seconds. */
  expires: number
}

/** What a token holds, short: [mesh id, founder's peer id, its addresses, secret, expiry in seconds], ids and addresses in their binary forms. */
const bodySchema = z.tuple([
  bytesSchema.refine((mesh) => mesh.length === 32),
  bytesSchema.refine((founder) => founder.length > 8 && founder.length <= 64),
  z.array(bytesSchema.refine((address) => address.length <= 300)).max(64),
  bytesSchema.refine((secret) => secret.length === secretBytes),
  z
    .number()
    .int()
    .min(0)
    .max(Number.MAX_SAFE_INTEGER / 1000),
])

/** The addresses that go into a token: without the peer id, which it has already, and without loopback unless there is nothing else. */
export function tokenAddresses(addresses: readonly string[]): string[] {
  const plain = [...new Set(addresses.map((address) => address.replace(/\/p2p\/[^/]+$/, '')))]
  const elsewhere = plain.filter((address) => !/^\/(ip4\/127\.|ip6\/::1\/)/.test(address))
  return (elsewhere.length === 0 ? plain : elsewhere).slice(0, maxAddresses)
}

/** Throws when the ids or addresses are none. */
export function encodeToken(invitation: Invitation): string {
  const { mesh, founder, addresses, secret, expires } = invitation
  const body = dagCbor.encode(
    bodySchema.parse([
      base36.decode(mesh),
      base58btc.baseDecode(founder),
      addresses.map((address) => multiaddr(address).bytes),
      secret,
      Math.floor(expires / 1000),
    ]),
  )
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
  // The decoder passes over what is not ASCII.
  if (!/^[1-9A-HJ-NP-Za-km-z]*$/.test(text)) return undefined
  try {
    return base58btc.baseDecode(text)
  } catch {
    return undefined
  }
}

function decodeInvitation(body: Uint8Array): Invitation | undefined {
  try {
    const [mesh, founder, addresses, secret, seconds] = bodySchema.parse(dagCbor.decode(body))
    return {
      mesh: base36.encode(mesh),
      founder: base58btc.baseEncode(founder),
      addresses: addresses.map((address) => multiaddr(address).toString()),
      secret,
      expires: seconds * 1000,
    }
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
