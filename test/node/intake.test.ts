import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import {
  askFor,
  maxPasses,
  maxPrefetch,
  maxPrefetchPerSlot,
  type NodeState,
  nextMean,
  outdated,
  pickNext,
  planClaim,
  prefetchPerSlot,
  type Waiting,
} from '../../node/intake.ts'
import type { Room } from '../../protocols/model/resources.ts'

const room = (slots: number, cores = slots): Room => ({ slots, cores, memoryMiB: 1024, gpus: 0 })
const waiting = (slots = 1, cores?: number): Waiting => ({ slots, demand: cores === undefined ? {} : { cores }, passed: 0 })
const node = (extra: Partial<NodeState> = {}): NodeState => ({
  nodeId: 'n',
  room: room(2),
  slots: 2,
  held: false,
  closed: false,
  draining: false,
  unstarted: [],
  meanSlotMs: undefined,
  ...extra,
})

describe('what starts next', () => {
  it('is the first in line', () => {
    expect(pickNext([waiting(), waiting()], room(2), false)).toBe(0)
  })

  it('is nothing when no slot is free', () => {
    expect(pickNext([waiting()], room(0), false)).toBe(-1)
  })

  it('is a smaller one when the first does not fit', () => {
    const line = [waiting(4), waiting(1)]
    expect(pickNext(line, room(2), false)).toBe(1)
    expect(line[0]!.passed).toBe(1)
  })

  it('is nothing once the first was passed often enough', () => {
    const line = [{ ...waiting(4), passed: maxPasses }, waiting(1)]
    expect(pickNext(line, room(2), false)).toBe(-1)
    expect(pickNext(line, room(4), false)).toBe(0)
  })

  it('takes a core a slot on the default node only', () => {
    expect(pickNext([waiting(2)], { ...room(2), cores: 1 }, true)).toBe(-1)
    expect(pickNext([waiting(2)], { ...room(2), cores: 1 }, false)).toBe(0)
  })

  it('never passes one more often than the bound, whatever comes', () => {
    fc.assert(
      fc.property(
        fc.array(fc.integer({ min: 1, max: 4 }), { maxLength: 200 }),
        fc.array(fc.integer({ min: 0, max: 4 })),
        (slots, rooms) => {
          const line = slots.map((count) => waiting(count))
          for (const free of rooms) {
            const at = pickNext(line, room(free), false)
            if (at < 0) continue
            expect(line[at]!.slots).toBeLessThanOrEqual(free)
            line.splice(at, 1)
          }
          for (const left of line) expect(left.passed).toBeLessThanOrEqual(maxPasses)
        },
      ),
    )
  })
})

describe('prefetch', () => {
  it.each([
    [undefined, 0],
    [0, maxPrefetchPerSlot],
    [0.1, maxPrefetchPerSlot],
    [1, 250],
    [10, 25],
    [150, 1],
    [250, 1],
    [900, 1],
    [9000, 1],
    [10_001, 0],
    [60_000, 0],
  ])('holds, with tasks of %s ms, %s a slot', (meanMs, expected) => {
    expect(prefetchPerSlot(meanMs)).toBe(expected)
  })

  it('is asked for when what waits falls below half of it', () => {
    const line = (count: number) => Array.from({ length: count }, () => waiting())
    const busy = { room: room(0), meanSlotMs: 10 }
    expect(askFor(node({ ...busy, unstarted: line(25) }))).toBeUndefined()
    expect(askFor(node({ ...busy, unstarted: line(24) }))?.prefetchSlots).toBe(26)
    expect(askFor(node({ ...busy, unstarted: [] }))?.prefetchSlots).toBe(50)
  })

  it('stays within what a claim may say', () => {
    expect(askFor(node({ slots: 256, meanSlotMs: 0 }))?.prefetchSlots).toBe(maxPrefetch)
  })

  it('is asked for on a node with one slot, one task at a time', () => {
    expect(askFor(node({ slots: 1, room: room(0), meanSlotMs: 200 }))?.prefetchSlots).toBe(1)
    expect(askFor(node({ slots: 1, room: room(0), meanSlotMs: 200, unstarted: [waiting()] }))).toBeUndefined()
  })

  it('R1: is not asked for on a node that is drained for a reservation', () => {
    expect(askFor(node({ room: room(0), meanSlotMs: 1, draining: true }))).toBeUndefined()
  })

  it('forgets how long tasks took', () => {
    let mean: number | undefined
    for (let n = 0; n < 10; n += 1) mean = nextMean(mean, 50_000)
    expect(prefetchPerSlot(mean)).toBe(0)
    for (let n = 0; n < 90; n += 1) mean = nextMean(mean, 10)
    expect(prefetchPerSlot(mean)).toBeGreaterThan(5)
  })
})

describe('a claim', () => {
  it('names the room of each node that takes work', () => {
    const asks = planClaim([node({ nodeId: 'a' }), node({ nodeId: 'b', closed: true }), node({ nodeId: 'c', room: room(0) })])
    expect(asks).toEqual([{ nodeId: 'a', room: room(2), prefetchSlots: 0 }])
  })

  it('M1: says nothing of a node that is held for a gang', () => {
    expect(askFor(node({ held: true, meanSlotMs: 1 }))).toBeUndefined()
  })

  it('asks for nothing while a task that was passed too often waits', () => {
    expect(askFor(node({ meanSlotMs: 1, unstarted: [{ ...waiting(4), passed: maxPasses }] }))).toBeUndefined()
  })

  it('is replaced when room grows or shrinks, not when its prefetch shrinks a little', () => {
    const ask = (slots: number, prefetchSlots: number) => [{ nodeId: 'n', room: room(slots), prefetchSlots }]
    expect(outdated(ask(1, 0), ask(2, 0))).toBe(true)
    expect(outdated(ask(2, 0), ask(1, 0))).toBe(true)
    expect(outdated(ask(1, 0), [])).toBe(true)
    expect(outdated(ask(0, 100), ask(0, 90))).toBe(false)
    expect(outdated(ask(0, 100), ask(0, 150))).toBe(false)
    expect(outdated(ask(0, 10), ask(0, 50))).toBe(true)
    expect(outdated([], ask(1, 0))).toBe(true)
    expect(outdated(ask(1, 0), ask(1, 0))).toBe(false)
  })
})
