import { once } from 'node:events'
import { connect, type Socket } from 'node:net'
import { connect as connectTls } from 'node:tls'
import { afterEach, describe, expect, it } from 'vitest'
import { DirectConnections, directHost } from '../../node/host/direct.ts'
import { MeshError } from '../../protocols/errors.ts'
import type { Channel, Remote, Service } from '../../protocols/wire.ts'
import { connection, TestMesh } from '../contracts/mesh-fixture.ts'
import { Inbox, numbered, numberOf } from '../contracts/wire-contract.ts'
import { controlOf, direct } from '../support/direct.ts'

const service: Service = { protocol: '/test/direct/1', requires: [], maxFrameBytes: 1 << 20 }
const near: Remote = { peer: 'near', roles: ['worker'] }
const to = { remote: { peer: 'far', roles: [] }, host: '127.0.0.1', service }
const soon = () => AbortSignal.timeout(10_000)

describe('direct connections', () => {
  const ends: { stop(): Promise<void> }[] = []
  const sockets: Socket[] = []
  afterEach(async () => {
    for (const socket of sockets.splice(0)) socket.destroy()
    for (const end of ends.splice(0)) await end.stop()
  })
  const end = (options: Parameters<typeof direct>[0]) => {
    const made = direct(options)
    ends.push(made)
    return made
  }
  const serving = (accept: (channel: Channel) => void = () => undefined) => end({ served: () => ({ service, accept }) })
  /** The handshake of whoever knows this much of a ticket. */
  const handshake = async (port: number, id: string, key: Uint8Array): Promise<'taken' | 'refused'> => {
    const socket = connectTls({
      host: '127.0.0.1',
      port,
      ciphers: 'PSK-AES128-GCM-SHA256',
      maxVersion: 'TLSv1.2',
      pskCallback: () => ({ psk: key, identity: id }),
      checkServerIdentity: () => undefined,
    })
    sockets.push(socket)
    return await once(socket, 'secureConnect').then(
      () => 'taken',
      () => 'refused',
    )
  }

  it('S1: a ticket opens one connection, to who has its key', async () => {
    const far = serving()
    const ticket = await far.ticket(service.protocol, near)
    const other = await far.ticket(service.protocol, near)
    expect(await handshake(ticket.port, ticket.id, other.key)).toBe('refused')
    // Shown once, also with a wrong key.
    expect(await handshake(ticket.port, ticket.id, ticket.key)).toBe('refused')
    expect(await handshake(other.port, '0'.repeat(32), other.key)).toBe('refused')
    expect(await handshake(other.port, other.id, other.key)).toBe('taken')
    expect(await handshake(other.port, other.id, other.key)).toBe('refused')
  })

  it('S1: tickets and connections end with the membership of their peer', async () => {
    const accepted = Promise.withResolvers<Channel>()
    const far = serving(accepted.resolve)
    const channel = await end({ host: undefined }).open(to, controlOf(far), soon())
    const ticket = await far.ticket(service.protocol, near)
    far.closeAll('near')
    expect(await channel!.closed).toBe('lost')
    expect(await (await accepted.promise).closed).toBe('lost')
    expect(await handshake(ticket.port, ticket.id, ticket.key)).toBe('refused')
  })

  it('S1: no ticket is given for what the peer may not open', async () => {
    const far = end({
      served: () => {
        throw new MeshError('InsufficientPermissions', 'no')
      },
    })
    await expect(far.ticket(service.protocol, near)).rejects.toMatchObject({ code: 'InsufficientPermissions' })
  })

  it('a peer holds a bounded number of tickets', async () => {
    const far = serving()
    for (let count = 0; count < 64; count += 1) await far.ticket(service.protocol, near)
    await expect(far.ticket(service.protocol, near)).rejects.toMatchObject({ code: 'ServerBusy' })
    await expect(far.ticket(service.protocol, { ...near, peer: 'another' })).resolves.toMatchObject({ port: expect.any(Number) as number })
  })

  it('a machine that takes none is asked again after ten minutes only', async () => {
    let now = 1000
    let asked = 0
    const far = end({ host: undefined })
    const mine = end({ host: undefined, now: () => now })
    const control = () => {
      asked += 1
      return controlOf(far)()
    }
    expect(await mine.open(to, control, soon())).toBeUndefined()
    expect(await mine.open(to, control, soon())).toBeUndefined()
    expect(asked).toBe(1)
    now += 600_001
    expect(await mine.open(to, control, soon())).toBeUndefined()
    expect(asked).toBe(2)
  })

  it('S1: of connections that show no ticket there are 256; the oldest goes for the next', async () => {
    const far = serving()
    const ticket = await far.ticket(service.protocol, near)
    const silent = await Promise.all(
      Array.from({ length: 256 }, async () => {
        const socket = connect({ host: '127.0.0.1', port: ticket.port })
        sockets.push(socket)
        await once(socket, 'connect')
        return socket
      }),
    )
    const parted = once(silent[0]!, 'close')
    expect(await handshake(ticket.port, ticket.id, ticket.key)).toBe('taken')
    await parted
  })

  it('S1: tickets stay bounded when many are asked for before the port is open', async () => {
    const far = serving()
    const asked = await Promise.allSettled(Array.from({ length: 100 }, () => far.ticket(service.protocol, near)))
    expect(asked.filter(({ status }) => status === 'fulfilled')).toHaveLength(64)
  })

  it('a peer of an older version, without that conversation, gets no direct connection and no error', async () => {
    const mine = end({ host: undefined })
    expect(await mine.open(to, () => Promise.reject(new MeshError('UnsupportedVersion')), soon())).toBeUndefined()
  })

  it('listens where the node listens, if that is one place', () => {
    expect(directHost(['/ip4/10.0.0.5'])).toBe('10.0.0.5')
    expect(directHost(['/ip6/::'])).toBe('::')
    expect(directHost([])).toBeUndefined()
    expect(directHost(['/ip4/10.0.0.5', '/ip4/10.0.1.5'])).toBeUndefined()
  })

  it('a host opens a channel over one, and over the common connection where there is none', async () => {
    const mesh = await TestMesh.start()
    ends.push(mesh)
    // oxlint-disable-next-line typescript/unbound-method -- called with its `this` below
    const open = DirectConnections.prototype.open
    const opened: (Channel | undefined)[] = []
    DirectConnections.prototype.open = async function (...args) {
      const channel = await open.apply(this, args)
      opened.push(channel)
      return channel
    }
    try {
      const { host } = await mesh.join()
      const hidden = await mesh.join({ host: { listen: undefined } })
      await connection(mesh.founder.host, hidden.host.peer)
      for (const each of [mesh.founder.host, hidden.host]) each.serve(service, (channel) => channel.receive((frame) => channel.send(frame)))
      const channels = [
        await host.open(mesh.founder.host.peer, service, { direct: true }),
        await mesh.founder.host.open(hidden.host.peer, service, { direct: true }),
      ]
      expect(opened).toEqual([channels[0], undefined])
      for (const [at, channel] of channels.entries()) {
        const inbox = new Inbox(channel)
        channel.send(numbered(at))
        await inbox.count(1)
        expect(inbox.frames.map(numberOf)).toEqual([at])
      }
      expect(channels[0]!.remote).toEqual({ peer: mesh.founder.host.peer, roles: mesh.founder.membership.certificate.roles })
    } finally {
      DirectConnections.prototype.open = open
    }
  })
})
