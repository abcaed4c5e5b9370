import { createPrivateKey, createPublicKey, sign, verify } from 'node:crypto'
import fc from 'fast-check'
import { base36 } from 'multiformats/bases/base36'
import { base58btc } from 'multiformats/bases/base58'
import { describe, expect, it } from 'vitest'
import { MeshError } from '../../protocols/errors.ts'
import {
  bytesToSign,
  type Certificate,
  certificateTrouble,
  decodeCertificate,
  decodeRevocations,
  decodeSigned,
  encodeCertificate,
  encodeRevocations,
  encodeSigned,
  inviteSchema,
  mayUse,
  renewalTime,
} from '../../protocols/membership.ts'
import { decodeToken, encodeToken, type Invitation, tokenAddresses } from '../../protocols/token.ts'
import { roles } from '../../protocols/wire.ts'

const certificate: Certificate = {
  mesh: 'k51mesh',
  peer: '12D3KooWNaHkSUDmWA2qDLHmPLtKFrJ5VN1wftwdeQMSrprQfTvH',
  roles: ['worker', 'submitter'],
  issuedAt: 1_700_000_000_000,
  expires: 1_700_086_400_000,
  serial: 7,
}
const at = { mesh: certificate.mesh, peer: certificate.peer, now: certificate.issuedAt + 1, revoked: new Set<string>() }

const invitation: Invitation = {
  mesh: 'k27gohcyncwkgru1cszydn1w1utp3f81w8503o74yzwlij42vni',
  founder: certificate.peer,
  addresses: ['/ip4/192.168.1.10/tcp/4001', '/dns/founder.example/tcp/4001'],
  secret: new Uint8Array(Array.from({ length: 16 }, (_, index) => index)),
  expires: 1_700_000_060_000,
}

const addressArbitrary = fc.oneof(
  fc.tuple(fc.ipV4(), fc.integer({ min: 1, max: 65_535 })).map(([host, port]) => `/ip4/${host}/tcp/${port}`),
  fc.tuple(fc.domain(), fc.integer({ min: 1, max: 65_535 })).map(([host, port]) => `/dns/${host}/tcp/${port}`),
  fc.integer({ min: 1, max: 65_535 }).map((port) => `/ip6/fd00::2/tcp/${port}`),
)

const certificateArbitrary: fc.Arbitrary<Certificate> = fc.record({
  mesh: fc.string({ minLength: 1, maxLength: 60 }),
  peer: fc.string({ minLength: 10, maxLength: 60 }),
  roles: fc.uniqueArray(fc.constantFrom(...roles), { minLength: 1 }),
  issuedAt: fc.nat(),
  expires: fc.integer({ min: 0, max: Number.MAX_SAFE_INTEGER }),
  serial: fc.integer({ min: 1, max: 1e9 }),
})

const invitationArbitrary: fc.Arbitrary<Invitation> = fc.record({
  mesh: fc.uint8Array({ minLength: 32, maxLength: 32 }).map((bytes) => base36.encode(bytes)),
  founder: fc.uint8Array({ minLength: 34, maxLength: 38 }).map((bytes) => base58btc.baseEncode(bytes)),
  addresses: fc.array(addressArbitrary, { maxLength: 8 }),
  secret: fc.uint8Array({ minLength: 16, maxLength: 16 }),
  expires: fc.nat().map((seconds) => seconds * 1000),
})

function messageOf(action: () => unknown): string {
  try {
    action()
  } catch (error) {
    if (error instanceof MeshError) return `${error.code}: ${error.message}`
    throw error
  }
  throw new Error('nothing was thrown')
}

