/**
 * Each collective operation gives what a dumb twin gives, which sees the data of all members at once. Sizes of groups, lengths,
 * types, roots and the order of messages are drawn; lengths lie on both sides of where another algorithm takes over.
 */
import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import type { TypedArray, TypedArrayConstructor } from '../../../node/groups/datatypes.ts'
import { expectSame, filled, run, types } from './lab.ts'

const runs = { numRuns: 50 }

const size = fc.integer({ min: 1, max: 9 })
const seed = fc.nat(1e9)
const type = fc.constantFrom(...types)
/** Elements a member gives. */
const length = fc.oneof(
  { weight: 5, arbitrary: fc.integer({ min: 0, max: 40 }) },
  { weight: 2, arbitrary: fc.integer({ min: 1000, max: 3000 }) },
  { weight: 1, arbitrary: fc.integer({ min: 8000, max: 40_001 }) },
)
const setting = fc.record({ size, seed, type, length, rootOf: fc.nat(8), isShared: fc.boolean() })
type Setting = typeof setting extends fc.Arbitrary<infer T> ? T : never

const values: fc.Arbitrary<unknown> = fc.oneof(
  fc.string(),
  fc.double({ noNaN: true }),
  fc.bigInt(),
  fc.constant(undefined),
  fc.array(fc.integer(), { maxLength: 5 }),
  fc.dictionary(fc.string(), fc.boolean(), { maxKeys: 3 }).map((entries) => new Map(Object.entries(entries))),
  fc.constant(Float32Array.of(1, 2, 3)),
)

function check(name: string, property: (drawn: Setting) => Promise<void>): void {
  it(name, () => fc.assert(fc.asyncProperty(setting, property), runs))
}

/** One array of those of all, in the order of ranks. */
function joined(of: TypedArrayConstructor, arrays: readonly TypedArray[]): TypedArray {
  const all = new of(arrays.reduce((sum, array) => sum + array.length, 0))
  let at = 0
  for (const array of arrays) {
    all.set(array as never, at)
    at += array.length
  }
  return all
}

const ranks = (count: number): number[] => Array.from({ length: count }, (_, rank) => rank)

describe('arrays', () => {
  check('of the root reach all by bcast', async ({ size, seed, type, length, rootOf, isShared }) => {
    const root = rootOf % size
    const given = filled(type, length, seed)
    const intos = ranks(size).map(() => new type(length))
    const got = await run(
      size,
      async (group) => {
        const into = group.rank % 2 === 1 && group.rank !== root ? intos[group.rank] : undefined
        return group.bcast(group.rank === root ? given : undefined, { root, into })
      },
      { seed, isShared },
    )
    for (const [rank, array] of got.entries()) {
      expectSame(array, given)
      if (rank % 2 === 1 && rank !== root) expect(array).toBe(intos[rank])
      else if (rank !== root) expect(array.buffer).not.toBe(given.buffer)
    }
  })

  it('longer than what one tree should send, reach all by bcast, or are refused by name', () =>
    fc.assert(
      fc.asyncProperty(size, seed, fc.boolean(), async (size, seed, isShared) => {
        const given = filled(Int16Array, 140_000 + (seed % 7), seed)
        const root = seed % size
        const options = (rank: number) => ({ root, into: rank % 2 === 1 ? new Int16Array(given.length) : undefined })
        const got = await run(size, (group) => group.bcast(group.rank === root ? given : undefined, options(group.rank)), {
          seed,
          isShared,
        })
        for (const array of got) expectSame(array, given)
        if (size === 1) return
        const wrong = [new Int16Array(given.length + 1), new Uint16Array(given.length)][seed % 2]
        const failed = run(
          size,
          (group) =>
            group.bcast(group.rank === root ? given : undefined, {
              root,
              into: group.rank === (root + 1) % size ? (wrong as Int16Array) : undefined,
            }),
          { seed, isShared },
        )
        await expect(failed).rejects.toMatchObject({ name: 'GroupError' })
      }),
      { numRuns: 20 },
    ))

  check('of the root are dealt out by scatter', async ({ size, seed, type, length, rootOf, isShared }) => {
    const root = rootOf % size
    const given = filled(type, length * size, seed)
    const got = await run(
      size,
      (group) => {
        const into = group.rank % 2 === 1 ? new type(length) : undefined
        return group.scatter(group.rank === root ? given : undefined, { root, into })
      },
      { seed, isShared },
    )
    for (const [rank, array] of got.entries()) {
      expectSame(array, given.slice(rank * length, (rank + 1) * length) as TypedArray)
      expect(array.buffer).not.toBe(given.buffer)
    }
  })

  check('of different lengths are dealt out by scatterv, and come together by gatherv and allgatherv', async (drawn) => {
    const { size, seed, type, length, rootOf, isShared } = drawn
    const root = rootOf % size
    const counts = ranks(size).map((rank) => Math.floor((length * ((seed + rank * 7) % 5)) / 4))
    const parts = counts.map((count, rank) => filled(type, count, seed + rank))
    const all = joined(type, parts)
    const got = await run(
      size,
      async (group) => {
        const isRoot = group.rank === root
        const own = await group.scatterv(isRoot ? all : undefined, isRoot ? counts : undefined, { root })
        const [atRoot, atAll] = await Promise.all([group.gatherv(own, { root }), group.allgatherv(own)])
        return { own, atRoot, atAll }
      },
      { seed, isShared },
    )
    for (const [rank, { own, atRoot, atAll }] of got.entries()) {
      expectSame(own, parts[rank])
      expectSame(atRoot?.data, rank === root ? all : undefined)
      expectSame(atAll.data, all)
      expect(atRoot?.counts).toEqual(rank === root ? counts : undefined)
      expect(atAll.counts).toEqual(counts)
    }
  })

  check('come together by gather at the root, and by allgather everywhere', async ({ size, seed, type, length, rootOf, isShared }) => {
    const root = rootOf % size
    const parts = ranks(size).map((rank) => filled(type, length, seed + rank))
    const all = joined(type, parts)
    const got = await run(
      size,
      async (group) => {
        const into = () => (seed % 2 === 1 ? new type(length * size) : undefined)
        const own = parts[group.rank]!
        return { atRoot: await group.gather(own, { root, into: into() }), atAll: await group.allgather(own, { into: into() }) }
      },
      { seed, isShared },
    )
    for (const [rank, { atRoot, atAll }] of got.entries()) {
      expectSame(atRoot, rank === root ? all : undefined)
      expectSame(atAll, all)
    }
  })

  check('change places by alltoall', async ({ size, seed, type, length: drawn, isShared }) => {
    const length = drawn % 3001
    const given = ranks(size).map((rank) => filled(type, length * size, seed + rank))
    const got = await run(
      size,
      (group) => {
        const own = given[group.rank]!.slice() as TypedArray
        return group.alltoall(own, { into: [undefined, own, new type(own.length)][seed % 3] })
      },
      { seed, isShared },
    )
    for (const [rank, array] of got.entries()) {
      expectSame(
        array,
        joined(
          type,
          given.map((from) => from.slice(rank * length, (rank + 1) * length) as TypedArray),
        ),
      )
    }
  })

  check('of different lengths change places by alltoall of lists', async ({ size, seed, type, length: drawn }) => {
    const length = drawn % 9001
    const partOf = (from: number, to: number) => filled(type, Math.floor((length * ((from * 3 + to) % 4)) / 3), seed + from * 10 + to)
    const got = await run(size, (group) => group.alltoall(ranks(size).map((to) => partOf(group.rank, to))), { seed })
    for (const [rank, parts] of got.entries()) for (const from of ranks(size)) expectSame(parts[from], partOf(from, rank))
  })
})

