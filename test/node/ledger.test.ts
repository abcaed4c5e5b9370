import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { Ledger, type Need, wantMs } from '../../node/ledger.ts'
import type { Reservation } from '../../protocols/pools.ts'

const lent = { cores: 4, memoryMiB: 8192, gpus: 1 }
const task = (slots = 1, demand: Need['demand'] = {}): Need => ({ slots, demand })

function reservation(id: number, cores: number, extra: Partial<Reservation> = {}): Reservation {
  const size = { cores, memoryMiB: cores * 1024, gpus: 0 }
  return { reservationId: id, ownerEpoch: 1, poolId: 'p', nodeId: `p-${id}`, size, taskSlots: 1, ...extra }
}

function ledgerWith(...reservations: Reservation[]): Ledger {
  const ledger = new Ledger(lent)
  ledger.nameDefault('d')
  for (const one of reservations) expect(ledger.reserve(one, 0).granted).toBe(true)
  return ledger
}

const idle = () => false

describe('the memory share of a task', () => {
  it('is what it asked for, else its slots’ part of its node’s memory', () => {
    const ledger = ledgerWith(reservation(1, 2, { taskSlots: 4 }))
    expect(ledger.memoryShareMiB('p-1', task(1, { memoryMiB: 100 }))).toBe(100)
    expect(ledger.memoryShareMiB('p-1', task(1))).toBe(512)
    expect(ledger.memoryShareMiB('p-1', task(4))).toBe(2048)
    expect(ledger.memoryShareMiB('d', task(1))).toBe((8192 - 2048) / 2)
    expect(ledger.memoryShareMiB('gone', task(1))).toBe(0)
  })

  it('is bounded by what it asked for, else by what its node has', () => {
    const ledger = ledgerWith(reservation(1, 2, { taskSlots: 4 }))
    expect(ledger.memoryOf('p-1', task(1, { memoryMiB: 100 })).memory).toEqual({ limitMiB: 100, isAsked: true })
    expect(ledger.memoryOf('p-1', task(1)).memory).toEqual({ limitMiB: 2048, isAsked: false })
  })
})

describe('the default pool node', () => {
  it('has a slot for each whole core that no reservation holds', () => {
    const ledger = ledgerWith(reservation(1, 1.5))
    expect(ledger.room('d')).toEqual({ cores: 2.5, memoryMiB: 8192 - 1536, gpus: 1, slots: 2 })
  })

  it('has no slots on a machine that lends no cores', () => {
    const ledger = new Ledger({ cores: 0, memoryMiB: 1024, gpus: 0 })
    ledger.nameDefault('d')
    expect(ledger.room('d')?.slots).toBe(0)
    expect(ledger.start('a', 'd', task())).toBe(false)
  })

  it('gives a task that asks for no cores as many cores as slots', () => {
    const ledger = ledgerWith()
    expect(ledger.start('a', 'd', task(3))).toBe(true)
    expect(ledger.room('d')).toMatchObject({ cores: 1, slots: 1 })
    expect(ledger.start('b', 'd', task(2))).toBe(false)
    ledger.end('a', 'd')
    expect(ledger.room('d')).toMatchObject({ cores: 4, slots: 4 })
  })

  it('counts what a task demands of cores, memory and GPUs', () => {
    const ledger = ledgerWith()
    expect(ledger.start('a', 'd', task(1, { cores: 2.5, memoryMiB: 8000, gpus: 1 }))).toBe(true)
    expect(ledger.room('d')).toEqual({ cores: 1.5, memoryMiB: 192, gpus: 0, slots: 1 })
    expect(ledger.start('b', 'd', task(1, { memoryMiB: 200 }))).toBe(false)
    expect(ledger.start('b', 'd', task(1, { gpus: 1 }))).toBe(false)
    expect(ledger.start('b', 'd', task(1, { memoryMiB: 192 }))).toBe(true)
  })
})

