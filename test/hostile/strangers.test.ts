/** What anybody can do who can dial a node and has no certificate (S1): make a little work for it, for a short while. */
import { randomBytes } from 'node:crypto'
import { connect } from 'node:net'
import type { Connection } from '@libp2p/interface'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { Gate } from '../../node/host/gate.ts'
import { blobsProtocol } from '../../protocols/blobs.ts'
import { controlProtocol } from '../../protocols/control.ts'
import { directProtocol } from '../../protocols/direct.ts'
import { enrolProtocol, helloProtocol } from '../../protocols/membership.ts'
import { type HostileLab, type RawStream, startHostileLab } from './lab.ts'

const REQUEST = 0
const REFUSAL = 2

const ignore = () => undefined

let lab: HostileLab
beforeAll(async () => {
  lab = await startHostileLab()
})
afterAll(() => lab.stop())

/** A TCP connection to the founder; resolves when the founder has ended it. */
function raw(port: number, bytes: Uint8Array): Promise<void> {
  return new Promise((resolve) => {
    const socket = connect(port, '127.0.0.1', () => socket.write(bytes))
    socket.on('error', () => undefined)
    socket.on('data', () => undefined)
    socket.on('close', () => resolve())
  })
}

describe('a stranger', () => {
  it('S1: that speaks no libp2p is parted with, and others are answered', async () => {
    const { port } = lab.mesh.founder
    await Promise.all([raw(port, randomBytes(100_000)), raw(port, new TextEncoder().encode('GET / HTTP/1.1\r\nHost: x\r\n\r\n'))])
    await lab.witness()
  })

  it('S1: at the port for direct connections is parted with: for noise at once, else when a handshake takes too long', {
    timeout: 60_000,
  }, async () => {
    const member = await (await lab.intruder('member')).open(directProtocol)
    member.say([REQUEST, 1, 'ticket', { protocol: blobsProtocol.protocol }])
    const [, , { port }] = (await member.frame()) as [number, number, { port: number }]
    await Promise.all([raw(port, randomBytes(100_000)), raw(port, new TextEncoder().encode('GET / HTTP/1.1\r\n\r\n'))])
    const slow = connect(port, '127.0.0.1')
    slow.on('error', () => undefined)
    const handshake = [0x16, 3, 1, 2, 0, 1, 0, 1]
    const speaking = setInterval(() => slow.write(new Uint8Array([handshake.shift() ?? 0])), 1000)
    const silent = raw(port, new Uint8Array())
    await lab.witness()
    await Promise.all([silent, new Promise((resolve) => slow.on('close', resolve))])
    clearInterval(speaking)
    await lab.witness()
  })

  it('S1: that says nothing on 100 connections does not keep others from joining', async () => {
    const { port } = lab.mesh.founder
    const silent = Array.from({ length: 100 }, () => connect(port, '127.0.0.1').on('error', () => undefined))
    await lab.mesh.join({ roles: ['submitter'] })
    await lab.witness()
    for (const socket of silent) socket.destroy()
  })

  it('S1: is parted with after eight certificates that do not hold', async () => {
    const stranger = await lab.intruder('stranger')
    const stream = await stranger.open(helloProtocol)
    const parted = new Promise((resolve) => stranger.node.addEventListener('connection:close', resolve))
    for (let n = 1; n <= 4; n += 1) stream.say([REQUEST, n, 'hello', { certificate: randomBytes(300), revocationsNumber: 0 }])
    for (let n = 1; n <= 4; n += 1) expect(((await stream.frame()) as unknown[])[2]).toBe('AuthenticationFailed')
    expect(stranger.isConnected).toBe(true)
    for (let n = 1; n <= 4; n += 1) stream.say([REQUEST, n, 'hello', { certificate: randomBytes(300), revocationsNumber: 0 }])
    await parted
    await lab.witness()
  })

  it('S1: cannot make a node hold a larger greeting than a stranger needs', async () => {
    const stranger = await lab.intruder('stranger')
    const stream = await stranger.open(helloProtocol)
    stream.send(new Uint8Array([0, 2, 0, 0]))
    await stream.over
    await lab.witness()
  })

  it('S1: may have 64 streams waiting for its greeting; those beyond are refused at once', async () => {
    const stranger = await lab.intruder('stranger')
    const streams: RawStream[] = []
    while (streams.length < 70) streams.push(await stranger.openUnanswered(controlProtocol))
    const verdicts: unknown[] = []
    const first = Promise.withResolvers<void>()
    for (const stream of streams) {
      void stream.frame().then((frame) => {
        verdicts.push((frame as { code: string }).code)
        if (verdicts.length === 6) first.resolve()
      }, ignore)
    }
    await first.promise
    // A stream of gossip may wait among them.
    expect(new Set(verdicts)).toEqual(new Set(['ServerBusy']))
    expect(verdicts.length).toBeLessThan(10)
  })

  it('S1: can have eight enrolments open at once', async () => {
    const stranger = await lab.intruder('stranger')
    expect(await stranger.hoard(enrolProtocol, 20)).toBe(8)
    await lab.witness()
  })

  it('S1: that tries secrets is told to come back in a minute after five', async () => {
    const stranger = await lab.intruder('stranger')
    const stream = await stranger.open(enrolProtocol)
    const { mesh } = lab.mesh.founder.membership
    const codes: unknown[] = []
    for (let n = 1; n <= 7; n += 1) {
      stream.say([REQUEST, n, 'enrol', { mesh, secret: randomBytes(16), name: 'x' }])
      const [kind, , code] = (await stream.frame()) as unknown[]
      expect(kind).toBe(REFUSAL)
      codes.push(code)
    }
    expect(codes).toEqual([...new Array(5).fill('AuthenticationFailed'), 'ServerBusy', 'ServerBusy'])
  })

  it('S1: that floods the enrolment and never reads is read from no more, and others are answered meanwhile', async () => {
    const stranger = await lab.intruder('stranger')
    const stream = await stranger.open(enrolProtocol)
    expect(await stream.flood([REQUEST, 1, 'enrol', null], 8 << 20, lab.witness)).toBe('held back')
  })

  it('S1: is parted with for the next when a thousand have not greeted', () => {
    const { membership } = lab.mesh.founder
    const nothing = () => undefined
    const gate = new Gate({ membership, addresses: () => [], onMember: nothing, onStranger: nothing, log: nothing })
    const parted: number[] = []
    for (let n = 0; n < 1003; n += 1) {
      const connection = { remotePeer: `peer-${n}`, direction: 'inbound', status: 'open', abort: () => parted.push(n) }
      gate.opened(connection as unknown as Connection)
    }
    gate.stop()
    expect(parted).toEqual([0, 1, 2])
  })
})
