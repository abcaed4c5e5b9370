/**
 * Names of things. Keys are chosen so that nothing is ever named twice in the life of a mesh:
 * a job has a user-chosen `id` (free again once the job is deleted) and a `uid` (never used again);
 * an attempt at a task is (job uid, task, epoch), and epochs of a task only grow (L2).
 */
import { z } from 'zod'

/** A libp2p peer id in its text form. */
export const peerIdSchema = z.string().min(10).max(128)
export type PeerIdText = z.infer<typeof peerIdSchema>

/** Azure Batch: ids are 1-64 characters of A-Z a-z 0-9 _ -; case is kept but ignored in comparisons. */
export const entityIdSchema = z.string().regex(/^[A-Za-z0-9_-]{1,64}$/, {
  error: (issue) => `the id ${JSON.stringify(issue.input)} must be 1 to 64 characters of A-Z, a-z, 0-9, _ and -`,
})

/** Jobs made by a job schedule are named `<schedule>:job-<n>`, so a colon occurs in job ids that are read. */
export const jobIdSchema = z.string().regex(/^[A-Za-z0-9_:-]{1,80}$/, {
  error: (issue) => `the job id ${JSON.stringify(issue.input)} must be 1 to 64 characters of A-Z, a-z, 0-9, _ and -`,
})

/** Number of a job in its mesh, from 1, never used again. */
export const jobUidSchema = z.number().int().positive()
export type JobUid = number

/** Which try of which task: the unit that a lease is given for. */
export const attemptSchema = z.object({
  jobUid: jobUidSchema,
  /** The task's id with its case folded (see {@link foldId}). */
  task: z.string().min(1).max(64),
  epoch: z.number().int().positive(),
  /** Of a gang: which of its members, from 1; absent for the primary and for ordinary tasks. One machine may have several. */
  member: z.number().int().min(1).max(100_000).optional(),
})
export type Attempt = z.infer<typeof attemptSchema>

/** Ids are compared without case (Azure Batch), so maps and rows are keyed by the folded id. */
export function foldId(id: string): string {
  return id.toLowerCase()
}

/** One string an attempt (of a gang: a member), for maps and logs. */
export function attemptKey({ jobUid, task, epoch, member }: Attempt): string {
  return member === undefined ? `${jobUid}/${task}/${epoch}` : `${jobUid}/${task}/${epoch}+${member}`
}

/** One string a task over all its attempts. */
export function taskKey(jobUid: JobUid, task: string): string {
  return `${jobUid}/${task}`
}

/** Chosen by the caller of a request that may be repeated: the same id gets the same answer (L4). */
export const requestIdSchema = z.string().min(1).max(64)

/** Content id of a blob: an IPFS CIDv1 in base32. */
export const blobIdSchema = z.string().regex(/^b[a-z2-7]{20,110}$/, { error: 'a blob id is a CIDv1 in base32, such as bafybei…' })
export type BlobId = string
