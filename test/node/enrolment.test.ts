import { readdir, readFile, rm, stat, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { generateKeyPair } from '@libp2p/crypto/keys'
import { peerIdFromPrivateKey } from '@libp2p/peer-id'
import { afterEach, describe, expect, it } from 'vitest'
import { enrol } from '../../node/enrol.ts'
import { found, identityDir, load, machineKey } from '../../node/identity.ts'
import { Membership } from '../../node/membership.ts'
import { MeshError } from '../../protocols/errors.ts'
import { decodeToken, encodeToken } from '../../protocols/token.ts'
import type { Service } from '../../protocols/wire.ts'
import { connection, TestMesh, temporaryDir } from '../contracts/mesh-fixture.ts'

const dirs: string[] = []
const meshes: TestMesh[] = []

afterEach(async () => {
  for (const mesh of meshes.splice(0)) await mesh.stop()
  for (const dir of dirs.splice(0)) await rm(dir, { recursive: true, force: true })
})

async function dir(): Promise<string> {
  const made = await temporaryDir()
  dirs.push(made)
  return made
}

async function start(options: Parameters<typeof TestMesh.start>[0] = {}): Promise<TestMesh> {
  const mesh = await TestMesh.start(options)
  meshes.push(mesh)
  return mesh
}

async function refusal(promise: Promise<unknown>): Promise<string> {
  const error = await promise.then(
    () => undefined,
    (thrown: unknown) => thrown,
  )
  if (!(error instanceof MeshError)) throw new Error(`expected a refusal, got ${String(error)}`)
  return `${error.code}: ${error.message}`
}

describe('enrolment', () => {
  it('gives a certificate with the roles of the invitation, and no others', async () => {
    const mesh = await start()
    const { membership } = await mesh.join({ roles: ['worker', 'admin'] })
    expect(membership.mesh).toBe(mesh.founder.membership.mesh)
    expect(membership.founderPeer).toBe(mesh.founder.host.peer)
    expect(membership.certificate).toMatchObject({ peer: membership.peer, roles: ['worker', 'admin'] })
    expect(membership.certificate.expires - membership.certificate.issuedAt).toBe(24 * 60 * 60_000)
  })

  it('refuses an invitation that is used up, and says so', async () => {
    const mesh = await start()
    const token = await mesh.token(['worker'], 2)
    await enrol(await dir(), token)
    await enrol(await dir(), token)
    expect(await refusal(enrol(await dir(), token))).toContain('AuthenticationFailed: The invitation is used up')
  })

  it('L4: costs the same machine one use, however often it asks', async () => {
    const mesh = await start()
    const token = await mesh.token(['worker'], 1)
    const dataDir = await dir()
    const first = await enrol(dataDir, token)
    const again = await enrol(dataDir, token)
    expect(again.peer).toBe(first.peer)
  })

  it('starts a member again with its old token, also when that is used up or the founder is away', async () => {
    const mesh = await start()
    const token = await mesh.token(['worker'], 1)
    const dataDir = await dir()
    const { peer, record } = await enrol(dataDir, token)
    const expired = encodeToken({ ...decodeToken(token), expires: 1000 })
    expect((await enrol(dataDir, expired)).record).toEqual(record)
    const withdrawn = encodeToken({ ...decodeToken(token), secret: new Uint8Array(16) })
    expect((await enrol(dataDir, withdrawn)).peer).toBe(peer)
    await mesh.founder.host.stop()
    expect((await enrol(dataDir, token)).peer).toBe(peer)
  })

  it('gives a member that comes with a further invitation the roles of both', async () => {
    const mesh = await start()
    const dataDir = await dir()
    await enrol(dataDir, await mesh.token(['worker']))
    const membership = await Membership.open(await enrol(dataDir, await mesh.token(['admin'])))
    expect(membership.certificate.roles).toEqual(['worker', 'admin'])
  })

  it('L5: counts a use before it gives the certificate: also a founder that restarts knows it is used up', async () => {
    const mesh = await start()
    const token = await mesh.token(['worker'], 1)
    await enrol(await dir(), token)
    const { registry } = (await load(mesh.founder.dataDir))!.founder!
    expect(registry.invitations.map((invitation) => invitation.usesLeft)).toEqual([0])
    expect(Object.keys(registry.members).length).toBe(2)
  })

  it('counts uses right when many machines come at once', async () => {
    const mesh = await start()
    const token = await mesh.token(['worker'], 3)
    const results = await Promise.allSettled(
      await Promise.all(Array.from({ length: 6 }, dir)).then((all) => all.map((each) => enrol(each, token))),
    )
    expect(results.filter((result) => result.status === 'fulfilled').length).toBe(3)
  })

  it('refuses an expired invitation: the newcomer by its own clock, the founder by its own', async () => {
    let now = Date.now()
    const mesh = await start({ now: () => now })
    const token = await mesh.token()
    const invitation = decodeToken(token)
    now += 61_000
    expect(await refusal(enrol(await dir(), token))).toContain('AuthenticationFailed: The invitation has expired')
    expect(await refusal(enrol(await dir(), encodeToken({ ...invitation, expires: 1000 })))).toContain(
      'InvalidPropertyValue: The invitation expired at 1970',
    )
  })

  it('leaves nothing behind when it is refused, or finds nobody', async () => {
    const mesh = await start()
    const invitation = decodeToken(await mesh.token())
    const nobody = encodeToken({ ...invitation, addresses: ['/ip4/127.0.0.1/tcp/1'] })
    for (const token of [encodeToken({ ...invitation, secret: new Uint8Array(16) }), nobody]) {
      const dataDir = await dir()
      await refusal(enrol(dataDir, token))
      expect(await readdir(dataDir)).toEqual([])
    }
  })

  it('refuses a wrong secret, and after five of them any from that machine for a minute', async () => {
    let now = Date.now()
    const mesh = await start({ now: () => now })
    const token = await mesh.token()
    const invitation = decodeToken(token)
    const wrong = encodeToken({ ...invitation, secret: new Uint8Array(16) })
    const dataDir = await dir()
    // A key that the machine had before stays; one made for a refused invitation does not.
    await machineKey(dataDir)
    for (let attempt = 0; attempt < 5; attempt += 1) {
      expect(await refusal(enrol(dataDir, wrong))).toContain('AuthenticationFailed: The invitation is not known here')
    }
    expect(await refusal(enrol(dataDir, token))).toContain('ServerBusy: Too many wrong invitations')
    await enrol(await dir(), await mesh.token())
    now += 60_001
    await enrol(dataDir, await mesh.token())
  })

  it('does not keep a secret where the registry could give it away', async () => {
    const mesh = await start()
    const { secret } = decodeToken(await mesh.token())
    const registry = await readFile(join(identityDir(mesh.founder.dataDir), 'registry'))
    expect(registry.includes(Buffer.from(secret))).toBe(false)
  })

  it('S1: does not take a founder whose key is not that of the token', async () => {
    const mesh = await start()
    const other = await start()
    const invitation = decodeToken(await mesh.token())
    const lured = encodeToken({
      ...invitation,
      addresses: other.founder.host.addresses().map((address) => address.replace(/\/p2p\/.*/, '')),
    })
    expect(await refusal(enrol(await dir(), lured))).toContain('Unreachable')
  })

  it('S1: does not join a mesh whose root key is not the one that the token names', async () => {
    const mesh = await start()
    const other = await start()
    const invitation = decodeToken(await mesh.token())
    const renamed = encodeToken({ ...invitation, mesh: other.founder.membership.mesh })
    const dataDir = await dir()
    expect(await refusal(enrol(dataDir, renamed))).toContain('AuthenticationFailed')
    expect(await load(dataDir)).toBeUndefined()
  })

  it('says which addresses it tried when nobody answers', async () => {
    const mesh = await start()
    const invitation = decodeToken(await mesh.token())
    await mesh.founder.host.stop()
    const error = await refusal(enrol(await dir(), encodeToken(invitation)))
    expect(error).toContain('Unreachable: The founder of the mesh answers at none of its addresses (/ip4/127.0.0.1/tcp/')
  })

  it('does not mix meshes in one data directory', async () => {
    const mesh = await start()
    const other = await start()
    const dataDir = await dir()
    await enrol(dataDir, await mesh.token())
    expect(await refusal(enrol(dataDir, await other.token()))).toContain('belongs to the mesh')
    expect(await refusal(found(dataDir))).toContain('belongs to a mesh already')
  })

  it('S1: never admits a revoked machine again, and withdraws the invitation that it came by', async () => {
    const mesh = await start()
    const token = await mesh.token(['worker'], 5)
    const dataDir = await dir()
    const { peer } = await enrol(dataDir, token)
    await mesh.founder.service.revoke(peer)
    expect(await refusal(enrol(dataDir, await mesh.token()))).toContain('removed from the mesh')
    expect(await refusal(enrol(await dir(), token))).toContain('The invitation is not known here')
  })
})

describe('administration', () => {
  it('is passed on to the founder from an admin, and refused to others', async () => {
    const mesh = await start()
    const admin = await mesh.join({ roles: ['admin'] })
    const worker = await mesh.join({ roles: ['worker'] })
    const { token } = await admin.service.invite({ roles: ['worker'], expiresMs: 60_000, uses: 1 })
    await enrol(await dir(), token)
    expect(await refusal(worker.service.invite({ roles: ['worker'], expiresMs: 60_000, uses: 1 }))).toContain('InsufficientPermissions')
    expect(await refusal(worker.service.revoke(admin.host.peer))).toContain('InsufficientPermissions')
    const members = await admin.service.members()
    expect(members.length).toBe(4)
    const gone = connection(mesh.founder.host, worker.host.peer, 'disconnected')
    await admin.service.revoke(worker.host.peer)
    await gone
    expect((await admin.service.members()).find((member) => member.peer === worker.host.peer)?.revoked).toBe(true)
  })

  it('refuses to revoke the founder or a machine that never was a member', async () => {
    const mesh = await start()
    expect(await refusal(mesh.founder.service.revoke(mesh.founder.host.peer))).toContain('The founder cannot be revoked')
    const stranger = peerIdFromPrivateKey(await generateKeyPair('Ed25519')).toString()
    expect(await refusal(mesh.founder.service.revoke(stranger))).toContain('MachineNotFound')
  })

  it('says that it needs the founder when the founder is away, while members go on among themselves', async () => {
    const mesh = await start()
    const admin = await mesh.join({ roles: ['admin'] })
    const worker = await mesh.join({ roles: ['worker'] })
    await mesh.founder.host.stop()
    expect(await refusal(admin.service.invite({ roles: ['worker'], expiresMs: 1000, uses: 1 }))).toContain(
      'Unreachable: Only the founder of the mesh can do this',
    )
    const service: Service = { protocol: '/test/1', requires: ['admin'], maxFrameBytes: 100 }
    worker.host.serve(service, () => {})
    admin.host.learn(worker.host.peer, worker.host.addresses())
    await admin.host.open(worker.host.peer, service)
  })
})

describe('a revocation', () => {
  it('S1: that a crash kept from being published is published at the next start', async () => {
    const mesh = await start()
    const victim = await mesh.join()
    const { dataDir, membership } = mesh.founder
    // On the disk is the registry; what is to follow it never comes.
    await membership.founder!.revoke(victim.membership.peer)
    expect(membership.isRevoked(victim.membership.peer)).toBe(false)
    const again = await Membership.open((await load(dataDir))!)
    expect(again.isRevoked(victim.membership.peer)).toBe(true)
    expect(again.revocationsNumber).toBe(1)
    // Durably, and once.
    const { signedRevocations } = await Membership.open((await load(dataDir))!)
    expect(Buffer.from(again.signedRevocations!).equals(signedRevocations!)).toBe(true)
  })
})

describe('the identity on disk', () => {
  it('is readable by its owner only', async () => {
    const dataDir = await dir()
    await found(dataDir)
    const at = identityDir(dataDir)
    expect((await stat(at)).mode & 0o777).toBe(0o700)
    const names = (await readdir(at)).sort()
    expect(names).toEqual(['key', 'membership', 'registry', 'revocations', 'root-key'])
    for (const name of names) expect((await stat(join(at, name))).mode & 0o777).toBe(0o600)
  })

  it('comes back as it was', async () => {
    const dataDir = await dir()
    const before = await found(dataDir)
    const after = (await load(dataDir))!
    expect(after.peer).toBe(before.peer)
    expect(after.record).toEqual(before.record)
    expect((await machineKey(dataDir)).peer).toBe(before.peer)
  })

  it('is an error that names the file when a bit of it is flipped or it is cut off, never a new identity', async () => {
    const dataDir = await dir()
    const { peer } = await found(dataDir)
    const at = identityDir(dataDir)
    for (const name of await readdir(at)) {
      const path = join(at, name)
      const whole = await readFile(path)
      const flipped = Uint8Array.from(whole)
      flipped[flipped.length - 40]! ^= 1
      for (const damaged of [flipped, whole.subarray(0, whole.length / 2), new Uint8Array(0)]) {
        await writeFile(path, damaged)
        const error = await refusal(load(dataDir))
        expect(error).toContain(`InternalError: The file ${path} is damaged`)
      }
      await writeFile(path, whole)
    }
    expect((await load(dataDir))!.peer).toBe(peer)
  })

  it('is an error when the key or the root key is gone, never a new identity', async () => {
    for (const name of ['key', 'root-key', 'registry']) {
      const dataDir = await dir()
      await found(dataDir)
      await rm(join(identityDir(dataDir), name))
      expect(await refusal(load(dataDir))).toContain(`The file ${name} is missing`)
    }
  })
})
