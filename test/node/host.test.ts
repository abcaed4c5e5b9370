import { readFile, rm } from 'node:fs/promises'
import { createServer } from 'node:net'
import { join } from 'node:path'
import fc from 'fast-check'
import { afterEach, describe, expect, it } from 'vitest'
import { AddressBook } from '../../node/host/addresses.ts'
import { redialDelayMs } from '../../node/host/backoff.ts'
import { createHost } from '../../node/host.ts'
import { found } from '../../node/identity.ts'
import type { Membership } from '../../node/membership.ts'
import { MeshError } from '../../protocols/errors.ts'
import type { Channel, Service } from '../../protocols/wire.ts'
import { connection, onLoopback, TestMesh, temporaryDir } from '../contracts/mesh-fixture.ts'
import { Inbox, numbered, numberOf } from '../contracts/wire-contract.ts'

const service: Service = { protocol: '/test/host/1', requires: [], maxFrameBytes: 1 << 20 }
const echo = { service, accept: (channel: Channel) => channel.receive((frame) => channel.send(frame)) }

describe('the host', () => {
  const meshes: TestMesh[] = []
  const dirs: string[] = []
  afterEach(async () => {
    for (const mesh of meshes.splice(0)) await mesh.stop()
    for (const dir of dirs.splice(0)) await rm(dir, { recursive: true, force: true })
  })
  async function start(): Promise<TestMesh> {
    const mesh = await TestMesh.start()
    meshes.push(mesh)
    return mesh
  }

  it('lets 40 machines behind one address dial at once', async () => {
    const mesh = await start()
    const { founder } = mesh
    founder.host.serve(echo.service, echo.accept)
    const memberships: Membership[] = []
    for (let at = 0; at < 40; at += 1) memberships.push(await mesh.member())
    const hosts = await Promise.all(memberships.map((membership) => createHost({ membership })))
    try {
      const channels = await Promise.all(
        hosts.map((host) => {
          host.learn(founder.host.peer, founder.host.addresses())
          return host.open(founder.host.peer, service)
        }),
      )
      const inboxes = channels.map((channel) => new Inbox(channel))
      for (const [at, channel] of channels.entries()) channel.send(numbered(at))
      await Promise.all(inboxes.map((inbox) => inbox.count(1)))
      expect(inboxes.map((inbox) => numberOf(inbox.frames[0]!))).toEqual(channels.map((_, at) => at))
    } finally {
      for (const host of hosts) await host.stop()
    }
  })

  it('opens channels to a machine that nobody can dial, over the connection that it made', async () => {
    const mesh = await start()
    const hidden = await mesh.join({ host: { listen: undefined } })
    expect(hidden.host.addresses()).toEqual([])
    hidden.host.serve(echo.service, echo.accept)
    await connection(mesh.founder.host, hidden.host.peer)
    const channel = await mesh.founder.host.open(hidden.host.peer, service)
    const inbox = new Inbox(channel)
    channel.send(numbered(5))
    await inbox.count(1)
    expect(await mesh.founder.host.probe(hidden.host.peer)).toBe('unknown')
  })

  it('comes back by itself when the founder restarts, again and again', async () => {
    const mesh = await start()
    const member = await mesh.join()
    let founder = mesh.founder
    await connection(member.host, founder.host.peer)
    for (let round = 0; round < 2; round += 1) {
      const gone = connection(member.host, founder.host.peer, 'disconnected')
      const restarted = await TestMesh.resume(founder, {})
      meshes.push(restarted)
      await gone
      await connection(member.host, founder.host.peer)
      founder = restarted.founder
    }
  })

  it('L7: finds that a stopped machine refuses, and that a running one is alive', async () => {
    const mesh = await start()
    const member = await mesh.join()
    await connection(mesh.founder.host, member.host.peer)
    expect(await mesh.founder.host.probe(member.host.peer)).toBe('alive')
    expect(mesh.founder.host.connected()).toEqual([member.host.peer])
    await member.host.stop()
    expect(await mesh.founder.host.probe(member.host.peer)).toBe('refused')
  })

  it('L7: does not take another program at the address for the machine', async () => {
    const mesh = await start()
    const member = await mesh.join()
    await connection(mesh.founder.host, member.host.peer)
    await member.host.stop()
    const impostor = createServer((socket) => socket.destroy())
    await new Promise<void>((resolve) => impostor.listen(member.port, '127.0.0.1', resolve))
    expect(await mesh.founder.host.probe(member.host.peer)).toBe('unknown')
    await new Promise((resolve) => impostor.close(resolve))
  })

  it('finds the founder by a bootstrap address, with or without its peer id, also one that answers only later', async () => {
    const mesh = await start()
    const { founder } = mesh
    const [address] = founder.host.addresses()
    const plain = address!.replace(/\/p2p\/.*/, '')
    for (const bootstrap of [address!, plain]) {
      const host = await createHost({ membership: await mesh.member(), bootstrap: [bootstrap] })
      await connection(host, founder.host.peer)
      await host.stop()
    }
    const late = await mesh.member()
    founder.service.stop()
    await founder.host.stop()
    const host = await createHost({ membership: late, bootstrap: [plain] })
    const back = await TestMesh.resume(founder, {})
    meshes.push(back)
    await connection(host, founder.host.peer)
    await host.stop()
  })

  it('remembers over a restart where its peers are', async () => {
    const mesh = await start()
    mesh.founder.host.serve(echo.service, echo.accept)
    const member = await mesh.join()
    const dataDir = await temporaryDir()
    dirs.push(dataDir)
    await member.host.stop()
    const first = await createHost({ membership: member.membership, dataDir })
    first.learn(mesh.founder.host.peer, mesh.founder.host.addresses())
    await first.open(mesh.founder.host.peer, service)
    await first.stop()
    expect(await readFile(join(dataDir, 'peers.json'), 'utf8')).toContain(`/tcp/${mesh.founder.port}`)
    const second = await createHost({ membership: member.membership, dataDir })
    await second.open(mesh.founder.host.peer, service)
    await second.stop()
  })

  it('says that its port is taken, or its address is none', async () => {
    const mesh = await start()
    const membership = await mesh.member()
    const { port } = mesh.founder
    await expect(createHost({ membership, listen: { ...onLoopback, port } })).rejects.toThrow(`cannot listen on port ${port}`)
    await expect(createHost({ membership, bootstrap: ['founder:4001'] })).rejects.toThrow('"founder:4001" is not a multiaddr such as')
    await expect(createHost({ membership, bootstrap: ['founder:4001'] })).rejects.toBeInstanceOf(MeshError)
  })

  it('S1: does not speak with a machine of another mesh', async () => {
    const mesh = await start()
    const other = await start()
    other.founder.host.serve(service, () => expect.unreachable())
    mesh.founder.host.learn(other.founder.host.peer, other.founder.host.addresses())
    await expect(mesh.founder.host.open(other.founder.host.peer, service)).rejects.toMatchObject({ code: 'AuthenticationFailed' })
    expect(mesh.founder.host.connected()).toEqual([])
  })

  it('G1: does not send an announcement that is larger than announcements are', async () => {
    const mesh = await start()
    const seen: number[] = []
    const second = Promise.withResolvers<void>()
    mesh.founder.host.subscribe('/test/topic', (data) => {
      seen.push(data.length)
      second.resolve()
    })
    mesh.founder.host.publish('/test/topic', new Uint8Array(64 * 1024 + 1))
    mesh.founder.host.publish('/test/topic', new Uint8Array(64))
    await second.promise
    expect(seen).toEqual([64])
  })
})

