/** What anybody can do who reaches the port of a group's member, and what a member can do that has turned. */
import { randomBytes } from 'node:crypto'
import { connect as connectTcp, type Socket } from 'node:net'
import { connect as connectTls, type TLSSocket } from 'node:tls'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import type { Link } from '../../node/groups/link.ts'
import { decodeCard } from '../../node/groups/links/card.ts'
import { controlFrame, headerBytes, headerOf, kinds, maxMessageBytes } from '../../node/groups/links/frames.ts'
import { groupNameOf, identityOf, pairKeyOf, suite } from '../../node/groups/links/keys.ts'
import { type Member, openMember } from '../../node/groups/links/member.ts'
import { type Inbox, inboxOf, sendNumbered } from '../contracts/link-contract.ts'

const loopback = ['127.0.0.1']
const key = new Uint8Array(randomBytes(32))

/** Members 0 and 1 are well; the test is 2, which is there and never answers, and all strangers. */
let members: Member[]
let links: Link[]
let inboxes: Inbox[]
let port: number
const sockets: Socket[] = []

beforeEach(async () => {
  members = await Promise.all([0, 1, 2].map(() => openMember({ addresses: loopback })))
  const cards = members.map(({ card }) => card)
  links = await Promise.all([0, 1].map((rank) => members[rank]!.join({ rank, cards, key })))
  inboxes = links.map(inboxOf)
  port = decodeCard(cards[0]!).port
})
afterEach(async () => {
  for (const socket of sockets.splice(0)) socket.destroy()
  members[2]!.close()
  await Promise.all(links.map((link) => link.close()))
})

/** The members still speak with each other. */
async function witness(): Promise<void> {
  const before = inboxes[1]!.from(0).length
  await Promise.all([sendNumbered(links[0]!, 1, 7, 100_000), inboxes[1]!.count(inboxes[1]!.messages.length + 1)])
  expect(inboxes[1]!.from(0).length).toBe(before + 1)
}

function closed(socket: Socket): Promise<void> {
  sockets.push(socket)
  socket.on('error', () => undefined)
  return new Promise((resolve) => socket.on('close', () => resolve()))
}

function dial(identity: string, psk: Uint8Array): TLSSocket {
  return connectTls({ ...suite, host: loopback[0]!, port, pskCallback: () => ({ psk, identity }), checkServerIdentity: () => undefined })
}

/** Member 2 as it would dial, from its handshake on; once the connection is taken. */
async function turned(): Promise<{ socket: TLSSocket; over: Promise<void> }> {
  const dialled = { from: 2, to: 0 }
  const socket = dial(identityOf(groupNameOf(key), dialled), pairKeyOf(key, dialled))
  const over = closed(socket)
  await new Promise((resolve) => socket.once('data', resolve))
  return { socket, over }
}

const message = (bytes: number) => Uint8Array.from(headerOf(kinds.message, { context: 2, tag: 1, type: 0, bytes }))

describe('a stranger at the port of a member', () => {
  it('that sends noise, or another protocol, is parted with', async () => {
    await Promise.all(
      [randomBytes(100_000), Buffer.from('GET / HTTP/1.1\r\n\r\n')].map((bytes) => {
        const socket = connectTcp(port, loopback[0], () => socket.write(bytes))
        return closed(socket.resume())
      }),
    )
    await witness()
  })

  it('without the key, with a key of another group, with the place of another member, or of none is refused', async () => {
    const group = groupNameOf(key)
    const other = new Uint8Array(randomBytes(32))
    const pair = { from: 2, to: 0 }
    const tries: [string, Uint8Array][] = [
      [identityOf(group, pair), randomBytes(16)],
      [identityOf(groupNameOf(other), pair), pairKeyOf(other, pair)],
      [identityOf(group, { from: 1, to: 0 }), pairKeyOf(key, pair)],
      [identityOf(group, { from: 0, to: 2 }), pairKeyOf(key, { from: 0, to: 2 })],
      [identityOf(group, { from: 0, to: 0 }), pairKeyOf(key, { from: 0, to: 0 })],
      [identityOf(group, { from: 3, to: 0 }), pairKeyOf(key, { from: 3, to: 0 })],
      [identityOf(group, { from: -1, to: 0 }), pairKeyOf(key, { from: -1, to: 0 })],
      [`${group} 2.0 0`, pairKeyOf(key, pair)],
    ]
    for (const [identity, psk] of tries) {
      const socket = dial(identity, psk)
      let isSecure = false
      socket.on('secureConnect', () => (isSecure = true))
      await closed(socket)
      expect(isSecure, identity).toBe(false)
    }
    expect(inboxes.flatMap(({ messages }) => messages)).toEqual([])
    await witness()
  })

  it('is parted with for the next when a thousand say nothing', async () => {
    const silent = Array.from({ length: 1030 }, () => connectTcp(port, loopback[0]))
    const over = silent.map(closed)
    await Promise.race(over)
    await witness()
  })
})

describe('a member that has turned', () => {
  it('is lost when what it sends is no frame', async () => {
    const { socket, over } = await turned()
    socket.write(randomBytes(1000).fill(0xff, 0, 1))
    await Promise.all([over, inboxes[0]!.loss(2)])
    expect(inboxes[0]!.losses[0]!.error.message).toContain('no frame')
    await witness()
  })

  it.each([
    ['more bytes than an array holds', maxMessageBytes + 1],
    ['bytes below zero', -1],
    ['half a byte', 0.5],
    ['no number', Number.NaN],
  ])('is lost when it announces %s', async (_, bytes) => {
    const { socket, over } = await turned()
    socket.write(message(bytes))
    await Promise.all([over, inboxes[0]!.loss(2)])
    await witness()
  })

  it('is lost when its message does not fit into memory', async () => {
    const { socket, over } = await turned()
    const begin = inboxes[0]!.begin.bind(inboxes[0])
    inboxes[0]!.begin = (from, envelope) => {
      if (from === 2) throw new RangeError('Array buffer allocation failed')
      return begin(from, envelope)
    }
    socket.write(message(2 ** 33))
    await Promise.all([over, inboxes[0]!.loss(2)])
    expect(inboxes[0]!.losses[0]!.error.message).toContain('allocation failed')
    await witness()
  })

  it('cannot have a second connection', async () => {
    await turned()
    const dialled = { from: 2, to: 0 }
    await closed(dial(identityOf(groupNameOf(key), dialled), pairKeyOf(key, dialled)))
    expect(inboxes[0]!.losses).toEqual([])
    await witness()
  })

  it('that says a member is gone makes the others look, not believe', async () => {
    const { socket } = await turned()
    socket.write(controlFrame(kinds.gone, { tag: 1 }))
    socket.write(controlFrame(kinds.gone, { tag: 99 }))
    socket.write(controlFrame(kinds.gone, { tag: 0 }))
    socket.write(controlFrame(kinds.gone, { tag: 1, type: 1 }))
    socket.write(message(3))
    socket.write(new Uint8Array(3))
    await inboxes[0]!.count(1)
    await witness()
    expect(inboxes[0]!.losses).toEqual([])
  })

  it('that begins a message and stops halfway harms nobody else', async () => {
    const { socket } = await turned()
    socket.write(message(1 << 20))
    socket.write(new Uint8Array(headerBytes))
    await witness()
    socket.destroy()
    await inboxes[0]!.loss(2)
    await witness()
    expect(inboxes[0]!.from(2)).toEqual([])
  })
})
