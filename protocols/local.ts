/**
 * Local: the conversation between a face and the node on its own machine, over the owner-only control socket.
 *
 * Participants: a program of the node's owner, and the node. What concerns the whole mesh goes through
 * protocols/control.ts on the same socket; this one is for the node itself: its state, its end, its membership
 * (invitations are passed on to the founder), and its blob store.
 */
import { z } from 'zod'
import { smallBytes } from './blobs.ts'
import { bytesSchema, bytesUpTo } from './bytes.ts'
import { blobIdSchema } from './ids.ts'
import { isolationTierSchema, machineClassSchema } from './model/machine.ts'
import { capacitySchema, labelsSchema } from './model/resources.ts'
import { relativePathSchema } from './model/task.ts'
import { defineProtocol } from './rpc.ts'
import { roles } from './wire.ts'

/** Bytes of a blob in one request or answer. */
export const maxBlobPieceBytes = 1 << 20

/** Files of a directory in one request or answer: with paths of the greatest length they are 4 MiB, and several may be in flight. */
export const maxTreePage = 1000
/** Small files in one request or answer. The sender also keeps to {@link maxBlobPieceBytes} of content, so that several may be in flight. */
export const maxSmallFiles = 500

/** A page of an export ends with the row that passes this; a row is 2 MiB at most, an answer 16. */
export const maxExportBytes = 4 << 20
export const maxExportRows = 10_000

const nothing = z.object({})

export const localStatusSchema = z.object({
  peer: z.string(),
  name: z.string(),
  meshId: z.string(),
  version: z.string(),
  pid: z.number().int(),
  startTime: z.number(),
  roles: z.array(z.enum(roles)),
  isCoordinator: z.boolean(),
  /** Whether the coordinator's session stands. */
  connected: z.boolean(),
  addresses: z.array(z.string()),
  lends: capacitySchema,
  class: machineClassSchema,
  labels: labelsSchema,
  isolation: isolationTierSchema,
  runningTasks: z.number().int(),
  /** Longest lateness of a heartbeat since this was last asked: the health of the worker's loop. */
  heartbeatLagMs: z.number(),
  dataDir: z.string(),
  certificateExpires: z.number(),
  user: z.string(),
})
export type LocalStatus = z.infer<typeof localStatusSchema>

export const blobStatSchema = z.object({
  id: blobIdSchema,
  kind: z.enum(['file', 'directory']),
  /** Bytes of the file, or of all files below. */
  size: z.number().int(),
  pins: z.array(z.string()),
  /** Whether all bytes are here. */
  complete: z.boolean(),
})
export type BlobStat = z.infer<typeof blobStatSchema>

export const treeEntrySchema = z.object({ path: relativePathSchema, id: blobIdSchema, size: z.number().int().min(0) })

