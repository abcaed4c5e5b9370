import { describe, expect, it } from 'vitest'
import { come, giveUp, newRendezvous } from '../../coordinator/rendezvous.ts'
import { RendezvousDesk } from '../../coordinator/rendezvous-desk.ts'
import { createMemoryStore } from '../../coordinator/store.ts'
import type { RendezvousRequest } from '../../protocols/rendezvous.ts'
import { startWhole } from '../support/whole-coordinator.ts'

const request = (id: number, more: Partial<RendezvousRequest> = {}): RendezvousRequest => ({
  name: 'ring',
  size: 3,
  requestId: `request-number-${String(id).padStart(4, '0')}`,
  card: Uint8Array.of(id),
  waitMs: 60_000,
  ...more,
})
const key = (byte: number) => new Uint8Array(32).fill(byte)
const nobody = new AbortController().signal

describe('a rendezvous', () => {
  it('answers all when the last one has come, ranks in the order of arrival, with one key', () => {
    const all = newRendezvous()
    expect(come(all, request(7), 0, key(1)).size).toBe(0)
    expect(come(all, request(5), 0, key(2)).size).toBe(0)
    const answers = come(all, request(6), 0, key(3))
    const cards = [7, 5, 6].map((id) => Uint8Array.of(id))
    expect([...answers]).toEqual([7, 5, 6].map((id, rank) => [request(id).requestId, { rank, cards, key: key(3) }]))
    expect([all.waiting, all.gatherings.size]).toEqual([0, 0])
  })

  it('may use a name again at once, for another size too', () => {
    const all = newRendezvous()
    for (const id of [1, 2, 3]) come(all, request(id), 0, key(1))
    come(all, request(4, { size: 2 }), 0, key(2))
    expect(come(all, request(5, { size: 2 }), 0, key(3)).get(request(4).requestId)).toMatchObject({ rank: 0, key: key(3) })
  })

  it('keeps names apart', () => {
    const all = newRendezvous()
    for (const id of [1, 2]) come(all, request(id), 0, key(1))
    expect(come(all, request(3, { name: 'other' }), 0, key(1)).size).toBe(0)
  })

  it('L4: gives a repeated request its place, and later the same answer, for a minute', () => {
    const all = newRendezvous()
    come(all, request(1), 0, key(1))
    expect(come(all, request(1), 0, key(2)).size).toBe(0)
    come(all, request(2), 0, key(3))
    const first = come(all, request(3), 1000, key(4))
    expect(come(all, request(2), 60_000, key(5))).toEqual(new Map([[request(2).requestId, first.get(request(2).requestId)!]]))
    expect(come(all, request(2), 61_001, key(6)).size).toBe(0)
  })

  it('refuses a member that wants another size than those that have come', () => {
    const all = newRendezvous()
    come(all, request(1), 0, key(1))
    expect(() => come(all, request(2, { size: 4 }), 0, key(1))).toThrow('want a group of 3, this one wants 4')
    expect(all.waiting).toBe(1)
  })

  it('frees the place of one that gives up, and the name with the last', () => {
    const all = newRendezvous()
    for (const id of [1, 2]) come(all, request(id), 0, key(1))
    expect(giveUp(all, request(1))).toBe(2)
    expect(giveUp(all, request(1))).toBe(1)
    come(all, request(3), 0, key(1))
    const answers = come(all, request(4), 0, key(2))
    expect([...answers.values()].map(({ rank }) => rank)).toEqual([0, 1, 2])
    expect(giveUp(all, request(3))).toBe(0)
    come(all, request(5, { size: 2 }), 0, key(1))
    giveUp(all, request(5))
    expect(come(all, request(6), 0, key(1)).size).toBe(0)
  })

  it('keeps 10,000 members that wait and no more', () => {
    const all = newRendezvous()
    for (let id = 0; id < 10_000; id += 1) come(all, request(id, { name: `n${id}` }), 0, key(1))
    expect(() => come(all, request(10_001, { name: 'more' }), 0, key(1))).toThrow('10000 programs wait')
  })
})

describe('programs at the coordinator', () => {
  it('meet, each answered with its rank, the cards of all and the same key', async () => {
    const whole = await startWhole(createMemoryStore())
    const answers = await Promise.all([1, 2, 3].map((id) => whole.control.call('rendezvous', request(id))))
    expect(answers.map(({ rank }) => rank)).toEqual([0, 1, 2])
    for (const { cards, key: got } of answers) {
      expect(cards.map(([byte]) => byte)).toEqual([1, 2, 3])
      expect([got.length, Buffer.compare(got, answers[0]!.key)]).toEqual([32, 0])
    }
    await whole.stop()
  })

  it('are told how many have come when the others do not', async () => {
    const desk = new RendezvousDesk()
    const first = desk.meet(request(1, { waitMs: 200_000 }), nobody)
    await expect(desk.meet(request(2, { waitMs: 1 }), nobody)).rejects.toThrow('The group "ring" needs 3 members; 2 came within 0 s.')
    await Promise.all([first, desk.meet(request(3), nobody), desk.meet(request(4), nobody)])
  })

  it('do not meet one that gives up when the others are there', async () => {
    const desk = new RendezvousDesk()
    const others = [1, 2].map((id) => desk.meet(request(id), nobody))
    await expect(desk.meet(request(3, { waitMs: 0 }), nobody)).rejects.toThrow('2 came')
    const last = await desk.meet(request(4), nobody)
    expect([await Promise.all(others), last].flat().map(({ rank }) => rank)).toEqual([0, 1, 2])
  })

  it('free their place when they are gone', async () => {
    const desk = new RendezvousDesk()
    const gone = new AbortController()
    const first = desk.meet(request(1), gone.signal)
    gone.abort()
    await expect(first).rejects.toThrow()
    const others = await Promise.all([2, 3, 4].map((id) => desk.meet(request(id), nobody)))
    expect(others.map(({ rank }) => rank)).toEqual([0, 1, 2])
  })

  it('that ask again with the same id leave their first request behind, not their place', async () => {
    const desk = new RendezvousDesk()
    const first = desk.meet(request(1), nobody)
    const again = desk.meet(request(1), nobody)
    await expect(first).rejects.toThrow('The same request came again.')
    await Promise.all([desk.meet(request(2), nobody), desk.meet(request(3), nobody)])
    expect((await again).rank).toBe(0)
  })
})
