import { randomBytes } from 'node:crypto'
import { createServer } from 'node:net'
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest'
import { Gangs } from '../../../node/gangs/gangs.ts'
import type { Member } from '../../../node/gangs/member.ts'
import type { Rally } from '../../../node/gangs/membership.ts'
import { listenForMembers, reach } from '../../../node/gangs/reach.ts'
import type { Log } from '../../../node/ports.ts'
import { decode, encode } from '../../../protocols/codec.ts'
import { groupsProtocol, maxCardBytes, pingMs } from '../../../protocols/groups.ts'
import { clientSession } from '../../../protocols/rpc.ts'
import type { Channel, Wire } from '../../../protocols/wire.ts'
import { MemoryNet } from '../../support/memory-wire.ts'
import { silentLog, until } from '../../support/worker/fake-parts.ts'

const attempt = { jobUid: 1, task: 't', epoch: 1 }
const never = new AbortController().signal
const address = '127.0.0.1'

let net: MemoryNet
let rooms: Gangs[]
let now: number
/** Members that joined, so far. */
let joins: number
let seen: Awaited<ReturnType<Wire['probe']>>
const peers = ['peer-of-machine-0', 'peer-of-machine-1', 'peer-of-machine-2', 'peer-of-machine-3']

beforeEach(() => {
  net = new MemoryNet()
  now = 1000
  joins = 0
  seen = 'unknown'
  rooms = peers.map((peer) => new Gangs({ wire: { ...net.wire(peer, ['worker']), probe: async () => seen }, log: heard, now: () => now }))
})
afterEach(() => {
  for (const room of rooms) room.close()
  vi.useRealTimers()
})

const heard: Log = {
  ...silentLog,
  debug: (_, message) => {
    if (message === 'a member of a gang has joined') joins += 1
  },
}

/** Only the regular looks wait for the test; what is asked again is asked again at once. */
function holdLooks(): (times: number) => Promise<void> {
  vi.useFakeTimers({ toFake: ['setInterval', 'clearInterval'] })
  return async (times) => {
    for (let n = 0; n < times; n += 1) {
      now += pingMs
      vi.advanceTimersByTime(pingMs)
      for (let turns = 0; turns < 20; turns += 1) await new Promise(setImmediate)
    }
  }
}

interface How {
  addresses?: readonly string[]
  /** On which machine each member is. */
  on?: readonly number[]
}

/** Members of one gang, all or those of these indexes. */
function enter(size: number, { addresses = [], on = [] }: How = {}, only?: readonly number[]): Member[] {
  const at = (index: number) => on[index] ?? index
  const members = Array.from({ length: size }, (_, index) => ({
    ...{ peer: peers[at(index)]!, nodeId: `n${index}`, name: `m${index}`, address: addresses[index] ?? address, cores: 1 },
  }))
  const paths = { taskDir: '/t', wd: '/t/wd', stdout: '/t/o', stderr: '/t/e' }
  return members.flatMap((_, index) => {
    if (only?.includes(index) === false) return []
    const named = index === 0 ? attempt : { ...attempt, member: index }
    return [rooms[at(index)]!.enter({ attempt: named, gang: { index, members }, paths, owner: undefined })]
  })
}

const cardOf = (index: number) => Uint8Array.of(index, index)
const rallyAll = (members: readonly Member[]): Promise<Rally[]> =>
  Promise.all(members.map((member) => member.rally(cardOf(member.gang.index), never)))

function lossesOf(member: Member): string[] {
  const losses: string[] = []
  member.onLost((index, reason) => losses.push(`${index}: ${reason}`))
  return losses
}

