/** What happens when members are lost, give up, close, or do different things: nobody waits for ever, and everybody is told why. */
import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import type { Group } from '../../../node/groups/group.ts'
import { lab, outcomes } from './lab.ts'

const turns = async (count: number): Promise<void> => {
  for (let turn = 0; turn < count; turn += 1) await new Promise(setImmediate)
}

/** Some of everything, for ever: each round needs all members. */
async function work(group: Group, rounds = Number.POSITIVE_INFINITY): Promise<string> {
  const { rank, size } = group
  // Long enough for shared memory.
  const array = new Float64Array(4200).fill(rank)
  for (let round = 0; round < rounds; round += 1) {
    const sum = await group.allreduce(array, 'sum')
    expect(sum[7]).toBe((size * (size - 1)) / 2)
    await group.bcast(round % size === rank ? { round } : undefined, { root: round % size })
    await group.gather(array, { root: round % size })
    await group.alltoall(Array.from({ length: size }, (_, to) => [rank, to, round]))
    await group.barrier()
  }
  return 'done'
}

/** As `work`, with groups of groups; a member whose program fails closes its group. */
async function workInParts(group: Group): Promise<never> {
  try {
    for (;;) {
      await work(group, 1)
      await group.sendrecv(group.rank, (group.rank + 1) % group.size, { from: (group.rank || group.size) - 1 })
      const half = await group.split(group.rank % 2)
      const [copy] = await Promise.all([half!.dup(), half!.allgather(group.rank)])
      await work(copy, 1)
      await Promise.all([copy.close(), half!.close()])
    }
  } finally {
    await group.close()
  }
}

describe('a member that is lost', () => {
  it('lets nobody wait for ever in groups of groups either', () =>
    fc.assert(
      fc.asyncProperty(fc.integer({ min: 2, max: 7 }), fc.nat(1e9), fc.nat(6), fc.nat(600), async (size, seed, who, after) => {
        const { network, groups } = lab(size, { seed, isShared: seed % 2 === 0 })
        const programs = groups.map(workInParts)
        await turns(after)
        network.kill(who % size)
        const found = await outcomes(network, programs)
        for (const [rank, outcome] of found.entries()) {
          if (rank !== who % size) expect(outcome, `rank ${rank}`).toMatchObject({ error: { name: 'GroupError' } })
        }
      }),
      { numRuns: 35 },
    ))

  it('ends what all others wait for, at whatever moment it goes, with its rank', () =>
    fc.assert(
      fc.asyncProperty(fc.integer({ min: 2, max: 7 }), fc.nat(1e9), fc.nat(6), fc.nat(400), async (size, seed, who, after) => {
        const victim = who % size
        const { network, groups } = lab(size, { seed, isShared: seed % 2 === 0 })
        const programs = groups.map((group) => work(group))
        await turns(after)
        network.kill(victim)
        const found = await outcomes(network, programs)
        for (const [rank, outcome] of found.entries()) {
          if (rank !== victim) expect(outcome, `rank ${rank}`).toMatchObject({ error: { name: 'GroupError', code: 'MemberLost' } })
        }
        const later = groups.filter((group) => group.rank !== victim)
        const again = await outcomes<unknown>(
          network,
          later.flatMap((group) => [
            group.barrier(),
            group.recv({ from: victim, tag: 99 }),
            group.recv({ tag: 99 }),
            group.probe({ from: victim, tag: 99 }),
            group.send(1, victim),
            group.send(new Uint8Array(100_000), victim),
          ]),
        )
        for (const one of again) expect(one).toMatchObject({ error: { code: 'MemberLost', rank: victim } })
        for (const group of later) expect(group.signal.reason).toMatchObject({ code: 'MemberLost', rank: victim })
      }),
      { numRuns: 80 },
    ))

  it('leaves what it had sent, and the others to send each other messages', async () => {
    const { network, groups } = lab(3)
    await outcomes<unknown>(network, [groups[0]!.send('last words', 1), groups[1]!.probe()])
    network.kill(0)
    await outcomes(network, [groups[1]!.recv({ from: 0, tag: 1 }), groups[2]!.recv({ from: 0 })])
    const found = await outcomes<unknown>(network, [
      groups[1]!.recv({ from: 0 }),
      groups[2]!.send('on we go', 1),
      groups[1]!.recv({ from: 2 }),
    ])
    expect(found).toMatchObject([{ value: { data: 'last words' } }, {}, { value: { data: 'on we go' } }])
  })

  it('ends collective operations also on members that still reach it', async () => {
    const { network, groups } = lab(4)
    const programs = groups.map((group) => work(group))
    await turns(50)
    network.cut(1, 3)
    const found = await outcomes(network, programs)
    for (const outcome of found) expect(outcome).toMatchObject({ error: { name: 'GroupError', code: 'MemberLost' } })
  })
})

