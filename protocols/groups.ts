/**
 * Groups: how the members of a gang's attempt come together, and learn that one is gone.
 *
 * Participants: the machine of the primary serves; the machine of each other member opens one channel for each member that
 * it has, from the member's start to its end. A machine with the primary and others speaks to itself, as always.
 *
 *   member: join -> (its own part) -> ready -> cards, check -> reached -> together | failed
 *
 * 1. Each member brings a *card* when its own part is done: bytes for the others, which mean nothing here. That may take
 *    minutes and differ from member to member; nobody is hurried.
 * 2. When all have, each is told all cards, and where each member listens for a moment; it dials those whom it will need,
 *    and says whom it did not reach.
 * 3. When each has reached all of its own, all get a key that nobody else has; else all are told who could not reach whom.
 * 4. From its join on each member is asked for a sign of life all the time, and asks for one.
 *
 * Promised
 *   S1 nobody but the machines of an attempt's members is told anything of it, and each speaks only for its own members
 *   M1 a member that is silent for {@link lostAfterMs} is lost, and all others are told; what to do then is theirs to decide
 *   A channel that breaks and is opened again within that time costs nothing: what was said is said again.
 * Not promised: that a lost member does not run on. The coordinator ends its attempt.
 */
import { z } from 'zod'
import { bytesSchema, bytesUpTo } from './bytes.ts'
import { attemptSchema } from './ids.ts'
import { defineProtocol } from './rpc.ts'

/** Of a card: a few addresses and a certificate. */
export const maxCardBytes = 4096
/** A member says each so often that it is there. */
export const pingMs = 1500
/** Three signs of life that did not come, and a bit: a machine that swaps or a process that collects garbage is slower than others, not gone. */
export const lostAfterMs = 6000
/** Cards in one note: bounds the frame. */
export const maxPage = 64
/** All members dial all others up to this size; beyond, each its neighbour and the primary: MPI's own start goes that way, and n² connections do not scale. */
export const maxMeshed = 32
/** What proves that a port is the member's. */
export const tokenBytes = 32
export const groupKeyBytes = 32

const indexSchema = z.number().int().min(0).max(100_000)

/** What a member brings. */
export const presenceSchema = z.object({
  card: bytesUpTo(maxCardBytes),
  /** Where it listens until all have reached each other; 0 where nobody needs to reach it. Whoever connects there is sent the token. */
  port: z.number().int().min(0).max(65_535),
  token: bytesUpTo(tokenBytes),
})
export type Presence = z.infer<typeof presenceSchema>

export const unreachedSchema = z.object({ index: indexSchema, why: z.string().max(200) })
export type Unreached = z.infer<typeof unreachedSchema>

export const groupsProtocol = defineProtocol({
  protocol: '/batchmesh/groups/1',
  requires: ['worker'],
  // a page of cards, each at its largest
  maxFrameBytes: 1 << 20,
  maxInFlight: 4,
  timeoutMs: 10_000,
  /** The machine of the primary serves. */
  server: {
    calls: {
      /** The first request, and the first of each new channel. Refused with TaskNotFound while the primary is not there (yet, or any more). */
      join: { request: z.object({ attempt: attemptSchema }), answer: z.object({}) },
      ping: { request: z.object({}), answer: z.object({}) },
    },
    notes: {
      ready: presenceSchema,
      /** Whom the member did not reach; empty: it has reached all. */
      reached: z.object({ unreached: z.array(unreachedSchema).max(maxMeshed) }),
    },
  },
  /** The machine of the member understands. */
  client: {
    calls: {},
    notes: {
      /** What members from `from` on have brought, page by page. After the last of them it dials the others. */
      presences: z.object({ from: indexSchema, presences: z.array(presenceSchema).max(maxPage) }),
      together: z.object({ key: bytesSchema.refine((key) => key.length === groupKeyBytes, `${groupKeyBytes} bytes are expected`) }),
      failed: z.object({ message: z.string().max(4096) }),
      lost: z.object({ index: indexSchema, reason: z.string().max(500) }),
      /** The primary has ended by itself: its silence from now on means nothing. */
      over: z.object({}),
    },
  },
})
export type GroupsProtocol = typeof groupsProtocol
