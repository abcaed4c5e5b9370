/** What a member that was admitted, and has turned, can do to a node: nothing that others would notice. */
import { randomBytes } from 'node:crypto'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { blobsProtocol } from '../../protocols/blobs.ts'
import { controlProtocol } from '../../protocols/control.ts'
import { directProtocol } from '../../protocols/direct.ts'
import { leasesProtocol } from '../../protocols/leases.ts'
import { offersTopic } from '../../protocols/offers.ts'
import { poolsTopic } from '../../protocols/pools.ts'
import { put } from '../support/blob-peers.ts'
import { type HostileLab, type Intruder, remoteProtocols, startHostileLab } from './lab.ts'

const REQUEST = 0
const REFUSAL = 2
const NOTE = 3

let lab: HostileLab
let member: Intruder
beforeAll(async () => {
  lab = await startHostileLab()
  member = await lab.intruder('member')
})
afterAll(() => lab.stop())

describe.each(remoteProtocols)('$protocol', (protocol) => {
  it('S1: a frame that claims 4 GiB ends the channel, and others are answered', async () => {
    const stream = await member.open(protocol)
    stream.send(new Uint8Array([0xff, 0xff, 0xff, 0xfe, 1, 2, 3]))
    await stream.over
    await lab.witness()
  })

  it('S1: noise ends the channel, and others are answered', async () => {
    const stream = await member.open(protocol)
    stream.send(new Uint8Array([0, 0, 1, 0, ...randomBytes(256)]))
    stream.send(new Uint8Array([0xf0, ...randomBytes(64 << 10)]))
    await stream.over
    await lab.witness()
  })

  it('S1: a frame that is no message ends the channel', async () => {
    for (const value of [{}, [], [9, 1, 'x'], ['0', 1, 'x'], [REQUEST, 'x', 1], 7, null]) {
      const stream = await member.open(protocol)
      stream.say(value)
      await stream.over
    }
    await lab.witness()
  })

  it('S1: requests that are unknown or of the wrong shape are refused one by one, and the channel goes on', async () => {
    const stream = await member.open(protocol)
    const names = Object.keys(protocol.server.calls)
    stream.say([REQUEST, 1, 'noSuchThing', {}])
    expect(await stream.frame()).toEqual([REFUSAL, 1, 'UnsupportedVersion', expect.any(String)])
    for (const [index, name] of names.entries()) {
      for (const body of [null, 7, [[]], 'x'.repeat(1000)]) {
        stream.say([REQUEST, index + 2, name, body])
        expect(await stream.frame()).toEqual([REFUSAL, index + 2, 'InvalidRequestBody', expect.any(String)])
      }
    }
    stream.say([NOTE, '__proto__', {}], [NOTE, 'noSuchNote', {}], [REQUEST, 1000, 'constructor', {}])
    expect(await stream.frame()).toEqual([REFUSAL, 1000, 'UnsupportedVersion', expect.any(String)])
  })

  it('S1: a peer that asks and never reads is read from no more, and others are answered meanwhile', async () => {
    const stream = await member.open(protocol)
    const [name] = Object.keys(protocol.server.calls)
    expect(await stream.flood([REQUEST, 1, name, null], 8 << 20, lab.witness)).toBe('held back')
  })
})

describe('a member', () => {
  it('S1: that asks for chunks and never reads makes a node hold no more than may be in flight', async () => {
    const id = await put(lab.store, randomBytes(3 << 20), 'user')
    const stream = await member.open(blobsProtocol)
    stream.stream.pause()
    for (let n = 0; n < 400; n += 1) stream.say([REQUEST, n + 1, 'chunk', { id, index: n % 3 }])
    for (let n = 0; n < 50; n += 1) await lab.witness()
    // Those in flight, and those whose answers lie in the windows of the two ends.
    expect(lab.chunksRead()).toBeLessThanOrEqual(2 * blobsProtocol.maxInFlight)
  })

  it('S1: that asks for tickets without end holds 64, over however many channels', async () => {
    const codes: unknown[] = []
    for (let channels = 0; channels < 5; channels += 1) {
      const stream = await member.open(directProtocol)
      for (let n = 1; n <= 16; n += 1) {
        stream.say([REQUEST, n, 'ticket', { protocol: blobsProtocol.protocol }])
        const [kind, , code] = (await stream.frame()) as unknown[]
        codes.push(kind === REFUSAL ? code : 'ticket')
      }
    }
    expect(codes).toEqual([...new Array(64).fill('ticket'), ...new Array(16).fill('ServerBusy')])
    await lab.witness()
  })

  it('S1: that floods the coordinator with heartbeats and never reads does not keep others from being answered', async () => {
    const stream = await member.open(leasesProtocol)
    await stream.flood([NOTE, 'heartbeat', { sentAt: 1 }], 2 << 20, lab.witness)
    await lab.witness()
  })

  it('S1: with more requests in flight than are allowed is refused those beyond, and served the others', async () => {
    const stream = await member.open(controlProtocol)
    const count = controlProtocol.maxInFlight + 50
    stream.say(...Array.from({ length: count }, (_, n) => [REQUEST, n + 1, 'listEvents', { after: 1_000_000, waitMs: 200 }]))
    const codes: unknown[] = []
    for (let n = 0; n < count; n += 1) codes.push(((await stream.frame()) as unknown[])[2])
    expect(codes.filter((code) => code === 'ServerBusy')).toHaveLength(50)
  })

  it('G1: that floods the mesh with gossip that is none neither ends a node nor silences it', async () => {
    const loud = await lab.intruder('member')
    const { mesh } = lab.mesh.founder.membership
    for (const topic of [poolsTopic(mesh), offersTopic(mesh, 'default'), offersTopic(mesh, 'p')]) {
      loud.node.services.pubsub.subscribe(topic)
      for (let n = 0; n < 150; n += 1) {
        await loud.node.services.pubsub.publish(topic, randomBytes(n % 50 === 0 ? 60_000 : n)).catch(() => undefined)
      }
      await lab.witness()
    }
  })
})
