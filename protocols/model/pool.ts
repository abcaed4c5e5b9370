/**
 * Pools and compute nodes, with Azure Batch's names (Batch REST: Pool, ComputeNode).
 *
 * A compute node is a reservation on a machine. The pool `default` exists in every mesh: it has one node on each
 * machine, as large as what the machine lends and no pool has reserved, with as many task slots as cores.
 */
import { z } from 'zod'
import { entityIdSchema, peerIdSchema } from '../ids.ts'
import { mpiFlavorSchema } from './machine.ts'
import { capacitySchema, labelsSchema } from './resources.ts'

export const defaultPoolId = 'default'

export const metadataSchema = z.array(z.object({ name: z.string().max(255), value: z.string().max(4096) })).max(100)

/** What a user gives to make a pool. */
export const poolSpecSchema = z.object({
  id: entityIdSchema,
  displayName: z.string().max(1024).optional(),
  /** An Azure VM size such as `standard_d2s_v3`, or `cores=2,memory=4GiB[,gpus=1]`. */
  vmSize: z.string().min(1).max(128),
  targetDedicatedNodes: z.number().int().min(0).max(1_000_000).default(0),
  targetLowPriorityNodes: z.number().int().min(0).max(1_000_000).default(0),
  /** Azure: at most min(4 x cores, 256). */
  taskSlotsPerNode: z.number().int().min(1).max(256).default(1),
  nodeFillType: z.enum(['spread', 'pack']).default('spread'),
  enableInterNodeCommunication: z.boolean().default(false),
  /** Azure: default 15 min, least 5 min; here shorter is allowed, a mesh answers faster than a cloud. */
  resizeTimeoutMs: z
    .number()
    .int()
    .min(1000)
    .max(7 * 86_400_000)
    .default(15 * 60_000),
  /** Machines must carry these labels. */
  labels: labelsSchema.optional(),
  /** Machines must have this MPI, in this version if one is named. */
  mpi: z.object({ flavor: mpiFlavorSchema, version: z.string().max(64).optional() }).optional(),
  /** `job`: the pool is deleted when the last active job on it ends (Azure: autoPoolSpecification, of which a job has its own). */
  poolLifetimeOption: z.literal('job').optional(),
  metadata: metadataSchema.optional(),
})
export type PoolSpecInput = z.input<typeof poolSpecSchema>
export type PoolSpec = z.output<typeof poolSpecSchema>

export const poolStateSchema = z.enum(['active', 'deleting'])
export const allocationStateSchema = z.enum(['steady', 'resizing', 'stopping'])
export type AllocationState = z.infer<typeof allocationStateSchema>

/** Azure: what happens to running tasks of nodes that a shrinking pool gives back. */
export const deallocationOptionSchema = z.enum(['requeue', 'terminate', 'taskcompletion'])
export type DeallocationOption = z.infer<typeof deallocationOptionSchema>

export const poolViewSchema = poolSpecSchema.extend({
  state: poolStateSchema,
  allocationState: allocationStateSchema,
  nodeSize: capacitySchema,
  currentDedicatedNodes: z.number().int(),
  currentLowPriorityNodes: z.number().int(),
  resizeErrors: z.array(z.object({ code: z.string(), message: z.string() })),
  creationTime: z.number(),
  allocationStateTransitionTime: z.number(),
  pendingTasks: z.number().int(),
  runningTasks: z.number().int(),
})
export type PoolView = z.infer<typeof poolViewSchema>

/** Azure's node states, as far as a mesh has them. */
export const nodeStateSchema = z.enum(['creating', 'idle', 'running', 'leavingpool', 'unknown', 'offline', 'preempted', 'unusable'])
export type NodeState = z.infer<typeof nodeStateSchema>

export const nodeViewSchema = z.object({
  id: z.string(),
  poolId: z.string(),
  machine: peerIdSchema,
  machineName: z.string(),
  state: nodeStateSchema,
  isDedicated: z.boolean(),
  size: capacitySchema,
  taskSlots: z.number().int(),
  runningTasksCount: z.number().int(),
  runningTaskSlotsCount: z.number().int(),
  allocationTime: z.number(),
  /** The gang that holds the node, if one does (M1). */
  heldFor: z.string().optional(),
})
export type NodeView = z.infer<typeof nodeViewSchema>
