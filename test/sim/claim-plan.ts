/** What a simulated machine asks for, after node/worker/compute-nodes.ts. */
import { type Ask, type NodeState, nextMean, planClaim } from '../../node/intake.ts'
import type { Ledger } from '../../node/ledger.ts'
import type { Units } from '../../node/worker/units.ts'

export class ClaimPlan {
  /** Nodes held for a gang, and until when they are not asked for (M1). */
  readonly held = new Map<string, number>()
  readonly #means = new Map<string, number>()

  /** A task has left its node after so long. */
  ran(nodeId: string, ms: number): void {
    this.#means.set(nodeId, nextMean(this.#means.get(nodeId), ms))
  }

  plan(ledger: Ledger, units: Units, now: number): Ask[] {
    const states: NodeState[] = []
    for (const { nodeId, slots, leaving, reservationId } of ledger.nodes()) {
      const room = ledger.claimable(nodeId, now)
      if (room === undefined) continue
      states.push({
        nodeId,
        room,
        slots,
        held: (this.held.get(nodeId) ?? 0) > now,
        closed: leaving,
        draining: reservationId === 0 && ledger.nextLapse() !== undefined,
        unstarted: units.line(nodeId),
        meanSlotMs: this.#means.get(nodeId),
      })
    }
    return planClaim(states)
  }
}
