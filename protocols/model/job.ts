/** Jobs, with Azure Batch's names and state words (Batch REST: Job). Times are milliseconds since 1970. */
import { z } from 'zod'
import { jobIdSchema, jobUidSchema, peerIdSchema } from '../ids.ts'
import { defaultPoolId, metadataSchema } from './pool.ts'

export const environmentSchema = z
  .array(
    z.object({
      name: z
        .string()
        .min(1)
        .max(1024)
        .regex(/^[^=\0]+$/, { error: 'the name of an environment variable is not empty and holds no "="' }),
      value: z.string().max(131_072),
    }),
  )
  .max(1000)
export type EnvironmentSettings = z.infer<typeof environmentSchema>

/** Longest wall-clock limit: 180 days, the life of a task in Azure Batch. */
export const maxLimitMs = 180 * 86_400_000

/** What happens when the machine of a running task falls silent (L3, L7; compare Nomad's `disconnect` block). */
export const disconnectSchema = z.object({
  /** Silence after which the lease ends; default: as long as the task has run, at least 30 s, at most 10 min. */
  lostAfterMs: z.number().int().min(1000).max(86_400_000).optional(),
  /** Whether a lost task is run elsewhere (default) or completed as failed. */
  replace: z.boolean().default(true),
  /** Whether the machine itself ends the task when it has been cut off that long (default: runs on, fenced at commit). */
  stopOnClient: z.boolean().default(false),
})

export const jobSpecSchema = z.object({
  id: jobIdSchema,
  displayName: z.string().max(1024).optional(),
  poolId: z.string().max(64).default(defaultPoolId),
  /** Azure: -1000 to 1000, higher first. */
  priority: z.number().int().min(-1000).max(1000).default(0),
  maxParallelTasks: z.number().int().min(-1).default(-1),
  commonEnvironmentSettings: environmentSchema.optional(),
  constraints: z
    .object({
      maxWallClockTimeMs: z.number().int().positive().max(maxLimitMs).optional(),
      /** For tasks that set none: n retries are n+1 runs, -1 is endless. */
      maxTaskRetryCount: z.number().int().min(-1).default(0),
    })
    .prefault({}),
  onAllTasksComplete: z.enum(['noaction', 'terminatejob']).default('noaction'),
  usesTaskDependencies: z.boolean().default(false),
  /** Jobs that must be completed before a task of this one starts; `afterok`: with all their tasks successful. */
  dependsOnJobs: z
    .array(z.object({ jobId: jobIdSchema, condition: z.enum(['afterok', 'afterany']) }))
    .max(100)
    .optional(),
  disconnect: disconnectSchema.prefault({}),
  /** Machine where outputs are kept; default the coordinator's (B2). */
  home: peerIdSchema.optional(),
  /** An ended job is deleted after this long; default never. */
  retentionTimeMs: z.number().int().positive().optional(),
  metadata: metadataSchema.optional(),
})
export type JobSpecInput = z.input<typeof jobSpecSchema>
export type JobSpec = z.output<typeof jobSpecSchema>

export const jobStateSchema = z.enum(['active', 'disabling', 'disabled', 'enabling', 'terminating', 'completed', 'deleting'])
export type JobState = z.infer<typeof jobStateSchema>

/** Azure's task counts; `failed` counts completed tasks only. */
export const taskCountsSchema = z.object({
  active: z.number().int(),
  running: z.number().int(),
  completed: z.number().int(),
  succeeded: z.number().int(),
  failed: z.number().int(),
})
export type TaskCounts = z.infer<typeof taskCountsSchema>

export const jobViewSchema = jobSpecSchema.extend({
  uid: jobUidSchema,
  state: jobStateSchema,
  creationTime: z.number(),
  stateTransitionTime: z.number(),
  endTime: z.number().optional(),
  terminateReason: z.string().optional(),
  /** Who submitted it: the name of the machine. */
  submitter: z.string().optional(),
  /** The same machine as a peer, which no other can be. Absent from coordinators of version 0.1. */
  submitterPeer: peerIdSchema.optional(),
  counts: taskCountsSchema,
  /** Machines left out for this job, with the reason (a program that does not exist there). */
  excludedMachines: z.array(z.object({ machine: peerIdSchema, name: z.string(), reason: z.string() })),
})
export type JobView = z.infer<typeof jobViewSchema>