describe('values', () => {
  it('of any kind go through bcast, scatter, gather, allgather, alltoall and messages', () =>
    fc.assert(
      fc.asyncProperty(size, seed, fc.nat(8), fc.array(values, { minLength: 81, maxLength: 81 }), async (size, seed, rootOf, drawn) => {
        const root = rootOf % size
        const list = drawn.slice(0, size)
        const valueFor = (from: number, to: number) => drawn[from * 9 + to]
        const got = await run(
          size,
          async (group) => {
            const { rank } = group
            const isRoot = rank === root
            const next = (rank + 1) % size
            return {
              all: await group.bcast(isRoot ? { list } : undefined, { root }),
              own: await group.scatter(isRoot ? list : undefined, { root }),
              gathered: await group.gather({ value: list[rank] }, { root }),
              allgathered: await group.allgather({ value: list[rank] }),
              exchanged: await group.alltoall(ranks(size).map((to) => valueFor(rank, to))),
              neighbour: (await group.sendrecv({ value: list[rank] }, next, { from: (rank - 1 + size) % size })).data,
            }
          },
          { seed },
        )
        for (const [rank, one] of got.entries()) {
          const wrapped = list.map((value) => ({ value }))
          expect(one).toEqual({
            all: { list },
            own: list[rank],
            gathered: rank === root ? wrapped : undefined,
            allgathered: wrapped,
            exchanged: ranks(size).map((from) => valueFor(from, rank)),
            neighbour: wrapped[(rank - 1 + size) % size],
          })
        }
      }),
      { numRuns: 40 },
    ))
})

it('a barrier lets nobody through before all have come', () =>
  fc.assert(
    fc.asyncProperty(size, seed, async (size, seed) => {
      let came = 0
      await run(
        size,
        async (group) => {
          for (let round = 1; round <= 3; round += 1) {
            for (let turns = (seed + group.rank * round) % 5; turns > 0; turns -= 1) await new Promise(setImmediate)
            came += 1
            await group.barrier()
            expect(came).toBeGreaterThanOrEqual(round * size)
          }
        },
        { seed },
      )
    }),
    runs,
  ))

it('several collective operations at once do not meet each other', () =>
  fc.assert(
    fc.asyncProperty(size, seed, async (size, seed) => {
      const got = await run(
        size,
        (group) =>
          Promise.all(
            ranks(12).map(async (index) => {
              if (index % 3 === 0) return group.bcast(group.rank === index % size ? index : undefined, { root: index % size })
              if (index % 3 === 1) return group.allreduce(group.rank * index, 'sum')
              return (await group.allgather(Float64Array.of(index, group.rank))).join()
            }),
          ),
        { seed },
      )
      for (const all of got) {
        expect(all).toEqual(
          ranks(12).map((index) => {
            if (index % 3 === 0) return index
            if (index % 3 === 1) return (index * size * (size - 1)) / 2
            return ranks(size)
              .map((rank) => `${index},${rank}`)
              .join()
          }),
        )
      }
    }),
    runs,
  ))
