/**
 * Leases: how a machine gets tasks and tells how they ended.
 *
 * Participants: a worker, which opens one long-lived session, and the coordinator. Work is pulled: the worker claims
 * in batches for the room it has, the coordinator grants attempts. The worker says hello first, on every connection,
 * with its incarnation and its full inventory (L6); nothing else is answered before that.
 *
 * Promised
 *   L1 an attempt has at most one lease; the first accepted report ends all others
 *   L2 attempts are named (job uid, task, epoch); what is said of an ended attempt is refused, but a late report of an
 *      attempt that has not been replaced yet is accepted
 *   L3 only the coordinator ends a lease, by its own clock; a heartbeat renews all leases of the machine
 *   L4 a claim with a request id that was answered, or a report that was taken, gets the same answer again
 *   L5 what is granted or acknowledged is on the coordinator's disk
 *   L6 after a (re)connect the coordinator answers keep or stop for each attempt of the inventory, and requeues at once
 *      what the inventory omits
 *   L7 a new incarnation ends the leases of the one before; granted but unstarted attempts end with the session
 * Not promised: that a task runs only once. A machine that is cut off runs on, and is fenced when it reports.
 */
import { z } from 'zod'
import { bytesSchema } from './bytes.ts'
import { attemptSchema, jobUidSchema, peerIdSchema, requestIdSchema } from './ids.ts'
import { disconnectSchema, environmentSchema } from './model/job.ts'
import { installedMpiSchema, machineDescriptionSchema } from './model/machine.ts'
import { roomSchema } from './model/resources.ts'
import { outcomeSchema } from './model/task.ts'
import { reservationSchema, reserveAnswerSchema } from './pools.ts'
import { defineProtocol } from './rpc.ts'

/** Grants in one answer: bounds the frame (a spec is at most 128 KiB, typically 300 B) and what is lost with a session. */
export const maxGrants = 512
/** Jobs named in a hello: 9 bytes each; files of further jobs go when their time is over. */
export const maxKeptJobs = 100_000
/** Reports in one request. */
export const maxReports = 512
/** Default heartbeat; grows with the number of workers so that the coordinator hears at most about 2,000 a second. */
export const heartbeatMs = 5000

export const grantSchema = z.object({
  attempt: attemptSchema,
  nodeId: z.string(),
  /** The task's spec (TaskSpec) as encoded when it was submitted, so that it is not decoded and encoded again on the way. */
  spec: bytesSchema,
  /** Set for a member of a gang (M1): all start together or none. Each is named apart by `attempt.member`, for a machine may have several. */
  gang: z
    .object({
      index: z.number().int().min(0),
      members: z
        .array(
          z.object({
            peer: peerIdSchema,
            nodeId: z.string(),
            /** Of its machine. */
            name: z.string(),
            /** IP address where the other members reach the machine; empty if it has said none. */
            address: z.string(),
            /** Multiaddrs of the machine; in grants to others than the primary only those of the primary. Absent from version 0.2. */
            addresses: z.array(z.string().max(512)).max(8).optional(),
            cores: z.number(),
            /** It has fast networks that MPI may use (MachineDescription.fabrics). */
            hasFabric: z.boolean().optional(),
          }),
        )
        .max(100_000),
      /** The MPI that all members have in the same version, if there is one. */
      mpi: installedMpiSchema.optional(),
    })
    .optional(),
})
export type Grant = z.infer<typeof grantSchema>

/** What all attempts of a job share; sent with the first grant of the job in a session. */
export const jobBriefSchema = z.object({
  jobUid: jobUidSchema,
  jobId: z.string(),
  poolId: z.string(),
  commonEnvironmentSettings: environmentSchema.optional(),
  /** Where outputs go (B2). */
  home: peerIdSchema,
  disconnect: disconnectSchema,
})
export type JobBrief = z.infer<typeof jobBriefSchema>

export const inventoryItemSchema = z.object({
  attempt: attemptSchema,
  nodeId: z.string(),
  state: z.enum(['fetching', 'running', 'uploading', 'finished']),
  startTime: z.number().optional(),
})
export type InventoryItem = z.infer<typeof inventoryItemSchema>

export const helloSchema = z.object({
  machine: machineDescriptionSchema,
  /** Grows with every start of the worker's process and is on its disk before it is said. */
  incarnation: z.number().int().positive(),
  inventory: z.array(inventoryItemSchema).max(200_000),
  reservations: z.array(reservationSchema).max(1024),
  /** Highest owner epoch the worker has obeyed: a coordinator with a lower one is deposed. */
  ownerEpoch: z.number().int().min(0),
  /** Jobs whose files the machine keeps: it is told to forget those that were deleted while it was away. Absent from version 0.2. */
  jobs: z.array(jobUidSchema).max(maxKeptJobs).optional(),
})
export type Hello = z.infer<typeof helloSchema>

