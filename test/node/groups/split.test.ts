/** Groups made of groups. */
import fc from 'fast-check'
import { expect, it } from 'vitest'
import { run } from './lab.ts'

it('members that give the same color make a group, in the order of their keys and ranks', () =>
  fc.assert(
    fc.asyncProperty(
      fc.nat(1e9),
      fc.array(fc.record({ color: fc.option(fc.nat(3), { nil: undefined }), key: fc.integer({ min: -2, max: 2 }) }), {
        minLength: 1,
        maxLength: 9,
      }),
      async (seed, given) => {
        const got = await run(
          given.length,
          async (group) => {
            const { color, key } = given[group.rank]!
            const part = await group.split(color, key)
            return part && { rank: part.rank, all: await part.allgather(group.rank) }
          },
          { seed },
        )
        for (const [rank, { color }] of given.entries()) {
          const same = given.flatMap((one, of) => (one.color === color ? [{ key: one.key, of }] : []))
          const all = same.sort((a, b) => a.key - b.key || a.of - b.of).map(({ of }) => of)
          expect(got[rank]).toEqual(color === undefined ? undefined : { rank: all.indexOf(rank), all })
        }
      },
    ),
    { numRuns: 60 },
  ))

it('several groups at once, split several times and at the same time, keep their messages apart', () =>
  fc.assert(
    fc.asyncProperty(fc.integer({ min: 2, max: 9 }), fc.nat(1e9), async (size, seed) => {
      await run(
        size,
        async (group) => {
          const { rank } = group
          const [copy, halves, odd] = await Promise.all([group.dup(), group.split(rank < size / 2 ? 0 : 1), group.split(rank % 2, -rank)])
          // Each member splits two groups at once, some in another order than others.
          const parts = rank % 2 === 0 ? [halves!, odd!] : [odd!, halves!]
          const splits = await Promise.all(parts.map((part) => part.split(part.rank % 2)))
          const all = [group, copy, ...parts, ...splits.map((split) => split!)]
          await Promise.all(
            all.map(async (one) => {
              const next = (one.rank + 1) % one.size
              const before = (one.rank - 1 + one.size) % one.size
              const ranks = await one.allgather(rank)
              const name = ranks.join()
              const sent = one.isend({ name, rank }, next)
              expect((await one.recv()).data).toEqual({ name, rank: ranks[before] })
              await sent.done
              expect(await one.allreduce(rank, 'sum')).toBe(ranks.reduce((sum, other) => sum + other))
            }),
          )
        },
        { seed },
      )
    }),
    { numRuns: 40 },
  ))

it('a group that was joined by some before others gets what was sent meanwhile', async () => {
  await run(3, async (group) => {
    const copy = await group.dup()
    if (group.rank === 0) await Promise.all([1, 2].map((to) => copy.send('first', to)))
    else expect((await copy.recv()).data).toBe('first')
  })
})