describe('members of a gang', () => {
  it('come together with the cards of all, by index, and a key that all have', async () => {
    const rallies = await rallyAll(enter(4))
    for (const { cards, key } of rallies) {
      expect(cards).toEqual([0, 1, 2, 3].map(cardOf))
      expect(key).toEqual(rallies[0]!.key)
    }
    expect(rallies[0]!.key).toHaveLength(32)
  })

  it('may be several on one machine, and all on one', async () => {
    expect((await rallyAll(enter(4, { on: [0, 1, 0, 1] })))[3]!.cards).toHaveLength(4)
    for (const room of rooms) room.close()
    rooms = peers.map((peer) => new Gangs({ wire: { ...net.wire(peer, ['worker']), probe: async () => seen }, log: heard, now: () => now }))
    expect((await rallyAll(enter(3, { on: [2, 2, 2] })))[1]!.cards).toHaveLength(3)
  })

  it('of a gang of one are together at once', async () => {
    expect((await rallyAll(enter(1)))[0]!.cards).toEqual([cardOf(0)])
  })

  it('that are more than a page tell each other their cards', async () => {
    const on = Array.from({ length: 150 }, (_, index) => index % 3)
    const rallies = await rallyAll(enter(150, { on }))
    for (const { cards } of rallies) expect(cards.map((card) => card[0])).toEqual(on.map((_, index) => index))
  })

  it('wait for a primary that comes later, and for a member that brings its card later', async () => {
    const [second] = enter(2, {}, [1])
    const early = second!.rally(cardOf(1), never)
    await new Promise((resolve) => setTimeout(resolve, 50))
    const [first] = enter(2, {}, [0])
    const late = first!.rally(cardOf(0), never)
    expect((await early).key).toEqual((await late).key)
  })

  it('stop waiting when they are told to, or end', async () => {
    const [first, second] = enter(3, {}, [0, 1])
    const stop = new AbortController()
    const waiting = first!.rally(cardOf(0), stop.signal)
    const other = second!.rally(cardOf(1), never)
    stop.abort(new Error('stopped'))
    await expect(waiting).rejects.toThrow('stopped')
    rooms[1]!.leave(second!)
    await expect(other).rejects.toThrow('has ended')
    expect(second!.ended.aborted).toBe(true)
  })

  it('that do not reach each other are all told who, and none starts', async () => {
    const members = enter(3, { addresses: [address, address, ''] })
    const ends = await Promise.allSettled(members.map((member) => member.rally(cardOf(member.gang.index), never)))
    for (const end of ends) {
      expect(end.status).toBe('rejected')
      const { info } = (end as PromiseRejectedResult).reason as { info: { reason: string; message: string } }
      expect(info.reason).toBe('MembersUnreachable')
      expect(info.message).toContain('m0 (the primary) does not reach m2 (subtask 2) (its machine has no address)')
      expect(info.message).toContain('m1 (subtask 1) does not reach m2 (subtask 2)')
      expect(info.message).not.toContain('does not reach m0')
    }
  })
})

describe('reaching', () => {
  it('tells a member from another machine that answers at its address', async () => {
    const bell = await listenForMembers(address)
    const stranger = createServer((socket) => socket.end(randomBytes(16))).listen(0, address)
    await new Promise((resolve) => stranger.once('listening', resolve))
    const { port } = stranger.address() as { port: number }
    try {
      expect(await reach(address, bell, never)).toBeUndefined()
      expect(await reach(address, { ...bell, port }, never)).toContain('another machine answers')
    } finally {
      bell.close()
      stranger.close()
    }
    expect(await reach(address, bell, never)).toContain('ECONNREFUSED')
  })

  it('listens at all where the machine does not have the address itself', async () => {
    const bell = await listenForMembers('192.0.2.1')
    expect(await reach(address, bell, never)).toBeUndefined()
    bell.close()
  })
})

describe('M1: a member of a gang', () => {
  it('whose process has ended is lost at once, and all others hear it', async () => {
    const members = enter(3)
    await rallyAll(members)
    const losses = members.map(lossesOf)
    seen = 'refused'
    net.cut(peers[1]!)
    await until(() => losses[0]!.length > 0 && losses[2]!.length > 0)
    expect([losses[0], losses[2]]).toEqual([['1: its process has ended'], ['1: its process has ended']])
    // Who asks later is told, too.
    expect(lossesOf(members[0]!)).toEqual(['1: its process has ended'])
  })

  it('hears at once that the process of the primary has ended', async () => {
    const members = enter(2)
    await rallyAll(members)
    const losses = lossesOf(members[1]!)
    seen = 'refused'
    net.cut(peers[0]!)
    await until(() => losses.length > 0)
    expect(losses).toEqual(['0: its process has ended'])
  })

  it('that is cut off and comes back within the time is not lost, and hears what was said meanwhile', async () => {
    const look = holdLooks()
    const members = enter(3)
    const rallies = [members[0]!, members[1]!].map((member) => member.rally(cardOf(member.gang.index), never))
    await until(() => joins === 2)
    net.cut(peers[1]!)
    await look(2)
    rallies.push(members[2]!.rally(cardOf(2), never))
    net.heal(peers[1]!)
    expect((await Promise.all(rallies)).map(({ cards }) => cards.length)).toEqual([3, 3, 3])
    const losses = members.map(lossesOf)
    await look(10)
    expect(losses).toEqual([[], [], []])
  })

  it('that says nothing for six seconds is lost, also for itself', async () => {
    const look = holdLooks()
    const members = enter(3)
    await rallyAll(members)
    const losses = members.map(lossesOf)
    net.cut(peers[1]!)
    await look(3)
    expect(losses).toEqual([[], [], []])
    await look(3)
    await until(() => losses.every((of) => of.length > 0))
    expect(losses).toEqual([['1: it was silent for too long'], ['0: it was silent for too long'], ['1: it was silent for too long']])
  })

  it('that is lost before all have come ends the waiting of the others', async () => {
    const members = enter(3)
    const waiting = members.map((member) => (member.gang.index === 1 ? undefined : member.rally(cardOf(member.gang.index), never)))
    await until(() => joins === 2)
    seen = 'refused'
    net.cut(peers[1]!)
    await expect(waiting[0]).rejects.toMatchObject({
      info: { code: 'MachineLost', reason: 'MemberLost', message: 'm1 (subtask 1) of the group was lost: its process has ended.' },
    })
    await expect(waiting[2]).rejects.toMatchObject({ info: { reason: 'MemberLost' } })
  })

  it('whose primary ends by itself has lost nobody', async () => {
    const look = holdLooks()
    const members = enter(2)
    await rallyAll(members)
    const losses = lossesOf(members[1]!)
    rooms[0]!.leave(members[0]!)
    await look(10)
    expect(losses).toEqual([])
  })
})

