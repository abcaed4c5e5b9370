import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { chanceWords, hashOf, inBook, isCompleted, type Kind, Roll } from '../../coordinator/roll.ts'
import { foldId } from '../../protocols/ids.ts'
import { fixedChance } from '../support/rows.ts'

type Class = { key: string }
const kind = (key: string, specBytes = 100, maxTaskRetryCount?: number): Kind<Class> => ({ class: { key }, specBytes, maxTaskRetryCount })
const plain = kind('1|0')

/** As Azure has them; short ones, so that many differ in case only. */
const idOf = fc.oneof(fc.stringMatching(/^[A-Za-c0-2_-]{1,3}$/), fc.stringMatching(/^[A-Za-z0-9_-]{1,64}$/))

describe('the roll', () => {
  it('finds each task by its folded id and no other, and gives ids as they were given', () => {
    fc.assert(
      fc.property(fc.uniqueArray(idOf, { maxLength: 200, selector: foldId }), fc.array(idOf), (ids, others) => {
        const roll = new Roll<Class>(fixedChance)
        ids.forEach((id, n) => {
          expect(roll.find(foldId(id))).toBeUndefined()
          expect(roll.add(id, plain)).toBe(n)
        })
        const known = new Map(ids.map((id, n) => [foldId(id), n]))
        for (const id of [...ids, ...others]) expect(roll.find(foldId(id))).toBe(known.get(foldId(id)))
        expect(ids.map((_, n) => roll.idAt(n))).toEqual(ids)
        expect(roll.size).toBe(ids.length)
      }),
    )
  })

  it('keeps tens of thousands over its pages and tables', () => {
    const roll = new Roll<Class>(fixedChance)
    const ids = Array.from({ length: 30_000 }, (_, n) => (n % 2 === 0 ? `Frame-${n}` : `x${n * 7919}_${'long-'.repeat(n % 10)}`))
    for (const id of ids) roll.add(id, plain)
    ids.forEach((id, n) => {
      if (roll.find(foldId(id)) !== n || roll.idAt(n) !== id) expect.fail(`${id} is number ${n}`)
    })
    expect(roll.find('frame-1')).toBeUndefined()
    expect(roll.find('frame-30000')).toBeUndefined()
  })

  it('remembers what each is like; equal kinds are one object', () => {
    const roll = new Roll<Class>(fixedChance)
    const kinds = [kind('1|0'), kind('2|0'), kind('1|0', 100, 3), kind('1|0', 5000), kind('1|0', 100, -1), kind('1|0')]
    for (let n = 0; n < 3000; n += 1) roll.add(`t${n}`, kinds[n % kinds.length]!)
    expect(kinds.map((_, n) => roll.kindAt(n))).toEqual([
      { class: { key: '1|0' }, specBytes: 128, maxTaskRetryCount: undefined },
      { class: { key: '2|0' }, specBytes: 128, maxTaskRetryCount: undefined },
      { class: { key: '1|0' }, specBytes: 128, maxTaskRetryCount: 3 },
      { class: { key: '1|0' }, specBytes: 8192, maxTaskRetryCount: undefined },
      { class: { key: '1|0' }, specBytes: 128, maxTaskRetryCount: -1 },
      { class: { key: '1|0' }, specBytes: 128, maxTaskRetryCount: undefined },
    ])
    expect(roll.kindAt(2994)).toBe(roll.kindAt(0))
    expect(roll.kindAt(5)).toBe(roll.kindAt(0))
  })

  it('marks tasks, and finds the next of a kind of mark over pages without any', () => {
    fc.assert(
      fc.property(fc.array(fc.tuple(fc.nat(4999), fc.constantFrom(inBook, 2, 3, 2_000_001))), fc.nat(5000), (marks, from) => {
        const roll = new Roll<Class>(fixedChance)
        for (let n = 0; n < 5000; n += 1) roll.add(String(n), plain)
        for (const [n, mark] of marks) roll.setMark(n, mark)
        const expected = new Map(marks)
        const next = (passes: (mark: number) => boolean) => {
          for (let n = from; n < 5000; n += 1) if (passes(expected.get(n) ?? 0)) return n
          return 5000
        }
        for (const passes of [isCompleted, (mark: number) => mark === 0, (mark: number) => mark === inBook, () => true, () => false])
          expect(roll.nextMarked(from, passes)).toBe(next(passes))
        for (const [n, mark] of expected) expect(roll.markAt(n)).toBe(mark)
      }),
      { numRuns: 30 },
    )
  })

  it('says whether ids came in their order, and then where one would stand', () => {
    const roll = new Roll<Class>(fixedChance)
    for (const id of ['a1', 'A2', 'b-07', 'b-09']) roll.add(id, plain)
    expect(roll.isAscending).toBe(true)
    expect(['', 'a1', 'a11', 'b', 'b-09', 'c'].map((text) => roll.firstAfter(text))).toEqual([0, 1, 1, 2, 4, 4])
    roll.add('B-08', plain)
    roll.add('c', plain)
    expect(roll.isAscending).toBe(false)
  })

  it('spreads ids that were chosen to share the hash of another process', () => {
    const other = fixedChance.map((word) => Math.imul(word, 0x9e3779b1) ^ (word >>> 15))
    expect(other.length).toBe(chanceWords)
    // Pairs of blocks, each with one hash: so have all ids that are made of them.
    let ids = ['']
    for (let at = 0; at < 4; at += 1) {
      const [one, two] = twoOfOneHash('-'.repeat(ids[0]!.length))
      ids = ids.flatMap((id) => [id + one, id + two])
    }
    expect(new Set(ids.map((id) => hashOf(fixedChance, id))).size).toBe(1)
    expect(new Set(ids.map((id) => hashOf(other, id))).size).toBe(ids.length)
  })
})

/** Two different blocks with the same hash behind as many characters as `before` has. */
function twoOfOneHash(before: string): [string, string] {
  const byHash = new Map<number, string>()
  for (let n = 0; ; n += 1) {
    const block = (Math.imul(n, 0x9e3779b1) >>> 0).toString(36).padStart(7, '0')
    const hash = hashOf(fixedChance, before + block)
    const known = byHash.get(hash)
    if (known !== undefined) return [known, block]
    byHash.set(hash, block)
  }
}
