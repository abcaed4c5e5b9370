/**
 * Control: what a face (CLI, gateway, library) asks of the mesh.
 *
 * Participants: a submitter, and the coordinator. A face on another machine speaks to its own node's control socket,
 * which passes the conversation on. Promised (L5): what an answer or a watch shows is on the coordinator's disk. `add`
 * calls are repeatable: the second gets …Exists. Not promised: that a list of changing things is one moment's view
 * beyond a single page.
 */
import { z } from 'zod'
import { fileChunkSchema, fileEntrySchema, listFilesSchema, maxListed, readFileSchema } from './files.ts'
import { jobUidSchema } from './ids.ts'
import { meshEventSchema } from './model/event.ts'
import { jobSpecSchema, jobStateSchema, jobViewSchema, taskCountsSchema } from './model/job.ts'
import { machineViewSchema } from './model/machine.ts'
import { deallocationOptionSchema, nodeViewSchema, poolSpecSchema, poolViewSchema } from './model/pool.ts'
import { subtaskViewSchema } from './model/subtask.ts'
import {
  attemptEndSchema,
  failureInfoSchema,
  outputEntrySchema,
  taskFieldsSchema,
  taskSpecSchema,
  taskStateSchema,
  taskViewSchema,
} from './model/task.ts'
import { taskArraySchema } from './model/task-array.ts'
import { cloneValueSchema, threadErrorSchema } from './model/thread-task.ts'
import { rendezvousSchema } from './rendezvous.ts'
import { defineProtocol } from './rpc.ts'

/** Tasks in one addTasks request; the client sends as many requests as it needs, several at once. */
export const maxTasksPerAdd = 1000
/** Longest wait for an event: well within the deadline of a call. */
export const maxEventWaitMs = 30_000
/** Entries in one page of a list. */
export const maxPage = 1000

const nothing = z.object({})
const poolRef = z.object({ poolId: z.string() })
const jobRef = z.object({ jobId: z.string() })
const taskRef = jobRef.extend({ taskId: z.string() })
/** Whose files: those of a subtask by its id; of the primary without it, or with 0. */
const subtaskRef = z.object({ subtask: z.number().int().min(0).optional() })
/** `next` of the page before; absent for the first page. */
const paging = z.object({ after: z.string().optional(), limit: z.number().int().min(1).max(maxPage).default(maxPage) })
const page = <T extends z.ZodType>(item: T) => z.object({ items: z.array(item), next: z.string().optional() })

/** A change of a task, as a watch shows it. */
export const taskEventSchema = z.object({
  taskId: z.string(),
  state: taskStateSchema,
  /** The attempt that the change is about. */
  epoch: z.number().int(),
  machine: z.string().optional(),
  machineName: z.string().optional(),
  nodeId: z.string().optional(),
  startTime: z.number().optional(),
  endTime: z.number().optional(),
  /** Set when an attempt ended; the task may be completed, or active again. */
  attemptEnd: attemptEndSchema.optional(),
  result: z.enum(['success', 'failure']).optional(),
  exitCode: z.number().int().optional(),
  failureInfo: failureInfoSchema.optional(),
  stderrTail: z.string().optional(),
  outputs: z.array(outputEntrySchema).optional(),
  threadResult: cloneValueSchema.optional(),
  threadError: threadErrorSchema.optional(),
  retryCount: z.number().int(),
  requeueCount: z.number().int(),
})
export type TaskEvent = z.infer<typeof taskEventSchema>

export const jobEventsSchema = z.object({
  watchId: z.number().int(),
  events: z.array(taskEventSchema).max(10_000),
  counts: taskCountsSchema,
  jobState: jobStateSchema,
})
export type JobEvents = z.infer<typeof jobEventsSchema>

export const addTaskResultSchema = z.object({
  taskId: z.string(),
  /** Absent: added. */
  error: z.object({ code: z.string(), message: z.string() }).optional(),
})

export const explanationSchema = z.object({
  /** One sentence: why it waits, or that it does not. */
  summary: z.string(),
  /** One line a machine, pool or rule that plays a part. */
  details: z.array(z.string()),
})

export const meshStatusSchema = z.object({
  meshId: z.string(),
  coordinator: z.object({ peer: z.string(), name: z.string(), version: z.string(), startTime: z.number(), ownerEpoch: z.number().int() }),
  machines: z.object({ connected: z.number().int(), known: z.number().int() }),
  capacity: z.object({ cores: z.number(), memoryMiB: z.number(), gpus: z.number() }),
  pools: z.number().int(),
  jobs: z.object({ active: z.number().int(), completed: z.number().int() }),
  tasks: taskCountsSchema,
  /** Longest that a heartbeat waited since the last status, in ms: the health of the coordinator's loop. */
  heartbeatLagMs: z.number(),
  /** The coordinator's clock, ms since 1970. Absent from version 0.1. */
  time: z.number().optional(),
})
export type MeshStatus = z.infer<typeof meshStatusSchema>