export const localProtocol = defineProtocol({
  protocol: '/batchmesh/local/1',
  requires: ['submitter', 'admin'],
  maxFrameBytes: 16 << 20,
  maxInFlight: 64,
  timeoutMs: 60_000,
  server: {
    calls: {
      status: { request: nothing, answer: localStatusSchema },
      /** Ends the node. With `drain`, after its running tasks have ended. The answer comes when it is about to exit. */
      down: { request: z.object({ drain: z.boolean().default(false) }), answer: nothing },
      /** Leaves the mesh: drains nothing, gives everything back; with `purge` the data directory is emptied. */
      leave: { request: z.object({ purge: z.boolean().default(false) }), answer: nothing },

      invite: {
        request: z.object({
          roles: z.array(z.enum(roles)).min(1),
          expiresMs: z.number().int().positive(),
          uses: z.number().int().min(1).max(100_000),
        }),
        answer: z.object({ token: z.string(), expires: z.number() }),
      },
      revoke: { request: z.object({ peer: z.string() }), answer: nothing },

      /**
       * The coordinator's rows for a backup, page by page until `done`: all as they stood when the session asked with
       * `begin`, whatever is written meanwhile. Refused where this machine is not the coordinator.
       */
      exportRows: {
        request: z.object({ begin: z.boolean() }),
        answer: z.object({ rows: z.array(z.tuple([z.string(), bytesSchema])), done: z.boolean() }),
      },

      /** Takes in a file in pieces, in order. `putEnd` answers once it is durable here, and at the job's home where this machine is not the home. */
      putBegin: { request: z.object({ size: z.number().int().min(0).optional() }), answer: z.object({ handle: z.number().int() }) },
      putPiece: { request: z.object({ handle: z.number().int(), data: bytesSchema }), answer: nothing },
      putEnd: {
        request: z.object({ handle: z.number().int(), pin: z.string().max(128).optional() }),
        answer: z.object({ id: blobIdSchema, size: z.number().int() }),
      },
      putAbort: { request: z.object({ handle: z.number().int() }), answer: nothing },
      /** Takes in small files, many at once. Answers like `putEnd`, in the same order. */
      putSmall: {
        request: z.object({ files: z.array(bytesUpTo(smallBytes)).min(1).max(maxSmallFiles), pin: z.string().max(128).optional() }),
        answer: z.object({ ids: z.array(blobIdSchema) }),
      },
      /** Makes a directory of blobs that were put before: its files are named in pages, `treeEnd` answers like `putEnd`. */
      treeBegin: { request: nothing, answer: z.object({ handle: z.number().int() }) },
      treeAdd: {
        request: z.object({ handle: z.number().int(), entries: z.array(treeEntrySchema).min(1).max(maxTreePage) }),
        answer: nothing,
      },
      treeEnd: {
        request: z.object({ handle: z.number().int(), pin: z.string().max(128).optional() }),
        answer: z.object({ id: blobIdSchema, size: z.number().int() }),
      },

      /** Brings a blob here (from any machine that has it) and says what it is. */
      fetch: { request: z.object({ id: blobIdSchema }), answer: blobStatSchema },
      /** Files of a directory blob, recursively, from the place `after` on; the blob itself with an empty path if it is a file. */
      entries: {
        request: z.object({ id: blobIdSchema, after: z.number().int().min(0).default(0) }),
        answer: z.object({
          entries: z.array(z.object({ path: z.string(), id: blobIdSchema, size: z.number().int() })).max(maxTreePage),
          /** `after` of the next page; absent on the last one. */
          next: z.number().int().optional(),
        }),
      },
      /** Bytes of a file. What is found damaged on this machine's disk is fetched from another one first. */
      read: {
        request: z.object({ id: blobIdSchema, offset: z.number().int().min(0), length: z.number().int().min(0).max(maxBlobPieceBytes) }),
        answer: z.object({ data: bytesSchema }),
      },
      /** The whole contents of small files, in the order asked. */
      readSmall: {
        request: z.object({ ids: z.array(blobIdSchema).min(1).max(maxSmallFiles) }),
        answer: z.object({ files: z.array(bytesUpTo(smallBytes)).max(maxSmallFiles) }),
      },
      blobStat: { request: z.object({ id: blobIdSchema }), answer: blobStatSchema },
      blobList: {
        request: z.object({ after: blobIdSchema.optional() }),
        answer: z.object({ items: z.array(blobStatSchema).max(1000), next: blobIdSchema.optional() }),
      },
      pin: { request: z.object({ id: blobIdSchema, name: z.string().min(1).max(128) }), answer: nothing },
      unpin: { request: z.object({ id: blobIdSchema, name: z.string().min(1).max(128) }), answer: nothing },
      gc: { request: nothing, answer: z.object({ removed: z.number().int(), freedBytes: z.number().int(), usedBytes: z.number().int() }) },
    },
    notes: {},
  },
  client: { calls: {}, notes: {} },
})
export type LocalProtocol = typeof localProtocol
