/**
 * Two processes with TLS between them, as a group and bare: `node bench/groups/processes.ts PLAN` starts the other and prints
 * `{ group, bare, back, bareBack }` ({@link Figures} each) as JSON. `bare` is node:tls with the same cipher: writes of 256
 * KiB as fast as they are taken, read by `data` events and thrown away. Forth, who dialled reads; back, who listened.
 */
import { fork, type Serializable } from 'node:child_process'
import { randomBytes } from 'node:crypto'
import { once } from 'node:events'
import type { AddressInfo } from 'node:net'
import { setTimeout as sleep } from 'node:timers/promises'
import { connect, createServer, type TLSSocket } from 'node:tls'
import { suite } from '../../node/groups/links/keys.ts'
import { openMember } from '../../node/groups/links/member.ts'
import { openGroup } from '../../node/groups/open.ts'
import { type Figures, latencyUs, type Plan, streamed } from './figures.ts'

const pieceBytes = 256 << 10

const plan = JSON.parse(process.argv[2]!) as Plan
const isFirst = process.send === undefined
const other = isFirst ? fork(import.meta.filename, [process.argv[2]!], { serialization: 'advanced' }) : process
const told = async () => ((await once(other, 'message')) as [unknown])[0]
const tell = (message: Serializable) => other.send!(message)

/** The group of both. */
async function asGroup(): Promise<{ forth: Figures; back: Figures }> {
  const member = await openMember({ addresses: ['127.0.0.1'] })
  const heard = told()
  tell(member.card)
  const theirs = (await heard) as Uint8Array
  const key = new Uint8Array(32).fill(7)
  const rank = isFirst ? 0 : 1
  // Member 0 has dialled by then: where both do, its connection is the one that stays.
  if (!isFirst) await sleep(300)
  const group = openGroup(await member.join({ rank, cards: isFirst ? [member.card, theirs] : [theirs, member.card], key }))
  const latency = await latencyUs(group, plan)
  const back = { streamed: await streamed(group, plan), latencyUs: latency }
  const turned = await group.split(0, -group.rank)
  const forth = { streamed: await streamed(turned!, plan), latencyUs: latency }
  await group.close()
  return { forth, back }
}

async function bare(): Promise<{ forth: Figures; back: Figures }> {
  const psk = new Uint8Array(randomBytes(16))
  let socket: TLSSocket
  if (isFirst) {
    const heard = told()
    tell(psk)
    socket = connect({
      ...suite,
      host: '127.0.0.1',
      port: (await heard) as number,
      pskCallback: () => ({ psk, identity: 'x' }),
      checkServerIdentity: () => undefined,
    })
    await once(socket, 'secureConnect')
  } else {
    const key = (await told()) as Uint8Array
    const server = createServer({ ...suite, pskCallback: () => key }).listen(0, '127.0.0.1')
    await once(server, 'listening')
    const came = once(server, 'secureConnection') as Promise<[TLSSocket]>
    tell((server.address() as AddressInfo).port)
    ;[socket] = await came
    server.close()
  }
  socket.setNoDelay(true)
  const latency = await pingPong(socket)
  const back = { streamed: await stream(socket, isFirst), latencyUs: latency }
  const forth = { streamed: await stream(socket, !isFirst), latencyUs: latency }
  socket.destroy()
  return { forth, back }
}

async function pingPong(socket: TLSSocket): Promise<number> {
  const data = Buffer.alloc(8)
  const warm = Math.ceil(plan.turns / 10)
  let start = 0
  let turn = -warm
  const over = Promise.withResolvers<void>()
  const answer = () => {
    if (turn === 0) start = performance.now()
    if (isFirst && turn === plan.turns) return over.resolve()
    socket.write(data)
    turn += 1
    if (!isFirst && turn === plan.turns) over.resolve()
  }
  socket.on('data', answer)
  if (isFirst) answer()
  await over.promise
  socket.off('data', answer)
  return ((performance.now() - start) * 1000) / plan.turns / 2
}

/** Bytes a second; the reader says with one byte that it has all. */
async function stream(socket: TLSSocket, isSender: boolean): Promise<number> {
  const total = plan.bytes * plan.messages
  const piece = new Uint8Array(pieceBytes).fill(7)
  const over = Promise.withResolvers<void>()
  const start = performance.now()
  let left = isSender ? 1 : total
  const read = (data: Buffer) => {
    left -= data.length
    if (left <= 0) over.resolve()
  }
  socket.on('data', read)
  if (isSender) {
    for (let sent = 0; sent < total; sent += pieceBytes) if (!socket.write(piece)) await once(socket, 'drain')
  }
  await over.promise
  if (!isSender) socket.write(new Uint8Array(1))
  socket.off('data', read)
  return total / ((performance.now() - start) / 1000)
}

const group = await asGroup()
const plain = await bare()
if (isFirst) console.log(JSON.stringify({ group: group.forth, back: group.back, bare: plain.forth, bareBack: plain.back }))
// Both end with what connects them.
other.disconnect()