describe('certificates', () => {
  it('come back from their bytes as they were', () => {
    fc.assert(
      fc.property(certificateArbitrary, (any) => {
        expect(decodeCertificate(encodeCertificate(any))).toEqual(any)
      }),
    )
  })

  it('have the same bytes for ever', () => {
    const bytes = encodeCertificate(certificate)
    expect(Buffer.from(bytes).toString('hex')).toMatchInlineSnapshot(
      `"a6646d657368676b35316d65736864706565727834313244334b6f6f574e61486b5355446d57413271444c486d504c744b46724a35564e31776674776465514d53727072516654764865726f6c65738266776f726b6572697375626d69747465726673657269616c0767657870697265731b0000018bd50bc4006869737375656441741b0000018bcfe56800"`,
    )
    // Ed25519 signatures are deterministic; the key is that of RFC 8032, test 1.
    const seed = Buffer.from('9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60', 'hex')
    const key = createPrivateKey({
      key: Buffer.concat([Buffer.from('302e020100300506032b657004220420', 'hex'), seed]),
      format: 'der',
      type: 'pkcs8',
    })
    const signature = Uint8Array.from(sign(null, bytesToSign('certificate', bytes), key))
    expect(Buffer.from(encodeSigned({ payload: bytes, signature })).toString('base64')).toMatchInlineSnapshot(
      `"omdwYXlsb2FkWIymZG1lc2hnazUxbWVzaGRwZWVyeDQxMkQzS29vV05hSGtTVURtV0EycURMSG1QTHRLRnJKNVZOMXdmdHdkZVFNU3JwclFmVHZIZXJvbGVzgmZ3b3JrZXJpc3VibWl0dGVyZnNlcmlhbAdnZXhwaXJlcxsAAAGL1QvEAGhpc3N1ZWRBdBsAAAGLz+VoAGlzaWduYXR1cmVYQCIjhdVHP1n2dl+62mmB/Gxc7h0XeGSmmN0j0iEIeVqK6R5GTzn1cK34p+M1Ki6QGRXvuNuW9k/RovmWXBtaZA8="`,
    )
    expect(verify(null, bytesToSign('certificate', bytes), createPublicKey(key), signature)).toBe(true)
  })

  it('are signed in another way than revocation lists: no signature passes for the other kind', () => {
    const payload = encodeCertificate(certificate)
    expect(bytesToSign('certificate', payload)).not.toEqual(bytesToSign('revocations', payload))
  })

  it('admit their own peer to their own mesh until they expire', () => {
    expect(certificateTrouble(certificate, at)).toBeUndefined()
    expect(certificateTrouble(certificate, { ...at, now: certificate.expires - 1 })).toBeUndefined()
    expect(certificateTrouble(certificate, { ...at, now: certificate.expires })).toContain('expired at 2023-11-15')
  })

  it('S1: do not admit another peer, to another mesh, or a revoked peer', () => {
    expect(certificateTrouble(certificate, { ...at, peer: 'another-peer' })).toContain('made out to another machine')
    expect(certificateTrouble(certificate, { ...at, mesh: 'another-mesh' })).toContain('for another mesh')
    expect(certificateTrouble(certificate, { ...at, revoked: new Set([certificate.peer]) })).toContain('removed from the mesh')
  })

  it('are renewed when a third of their life is left', () => {
    expect(renewalTime({ issuedAt: 0, expires: 24 })).toBe(16)
  })

  it('are undefined for bytes that are none, and never throw', () => {
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 400 }), (bytes) => {
        expect(decodeCertificate(bytes)).toBeUndefined()
        expect(decodeRevocations(bytes)).toBeUndefined()
        expect(decodeSigned(bytes)).toBeUndefined()
      }),
    )
    for (const wrong of [
      { ...certificate, roles: ['king'] },
      { ...certificate, roles: [] },
      { ...certificate, expires: -1 },
      { ...certificate, serial: 1.5 },
    ]) {
      expect(() => encodeCertificate(wrong as Certificate)).toThrow()
    }
    expect(decodeCertificate(new Uint8Array(5000))).toBeUndefined()
  })

  it('are undefined when cut off anywhere', () => {
    const bytes = encodeCertificate(certificate)
    for (let length = 0; length < bytes.length; length += 1) expect(decodeCertificate(bytes.subarray(0, length))).toBeUndefined()
  })
})

describe('revocation lists', () => {
  it('come back from their bytes as they were', () => {
    const entry = fc.record({ peer: fc.string({ minLength: 10, maxLength: 60 }), until: fc.nat() })
    const list = fc.record({
      mesh: fc.string({ minLength: 1, maxLength: 60 }),
      number: fc.nat(),
      issuedAt: fc.nat(),
      revoked: fc.array(entry),
    })
    fc.assert(
      fc.property(list, (any) => {
        expect(decodeRevocations(encodeRevocations(any))).toEqual(any)
      }),
    )
  })
})