describe('reservations', () => {
  it('R1: a repeated request gets the same answer and changes nothing', () => {
    const ledger = ledgerWith(reservation(1, 2))
    expect(ledger.reserve(reservation(1, 2), 5)).toEqual({ granted: true, draining: false, changed: false })
    expect(ledger.room('d')?.cores).toBe(2)
  })

  it('R1: the same id for something else is refused', () => {
    const answer = ledgerWith(reservation(1, 2)).reserve(reservation(1, 3), 0)
    expect(answer.granted).toBe(false)
    expect(answer.reason).toContain('reservation 1 is for p-1')
  })

  it('R1: a coordinator with a lower owner epoch is refused', () => {
    const ledger = ledgerWith(reservation(1, 1, { ownerEpoch: 3 }))
    expect(ledger.reserve(reservation(2, 1, { ownerEpoch: 2 }), 0)).toMatchObject({ granted: false, draining: false })
    expect(ledger.obey(2)).toBe(false)
    expect(ledger.obey(3)).toBe(true)
  })

  it('R1: more than the machine lends is refused with what it lends', () => {
    const answer = ledgerWith().reserve(reservation(1, 5), 0)
    expect(answer).toMatchObject({ granted: false, draining: false })
    expect(answer.reason).toBe('the machine lends 4 cores, 8192 MiB, 1 GPUs; 5 cores, 5120 MiB were asked')
  })

  it('R1: what other compute nodes hold is refused without draining', () => {
    expect(ledgerWith(reservation(1, 3)).reserve(reservation(2, 2), 0)).toMatchObject({ granted: false, draining: false })
  })

  it('a reservation that default pool tasks block is drained for, and granted when they end', () => {
    const ledger = ledgerWith()
    ledger.start('a', 'd', task(2))
    expect(ledger.reserve(reservation(1, 3), 0)).toMatchObject({ granted: false, draining: true })
    expect(ledger.claimable('d', 0)).toMatchObject({ slots: 0, cores: 0 })
    expect(ledger.room('d')).toMatchObject({ slots: 2, cores: 2 })
    ledger.end('a', 'd')
    expect(ledger.claimable('d', 1)).toMatchObject({ slots: 1, cores: 1 })
    expect(ledger.reserve(reservation(1, 3), 1)).toMatchObject({ granted: true, changed: true })
    expect(ledger.room('d')).toMatchObject({ slots: 1, cores: 1 })
  })

  it('capacity held back is open again when nobody asked for it any more', () => {
    const ledger = ledgerWith()
    ledger.start('a', 'd', task(2))
    ledger.reserve(reservation(1, 3), 0)
    ledger.reserve(reservation(1, 3), 5000)
    expect(ledger.nextLapse()).toBe(5000 + wantMs)
    expect(ledger.claimable('d', 4999 + wantMs)?.slots).toBe(0)
    expect(ledger.lapse(5000 + wantMs)).toBe(true)
    expect(ledger.claimable('d', 5000 + wantMs)?.slots).toBe(2)
  })

  it('a later want does not take the capacity that an earlier one waits for', () => {
    const ledger = ledgerWith()
    ledger.start('a', 'd', task(2))
    expect(ledger.reserve(reservation(1, 3), 0)).toMatchObject({ draining: true })
    expect(ledger.reserve(reservation(2, 1), 0)).toMatchObject({ granted: false, draining: true })
    expect(ledger.reserve(reservation(3, 2), 0)).toMatchObject({ granted: false, draining: false })
    ledger.end('a', 'd')
    expect(ledger.reserve(reservation(2, 1), 0).granted).toBe(true)
    expect(ledger.reserve(reservation(1, 3), 0).granted).toBe(true)
  })

  it('a granted task that waits on the default node keeps it large enough', () => {
    const ledger = ledgerWith()
    expect(ledger.reserve(reservation(1, 3), 0, [task(2)])).toMatchObject({ granted: false, draining: true })
    expect(ledger.reserve(reservation(1, 3), 0, [task(1)]).granted).toBe(true)
  })

  it('R1: capacity that is given back returns only when its work has ended', () => {
    const ledger = ledgerWith(reservation(1, 4))
    ledger.start('a', 'p-1', task())
    ledger.release(1)
    expect(ledger.reap(idle)).toEqual([])
    expect(ledger.claimable('p-1', 0)).toBeUndefined()
    expect(ledger.reserve(reservation(2, 1), 0).granted).toBe(false)
    expect(ledger.reserve(reservation(1, 4), 0).granted).toBe(false)
    ledger.end('a', 'p-1')
    expect(ledger.reap(() => true)).toEqual([])
    expect(ledger.reap(idle)).toEqual([1])
    expect(ledger.reserve(reservation(2, 1), 0).granted).toBe(true)
  })

  it('a reservation from disk that does not fit any more is not taken up', () => {
    const ledger = new Ledger({ cores: 2, memoryMiB: 8192, gpus: 0 })
    expect(ledger.restore(reservation(1, 2))).toBe(true)
    expect(ledger.restore(reservation(2, 1))).toBe(false)
    expect(ledger.reservations().map((one) => one.reservationId)).toEqual([1])
  })
})

