/** Who has or fetches which blob: hints that the home of a job gives to those that fetch its inputs. */
import type { BlobId, PeerIdText } from '../../protocols/ids.ts'

/** Blobs that are kept track of; the longest unasked goes first. */
const maxBlobs = 10_000
/** Seeds of one blob; the newest are the likeliest to be there. */
const maxSeeds = 64

export class Tracker {
  readonly #seeds = new Map<BlobId, Set<PeerIdText>>()

  add(id: BlobId, peer: PeerIdText): void {
    const seeds = this.#seeds.get(id) ?? new Set()
    seeds.delete(peer)
    seeds.add(peer)
    if (seeds.size > maxSeeds) seeds.delete(seeds.values().next().value!)
    this.#seeds.delete(id)
    this.#seeds.set(id, seeds)
    if (this.#seeds.size > maxBlobs) this.#seeds.delete(this.#seeds.keys().next().value!)
  }

  /** The newest seeds other than the one that asks. */
  providers(id: BlobId, asking: PeerIdText, limit: number): PeerIdText[] {
    const seeds = [...(this.#seeds.get(id) ?? [])].filter((peer) => peer !== asking)
    return seeds.slice(-limit).toReversed()
  }
}
