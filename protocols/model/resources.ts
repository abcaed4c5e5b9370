/** Capacity and demand: cores, memory, disk, GPUs, task slots and labels. */
import { z } from 'zod'

export const labelsSchema = z.record(z.string().min(1).max(63), z.string().max(255))
export type Labels = z.infer<typeof labelsSchema>

/** Capacity of a machine or a compute node. Cores may be a fraction (half a core). */
export const capacitySchema = z.object({
  cores: z.number().min(0),
  memoryMiB: z.number().min(0),
  gpus: z.number().int().min(0).default(0),
})
export type Capacity = z.infer<typeof capacitySchema>

/** What one task asks for. Absent means: its slots are all it needs. */
export const demandSchema = z.object({
  cores: z.number().positive().optional(),
  memoryMiB: z.number().positive().optional(),
  gpus: z.number().int().min(0).optional(),
  /** Each must equal the machine's label of that name. */
  labels: labelsSchema.optional(),
})
export type Demand = z.infer<typeof demandSchema>

/** Free room on a compute node. */
export const roomSchema = capacitySchema.extend({ slots: z.number().int().min(0) })
export type Room = z.infer<typeof roomSchema>

export const noDemand: Demand = {}

/** Sums of fractions, such as forty times 0.05 cores, are off by a rounding: nothing is refused for less than this. */
export const roundingSlack = 1e-9

/** Whether one capacity is within another. */
export function holds(has: Capacity, wants: Capacity): boolean {
  return has.cores + roundingSlack >= wants.cores && has.memoryMiB + roundingSlack >= wants.memoryMiB && has.gpus >= wants.gpus
}

/** Whether a task fits in a room as it stands. Pure arithmetic: labels are checked apart, by {@link labelsMatch}. */
export function fits(room: Room, slots: number, { cores = 0, memoryMiB = 0, gpus = 0 }: Demand): boolean {
  return room.slots >= slots && holds(room, { cores, memoryMiB, gpus })
}

/** The room left when a task is put in. May go below zero if the task did not fit. */
export function take(room: Room, slots: number, demand: Demand): Room {
  return {
    slots: room.slots - slots,
    cores: room.cores - (demand.cores ?? 0),
    memoryMiB: room.memoryMiB - (demand.memoryMiB ?? 0),
    gpus: room.gpus - (demand.gpus ?? 0),
  }
}

export function labelsMatch(has: Labels, wants: Labels | undefined): boolean {
  if (wants === undefined) return true
  for (const name in wants) if (has[name] !== wants[name]) return false
  return true
}