describe('a collective operation that fails on a member', () => {
  it('at whatever moment it is aborted, ends it and later ones on all, and earlier ones nowhere', () =>
    fc.assert(
      fc.asyncProperty(fc.integer({ min: 2, max: 7 }), fc.nat(1e9), fc.nat(6), fc.nat(300), async (size, seed, who, after) => {
        const quitter = who % size
        const { network, groups } = lab(size, { seed, isShared: seed % 2 === 0 })
        const abort = new AbortController()
        const reached: number[] = []
        const programs = groups.map(async (group) => {
          for (let round = 0; ; round += 1) {
            reached[group.rank] = round
            await group.allreduce(new Float64Array(4200).fill(1), 'sum', group.rank === quitter ? { signal: abort.signal } : {})
          }
        })
        await turns(after)
        abort.abort(new Error('enough'))
        const found = await outcomes(network, programs)
        for (const [rank, outcome] of found.entries()) {
          if (rank === quitter) expect(outcome).toMatchObject({ error: { message: 'enough' } })
          else
            expect(outcome).toMatchObject({
              error: { code: 'Broken', rank: quitter, message: expect.stringContaining('gave up allreduce') },
            })
          // Those that had finished it fail in the next one.
          expect([reached[quitter]!, reached[quitter]! + 1]).toContain(reached[rank])
        }
        const more = await outcomes<unknown>(
          network,
          groups.map((group) => group.barrier()),
        )
        for (const one of more) expect(one).toMatchObject({ error: { code: 'Broken', rank: quitter } })
      }),
      { numRuns: 80 },
    ))

  it('leaves messages, and groups that were split off before', async () => {
    const { network, groups } = lab(3)
    const copies = await Promise.all(groups.map((group) => group.dup()))
    const found = await outcomes<unknown>(network, [
      groups[0]!.barrier({ signal: AbortSignal.abort(new Error('no')) }),
      groups[1]!.barrier(),
      groups[1]!.send('still here', 0),
      groups[0]!.recv(),
      ...copies.map((copy) => copy.allreduce(1, 'sum')),
    ])
    expect(found).toMatchObject([
      { error: { message: 'no' } },
      { error: { code: 'Broken' } },
      {},
      { value: { data: 'still here' } },
      { value: 3 },
      { value: 3 },
      { value: 3 },
    ])
  })

  it('says what was wrong with the arguments, to all', async () => {
    const cases: [(group: Group) => Promise<unknown>, number, string][] = [
      [(group) => group.bcast(1, { root: group.rank === 1 ? 9 : 0 }), 1, 'root is 9: give a rank from 0 to 2.'],
      [
        (group) => group.allreduce(new Float32Array(3), group.rank === 2 ? 'band' : 'sum'),
        2,
        "'band' is for arrays of integers, not for a Float32Array.",
      ],
      [(group) => group.allreduce(new Int8Array(3), (group.rank === 0 ? 'add' : 'sum') as never), 0, 'There is no operation "add"'],
      [(group) => group.alltoall(new Int8Array(group.rank === 0 ? 4 : 6)), 0, 'The array has 4 elements, which do not make 3 equal blocks'],
      [(group) => group.scatter(group.rank === 0 ? [1, 2] : undefined), 0, 'The list has 2 parts: give one for each of the 3 members.'],
      [(group) => group.allreduce({ a: 1 } as never, 'sum'), 0, "'sum' cannot combine values of type object"],
      [(group) => group.reduce(new Int8Array(3), 'minloc'), 0, 'is for pairs'],
    ]
    for (const [program, rank, text] of cases) {
      const { network, groups } = lab(3)
      const found = await outcomes(network, groups.map(program))
      expect(found[rank], text).toMatchObject({ error: { code: 'InvalidArgument', message: expect.stringContaining(text) } })
      // Who had finished it hears of it in the next one.
      const later = await outcomes<unknown>(
        network,
        groups.map((group) => group.barrier()),
      )
      for (const one of later) expect(one).toMatchObject({ error: { code: 'Broken', message: expect.stringContaining(text) } })
      expect(found).not.toContain('hangs')
    }
  })

  it('because members gave different types or lengths, names them', async () => {
    const program = async (program: (group: Group) => Promise<unknown>) => {
      const { network, groups } = lab(2)
      return outcomes(network, groups.map(program))
    }
    const both = (code: string, text: string) =>
      expect.arrayContaining([{ error: expect.objectContaining({ code, message: expect.stringContaining(text) }) }])
    expect(
      await program((group) => group.allreduce(group.rank === 0 ? new Float64Array(2) : (new Float32Array(4) as never), 'sum')),
    ).toEqual(both('DatatypeMismatch', 'gave Float'))
    expect(await program((group) => group.allgather(new Float64Array(2 + group.rank)))).toEqual(
      both('CountMismatch', 'bytes where this member awaits'),
    )
    expect(
      await program((group) =>
        group.bcast(group.rank === 0 ? new Int8Array(3) : undefined, { into: group.rank === 1 ? new Int8Array(4) : undefined }),
      ),
    ).toEqual(both('CountMismatch', 'Rank 0 sent 3 bytes'))
    expect(await program((group) => group.gatherv((group.rank === 0 ? new Int8Array(3) : new Int16Array(2)) as Int8Array))).toEqual(
      both('DatatypeMismatch', 'Rank 1 gave Int16Array, this member Int8Array'),
    )
  })

  it('because members called different ones, or gave different roots, says so', async () => {
    const { network, groups } = lab(3)
    const found = await outcomes<unknown>(
      network,
      groups.map((group) => (group.rank === 1 ? group.barrier() : group.allreduce(1, 'sum'))),
    )
    for (const one of found)
      expect(one).toMatchObject({ error: { code: 'Broken', message: expect.stringContaining('all members must call the same') } })
    const other = lab(2)
    await outcomes<unknown>(
      other.network,
      other.groups.map((group) => group.bcast('mine', { root: group.rank })),
    )
    const later = await outcomes<unknown>(
      other.network,
      other.groups.map((group) => group.barrier()),
    )
    for (const one of later)
      expect(one).toMatchObject({ error: { code: 'Broken', message: expect.stringContaining('with the same root') } })
  })

  it('when its time is over, says so to all', async () => {
    const { groups } = lab(3)
    await expect(groups[0]!.barrier({ timeoutMs: 5 })).rejects.toMatchObject({ code: 'TimedOut', message: 'barrier: nothing in 5 ms.' })
    await expect(groups[1]!.barrier()).rejects.toThrow(
      'Rank 0 gave up barrier, and with it the collective operations of the group: barrier: nothing in 5 ms.',
    )
  })
})

