/** Certificates that are renewed: in time, whatever the clocks do, and no more often than needed. */
import { readFile, rm } from 'node:fs/promises'
import { join } from 'node:path'
import { afterEach, describe, expect, it, vi } from 'vitest'
import { enrol } from '../../node/enrol.ts'
import { identityDir, load } from '../../node/identity.ts'
import { Membership } from '../../node/membership.ts'
import type { Service } from '../../protocols/wire.ts'
import { connection, TestMesh, temporaryDir } from '../contracts/mesh-fixture.ts'

const hourMs = 60 * 60_000

const dirs: string[] = []
const meshes: TestMesh[] = []

afterEach(async () => {
  vi.useRealTimers()
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

describe('renewal', () => {
  it('happens by itself when a third of the life is left, without a break for its peers', async () => {
    const mesh = await start({ lifeMs: 3000 })
    const { membership, host } = await mesh.join()
    const before = membership.certificate
    const service: Service = { protocol: '/test/1', requires: ['worker'], maxFrameBytes: 100 }
    mesh.founder.host.serve(service, () => {})
    const channel = await host.open(mesh.founder.host.peer, service)
    let ended: string | undefined
    void channel.closed.then((reason) => {
      ended = reason
    })
    const renewals = Promise.withResolvers<void>()
    membership.onChange(() => {
      if (membership.certificate.issuedAt > before.expires) renewals.resolve()
    })
    await renewals.promise
    expect(membership.certificate.roles).toEqual(before.roles)
    expect(ended).toBeUndefined()
    expect(mesh.founder.membership.certificate.expires).toBeGreaterThan(before.expires)
    expect(host.connected()).toEqual([mesh.founder.host.peer])
  })

  it('brings back a machine that was away until its certificate had expired', async () => {
    const mesh = await start()
    const away = await mesh.join()
    await away.host.stop()
    away.service.stop()
    // Two days later everywhere.
    const now = () => Date.now() + 2 * 24 * 60 * 60_000
    const later = await TestMesh.resume(mesh.founder, { now })
    meshes.push(later)
    const membership = await Membership.open((await load(away.dataDir))!, { now })
    expect(membership.certificate.expires).toBeLessThan(now())
    const back = await later.open(away.dataDir, membership)
    await connection(back.host, later.founder.host.peer)
    expect(membership.certificate.expires).toBeGreaterThan(now())
  })

  it.each(['ahead', 'back'] as const)('happens within a minute of its time when the clock is set %s meanwhile', async (set) => {
    vi.useFakeTimers({ toFake: ['setTimeout', 'clearTimeout', 'performance'] })
    let now = Date.now()
    const { membership } = await start({ now: () => now }).then(({ founder }) => founder)
    const { serial, expires } = membership.certificate
    const renewed = new Promise<void>((resolve) => membership.onChange((change) => change === 'certificate' && resolve()))
    // The clock at the first look is wrong by half a day; the timer that it asks for is as wrong.
    now += set === 'ahead' ? 12 * hourMs : -12 * hourMs
    await vi.advanceTimersByTimeAsync(2 * 60_000)
    now = expires - 8 * hourMs - 1
    await vi.advanceTimersByTimeAsync(2 * 60_000)
    expect(membership.certificate.serial).toBe(serial)
    now += 1
    await vi.advanceTimersByTimeAsync(60_000)
    await renewed
    expect(membership.certificate.serial).toBe(serial + 1)
  })

  it.each([
    ['dialled', true],
    ['was dialled by it', false],
  ])(
    'happens at once when the founder, whose clock was set two days ahead, says that a certificate has expired; the member %s',
    async (_, dials) => {
      const mesh = await start()
      const { membership, host, service, dataDir } = await mesh.join()
      const { expires } = membership.certificate
      service.stop()
      await host.stop()
      const later = await TestMesh.resume(mesh.founder, { now: () => Date.now() + 48 * hourMs })
      meshes.push(later)
      const again = await later.open(dataDir, membership, {}, dials)
      if (!dials) later.founder.host.keepConnected(again.host.peer, again.host.addresses())
      await Promise.all([connection(again.host, later.founder.host.peer), connection(later.founder.host, again.host.peer)])
      expect(membership.now()).toBeLessThan(expires - 8 * hourMs)
      expect(membership.certificate.expires).toBeGreaterThan(expires + 47 * hourMs)
    },
  )

  it('parts with members whose certificates a clock that is set ahead has ended, and takes them back as they renew', async () => {
    vi.useFakeTimers({ toFake: ['setInterval', 'clearInterval'] })
    let aheadMs = 0
    const mesh = await start({ now: () => Date.now() + aheadMs })
    const { membership, host } = await mesh.join()
    await connection(mesh.founder.host, host.peer)
    const parted = connection(mesh.founder.host, host.peer, 'disconnected')
    aheadMs = 48 * hourMs
    await vi.advanceTimersByTimeAsync(60_000)
    await parted
    await connection(mesh.founder.host, host.peer)
    expect(membership.certificate.expires).toBeGreaterThan(Date.now() + 71 * hourMs)
  })

  it('gives the certificate of this minute again, and writes nothing for it', async () => {
    let now = Date.now()
    const mesh = await start({ now: () => now })
    const dataDir = await dir()
    const token = await mesh.token(['worker'], 1)
    const { peer } = await enrol(dataDir, token)
    const { founder } = mesh.founder.membership
    const registry = () => readFile(join(identityDir(mesh.founder.dataDir), 'registry'))
    const written = await registry()
    const first = await founder!.renew(peer)
    expect(await founder!.renew(peer)).toEqual(first)
    await enrol(dataDir, token)
    expect(await registry()).toEqual(written)
    now += 60_000
    const second = await founder!.renew(peer)
    expect(second).not.toEqual(first)
    // An hour that the clock was set back is no minute.
    now -= hourMs
    expect(await founder!.renew(peer)).not.toEqual(second)
    expect(await registry()).not.toEqual(written)
    await mesh.founder.service.revoke(peer)
    await expect(founder!.renew(peer)).rejects.toThrow('removed from the mesh')
  })

  it('S1: is refused to a revoked machine', async () => {
    const mesh = await start()
    const { membership } = await mesh.join()
    await mesh.founder.service.revoke(membership.peer)
    await expect(mesh.founder.membership.founder!.renew(membership.peer)).rejects.toThrow('removed from the mesh')
  })
})
