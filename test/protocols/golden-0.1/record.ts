/**
 * Records what a version says on the wire: run with Node in a checkout of that version (this directory copied into it), with
 * the directory to write to. Every message of every conversation is made once, with all that may stand in it, as its own
 * schema describes it; what that version itself reads from the bytes is written down beside them, and so are its rules.
 */
import { writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { encode } from '../../../protocols/codec.ts'
import { MeshError } from '../../../protocols/errors.ts'
import { encodeCertificate, encodeRevocations, encodeSigned } from '../../../protocols/membership.ts'
import { encodeOffer } from '../../../protocols/offers.ts'
import { encodeAccepted, encodeOpening, encodeRefused } from '../../../protocols/opening.ts'
import { encodeToken } from '../../../protocols/token.ts'
import { bytes, kinds, peer, plain, rulesOf, sample } from './samples.ts'

const messages = kinds().map(({ id, schema, wrap }) => {
  const value = sample(schema)
  const parsed = schema.safeParse(value)
  if (!parsed.success) throw new Error(`${id}: ${JSON.stringify(value)}\n${JSON.stringify(parsed.error.issues)}`)
  return { id, frame: Buffer.from(encode(wrap(value))).toString('base64'), value: plain(parsed.data) }
})
const rules = Object.fromEntries(kinds().map(({ id, schema }) => [id, rulesOf(schema)]))

const hex = (data: Uint8Array) => Buffer.from(data).toString('base64')
const mesh = 'k27gohcyncwkgru1cszydn1w1utp3f81w8503o74yzwlij42vni'
const certificate = {
  mesh,
  peer,
  roles: ['worker' as const, 'submitter' as const],
  issuedAt: 1_700_000_000_000,
  expires: 1_700_086_400_000,
  serial: 7,
}
const revocations = { mesh, number: 4, issuedAt: 1_700_000_000_000, revoked: [{ peer, until: 1_700_086_400_000 }] }
const invitation = {
  mesh,
  founder: peer,
  addresses: ['/ip4/192.168.1.10/tcp/4747'],
  secret: bytes.slice(0, 16),
  expires: 1_700_000_060_000,
}
const offer = { poolId: 'default', pending: 12, ownerEpoch: 3 }
const single = {
  certificate: { value: certificate, bytes: hex(encodeCertificate(certificate)) },
  revocations: { value: revocations, bytes: hex(encodeRevocations(revocations)) },
  signed: { value: plain({ payload: bytes, signature: bytes }), bytes: hex(encodeSigned({ payload: bytes, signature: bytes })) },
  token: { value: plain(invitation), text: encodeToken(invitation) },
  offer: { value: offer, bytes: hex(encodeOffer(offer)) },
  opening: { value: '/batchmesh/local/1', bytes: hex(encodeOpening('/batchmesh/local/1')) },
  accepted: { bytes: hex(encodeAccepted()) },
  refused: {
    value: { code: 'JobNotFound', message: 'There is no job x.' },
    bytes: hex(encodeRefused(new MeshError('JobNotFound', 'There is no job x.'))),
  },
}

const directory = process.argv[2]!
writeFileSync(join(directory, 'messages.json'), `${JSON.stringify(messages, null, 1)}\n`)
writeFileSync(join(directory, 'rules.json'), `${JSON.stringify(rules)}\n`)
writeFileSync(join(directory, 'single.json'), `${JSON.stringify(single, null, 1)}\n`)