export const welcomeSchema = z.object({
  ownerEpoch: z.number().int().positive(),
  heartbeatMs: z.number().int().positive(),
  /** Attempts of the inventory to go on with; those not named are to be stopped and forgotten. */
  keep: z.array(attemptSchema),
  /** The machine's compute nodes; reservations not named are released. The default pool's node is among them, with reservationId 0. */
  nodes: z.array(reservationSchema.extend({ reservationId: z.number().int().min(0) })),
})
export type Welcome = z.infer<typeof welcomeSchema>

export const claimSchema = z.object({
  requestId: requestIdSchema,
  nodes: z
    .array(
      z.object({
        nodeId: z.string(),
        /** Free now. */
        room: roomSchema,
        /** Slots' worth of further tasks to hold ready, unstarted. */
        prefetchSlots: z.number().int().min(0).max(4096),
      }),
    )
    .max(1024),
  /** How long the coordinator may hold the claim until there is something; a newer claim of the machine replaces it. */
  waitMs: z.number().int().min(0).max(60_000),
})
export type Claim = z.infer<typeof claimSchema>

export const claimAnswerSchema = z.object({
  grants: z.array(grantSchema).max(maxGrants),
  jobs: z.array(jobBriefSchema),
  /** Nodes held for a gang: ask again when told. */
  held: z.array(z.string()),
})
export type ClaimAnswer = z.infer<typeof claimAnswerSchema>

export const reportSchema = z.object({ attempt: attemptSchema, outcome: outcomeSchema })
export type Report = z.infer<typeof reportSchema>

/** `accepted`: recorded (now or before). `refused`: the attempt had ended (L2); its outputs count for nothing. */
export const verdictSchema = z.enum(['accepted', 'refused'])
export type Verdict = z.infer<typeof verdictSchema>

export const leasesProtocol = defineProtocol({
  protocol: '/batchmesh/leases/1',
  requires: ['worker'],
  // 512 grants of ordinary size, or an inventory of 200,000 attempts
  maxFrameBytes: 64 << 20,
  maxInFlight: 64,
  timeoutMs: 30_000,
  /** The coordinator serves. */
  server: {
    calls: {
      hello: { request: helloSchema, answer: welcomeSchema },
      claim: { request: claimSchema, answer: claimAnswerSchema },
      report: {
        request: z.object({ reports: z.array(reportSchema).max(maxReports) }),
        answer: z.object({ verdicts: z.array(verdictSchema) }),
      },
    },
    notes: {
      /** Renews every lease of the machine (L3). `sentAt` is the worker's clock and comes back in `beat`. */
      heartbeat: z.object({ sentAt: z.number(), diskFreeMiB: z.number().optional() }),
      /** Programs that began, in the order they did. */
      started: z.object({ attempts: z.array(attemptSchema.extend({ startTime: z.number() })).max(4096) }),
      /** Attempts whose program has ended and whose outputs are on their way (B2): their slots are free again. */
      uploading: z.object({ attempts: z.array(attemptSchema).max(4096) }),
      /**
       * The machine is going down by its owner's wish: give it nothing more. Given back are its unstarted attempts, and at
       * the very end those that it has stopped: nothing of them runs or will be reported.
       */
      draining: z.object({
        returned: z.array(attemptSchema).max(200_000),
        /** It leaves the mesh for good. */
        leaving: z.boolean().default(false),
      }),
    },
  },
  /** The worker understands. */
  client: {
    calls: {
      /** Takes unstarted attempts back; answers those that were indeed not started and now never will be. */
      retract: {
        request: z.object({ attempts: z.array(attemptSchema).max(4096) }),
        answer: z.object({ retracted: z.array(attemptSchema) }),
      },
      /** Asks for a compute node (R1). */
      reserve: { request: reservationSchema, answer: reserveAnswerSchema },
    },
    notes: {
      beat: z.object({ sentAt: z.number(), heartbeatMs: z.number().int().positive() }),
      /** Attempts that the worker did not claim: members of a gang. */
      grant: z.object({ grants: z.array(grantSchema).max(maxGrants), jobs: z.array(jobBriefSchema) }),
      /** End these attempts now; nothing of them is wanted any more, except that `report` says so. */
      stop: z.object({ attempts: z.array(attemptSchema).max(4096), reason: z.string().max(1000) }),
      /** Gives a compute node back once its work has ended, or at once with `now`. */
      release: z.object({ reservationId: z.number().int(), now: z.boolean() }),
      /** The job was deleted: so are its task directories (Azure). A machine that is away keeps them for their retention time. */
      forget: z.object({ jobUid: jobUidSchema }),
    },
  },
})
export type LeasesProtocol = typeof leasesProtocol
