/** Functions of a gang in threads: those of one process share memory, and after a crash each has a process of its own. */
import { setTimeout as sleep } from 'node:timers/promises'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { TaskFailure } from '../../node/ports.ts'
import { FakeRally } from './fake-rally.ts'
import { TaskLab } from './task-lab.ts'
import { type CallOptions, childrenIn, type Ran, ThreadLab } from './thread-lab.ts'

let lab: ThreadLab
beforeAll(async () => {
  lab = new ThreadLab(await TaskLab.open(), { otherSaysMs: 1000 })
})
afterAll(() => lab.close())

interface Gang {
  rally: FakeRally
  members: Promise<Ran>[]
  /** Ends what still runs, as the node does when the attempt is over. */
  stop: () => void
}

/** Calls a function as so many members. */
function gang(size: number, body: string, options: CallOptions = {}): Gang {
  const rally = new FakeRally(size)
  const stopping = new AbortController()
  const members = Array.from({ length: size }, (_, rank) =>
    lab.call(`export default ${body}`, { signal: stopping.signal, ...options, gang: rally.member(rank) }),
  )
  for (const member of members) member.catch(() => undefined)
  return { rally, members, stop: () => stopping.abort() }
}

async function values({ members }: Gang): Promise<unknown[]> {
  const all = await Promise.all(members)
  expect(all.map(({ failureInfo }) => failureInfo).filter((failure) => failure !== undefined)).toEqual([])
  return all.map(({ result }) => result)
}

describe('functions of a gang', () => {
  it('get their group before their arguments; what all return is the value of the primary, by rank', async () => {
    const four = gang(4, 'async (group, text) => [text, group.rank, "of", group.size].join(" ")', { args: ['rank'] })
    expect(await values(four)).toEqual([['rank 0 of 4', 'rank 1 of 4', 'rank 2 of 4', 'rank 3 of 4'], undefined, undefined, undefined])
    expect(childrenIn(lab.tasks.root)).toHaveLength(1)
  })

  it('of one member alone have a group, too', async () => {
    const body = 'async (group) => [group.size, ...(await group.allreduce(Float64Array.of(3), "sum"))]'
    expect(await values(gang(1, body))).toEqual([[[1, 3]]])
  })

  it('exchange arrays of megabytes, in groups that they split off as well', async () => {
    const body = `async (group) => {
      const sum = await group.allreduce(new Float64Array(1 << 20).fill(group.rank + 1), 'sum')
      const half = await group.split(group.rank % 2, -group.rank)
      const quarter = await half.split(half.rank)
      const names = await half.allgather('was ' + group.rank)
      return [sum.length, sum.every((value) => value === 10), half.rank, names, quarter.size]
    }`
    const [all] = (await values(gang(4, body))) as [unknown[]]
    const [even, odd] = [
      ['was 2', 'was 0'],
      ['was 3', 'was 1'],
    ]
    expect(all).toEqual([
      [1 << 20, true, 1, even, 1],
      [1 << 20, true, 1, odd, 1],
      [1 << 20, true, 0, even, 1],
      [1 << 20, true, 0, odd, 1],
    ])
  })

  it('may return values that are too large to be said', async () => {
    const [all] = (await values(gang(2, '(group) => new Uint8Array(1e6).fill(group.rank + 1)'))) as [Uint8Array[]]
    expect(all!.map((value) => [value.length, value[0], value.at(-1)])).toEqual([
      [1e6, 1, 1],
      [1e6, 2, 2],
    ])
  })

  it('return whenever they want: who sent to others before still reaches them', async () => {
    const body = `async (group) => {
      if (group.rank === 1) return void group.isend(new Float64Array(1e5).fill(7), 0)
      await new Promise((resolve) => setTimeout(resolve, 50))
      return (await group.recv({ from: 1 })).data[99999]
    }`
    expect(await values(gang(2, body))).toEqual([[7, undefined], undefined])
  })

  it('fail with what one of them threw, and its rank; those that fail because of it wait for that to be told', async () => {
    const body = `async (group) => {
      await group.barrier()
      if (group.rank === 2) throw new RangeError('not this one')
      await group.barrier()
    }`
    const four = gang(4, body, { name: 'work.ts' })
    const failed = await four.members[2]
    expect(failed).toMatchObject({
      exitCode: 1,
      failureInfo: { code: 'ThreadFailed', message: 'RangeError: not this one', rank: 2 },
      error: { name: 'RangeError', stack: expect.stringContaining('work.ts:3') },
    })
    const others = [0, 1, 3].map((rank) => four.members[rank]!)
    expect(await Promise.race([...others, sleep(100, 'they wait')])).toBe('they wait')
    four.stop()
    await Promise.allSettled(others)
  })

  it('that end their thread fail with that, and their rank', async () => {
    const three = gang(3, 'async (group) => { if (group.rank === 1) process.exit(4); await group.barrier() }')
    expect(await three.members[1]).toMatchObject({ exitCode: 4, failureInfo: { code: 'ThreadEnded', rank: 1 } })
    three.stop()
    await Promise.allSettled(three.members)
  })

  it('hear of a member that its node says is lost; nobody else telling, the gang has lost a member', async () => {
    const body =
      'async (group) => { console.log("in"); await group.recv({ from: 1 }).catch((error) => console.log(error.code)); await group.barrier() }'
    const two = gang(2, body)
    while (two.rally.listeners.size < 2) await sleep(5)
    two.rally.lose(1, 'its machine is gone')
    const error: unknown = await two.members[0]!.catch((thrown: unknown) => thrown)
    expect(error).toBeInstanceOf(TaskFailure)
    expect((error as TaskFailure).info).toMatchObject({ category: 'servererror', code: 'MachineLost', reason: 'MemberLost' })
    two.stop()
    await two.members[1]
  })

  it('that cannot come together fail as their rally does, without having begun', async () => {
    const two = gang(2, '() => console.log("begun")')

    two.rally.fail(
      new TaskFailure({ category: 'servererror', code: 'Unknown', reason: 'MembersUnreachable', message: 'one does not reach the other' }),
    )
    for (const member of two.members) await expect(member).rejects.toMatchObject({ info: { reason: 'MembersUnreachable' } })
  })

  it('are ended wherever they are when the attempt is over', async () => {
    const two = gang(2, 'async (group) => { if (group.rank === 0) for (;;); await group.barrier() }')
    while (two.rally.cards.length < 2) await sleep(5)
    two.stop()
    for (const member of two.members) expect(await member).toMatchObject({ killed: true, exitCode: 137 })
  })

  it('after a crash have a process each, and reach each other over TLS', async () => {
    const crashed = gang(
      2,
      'async (group) => { await group.barrier(); if (group.rank === 1) process.kill(process.pid, "SIGABRT"); await group.barrier() }',
    )
    for (const member of crashed.members) await expect(member).rejects.toMatchObject({ info: { code: 'ThreadHostLost' } })
    const apart = gang(2, 'async (group) => { await group.barrier(); return [process.pid, await group.allgather(group.rank)] }')
    const [all] = (await values(apart)) as [[number, number[]][]]
    expect(all!.map(([, ranks]) => ranks)).toEqual([
      [0, 1],
      [0, 1],
    ])
    expect(new Set(all!.map(([pid]) => pid)).size).toBe(2)
  })
})