type Step =
  | { kind: 'reserve'; id: number; cores: number; at: number }
  | { kind: 'release'; id: number }
  | { kind: 'start'; key: string; node: string; need: Need }
  | { kind: 'end'; key: string }

const ids = fc.integer({ min: 1, max: 5 })
const step: fc.Arbitrary<Step> = fc.oneof(
  fc.record({ kind: fc.constant('reserve' as const), id: ids, cores: fc.constantFrom(0.5, 1, 1.5, 2, 4, 5), at: fc.nat(50_000) }),
  fc.record({ kind: fc.constant('release' as const), id: ids }),
  fc.record({
    kind: fc.constant('start' as const),
    key: fc.constantFrom('a', 'b', 'c', 'd', 'e', 'f', 'g'),
    node: fc.oneof(
      fc.constant('d'),
      ids.map((id) => `p-${id}`),
    ),
    need: fc.record({
      slots: fc.integer({ min: 1, max: 3 }),
      demand: fc.record(
        { cores: fc.constantFrom(0.1, 0.5, 1, 3), memoryMiB: fc.integer({ min: 1, max: 4096 }), gpus: fc.constantFrom(0, 1) },
        { requiredKeys: [] },
      ),
    }),
  }),
  fc.record({ kind: fc.constant('end' as const), key: fc.constantFrom('a', 'b', 'c', 'd', 'e', 'f', 'g') }),
)

describe('any sequence of requests, releases, starts and ends', () => {
  it('R1: never uses more than the machine lends, and ends empty', () => {
    fc.assert(
      fc.property(fc.array(step, { maxLength: 80 }), (steps) => {
        const ledger = ledgerWith()
        const sizes = new Map<string, Reservation>()
        const running = new Map<string, { node: string; need: Need }>()
        for (const one of steps) {
          if (one.kind === 'reserve') {
            const request = reservation(one.id, one.cores)
            if (ledger.reserve(request, one.at).granted) sizes.set(request.nodeId, request)
          } else if (one.kind === 'release') {
            ledger.release(one.id)
          } else if (one.kind === 'start') {
            if (!running.has(one.key) && ledger.start(one.key, one.node, one.need)) running.set(one.key, one)
          } else {
            const was = running.get(one.key)
            if (was !== undefined) ledger.end(one.key, was.node)
            running.delete(one.key)
          }
          for (const id of ledger.reap(idle)) sizes.delete(`p-${id}`)
          checkBooks(sizes, running)
        }
        for (const [key, { node }] of running) ledger.end(key, node)
        for (const id of [1, 2, 3, 4, 5]) ledger.release(id)
        ledger.reap(idle)
        expect(ledger.room('d')).toEqual({ ...lent, slots: 4 })
      }),
    )
  })
})

/** Adds up, by other means than the ledger's, what is held and what runs. */
function checkBooks(sizes: Map<string, Reservation>, running: Map<string, { node: string; need: Need }>): void {
  const total = { cores: 0, memoryMiB: 0, gpus: 0 }
  for (const { size } of sizes.values()) for (const part of ['cores', 'memoryMiB', 'gpus'] as const) total[part] += size[part]
  const perNode = new Map<string, { slots: number; cores: number; memoryMiB: number; gpus: number }>()
  for (const { node, need } of running.values()) {
    const sum = perNode.get(node) ?? { slots: 0, cores: 0, memoryMiB: 0, gpus: 0 }
    const cores = need.demand.cores ?? (node === 'd' ? need.slots : 0)
    const memoryMiB = need.demand.memoryMiB ?? 0
    const gpus = need.demand.gpus ?? 0
    perNode.set(node, {
      slots: sum.slots + need.slots,
      cores: sum.cores + cores,
      memoryMiB: sum.memoryMiB + memoryMiB,
      gpus: sum.gpus + gpus,
    })
    if (node === 'd') {
      total.cores += cores
      total.memoryMiB += memoryMiB
      total.gpus += gpus
    }
  }
  expect(total.cores).toBeLessThanOrEqual(lent.cores + 1e-6)
  expect(total.memoryMiB).toBeLessThanOrEqual(lent.memoryMiB)
  expect(total.gpus).toBeLessThanOrEqual(lent.gpus)
  for (const [node, used] of perNode) {
    const held = sizes.get(node)
    if (node === 'd') continue
    expect(held).toBeDefined()
    expect(used.slots).toBeLessThanOrEqual(held!.taskSlots)
    expect(used.cores).toBeLessThanOrEqual(held!.size.cores + 1e-6)
    expect(used.memoryMiB).toBeLessThanOrEqual(held!.size.memoryMiB)
  }
}