export const controlProtocol = defineProtocol({
  protocol: '/batchmesh/control/1',
  requires: ['submitter', 'admin'],
  // 1,000 tasks with command lines and environment of ordinary length
  maxFrameBytes: 32 << 20,
  maxInFlight: 256,
  timeoutMs: 60_000,
  server: {
    calls: {
      status: { request: nothing, answer: meshStatusSchema },
      listMachines: { request: nothing, answer: z.object({ items: z.array(machineViewSchema) }) },
      getMachine: {
        request: z.object({ machine: z.string() }),
        answer: machineViewSchema.extend({ nodes: z.array(nodeViewSchema), explanation: z.array(z.string()) }),
      },

      /**
       * What happened in the mesh. Without `after` the newest events that fit, with it those that came later, oldest
       * first; `last` is the `after` of the next call, so that a reader that asks again and again misses none and sees
       * none twice. `missed`: how many in between are not kept any more.
       */
      listEvents: {
        request: z.object({
          after: z.number().int().min(0).optional(),
          since: z.number().optional(),
          jobId: z.string().optional(),
          limit: z.number().int().min(1).max(maxPage).default(maxPage),
          /** While there is none: how long the answer may wait for one. */
          waitMs: z.number().int().min(0).max(maxEventWaitMs).default(0),
        }),
        answer: z.object({ items: z.array(meshEventSchema), last: z.number().int(), missed: z.number().int() }),
      },

      addPool: { request: poolSpecSchema, answer: poolViewSchema },
      listPools: { request: nothing, answer: z.object({ items: z.array(poolViewSchema) }) },
      getPool: { request: poolRef, answer: poolViewSchema },
      resizePool: {
        request: poolRef.extend({
          targetDedicatedNodes: z.number().int().min(0).optional(),
          targetLowPriorityNodes: z.number().int().min(0).optional(),
          nodeDeallocationOption: deallocationOptionSchema.default('requeue'),
          resizeTimeoutMs: z.number().int().positive().optional(),
        }),
        answer: poolViewSchema,
      },
      deletePool: { request: poolRef, answer: nothing },
      listNodes: { request: poolRef, answer: z.object({ items: z.array(nodeViewSchema) }) },

      addJob: { request: jobSpecSchema, answer: jobViewSchema },
      listJobs: { request: paging, answer: page(jobViewSchema) },
      getJob: { request: jobRef, answer: jobViewSchema },
      /** PATCH of what may change: end the job by itself when its tasks are done. */
      updateJob: {
        request: jobRef.extend({
          onAllTasksComplete: z.enum(['noaction', 'terminatejob']).optional(),
          priority: z.number().int().min(-1000).max(1000).optional(),
        }),
        answer: jobViewSchema,
      },
      terminateJob: { request: jobRef.extend({ terminateReason: z.string().max(1024).optional() }), answer: nothing },
      deleteJob: { request: jobRef, answer: nothing },

      addTasks: {
        request: jobRef.extend({ tasks: z.array(taskSpecSchema).min(1).max(maxTasksPerAdd) }),
        answer: z.object({ results: z.array(addTaskResultSchema) }),
      },
      /** Adds a whole array, or nothing of it when one of its ids is taken (TaskExists). */
      addTaskArray: {
        request: jobRef.extend({ array: taskArraySchema }),
        answer: z.object({ count: z.number().int(), firstTaskId: z.string(), lastTaskId: z.string() }),
      },
      /** A page looks at so many tasks at most: one with few items, even none, may have a next one. */
      listTasks: {
        request: jobRef
          .extend(paging.shape)
          .extend({ state: taskStateSchema.optional(), result: z.enum(['success', 'failure']).optional() }),
        answer: page(taskViewSchema),
      },
      getTask: { request: taskRef, answer: taskViewSchema },
      terminateTask: { request: taskRef, answer: nothing },
      /** Runs a failed task again (Azure: reactivate); its counts start anew, its epochs go on. */
      reactivateTask: { request: taskRef, answer: nothing },
      /** The members of a multi-instance task but the primary, of its newest attempt; none of an ordinary task (Azure: list subtasks). */
      listSubtasks: { request: taskRef, answer: z.object({ items: z.array(subtaskViewSchema) }) },
      listTaskFiles: {
        request: taskRef.extend(listFilesSchema.shape).extend(subtaskRef.shape),
        answer: z.object({ files: z.array(fileEntrySchema).max(maxListed), more: z.boolean() }),
      },
      readTaskFile: { request: taskRef.extend(readFileSchema.shape).extend(subtaskRef.shape), answer: fileChunkSchema },

      /** Shows the changes of a job's tasks from now on, and with `replay` first every completed task. Ends with the session or `unwatch`. */
      watch: {
        request: jobRef.extend({ replay: z.boolean().default(false) }),
        answer: z.object({ watchId: z.number().int(), jobUid: jobUidSchema, counts: taskCountsSchema, jobState: jobStateSchema }),
      },
      unwatch: { request: z.object({ watchId: z.number().int() }), answer: nothing },

      /** Waits for the other members of a group of programs (rendezvous.ts). */
      rendezvous: rendezvousSchema,

      explain: {
        request: z.object({ jobId: z.string().optional(), taskId: z.string().optional(), poolId: z.string().optional() }),
        answer: explanationSchema,
      },
      /** Which machines could run such tasks, for a dry run. */
      eligible: {
        request: z.object({
          poolId: z.string().optional(),
          task: taskFieldsSchema.pick({ requiredSlots: true, resources: true }).extend({
            /** Whether it is a thread task. */
            isThread: z.boolean().default(false),
          }),
        }),
        answer: z.object({ machines: z.array(z.object({ name: z.string(), slots: z.number().int() })), details: z.array(z.string()) }),
      },
    },
    notes: {},
  },
  client: { calls: {}, notes: { jobEvents: jobEventsSchema } },
})
export type ControlProtocol = typeof controlProtocol
