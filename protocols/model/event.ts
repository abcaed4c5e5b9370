/**
 * What happened in the mesh, as the coordinator keeps it: machines that come and go, pools, jobs, and what went wrong
 * with tasks. Not every task that succeeds: a job's own list has those. Times are milliseconds since 1970.
 */
import { z } from 'zod'
import { peerIdSchema } from '../ids.ts'

/** Every kind of event, in groups: coordinator, machines, pools, jobs, tasks. */
export const eventKinds = [
  'coordinator-started',

  'machine-joined',
  'machine-connected',
  'machine-disconnected',
  'machine-gone',
  'machine-draining',
  'machine-left',
  'machine-revoked',
  'machine-excluded',

  'pool-created',
  'pool-resized',
  'pool-resize-failed',
  'pool-deleted',

  'job-added',
  'job-ended',
  'job-deleted',

  'task-failed',
  'task-retried',
  'task-lost',
  'task-preempted',
  'task-requeued',
  'task-program-missing',
  'task-stopped',
  'task-reactivated',
] as const
export type EventKind = (typeof eventKinds)[number]

export const meshEventSchema = z.object({
  /** Grows by one with each event of the mesh. */
  seq: z.number().int(),
  time: z.number(),
  /** One of `eventKinds`; a newer coordinator may have others. */
  kind: z.string().max(64),
  /** One sentence. */
  message: z.string().max(4096),
  jobId: z.string().optional(),
  taskId: z.string().optional(),
  poolId: z.string().optional(),
  machine: peerIdSchema.optional(),
  machineName: z.string().optional(),
  /** This one stands for so many alike: after the first hundred of a job they are not told one by one. */
  count: z.number().int().optional(),
})
export type MeshEvent = z.infer<typeof meshEventSchema>