describe('M1: the last word of a primary', () => {
  it('may be lost with its channel: that it is not there any more says as much', async () => {
    holdLooks()
    rooms[1]!.close()
    let opened = 0
    const wire = net.wire(peers[1]!, ['worker'])
    const open: Wire['open'] = async (...to) => {
      opened += 1
      return await wire.open(...to)
    }
    rooms[1] = new Gangs({ wire: { ...wire, open, probe: async () => seen }, log: heard, now: () => now })
    const members = enter(2)
    await rallyAll(members)
    const losses = lossesOf(members[1]!)
    const before = opened
    rooms[0]!.leave(members[0]!)
    await until(() => opened > before)
    now += 20_000
    // It would ask again after 20 ms.
    await new Promise((resolve) => setTimeout(resolve, 100))
    expect(losses).toEqual([])
    expect(opened).toBe(before + 1)
  })
})

describe('S1: a gang', () => {
  it('does not pass on a card that the others would not take', async () => {
    const [first] = enter(2)
    await expect(first!.rally(new Uint8Array(maxCardBytes + 1), never)).rejects.toThrow('at most 4096 bytes')
    await expect(first!.rally('a card' as unknown as Uint8Array, never)).rejects.toThrow('at most 4096 bytes')
  })

  it('is joined by a request that came before its channel was looked at', async () => {
    let accept: ((channel: Channel) => void) | undefined
    const wire = net.wire(peers[0]!, ['worker'])
    rooms[0]!.close()
    const serve: Wire['serve'] = (_, accepted) => {
      accept = accepted
      return () => undefined
    }
    rooms[0] = new Gangs({ wire: { ...wire, serve }, log: heard, now: () => now })
    enter(2, {}, [0])
    const answered = Promise.withResolvers<unknown>()
    accept!({
      remote: { peer: peers[1]!, roles: ['worker'] },
      closed: new Promise(() => undefined),
      send: (frame) => {
        answered.resolve(decode(frame))
        return true
      },
      drained: async () => undefined,
      pause: () => undefined,
      resume: () => undefined,
      close: () => undefined,
      receive: (handler) => handler(encode([0, 1, 'join', { attempt: { ...attempt, member: 1 } }])),
    })
    expect(await answered.promise).toEqual([1, 1, {}])
  })

  const session = async (peer: string) =>
    clientSession(groupsProtocol, await net.wire(peer, ['worker']).open(peers[0]!, groupsProtocol), {
      calls: {},
      notes: { presences: () => {}, together: () => {}, failed: () => {}, lost: () => {}, over: () => {} },
    })

  it('is joined only by machines of its members, each for its own', async () => {
    enter(3, {}, [0])
    const join = async (peer: string, member: number | undefined, task = 't') =>
      await (await session(peer)).call('join', { attempt: { ...attempt, task, ...(member && { member }) } }).then(
        () => 'joined',
        (error: { code: string }) => error.code,
      )
    expect(await join('peer-of-a-stranger', 1)).toBe('TaskNotFound')
    expect(await join(peers[2]!, 1)).toBe('TaskNotFound')
    expect(await join(peers[0]!, undefined)).toBe('TaskNotFound')
    expect(await join(peers[1]!, 7)).toBe('TaskNotFound')
    expect(await join(peers[1]!, 1, 'other')).toBe('TaskNotFound')
    expect(await join(peers[1]!, 1)).toBe('joined')
  })

  it('takes nothing from a channel on which nobody joined, and one member a channel', async () => {
    const [primary] = enter(2, {}, [0])
    const stranger = await session('peer-of-a-stranger')
    stranger.note('ready', { card: cardOf(9), port: 1, token: new Uint8Array() })
    stranger.note('reached', { unreached: [] })
    await stranger.call('ping', {})
    const waiting = primary!.rally(cardOf(0), never)
    const member = await session(peers[1]!)
    await member.call('join', { attempt: { ...attempt, member: 1 } })
    await expect(member.call('join', { attempt: { ...attempt, member: 1 } })).rejects.toMatchObject({ code: 'InvalidRequestBody' })
    member.close()
    enter(2, {}, [1])[0]!
      .rally(cardOf(1), never)
      .catch(() => undefined)
    expect((await waiting).cards).toEqual([cardOf(0), cardOf(1)])
  })
})
