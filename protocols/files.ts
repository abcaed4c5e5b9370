/**
 * Files of tasks: reading what lies in a task's directory on the machine that ran it.
 *
 * Participants: the coordinator asks (for a submitter), the machine serves. Names are relative to the task directory
 * (`stdout.txt`, `wd/a.txt`), as in Azure Batch's file operations. Promised: nothing outside the task directory is ever
 * served, through `..`, links or otherwise (S1). A file that grows while it is read is served as far as it goes.
 */
import { z } from 'zod'
import { bytesSchema } from './bytes.ts'
import { MeshError } from './errors.ts'
import { attemptSchema } from './ids.ts'
import { defineProtocol } from './rpc.ts'

/** Bytes in one answer: a few frames in flight must not hold much memory. */
export const maxReadBytes = 256 * 1024
/** Entries in one listing. */
export const maxListed = 10_000

export const fileEntrySchema = z.object({
  name: z.string(),
  isDirectory: z.boolean(),
  size: z.number().int().min(0),
  lastModified: z.number(),
  mode: z.number().int(),
})
export type FileEntry = z.infer<typeof fileEntrySchema>

export const listFilesSchema = z.object({ recursive: z.boolean().default(false), prefix: z.string().max(4096).optional() })
export const readFileSchema = z.object({
  name: z.string().min(1).max(4096),
  offset: z.number().int().min(0),
  length: z.number().int().min(0).max(maxReadBytes),
  /** With this, an answer waits up to so long for bytes at `offset` while the task runs (`logs -f`). */
  waitMs: z.number().int().min(0).max(30_000).default(0),
})
export const fileChunkSchema = z.object({
  data: bytesSchema,
  size: z.number().int(),
  /** The task has ended: no byte will be added. */
  final: z.boolean(),
})
export type FileChunk = z.infer<typeof fileChunkSchema>

/**
 * What is read of a task that has no directory: a function that never looked for one. Its standard output and error are
 * empty, as they are for every task that printed nothing. Throws FileNotFound for any other name.
 */
export function noFile({ name, offset }: { name: string; offset: number }): { data: Uint8Array; size: number } {
  if (name !== 'stdout.txt' && name !== 'stderr.txt') throw new MeshError('FileNotFound', `There is no file ${name} in the task directory.`)
  if (offset > 0) throw new MeshError('InvalidRange', `${name} has 0 bytes; the range starts at ${offset}.`)
  return { data: new Uint8Array(), size: 0 }
}

export const filesProtocol = defineProtocol({
  protocol: '/batchmesh/files/1',
  requires: ['coordinator'],
  maxFrameBytes: 8 << 20,
  maxInFlight: 64,
  timeoutMs: 45_000,
  server: {
    calls: {
      list: {
        request: listFilesSchema.extend({ attempt: attemptSchema }),
        answer: z.object({ files: z.array(fileEntrySchema).max(maxListed), more: z.boolean() }),
      },
      read: { request: readFileSchema.extend({ attempt: attemptSchema }), answer: fileChunkSchema },
    },
    notes: {},
  },
  client: { calls: {}, notes: {} },
})
