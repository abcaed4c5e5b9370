import { describe, expect, it } from 'vitest'
import { ChunkPlan } from '../../node/blobs/chunk-plan.ts'
import { Swarm } from '../support/swarm.ts'

const planOf = (self: string, chunks = 64, isHere: (index: number) => boolean = () => false) =>
  new ChunkPlan({ id: 'blob', chunks, self, isHere, random: () => 0.4 })
const bits = (chunks: number, ...indexes: number[]) => {
  const have = new Uint8Array(Math.ceil(chunks / 8))
  for (const index of indexes) have[index >> 3]! |= 1 << (index & 7)
  return have
}
const home = { isHome: true, isWhole: true }
const fetcher = { isHome: false, isWhole: false }
/** All that can be asked of a source now, with what is asked put down as come at once. */
const drain = (plan: ChunkPlan, peer: string, nowMs = 0): number[] => {
  const asked: number[] = []
  for (let index = plan.next(peer, nowMs); index !== undefined; index = plan.next(peer, nowMs)) {
    asked.push(index)
    plan.ended(peer, index, 'came', nowMs)
  }
  return asked
}

describe('the plan of a file', () => {
  it('asks a single source for every missing chunk once, four at a time', () => {
    const plan = planOf('a', 10, (index) => index < 3)
    plan.join('home', home, 0)
    const ahead = Array.from({ length: 6 }, () => plan.next('home', 0))
    expect(ahead.filter((index) => index !== undefined)).toHaveLength(4)
    for (const index of ahead.slice(0, 4)) plan.ended('home', index!, 'came', 1)
    expect([...ahead.slice(0, 4), ...drain(plan, 'home', 1)].toSorted((a, b) => a! - b!)).toEqual([3, 4, 5, 6, 7, 8, 9])
  })

  it('of two fetchers each asks the home for another part first', () => {
    const parts = ['a', 'b'].map((self) => {
      const plan = planOf(self)
      plan.join('home', home, 0)
      plan.join(self === 'a' ? 'b' : 'a', fetcher, 0)
      return drain(plan, 'home').slice(0, 24)
    })
    expect(new Set(parts.flat()).size).toBe(48)
  })

  it('asks other fetchers for what they have, the rarest first, and spares the home', () => {
    const plan = planOf('a', 8)
    plan.join('home', home, 0)
    plan.join('b', fetcher, 0)
    plan.join('c', fetcher, 0)
    plan.says('b', bits(8, 0, 1, 2, 3, 4, 5))
    plan.says('c', bits(8, 0, 1, 2, 4, 5))
    expect(plan.next('b', 0)).toBe(3)
    expect(plan.next('b', 0)).not.toBe(3)
    expect(drain(plan, 'home').every((index) => index > 5)).toBe(true)
  })

  it('asks the home also for what others have when they are much slower', () => {
    const plan = planOf('a', 8)
    plan.join('home', home, 0)
    plan.join('b', fetcher, 0)
    const first = plan.next('home', 0)!
    plan.ended('home', first, 'came', 10)
    plan.says('b', new Uint8Array([0xff]))
    expect(plan.next('b', 10)).toBeDefined()
    expect(plan.next('home', 11)).toBeUndefined()
    expect(plan.next('home', 500)).toBeDefined()
  })

  it('counts a fetcher that was named and never answers for two seconds only', () => {
    const plan = planOf('a', 64)
    plan.join('home', home, 0)
    for (const peer of ['b', 'c', 'd', 'e', 'f', 'g']) plan.join(peer, fetcher, 0)
    expect(drain(plan, 'home', 1999).length).toBeLessThan(32)
    const before = plan.next('home', 2001)
    plan.ended('home', before!, 'came', 2001)
    expect(drain(plan, 'home', 2001).length).toBeGreaterThan(31)
  })

  it('asks another for a chunk that one owes for two seconds', () => {
    const plan = planOf('a', 1)
    plan.join('b', { isHome: false, isWhole: true }, 0)
    plan.join('c', { isHome: false, isWhole: true }, 0)
    expect(plan.next('b', 0)).toBe(0)
    expect(plan.next('c', 1999)).toBeUndefined()
    expect(plan.next('c', 2001)).toBe(0)
    plan.ended('c', 0, 'came', 2002)
    plan.ended('b', 0, 'came', 2003)
    expect(plan.inFlight).toBe(0)
  })

  it('asks one that lacks a chunk not again for it, and believes one no more that says what is not so', () => {
    const plan = planOf('a', 3)
    plan.join('old', { isHome: false, isWhole: true }, 0)
    for (let count = 0; count < 3; count += 1) expect(plan.ended('old', plan.next('old', 0)!, 'lacks', 0)).toBe(true)
    expect(plan.next('old', 0)).toBeUndefined()

    plan.join('liar', fetcher, 0)
    const believed: boolean[] = []
    for (let count = 0; count < 8; count += 1) {
      plan.says('liar', new Uint8Array([7]))
      believed.push(plan.ended('liar', plan.next('liar', 0)!, 'lacks', 0))
    }
    expect(believed).toEqual([true, true, true, true, true, true, true, false])
  })

  it('chunks that a source owed when it left are asked of others once it has ended', () => {
    const plan = planOf('a', 2)
    plan.join('b', { isHome: false, isWhole: true }, 0)
    plan.join('home', home, 0)
    const owed = plan.next('b', 0)!
    plan.leave('b')
    plan.ended('b', owed, 'failed', 1)
    expect(drain(plan, 'home', 1).toSorted((a, b) => a - b)).toEqual([0, 1])
  })
})

describe('eight fetchers of one file (simulated, seeded)', () => {
  const seeds = [1, 2, 3, 4, 5]

  it.each(seeds)('get it all while the home sends it at most 1.5 times, seed %i', (seed) => {
    const swarm = new Swarm({ seed, chunks: 64 })
    swarm.run()
    expect(swarm.unfinished()).toEqual([])
    expect(swarm.share).toBeLessThanOrEqual(1.5)
  })

  it.each(seeds)('with fast and slow ones, one that dies and one that gives wrong bytes, seed %i', (seed) => {
    const swarm = new Swarm({
      seed,
      chunks: 256,
      chunkMs: (at) => [5, 5, 5, 5, 20, 20, 80, 5][at]!,
      dies: { at: 3, afterMs: 700 },
      liar: 7,
    })
    swarm.run()
    expect(swarm.unfinished()).toEqual([])
    expect(swarm.share).toBeLessThanOrEqual(1.5)
    expect(swarm.believedWrong).toBe(0)
  })

  it.each(seeds)('are not held up for more than a second by ones that hang or cannot be dialled, seed %i', (seed) => {
    const alone = new Swarm({ seed, chunks: 256, fetchers: 1 })
    alone.run()
    const swarm = new Swarm({ seed, chunks: 256, fetchers: 1, ghosts: 7 })
    swarm.run()
    expect(swarm.unfinished()).toEqual([])
    expect(swarm.endMs - alone.endMs).toBeLessThan(1000)
  })
})
