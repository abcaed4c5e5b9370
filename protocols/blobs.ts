/**
 * Blobs: how content moves between machines.
 *
 * Participants: any two members. The machine that opens the channel asks; the one that serves it has a store. The
 * *home* of a job (its coordinator unless the job names another) keeps outputs and is the tracker of its inputs: who
 * fetches a file from it is told of the others that do, and becomes a seed itself.
 *
 * Promised
 *   B1 what `chunk` and `manifests` answer was checked against the id before it was sent. The receiver checks again:
 *      a manifest by building the id from it, a chunk by its digest, so a forger is found at the first message.
 *   B2 `putSmall` and `commit` answer once the bytes and the pin are on the disk of the serving side.
 *   -- a repeated request is harmless: an upload that broke off goes on with the chunks that are missing.
 *   S1 pins named `job:<uid>` keep outputs: only workers and the coordinator set them, only the coordinator takes
 *      them back. Other pins belong to submitters and admins.
 * Not promised: that a peer named by `providers` (a hint) still has the blob, is reachable, or tells the truth.
 *
 * A file is described by its size and the digests of its chunks; with them the id can be built anew (profile
 * unixfs-v1-2025), so no other node of its tree is sent. A directory is its dag-pb node, whose hash is the id. Small
 * files come whole in the manifest, and many go in one `putSmall`: a thousand tiny outputs are a handful of messages.
 */
import { z } from 'zod'
import { blobIdSchema } from './ids.ts'
import { defineProtocol } from './rpc.ts'

/** Bytes of a chunk (profile unixfs-v1-2025). */
export const maxChunkBytes = 1 << 20
/** Content up to this travels within manifests and `putSmall`; larger content by chunks. */
export const smallBytes = 32 * 1024
/** Largest node of a directory: what other IPFS tools exchange at most. */
export const maxNodeBytes = 2 << 20
/** Bytes after which an answer to `manifests`, or a `putSmall`, is full: several of them may be in flight. */
export const batchBytes = 1 << 20
/** Ids in one request. */
export const maxIds = 1024
/** Digests of the largest file (256 GiB): one manifest of it is 8 MiB and fits a frame. */
export const maxLeavesBytes = 32 * 256 * 1024
export const maxFileBytes = 256 * 2 ** 30
/** Peers in an answer of the tracker: more seeds than one pull can use at once. */
export const maxProviders = 16
/** Addresses of each: more than a machine has interfaces that others reach. */
export const maxProviderAddresses = 8
export const maxAddressChars = 256

const nothing = z.object({})
const bytes = z.custom<Uint8Array>((value) => value instanceof Uint8Array, { error: 'bytes are expected' })
const upTo = (limit: number) => bytes.refine((data) => data.length <= limit, { error: `at most ${limit} bytes` })
const idsSchema = z.array(blobIdSchema).min(1).max(maxIds)
const sizeSchema = z.number().int().min(0).max(maxFileBytes)
const leavesSchema = upTo(maxLeavesBytes).refine((leaves) => leaves.length >= 32 && leaves.length % 32 === 0, {
  error: 'digests are 32 bytes each',
})
const addressesSchema = z
  .record(z.string().max(128), z.array(z.string().max(maxAddressChars)).max(maxProviderAddresses))
  .refine((addresses) => Object.keys(addresses).length <= maxProviders, { error: `at most ${maxProviders} peers` })
/** Name of a pin, such as `job:12`. */
export const pinNameSchema = z.string().min(1).max(128)

export const manifestSchema = z.discriminatedUnion('kind', [
  z.object({
    kind: z.literal('file'),
    size: sizeSchema,
    /** Digests of the chunks, laid end to end. */
    leaves: leavesSchema,
    /** The whole content, where it is small. */
    content: upTo(smallBytes).optional(),
  }),
  z.object({ kind: z.literal('directory'), block: upTo(maxNodeBytes) }),
])
export type WireManifest = z.infer<typeof manifestSchema>

export const putItemSchema = z.object({
  id: blobIdSchema,
  /** The content of a small file, or the node of a directory, as the id says. */
  data: upTo(maxNodeBytes),
  /** Pin set in the same stroke. Without one the blob is kept for an hour. */
  owner: pinNameSchema.optional(),
})

export const blobsProtocol = defineProtocol({
  protocol: '/batchmesh/blobs/1',
  // Empty: any member.
  requires: [],
  // The manifest of the largest file.
  maxFrameBytes: 16 << 20,
  // 16 chunks of 1 MiB: what one peer can make this side hold.
  maxInFlight: 16,
  timeoutMs: 60_000,
  server: {
    calls: {
      /** In the order asked; null: not here. Shorter than the request when the answer is full: ask for the rest again. */
      manifests: {
        request: z.object({ ids: idsSchema }),
        answer: z.object({ items: z.array(manifestSchema.nullable()).min(1).max(maxIds) }),
      },
      /** A chunk of a file; also of one that is still coming in, as far as it came. BlobNotFound: not (yet) here. */
      chunk: { request: z.object({ id: blobIdSchema, index: z.number().int().min(0) }), answer: z.object({ data: upTo(maxChunkBytes) }) },
      /** Which chunks of a file are here, also of one that is still coming in: one bit a chunk, lowest bit first; empty: none. Since 0.3. */
      chunks: { request: z.object({ id: blobIdSchema }), answer: z.object({ have: upTo(maxLeavesBytes / 256) }) },
      /** Whether each blob is here, directories with all that is below them. */
      have: { request: z.object({ ids: idsSchema }), answer: z.object({ have: z.array(z.boolean()).max(maxIds) }) },
      /** Who else fetches the blob or has it; with `seed` the caller is told of to others from now on. */
      providers: {
        request: z.object({ id: blobIdSchema, seed: z.boolean().default(false) }),
        answer: z.object({
          peers: z.array(z.string().max(128)).max(maxProviders),
          /** Where they can be dialled, as far as known (since 0.3). */
          addresses: addressesSchema.optional(),
        }),
      },

      /** Answers once all that was taken is durable; null: taken, else why that item was refused. */
      putSmall: {
        request: z.object({ items: z.array(putItemSchema).min(1).max(maxIds) }),
        answer: z.object({ results: z.array(z.object({ code: z.string(), message: z.string() }).nullable()).max(maxIds) }),
      },
      /** Begins or goes on with an upload. `complete`: it is here, durable and pinned. `missing`: one bit a chunk, lowest bit first. */
      offer: {
        request: z.object({ id: blobIdSchema, size: sizeSchema, leaves: leavesSchema, owner: pinNameSchema.optional() }),
        answer: z.object({ complete: z.boolean(), missing: upTo(maxLeavesBytes / 256) }),
      },
      putChunk: { request: z.object({ id: blobIdSchema, index: z.number().int().min(0), data: upTo(maxChunkBytes) }), answer: nothing },
      commit: { request: z.object({ id: blobIdSchema, owner: pinNameSchema.optional() }), answer: nothing },

      /** Pins blobs that are here; answers those that are not. */
      pin: { request: z.object({ ids: idsSchema, name: pinNameSchema }), answer: z.object({ absent: z.array(blobIdSchema) }) },
      unpin: { request: z.object({ ids: idsSchema, name: pinNameSchema }), answer: nothing },
      /** Takes back every pin of a name: a job was deleted. */
      unpinAll: { request: z.object({ name: pinNameSchema }), answer: nothing },
    },
    notes: {},
  },
  client: { calls: {}, notes: {} },
})
export type BlobsProtocol = typeof blobsProtocol
