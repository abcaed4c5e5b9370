/** Hears the offers of the pools that have a node here (G1: a hint, from whomever it comes). */
import { decodeOffer, offersTopic } from '../../protocols/offers.ts'
import type { Wire } from '../../protocols/wire.ts'

export class OfferListener {
  readonly #wire: Wire
  readonly #meshId: string
  readonly #offered: (poolId: string) => void
  readonly #subscribed = new Map<string, () => void>()

  constructor(wire: Wire, meshId: string, offered: (poolId: string) => void) {
    this.#wire = wire
    this.#meshId = meshId
    this.#offered = offered
  }

  /** Listens to these pools and no others. */
  listen(pools: ReadonlySet<string>): void {
    for (const [poolId, unsubscribe] of this.#subscribed) {
      if (pools.has(poolId)) continue
      unsubscribe()
      this.#subscribed.delete(poolId)
    }
    for (const poolId of pools) {
      if (this.#subscribed.has(poolId)) continue
      const unsubscribe = this.#wire.subscribe(offersTopic(this.#meshId, poolId), (data) => {
        const offer = decodeOffer(data)
        if (offer?.poolId === poolId && offer.pending > 0) this.#offered(poolId)
      })
      this.#subscribed.set(poolId, unsubscribe)
    }
  }

  close(): void {
    this.listen(new Set())
  }
}
