/**
 * Rendezvous: programs that want to form a group meet at the coordinator by the group's name, once. Each brings a card and
 * waits; when as many have come as the group has members, all are answered at once with the cards of all and a fresh key.
 * What they say to each other then goes straight between them.
 *
 * Promised: ranks are in the order of arrival; a repeated request with the same id keeps its place, or gets the same answer
 * (L4) for a while; who goes away before all have come frees its place. Not promised: that it survives a restart of the
 * coordinator. Nothing of it is ever on a disk. Part of the control protocol.
 */
import { z } from 'zod'
import { bytesUpTo } from './bytes.ts'

/** Members of one group: with cards of the greatest length, each is answered with 4 MiB. */
export const maxGroupSize = 1000
/** As in node/groups/links/card.ts. */
const maxCardBytes = 4096
/** A day: a program that waits longer asks again. */
const maxWaitMs = 86_400_000

export const rendezvousSchema = {
  request: z.object({
    name: z.string().min(1).max(128),
    size: z.number().int().min(1).max(maxGroupSize),
    /** Of this member's wish to be in it: random, so that no other has the same. */
    requestId: z.string().min(16).max(64),
    card: bytesUpTo(maxCardBytes),
    /** How long to wait for the others; then OperationTimedOut, and the place is free. 0 for one that gives up its place. */
    waitMs: z.number().int().min(0).max(maxWaitMs),
  }),
  answer: z.object({
    rank: z.number().int().min(0),
    cards: z.array(bytesUpTo(maxCardBytes)).max(maxGroupSize),
    /** 32 bytes. */
    key: bytesUpTo(64),
  }),
}
export type RendezvousRequest = z.output<typeof rendezvousSchema.request>
export type RendezvousAnswer = z.output<typeof rendezvousSchema.answer>
