import * as fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { Muster, toReach, Vigil } from '../../../node/gangs/muster.ts'
import { lostAfterMs, maxMeshed, pingMs } from '../../../protocols/groups.ts'

const presence = (n: number) => ({ card: Uint8Array.of(n), port: n, token: new Uint8Array() })

describe('who has come', () => {
  it('is complete once, with the last of all, whatever is said twice and in whatever order', () => {
    fc.assert(
      fc.property(fc.integer({ min: 1, max: 9 }), fc.infiniteStream(fc.nat(8)), (size, stream) => {
        const muster = new Muster(size)
        const come = new Set<number>()
        let completed = 0
        for (const n of stream) {
          const index = n % size
          come.add(index)
          if (muster.bring(index, presence(index))) completed += 1
          expect(muster.presences !== undefined).toBe(come.size === size)
          if (come.size === size) break
        }
        expect(muster.bring(0, presence(7))).toBe(false)
        expect(completed).toBe(1)
        expect(muster.presences!.map(({ port }) => port)).toEqual(Array.from({ length: size }, (_, index) => index))
      }),
    )
  })

  it('takes the newest card of a member until all have come', () => {
    const muster = new Muster(2)
    muster.bring(0, presence(5))
    muster.bring(0, presence(6))
    muster.bring(1, presence(1))
    expect(muster.presences!.map(({ port }) => port)).toEqual([6, 1])
  })

  it('is followed by who reached whom, which counts once for each and not before', () => {
    const muster = new Muster(2)
    expect(muster.report(0, [])).toBe(false)
    muster.bring(0, presence(0))
    muster.bring(1, presence(1))
    expect(muster.report(0, [{ index: 1, why: 'ECONNREFUSED' }])).toBe(false)
    expect(muster.report(0, [])).toBe(false)
    expect(muster.report(1, [])).toBe(true)
    expect(muster.unreached((index) => `m${index}`)).toMatch(/m0 does not reach m1 \(ECONNREFUSED\)\. Open TCP/)
  })

  it('names a few of many pairs that do not reach each other', () => {
    const muster = new Muster(20)
    for (let index = 0; index < 20; index += 1) muster.bring(index, presence(index))
    for (let index = 0; index < 20; index += 1) muster.report(index, [{ index: (index + 1) % 20, why: 'x'.repeat(200) }])
    const said = muster.unreached((index) => `m${index}`)!
    expect(said).toContain(' and 8 more')
    expect(said.length).toBeLessThan(4096)
    const long = muster.unreached(() => 'm'.repeat(270))!
    expect(long).toMatch(/Open TCP between these machines/)
    expect(long.length).toBeLessThan(4096)
  })
})

describe('who dials whom', () => {
  it('is all of all in a gang of ordinary size, and in a large one the neighbour and the primary', () => {
    expect(toReach(1, 3)).toEqual([0, 2])
    expect(toReach(0, 1)).toEqual([])
    expect(toReach(5, maxMeshed)).toHaveLength(maxMeshed - 1)
    expect(toReach(5, maxMeshed + 1)).toEqual([0, 6])
    expect(toReach(maxMeshed, maxMeshed + 1)).toEqual([0])
    expect(toReach(0, 500)).toEqual([1])
  })
})

describe('M1: a member', () => {
  it('is lost after six seconds of silence, and not before', () => {
    const vigil = new Vigil()
    let now = 0
    const look = () => vigil.silent(now)
    vigil.heard(1, 0)
    vigil.heard(2, 0)
    for (now = pingMs; now <= lostAfterMs; now += pingMs) {
      vigil.heard(1, now)
      expect(look()).toEqual([])
    }
    expect(look()).toEqual([2])
    expect(vigil.lose(2)).toBe(true)
    expect(vigil.lose(2)).toBe(false)
    vigil.heard(2, now)
    now += pingMs
    expect(look()).toEqual([])
    expect(vigil.lost).toEqual([2])
  })

  it('was not silent while the machine that listens slept', () => {
    const vigil = new Vigil()
    vigil.heard(1, 0)
    expect(vigil.silent(pingMs)).toEqual([])
    expect(vigil.silent(600_000)).toEqual([])
    expect(vigil.silent(600_000 + pingMs)).toEqual([])
    expect(vigil.silent(600_000 + 2 * pingMs)).toEqual([])
    expect(vigil.silent(600_000 + 3 * pingMs + 1)).toEqual([1])
  })
})
