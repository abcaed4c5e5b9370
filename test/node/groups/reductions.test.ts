/** Each reduction gives what a dumb twin gives, which combines the data of all members one after the other. */
import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import type { TypedArray, TypedArrayConstructor } from '../../../node/groups/datatypes.ts'
import type { Operation } from '../../../node/groups/operations.ts'
import { expectSame, filled, isBig, isFloat, run, types } from './lab.ts'

type Numbers = Record<number, number | bigint> & { length: number }

/** In numbers without bounds, wrapped by the array that they are put into. */
const onIntegers: Record<string, (a: bigint, b: bigint) => bigint> = {
  sum: (a, b) => a + b,
  prod: (a, b) => a * b,
  min: (a, b) => (a < b ? a : b),
  max: (a, b) => (a > b ? a : b),
  land: (a, b) => (a !== 0n && b !== 0n ? 1n : 0n),
  lor: (a, b) => (a !== 0n || b !== 0n ? 1n : 0n),
  lxor: (a, b) => ((a !== 0n) !== (b !== 0n) ? 1n : 0n),
  band: (a, b) => a & b,
  bor: (a, b) => a | b,
  bxor: (a, b) => a ^ b,
}
const onFloats = ['sum', 'prod', 'min', 'max']
const places = ['minloc', 'maxloc']

/** Takes one line of x -> p x + q (mod 11) after another: associative, and not commutative. */
const composed = (lower: number, higher: number): number => {
  const [p, q] = [Math.floor(lower / 11), lower % 11]
  const [r, s] = [Math.floor(higher / 11), higher % 11]
  return ((p * r) % 11) * 11 + ((q * r + s) % 11)
}

function twin(operation: string, arrays: readonly TypedArray[]): TypedArray {
  const result = arrays[0]!.slice() as Numbers & TypedArray
  const type = result.constructor as TypedArrayConstructor
  for (const array of arrays.slice(1) as (Numbers & TypedArray)[]) {
    for (let index = 0; index < result.length; index += 1) {
      const [a, b] = [result[index]!, array[index]!]
      if (operation === 'composed') result[index] = composed(Number(a), Number(b))
      else if (places.includes(operation)) {
        if (index % 2 === 1) continue
        const [x, y] = [Number(a), Number(b)]
        const [here, there] = [result[index + 1]!, array[index + 1]!]
        const isBetter = operation === 'minloc' ? y < x : y > x
        if (isBetter || (x === y && there < here)) [result[index], result[index + 1]] = [b, there]
      } else if (isFloat(type)) {
        const [x, y] = [Number(a), Number(b)]
        result[index] = operation === 'sum' ? x + y : operation === 'prod' ? x * y : operation === 'min' ? Math.min(x, y) : Math.max(x, y)
      } else {
        const exact = onIntegers[operation]!(BigInt(a), BigInt(b))
        const isClamped = type.name === 'Uint8ClampedArray'
        result[index] = isBig(type) ? exact : Number(isClamped ? exact : BigInt.asIntN(32, exact))
      }
    }
  }
  return result
}

const reductionsOf = (type: TypedArrayConstructor): string[] => {
  const own = isFloat(type) ? onFloats : Object.keys(onIntegers)
  return [...own, ...places, ...(isBig(type) ? [] : ['composed'])]
}

const setting = fc
  .record({
    size: fc.integer({ min: 1, max: 9 }),
    seed: fc.nat(1e9),
    type: fc.constantFrom(...types),
    half: fc.oneof(
      { weight: 5, arbitrary: fc.integer({ min: 0, max: 20 }) },
      { weight: 3, arbitrary: fc.integer({ min: 1000, max: 9000 }) },
      { weight: 1, arbitrary: fc.integer({ min: 20_000, max: 40_000 }) },
    ),
    isOdd: fc.boolean(),
    rootOf: fc.nat(8),
    isShared: fc.boolean(),
    pick: fc.nat(1000),
  })
  .map((drawn) => {
    const names = reductionsOf(drawn.type)
    const name = names[drawn.pick % names.length]!
    const length = 2 * drawn.half + (drawn.isOdd && !places.includes(name) ? 1 : 0)
    return { ...drawn, name, length, root: drawn.rootOf % drawn.size }
  })

function inputs(type: TypedArrayConstructor, name: string, size: number, length: number, seed: number): TypedArray[] {
  return Array.from({ length: size }, (_, rank) => {
    const array = filled(type, length, seed + rank) as Numbers & TypedArray
    if (name === 'composed') for (let index = 0; index < length; index += 1) array[index] = (Number(array[index]) * 31 + 260 + index) % 121
    // The product of integers of many bits is the low ones.
    else if (name === 'prod' && /Int32|Uint32/.test(type.name))
      for (let index = 0; index < length; index += 1) array[index] = 48_611 * (index + rank + 1)
    return array
  })
}

const operationOf = (name: string): Operation => (name === 'composed' ? (composed as never) : (name as Operation))

