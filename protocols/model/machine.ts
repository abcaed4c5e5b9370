/** A machine: one peer that lends capacity (the mesh's own noun; Azure Batch has only nodes). */
import { z } from 'zod'
import { peerIdSchema } from '../ids.ts'
import { roles } from '../wire.ts'
import { capacitySchema, labelsSchema } from './resources.ts'

/** `dedicated` stays; `low-priority` may leave at any time, which counts as preemption and spends no retry. */
export const machineClassSchema = z.enum(['dedicated', 'low-priority'])
export type MachineClass = z.infer<typeof machineClassSchema>

/** How tasks are kept apart from the node and each other, best first (docs/operations: isolation). */
export const isolationTierSchema = z.enum(['user+pidns', 'bwrap', 'userns', 'process-group'])
export type IsolationTier = z.infer<typeof isolationTierSchema>

/** Implementations of MPI that gangs can be started with. */
export const mpiFlavorSchema = z.enum(['openmpi', 'mpich'])
export type MpiFlavor = z.infer<typeof mpiFlavorSchema>

/** An MPI that is installed on a machine. */
export const installedMpiSchema = z.object({ flavor: mpiFlavorSchema, version: z.string().max(64) })
export type InstalledMpi = z.infer<typeof installedMpiSchema>

/** As its makers write it: `Open MPI 4.1.4`. */
export function mpiName({ flavor, version }: { flavor: MpiFlavor; version?: string | undefined }): string {
  const name = flavor === 'openmpi' ? 'Open MPI' : 'MPICH'
  return version === undefined ? name : `${name} ${version}`
}

/** What a machine says of itself when it opens its session. */
export const machineDescriptionSchema = z.object({
  name: z.string().max(255),
  class: machineClassSchema,
  /** What it lends, not what it has. */
  capacity: capacitySchema,
  diskFreeMiB: z.number().min(0),
  labels: labelsSchema,
  os: z.string().max(64),
  arch: z.string().max(64),
  version: z.string().max(64),
  isolation: isolationTierSchema,
  /**
   * What not every machine can do: `threads` runs thread tasks; `memory-limit` and `process-limit` hold tasks to what they
   * may take. Absent from machines of version 0.1.
   */
  features: z.array(z.string().max(64)).max(64).optional(),
  /** At most one of each flavor. Absent from machines of version 0.2 and before. */
  mpi: z
    .array(installedMpiSchema.extend({ flavor: z.string().max(64) }))
    .max(16)
    .optional(),
  /** Fast networks that MPI may use beside TCP, by the names of their devices (`mlx5_0`, `hfi1_0`); absent or empty: none. */
  fabrics: z.array(z.string().max(64)).max(64).optional(),
  /** Multiaddrs where it can be dialled; may be empty (behind NAT). */
  addresses: z.array(z.string().max(512)).max(64),
  /** Directory of the node's tasks (AZ_BATCH_NODE_ROOT_DIR). */
  nodeRootDir: z.string().max(4096),
})
export type MachineDescription = z.infer<typeof machineDescriptionSchema>

/** A machine as it is shown. */
export const machineViewSchema = machineDescriptionSchema.extend({
  peer: peerIdSchema,
  roles: z.array(z.enum(roles)),
  connected: z.boolean(),
  /** Capacity that compute nodes of pools hold. */
  reserved: capacitySchema,
  runningTasks: z.number().int(),
  lastSeen: z.number(),
  isCoordinator: z.boolean(),
})
export type MachineView = z.infer<typeof machineViewSchema>
