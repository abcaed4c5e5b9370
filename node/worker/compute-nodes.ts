/** The machine's compute nodes: their reservations (R1), what to claim for each, and the offers of their pools. */
import { failpoint } from '../../protocols/failpoint.ts'
import type { Welcome } from '../../protocols/leases.ts'
import type { Capacity } from '../../protocols/model/resources.ts'
import type { Reservation } from '../../protocols/pools.ts'
import { type Ask, heldRetryMs, type NodeState, nextMean, pickNext, planClaim } from '../intake.ts'
import type { Journal } from '../journal.ts'
import { Ledger } from '../ledger.ts'
import type { Log } from '../ports.ts'
import type { OfferListener } from './offer-listener.ts'
import type { Unit, Units } from './units.ts'

export class ComputeNodes {
  readonly ledger: Ledger
  readonly #units: Units
  readonly #journal: Journal
  readonly #offers: OfferListener
  readonly #now: () => number
  /** Mean time that a task lately held its slot, by node. */
  readonly #meanSlotMs = new Map<string, number>()
  /** Nodes held for a gang, and until when they are not asked for (M1). */
  readonly #held = new Map<string, number>()

  constructor(parts: { lent: Capacity; units: Units; journal: Journal; offers: OfferListener; now: () => number; log: Log }) {
    this.#units = parts.units
    this.#journal = parts.journal
    this.#offers = parts.offers
    this.#now = parts.now
    const { ownerEpoch, reservations } = parts.journal.remembered
    this.ledger = new Ledger(parts.lent, ownerEpoch)
    for (const reservation of reservations) {
      if (this.ledger.restore(reservation)) continue
      parts.log.warn({ reservation }, 'a compute node does not fit what the machine lends now; it is given back')
      this.#unwrite(reservation.reservationId)
    }
  }

  /** The coordinator's list: the default pool's node gets its name, reservations not named are given back. */
  welcomed(nodes: Welcome['nodes']): void {
    const named = new Set(nodes.map((node) => node.reservationId))
    this.ledger.nameDefault(nodes.find((node) => node.reservationId === 0)?.nodeId ?? '')
    for (const { reservationId } of this.ledger.reservations()) if (!named.has(reservationId)) this.ledger.release(reservationId)
    this.#held.clear()
    this.reap()
    this.#listen()
  }

  async reserve(request: Reservation): Promise<{ granted: boolean; draining: boolean; reason?: string }> {
    const { changed, ...answer } = this.ledger.reserve(request, this.#now(), this.#waitingOnDefault())
    // R1: a node that was granted is known after a restart, so its capacity is not granted twice.
    if (changed) {
      failpoint('worker.node.reserved')
      await this.#journal.reserve(request)
      failpoint('worker.node.written')
      this.#listen()
    }
    return answer
  }

  #waitingOnDefault(): readonly Unit[] {
    const node = this.ledger.nodes().find(({ reservationId }) => reservationId === 0)
    return node === undefined ? [] : this.#units.line(node.nodeId)
  }

  /** Starts to give a node back; its id, or undefined when there is none. */
  release(reservationId: number): string | undefined {
    const node = this.ledger.nodes().find((other) => other.reservationId === reservationId)
    if (node === undefined || reservationId === 0) return undefined
    this.ledger.release(reservationId)
    return node.nodeId
  }

  releaseAll(): void {
    for (const { reservationId } of this.ledger.reservations()) this.ledger.release(reservationId)
    this.reap()
  }

  /** Forgets nodes that were given back and whose work has ended. */
  reap(): void {
    const gone = this.ledger.reap((nodeId) => this.#units.line(nodeId).length > 0)
    if (gone.length > 0) failpoint('worker.node.released')
    for (const reservationId of gone) this.#unwrite(reservationId)
    if (gone.length > 0) this.#listen()
  }

  #unwrite(reservationId: number): void {
    // A journal that breaks says so to the owner of the node; a reservation too many is given back at the next welcome.
    void this.#journal.release(reservationId).catch(() => {})
  }

  #listen(): void {
    this.#offers.listen(new Set(this.ledger.nodes().map((node) => node.poolId)))
  }

  /** A task has left its slot after so long. */
  vacated(unit: Unit, heldMs: number): void {
    this.ledger.end(unit.key, unit.nodeId)
    this.ran(unit.nodeId, heldMs)
  }

  /** So many tasks had a slot of the node for so long each. */
  ran(nodeId: string, heldMs: number, count = 1): void {
    this.#meanSlotMs.set(nodeId, nextMean(this.#meanSlotMs.get(nodeId), heldMs, count))
  }

  hold(nodeIds: readonly string[]): void {
    for (const nodeId of nodeIds) this.#held.set(nodeId, this.#now() + heldRetryMs)
  }

  unhold(nodeId: string): void {
    this.#held.delete(nodeId)
  }

  unholdPool(poolId: string): void {
    for (const node of this.ledger.nodes()) if (node.poolId === poolId) this.#held.delete(node.nodeId)
  }

  plan(): Ask[] {
    const now = this.#now()
    const states: NodeState[] = []
    for (const { nodeId, slots, leaving, reservationId } of this.ledger.nodes()) {
      const room = this.ledger.claimable(nodeId, now)
      if (room === undefined) continue
      const draining = reservationId === 0 && this.ledger.nextLapse() !== undefined
      const held = (this.#held.get(nodeId) ?? 0) > now
      states.push({
        nodeId,
        room,
        slots,
        held,
        closed: leaving,
        draining,
        unstarted: this.#units.line(nodeId),
        meanSlotMs: this.#meanSlotMs.get(nodeId),
      })
    }
    return planClaim(states)
  }

  /** The next task to start on a node, taken out of its line and entered in the ledger. */
  next(nodeId: string): Unit | undefined {
    const line = this.#units.line(nodeId)
    const room = line.length === 0 ? undefined : this.ledger.room(nodeId)
    const index = room === undefined ? -1 : pickNext(line, room, this.ledger.isDefault(nodeId))
    if (index < 0) return undefined
    const unit = this.#units.takeAt(nodeId, index)
    this.ledger.start(unit.key, nodeId, unit)
    return unit
  }
}