describe('arrays are combined', () => {
  it('by reduce and allreduce, to the same bits on all', () =>
    fc.assert(
      fc.asyncProperty(setting, async ({ size, seed, type, name, length, root, isShared }) => {
        const given = inputs(type, name, size, length, seed)
        const before = given.map((array) => array.slice())
        const result = twin(name, given)
        const got = await run(
          size,
          async (group) => {
            const own = given[group.rank]!
            const inPlace = own.slice() as TypedArray
            const atRoot = await group.reduce(own, operationOf(name), { root })
            const atAll = await group.allreduce(own, operationOf(name))
            const same = await group.allreduce(inPlace, operationOf(name), { into: inPlace })
            expect(same).toBe(inPlace)
            expect(atAll).not.toBe(own)
            return { atRoot, atAll, same }
          },
          { seed, isShared },
        )
        for (const [rank, array] of given.entries()) expectSame(array, before[rank] as TypedArray)
        for (const [rank, { atRoot, atAll, same }] of got.entries()) {
          expectSame(atRoot, rank === root ? result : undefined)
          expectSame(atAll, result)
          expectSame(same, result)
        }
      }),
      { numRuns: 90 },
    ))

  it('by reduceScatter, in equal blocks and others', () =>
    fc.assert(
      fc.asyncProperty(setting, async ({ size, seed, type, name, half, isShared }) => {
        const block = Math.ceil((2 * half) / size / 2) * 2
        const counts = Array.from({ length: size }, (_, rank) => (seed % 2 === 0 ? block : 2 * ((rank * 3 + seed) % 5)))
        const given = inputs(
          type,
          name,
          size,
          counts.reduce((sum, count) => sum + count, 0),
          seed,
        )
        const result = twin(name, given)
        const got = await run(
          size,
          (group) => group.reduceScatter(given[group.rank]!, operationOf(name), seed % 2 === 0 ? {} : { counts }),
          { seed, isShared },
        )
        let at = 0
        for (const [rank, array] of got.entries()) {
          expectSame(array, result.slice(at, at + counts[rank]!) as TypedArray)
          at += counts[rank]!
        }
      }),
      { numRuns: 60 },
    ))

  it('by scan and exscan', () =>
    fc.assert(
      fc.asyncProperty(setting, async ({ size, seed, type, name, half, isShared }) => {
        const given = inputs(type, name, size, 2 * (half % 500), seed)
        const got = await run(
          size,
          async (group) => {
            const own = given[group.rank]!
            return { to: await group.scan(own, operationOf(name)), before: await group.exscan(own, operationOf(name)) }
          },
          { seed, isShared },
        )
        for (const [rank, { to, before }] of got.entries()) {
          expectSame(to, twin(name, given.slice(0, rank + 1)))
          expectSame(before, rank === 0 ? undefined : twin(name, given.slice(0, rank)))
        }
      }),
      { numRuns: 60 },
    ))
})

it('numbers, bigints, booleans, and values that a function combines are reduced and scanned, in the order of ranks', () =>
  fc.assert(
    fc.asyncProperty(fc.integer({ min: 1, max: 9 }), fc.nat(1e9), fc.nat(8), async (size, seed, rootOf) => {
      const root = rootOf % size
      const join = (lower: string, higher: string) => lower + higher
      const got = await run(
        size,
        async (group) => {
          const { rank } = group
          return {
            sum: await group.allreduce(rank + 0.5, 'sum'),
            largest: await group.reduce(rank, (a, b) => Math.max(a, b), { root, commutative: true }),
            big: await group.allreduce(10n ** BigInt(20 + rank), 'max'),
            all: await group.allreduce(rank < 3, 'land'),
            text: await group.allreduce(String(rank), join),
            atRoot: await group.reduce(String(rank), join, { root }),
            to: await group.scan(String(rank), join),
            before: await group.exscan(String(rank), join),
          }
        },
        { seed },
      )
      const text = '012345678'.slice(0, size)
      for (const [rank, one] of got.entries()) {
        expect(one).toEqual({
          sum: (size * size) / 2,
          largest: rank === root ? size - 1 : undefined,
          big: 10n ** BigInt(19 + size),
          all: size <= 3,
          text,
          atRoot: rank === root ? text : undefined,
          to: text.slice(0, rank + 1),
          before: rank === 0 ? undefined : text.slice(0, rank),
        })
      }
    }),
    { numRuns: 60 },
  ))

it('sums of fractions are the same bits on all members', () =>
  fc.assert(
    fc.asyncProperty(fc.integer({ min: 2, max: 9 }), fc.nat(1e9), fc.constantFrom(3, 4000, 50_000), async (size, seed, length) => {
      const got = await run(
        size,
        (group) =>
          group.allreduce(
            Float32Array.from({ length }, (_, index) => Math.sin(seed + index * (group.rank + 1)) / 3),
            'sum',
          ),
        { seed, isShared: seed % 2 === 0 },
      )
      for (const array of got) expectSame(array, got[0]!)
    }),
    { numRuns: 20 },
  ))
