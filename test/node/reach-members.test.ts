import { afterEach, describe, expect, it } from 'vitest'
import { patientCapMs, redialDelayMs } from '../../node/host/backoff.ts'
import { createHost, type Host } from '../../node/host.ts'
import { reachMembers } from '../../node/reach-members.ts'
import { connection, onLoopback, TestMesh } from '../contracts/mesh-fixture.ts'

describe('the founder', () => {
  const meshes: TestMesh[] = []
  const hosts: Host[] = []
  afterEach(async () => {
    for (const host of hosts.splice(0)) await host.stop()
    for (const mesh of meshes.splice(0)) await mesh.stop()
  })

  it('finds its members when it comes back at another address', async () => {
    // Where it remembers addresses: beside no identity, as the fixture makes its directories itself.
    const other = await TestMesh.start()
    meshes.push(other)
    const dataDir = await other.dir()
    const mesh = await TestMesh.start({ host: { dataDir } })
    meshes.push(mesh)
    const { founder } = mesh
    const member = await mesh.join()
    await connection(founder.host, member.host.peer)
    founder.service.stop()
    await founder.host.stop()
    const host = await createHost({ membership: founder.membership, listen: onLoopback, dataDir })
    hosts.push(host)
    expect(host.addresses()).not.toEqual(founder.host.addresses())
    const stop = reachMembers({ host, membership: founder.membership })
    await Promise.all([connection(host, member.host.peer), connection(member.host, host.peer)])
    stop()
  })

  it('dials neither itself, nor those that it revoked, nor those of whom it has no address', async () => {
    const mesh = await TestMesh.start()
    meshes.push(mesh)
    const [gone, hidden, there] = [await mesh.member(), await mesh.member(), await mesh.member()]
    const { membership, service } = mesh.founder
    await service.revoke(gone.peer)
    const kept = new Set<string>()
    const all = Promise.withResolvers<void>()
    const stop = reachMembers({
      host: {
        addresses: (peer) => (peer === hidden.peer ? [] : ['/ip4/10.0.0.1/tcp/1']),
        keepConnected: (peer) => {
          kept.add(peer)
          all.resolve()
          return () => void kept.delete(peer)
        },
      },
      membership,
    })
    await all.promise
    expect([...kept]).toEqual([there.peer])
    await service.revoke(there.peer)
    expect([...kept]).toEqual([])
    stop()
  })

  it('waits long between dials in vain, but not at first', () => {
    expect(redialDelayMs(0, 1, patientCapMs)).toBe(200)
    expect(redialDelayMs(20, 1, patientCapMs)).toBe(600_000)
    expect(redialDelayMs(20, 1)).toBe(30_000)
  })
})
