/**
 * Task offers: gossip that wakes sleepers (G1).
 *
 * Participants: the coordinator publishes on a pool's topic; machines with a node in that pool listen. An offer is a
 * digest, "pool P has about N tasks waiting", never the task itself. Correctness never rests on it: a machine that
 * hears none asks again by itself, one that hears a forged one asks in vain. A machine with room normally has a claim
 * waiting at the coordinator and needs no offer; offers are for those whose claims the coordinator did not hold.
 */
import { z } from 'zod'
import { decode, encode } from './codec.ts'

/** The longest that a machine whose claims are not held waits before it asks again, offer or not. */
export const sleepMs = 60_000
/** A claim waits at the coordinator this long for a task before it is answered empty. */
export const parkMs = 20_000
/** Woken machines wait a random part of this, so that a thousand of them do not ask at once. */
export const wakeJitterMs = 50
/** An offer is not repeated for a pool sooner than this. Gossip costs 4 to 8 ms of CPU a node and message. */
export const offerIntervalMs = 1000

export const offerSchema = z.object({
  poolId: z.string().max(64),
  pending: z.number().int().min(0),
  ownerEpoch: z.number().int(),
})
export type Offer = z.infer<typeof offerSchema>

export function offersTopic(meshId: string, poolId: string): string {
  return `/batchmesh/${meshId}/offers/${poolId}`
}

export function encodeOffer(offer: Offer): Uint8Array {
  return encode(offer)
}

/** The offer in a gossip message, or undefined when it is not one. */
export function decodeOffer(data: Uint8Array): Offer | undefined {
  if (data.length > 1024) return undefined
  try {
    return offerSchema.safeParse(decode(data)).data
  } catch {
    return undefined
  }
}
