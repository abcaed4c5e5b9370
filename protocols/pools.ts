/**
 * Pools on the mesh: how a coordinator reserves compute nodes on machines.
 *
 * Participants: the coordinator, which wants nodes for its pools, and a machine, which lends capacity. A compute node
 * is a reservation. The reservation requests travel in the worker's session (protocols/leases.ts).
 *
 * Promised (R1): the machine alone grants, and never beyond what it lends; a reservation is named (id, owner epoch),
 * so a repeated request gets the same answer and a request of a deposed coordinator is refused; each expires unless
 * renewed, and its capacity is free again when its work has ended. Not promised: that a machine said to be free still
 * is.
 */
import { z } from 'zod'
import { capacitySchema } from './model/resources.ts'

/** Without contact to the coordinator a reservation ends after this: longer than the longest default lease window, so that running work is not orphaned first. */
export const reservationTtlMs = 30 * 60_000

export const reservationSchema = z.object({
  reservationId: z.number().int().positive(),
  ownerEpoch: z.number().int().positive(),
  poolId: z.string().max(64),
  nodeId: z.string().max(128),
  size: capacitySchema,
  taskSlots: z.number().int().min(1),
})
export type Reservation = z.infer<typeof reservationSchema>

export const reserveAnswerSchema = z.object({
  granted: z.boolean(),
  /** The machine has the capacity but tasks of the default pool hold it: it takes no more of those, ask again. */
  draining: z.boolean().default(false),
  reason: z.string().max(1000).optional(),
})

/** Gossip topic on which a coordinator announces its pools (G1: a hint). */
export function poolsTopic(meshId: string): string {
  return `/batchmesh/${meshId}/pools`
}

export const poolsAnnouncementSchema = z.object({
  ownerEpoch: z.number().int(),
  pools: z.array(z.object({ id: z.string().max(64), size: capacitySchema, wanted: z.number().int(), current: z.number().int() })).max(1000),
})
export type PoolsAnnouncement = z.infer<typeof poolsAnnouncementSchema>
