import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import {
  type ArrayIds,
  commonId,
  hasId,
  hasNumberIn,
  idAt,
  idsOf,
  indexAt,
  positionAfter,
  positionOf,
  shapeOf,
  shapesOfId,
} from '../../coordinator/array-ids.ts'
import { addNumber, countNumbers, hasNumber, type NumberSet } from '../../coordinator/number-set.ts'
import { taskArraySchema } from '../../protocols/model/task-array.ts'

const parameters = { seed: 20_261_121, numRuns: 1000 }

/** Small arrays whose prefixes end with digits often. */
const someIds = fc
  .record({
    gaps: fc.array(fc.tuple(fc.nat(5), fc.nat(8), fc.integer({ min: 1, max: 4 })), { minLength: 1, maxLength: 4 }),
    idPrefix: fc.constantFrom('', 'a', 'a1', 'a10', 'A01', '1', '10', 'b'),
    more: fc.nat(3),
  })
  .map(({ gaps, idPrefix, more }) => {
    let next = 0
    const indexes = gaps.map(([gap, length, step]) => {
      const range = { start: next + gap, end: next + gap + length, step }
      next = range.end + 1
      return range
    })
    return idsOf(taskArraySchema.parse({ indexes, idPrefix, idDigits: String(next).length + more, template: { commandLine: 'x' } }))
  })

const allOf = (ids: ArrayIds) => Array.from({ length: ids.count }, (_, position) => idAt(ids, position))

describe('the ids of an array', () => {
  it('are told from others, and so are the numbers that they stand for', () => {
    fc.assert(
      fc.property(someIds, fc.nat(60), fc.nat(60), fc.constantFrom('', 'a', '1', '10', 'b'), (ids, start, length, prefix) => {
        const all = allOf(ids)
        for (const id of all) expect(hasId(ids, id)).toBe(true)
        for (let n = 0; n < 40; n += 1) {
          const id = prefix + String(n).padStart(ids.digits, '0')
          expect(hasId(ids, id)).toBe(all.includes(id))
        }
        const numbers = all.filter((id) => /^\d+$/.test(id)).map(Number)
        for (const from of [start, start + 10 ** ids.digits, 10 * 10 ** ids.digits])
          expect(hasNumberIn(ids, from, from + length)).toBe(numbers.some((n) => n >= from && n <= from + length))
      }),
      parameters,
    )
  })

  it('tell their index, and only they do', () => {
    fc.assert(
      fc.property(someIds, (ids) => {
        const all = allOf(ids)
        expect(all).toEqual([...new Set(all)].sort())
        all.forEach((id, position) => {
          const read = [...shapesOfId(id)].find(({ shape }) => shape === shapeOf(ids))
          expect(read?.index).toBe(indexAt(ids, position))
          expect(positionOf(ids, read!.index)).toBe(position)
        })
        const indexes = new Set(all.map((_, position) => indexAt(ids, position)))
        for (let index = 0; index < 60; index += 1) expect(positionOf(ids, index) !== undefined).toBe(indexes.has(index))
      }),
      parameters,
    )
  })

  it('are found after any text', () => {
    fc.assert(
      fc.property(someIds, fc.constantFrom('', '0', '05', '9', 'a', 'a1', 'a1012', 'a0', 'b', 'zz'), (ids, text) => {
        expect(positionAfter(ids, text)).toBe(allOf(ids).filter((id) => id <= text).length)
      }),
      parameters,
    )
  })

  it('of two arrays have one in common exactly when their lists do', () => {
    let met = 0
    fc.assert(
      fc.property(someIds, someIds, (one, other) => {
        const both = allOf(one).filter((id) => allOf(other).includes(id))
        const found = commonId(one, other)
        expect(found !== undefined, `${allOf(one).join()} and ${allOf(other).join()}`).toBe(both.length > 0)
        if (found === undefined) return
        expect(both).toContain(found)
        met += 1
      }),
      parameters,
    )
    expect(met).toBeGreaterThan(30)
  })

  it('meet where steps meet first, among numbers as large as an index may be', () => {
    const top = 999_999_999_999_999
    const of = (start: number, step: number) =>
      idsOf(taskArraySchema.parse({ indexes: [{ start, end: top, step }], template: { commandLine: 'x' } }))
    // Steps with a large common divisor, so that they meet within the numbers there are.
    const [one, other] = [of(1, 7 * 142_857_133), of(1 + 3 * 142_857_133, 11 * 142_857_133)]
    let first: string | undefined
    for (let position = 0; position < one.count && first === undefined; position += 1)
      if (positionOf(other, indexAt(one, position)) !== undefined) first = idAt(one, position)
    expect(first).toMatch(/^\d{15}$/)
    expect(commonId(one, other)).toBe(first)
    expect(commonId(of(1, 1_000_000_000), of(2, 1_500_000_000))).toBeUndefined()
  })
})

describe('a set of whole numbers', () => {
  it('holds and counts what was added', () => {
    fc.assert(
      fc.property(
        fc.array(fc.oneof(fc.nat(200), fc.integer({ min: 999_999_999_000, max: 999_999_999_100 })), { maxLength: 60 }),
        fc.nat(220),
        fc.oneof(fc.nat(220), fc.constant(999_999_999_050)),
        (numbers, from, to) => {
          const set: NumberSet = new Map()
          const plain = new Set<number>()
          for (const n of numbers) {
            expect(addNumber(set, n)).toBe(!plain.has(n))
            plain.add(n)
          }
          for (const n of plain) expect(hasNumber(set, n)).toBe(true)
          const [start, end] = [Math.min(from, to), Math.max(from, to)]
          expect(countNumbers(set, start, end)).toBe([...plain].filter((n) => n >= start && n <= end).length)
        },
      ),
      parameters,
    )
  })
})