describe('closing', () => {
  it('ends what waits here, and what others want of this member; what was sent can be received', async () => {
    const { network, groups } = lab(3)
    const pending = groups[0]!.recv()
    await outcomes(network, [groups[0]!.send('bye', 1)])
    await groups[0]!.close()
    await groups[0]!.close()
    const found = await outcomes<unknown>(network, [
      pending,
      groups[0]!.barrier(),
      groups[0]!.send(1, 1),
      groups[1]!.recv({ from: 0 }),
      groups[1]!.recv({ from: 0 }),
      groups[1]!.send(1, 0),
      groups[2]!.barrier(),
      groups[1]!.barrier(),
      groups[1]!.send('hello', 2),
      groups[2]!.recv(),
    ])
    expect(found).toMatchObject([
      { error: { code: 'Closed' } },
      { error: { code: 'Closed' } },
      { error: { code: 'Closed' } },
      { value: { data: 'bye' } },
      { error: { code: 'MemberClosed', rank: 0, message: 'Rank 0 has closed the group.' } },
      expect.anything(),
      { error: { name: 'GroupError' } },
      { error: { name: 'GroupError' } },
      {},
      { value: { data: 'hello' } },
    ])
    expect(await outcomes(network, [groups[1]!.send(1, 0)])).toMatchObject([{ error: { code: 'MemberClosed', rank: 0 } }])
  })

  it('right after the last operation disturbs nobody who is still in it', () =>
    fc.assert(
      fc.asyncProperty(fc.integer({ min: 1, max: 8 }), fc.nat(1e9), async (size, seed) => {
        const { network, groups } = lab(size, { seed, isShared: seed % 2 === 0 })
        const found = await outcomes(
          network,
          groups.map(async (group) => {
            const result = await work(group, 1)
            await group.close()
            return result
          }),
        )
        expect(found).toEqual(groups.map(() => ({ value: 'done' })))
      }),
      { numRuns: 60 },
    ))

  it('of a group that was split off leaves the others open', async () => {
    const { network, groups } = lab(2)
    const copies = await Promise.all(groups.map((group) => group.dup()))
    const waiting = copies[1]!.recv()
    await copies[0]!.close()
    const found = await outcomes<unknown>(network, [waiting, ...groups.map((group) => group.allreduce(1, 'sum'))])
    expect(found).toMatchObject([{ error: { code: 'MemberClosed', rank: 0 } }, { value: 2 }, { value: 2 }])
    await groups[0]!.close()
    await expect(copies[0]!.recv()).rejects.toMatchObject({ code: 'Closed' })
  })
})