describe('roles', () => {
  it('S1: give a service that requires one of several roles, or none in particular, and nothing else', () => {
    expect(mayUse(['worker'], [])).toBe(true)
    expect(mayUse(['worker'], ['admin', 'worker'])).toBe(true)
    expect(mayUse(['worker'], ['admin'])).toBe(false)
    expect(mayUse([], ['admin'])).toBe(false)
  })

  it('of an invitation are worker, submitter and admin: a second coordinator is refused with the reason', () => {
    const invite = { roles: ['worker', 'submitter', 'admin'], uses: 1, expiresMs: 1000 }
    expect(inviteSchema.safeParse(invite).success).toBe(true)
    const refused = inviteSchema.safeParse({ ...invite, roles: ['worker', 'coordinator'] })
    expect(refused.error?.issues[0]?.message).toContain('the coordinator is the founder')
    expect(inviteSchema.safeParse({ ...invite, roles: [] }).success).toBe(false)
    expect(inviteSchema.safeParse({ ...invite, uses: 0 }).success).toBe(false)
  })
})

describe('tokens', () => {
  it('come back from their text as they were', () => {
    fc.assert(
      fc.property(invitationArbitrary, (any) => {
        expect(decodeToken(encodeToken(any))).toEqual(any)
      }),
    )
  })

  it('have the same text for ever', () => {
    expect(encodeToken(invitation)).toMatchInlineSnapshot(
      `"bm1_2YHmqKHbTA5LCBSGZtYJbsPauharjfMiP6Q9LbMJBXQWxMVDvyKN4msH5gJG8t7kQUNBjaMJTa1R3TpPiaq6Tn3XBWfqbrqRaQCg4wG3yfm7CSQHxQBQrywwgfmAsy9CR7aAiFU3Q8Un6d5HfhYF4LV6P3wXY1RaSmme7aRZHHsHf6nBzEvUy"`,
    )
  })

  it('are short: at most eight addresses, without peer ids, and loopback only where there is nothing else', () => {
    const hosts = Array.from({ length: 10 }, (_, index) => `/ip4/10.0.0.${index}/tcp/4747`)
    const addresses = ['/ip4/127.0.0.1/tcp/4747', '/ip6/::1/tcp/4747', ...hosts].map((address) => `${address}/p2p/${certificate.peer}`)
    expect(tokenAddresses(addresses)).toEqual(hosts.slice(0, 8))
    expect(tokenAddresses(addresses.slice(0, 2))).toEqual(['/ip4/127.0.0.1/tcp/4747', '/ip6/::1/tcp/4747'])
    expect(encodeToken({ ...invitation, addresses: hosts.slice(0, 2) }).length).toBeLessThan(180)
  })

  it('consist of letters, digits and one underscore: a double click selects the whole', () => {
    fc.assert(
      fc.property(invitationArbitrary, (any) => {
        expect(encodeToken(any)).toMatch(/^bm1_[A-Za-z0-9]+$/)
      }),
    )
  })

  it('survive line breaks and spaces', () => {
    const token = encodeToken(invitation)
    expect(decodeToken(`  ${token.slice(0, 80)}\r\n${token.slice(80, 160)} \n\t${token.slice(160)}\n`)).toEqual(invitation)
  })

  it('are recognised as cut off or mistyped wherever it happens', () => {
    const token = encodeToken(invitation)
    for (let length = 5; length < token.length; length += 1) {
      expect(messageOf(() => decodeToken(token.slice(0, length)))).toBe(
        'InvalidPropertyValue: The invitation is cut off or mistyped: its checksum does not match. Copy the whole line that `batchmesh invite` printed.',
      )
    }
    for (let index = 4; index < token.length; index += 1) {
      const other = token[index] === 'x' ? 'y' : 'x'
      expect(messageOf(() => decodeToken(token.slice(0, index) + other + token.slice(index + 1)))).toContain('cut off or mistyped')
    }
  })

  it.each([
    ['', 'The invitation is empty'],
    ['   \n', 'The invitation is empty'],
    ['hello', 'it should begin with bm1_'],
    ['bm1_', 'cut off or mistyped'],
    ['bm1_0OIl', 'characters that no invitation has'],
    [`bm1_${'1'.repeat(9000)}`, 'too long'],
    ['bm2_abc', 'UnsupportedVersion: The invitation was made by a newer batchmesh'],
  ])('are refused with what is wrong: %j', (text, message) => {
    expect(messageOf(() => decodeToken(text))).toContain(message)
  })

  it('never throw anything but a clear refusal', () => {
    fc.assert(fc.property(fc.string({ maxLength: 200 }), (text) => void messageOf(() => decodeToken(`bm1_${text}`))))
  })
})
