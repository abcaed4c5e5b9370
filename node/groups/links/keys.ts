/** Keys between two members, made from the key of the group (HKDF, RFC 5869): the handshake proves both ranks to both. */
import { hkdfSync } from 'node:crypto'

/** Bytes of the group's key, and of those made from it: AES-128 takes no more strength from more. */
export const groupKeyBytes = 32
const pairKeyBytes = 16

/** The key is new for each group and came over a connection with forward secrecy, so a plain PSK suite gives nothing away. PSK suites need TLS 1.2 in Node. */
export const suite = { ciphers: 'PSK-AES128-GCM-SHA256', minVersion: 'TLSv1.2', maxVersion: 'TLSv1.2' } as const

function derive(key: Uint8Array, info: string, bytes: number): Uint8Array {
  return new Uint8Array(hkdfSync('sha256', key, 'batchmesh group', info, bytes))
}

/** What the group is called where strangers can read it. */
export function groupNameOf(key: Uint8Array): string {
  return Buffer.from(derive(key, 'name', 8)).toString('hex')
}

/** Of the connection that one member dials to another; the other way round it has another one. */
export function pairKeyOf(key: Uint8Array, dialled: { from: number; to: number }): Uint8Array {
  return derive(key, `from ${dialled.from} to ${dialled.to}`, pairKeyBytes)
}

/** The PSK identity of that connection. */
export function identityOf(group: string, { from, to }: { from: number; to: number }): string {
  return `${group} ${from} ${to}`
}

/** Who dials, of those that may dial `to`; undefined for a stranger, or a member of another group. */
export function dialerOf(identity: string, group: string, to: number, size: number): number | undefined {
  const words = identity.split(' ')
  const from = Number(words[1])
  const isMember = Number.isInteger(from) && from >= 0 && from < size && from !== to
  return isMember && identity === identityOf(group, { from, to }) ? from : undefined
}