describe('the wait before a redial', () => {
  it('doubles from 0.2 s to 30 s, and jitter takes off up to half', () => {
    expect([0, 1, 2, 7, 8, 1000].map((failures) => redialDelayMs(failures, 1))).toEqual([200, 400, 800, 25_600, 30_000, 30_000])
    fc.assert(
      fc.property(fc.nat(100), fc.double({ min: 0, max: 1, noNaN: true }), (failures, random) => {
        const most = redialDelayMs(failures, 1)
        const delayMs = redialDelayMs(failures, random)
        expect(delayMs >= most / 2 && delayMs <= most).toBe(true)
      }),
    )
  })
})

describe('the address book', () => {
  const peer = '12D3KooWNaHkSUDmWA2qDLHmPLtKFrJ5VN1wftwdeQMSrprQfTvH'
  const someone = '12D3KooWCRVbgQiSrgN7DzYdeVw9fCiGtLP8jrhF45BE2KppLdkD'
  const known = (book: AddressBook) => book.of(peer).map((address) => address.toString().replace(`/p2p/${peer}`, ''))

  it('keeps TCP addresses of the peer, newest first, and nothing else', async () => {
    const book = await AddressBook.open(undefined)
    book.learn(peer, [
      '/ip4/10.0.0.1/tcp/1',
      `/ip4/10.0.0.2/tcp/2/p2p/${peer}`,
      `/ip4/10.0.0.3/tcp/3/p2p/${someone}`,
      '/ip4/0.0.0.0/tcp/4',
      '/ip4/10.0.0.5/tcp/0',
      '/ip4/10.0.0.6/udp/6',
      'nonsense',
    ])
    expect(known(book)).toEqual(['/ip4/10.0.0.2/tcp/2', '/ip4/10.0.0.1/tcp/1'])
  })

  it('prefers where the peer answered, and forgets the oldest of many', async () => {
    const book = await AddressBook.open(undefined)
    book.answered(peer, '/ip4/10.0.0.1/tcp/1')
    for (let port = 2; port <= 16; port += 1) book.learn(peer, [`/ip4/10.0.0.1/tcp/${port}`])
    expect(known(book)[0]).toBe('/ip4/10.0.0.1/tcp/1')
    expect(known(book).length).toBe(16)
    book.learn(peer, ['/ip4/10.0.0.1/tcp/17'])
    expect(known(book)).not.toContain('/ip4/10.0.0.1/tcp/1')
  })

  it('L7: lets only addresses tell of a dead process that the peer was seen at', async () => {
    const book = await AddressBook.open(undefined)
    book.learn(peer, ['/ip4/192.168.0.7/tcp/4001', '/ip4/10.0.0.1/tcp/4001'])
    const telling = () => book.telling(peer).map(({ host, port }) => `${host}:${port}`)
    expect(telling()).toEqual(['192.168.0.7:4001', '10.0.0.1:4001'])
    book.cameFrom(peer, '/ip4/10.0.0.1/tcp/51234')
    expect(telling()).toEqual(['10.0.0.1:4001'])
    const behindNat = await AddressBook.open(undefined)
    behindNat.learn(peer, ['/ip4/192.168.0.7/tcp/4001'])
    behindNat.cameFrom(peer, '/ip4/203.0.113.9/tcp/51234')
    expect(behindNat.telling(peer)).toEqual([])
  })

  it('L7: knows a peer on its own machine, whichever of its addresses it announces and comes from', async () => {
    const own = new Set(['127.0.0.1', '192.168.0.2'])
    const neighbour = await AddressBook.open(undefined)
    neighbour.learn(peer, ['/ip4/127.0.0.1/tcp/4001'])
    neighbour.cameFrom(peer, '/ip4/192.168.0.2/tcp/51234')
    expect(neighbour.telling(peer, own).map(({ host, port }) => `${host}:${port}`)).toEqual(['127.0.0.1:4001'])
    const elsewhere = await AddressBook.open(undefined)
    elsewhere.learn(peer, ['/ip4/127.0.0.1/tcp/4001'])
    elsewhere.cameFrom(peer, '/ip4/192.168.0.9/tcp/51234')
    expect(elsewhere.telling(peer, own)).toEqual([])
  })

  it('begins empty when the file is unreadable', async () => {
    const dataDir = await temporaryDir()
    try {
      await found(dataDir)
      expect(known(await AddressBook.open(join(dataDir, 'identity', 'key')))).toEqual([])
    } finally {
      await rm(dataDir, { recursive: true })
    }
  })
})
