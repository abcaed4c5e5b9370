/**
 * Thread tasks: a function of an ES module instead of a command line. The module is a blob, one file that holds all
 * that it imports; arguments and result are values that the structured clone algorithm takes (HTML standard, "Safe
 * passing of structured data"), in V8's serialisation.
 */
import { z } from 'zod'
import { bytesUpTo } from '../bytes.ts'
import { blobIdSchema } from '../ids.ts'

/** A value of at most this many bytes travels in the spec or the outcome; a larger one as a blob. */
export const maxInlineValueBytes = 64 << 10
/** Of a stack trace that comes back. */
export const maxStackChars = 16_384

/** A serialised value: in place, or where it is too large for that, as a blob. */
export const cloneValueSchema = z.union([
  z.object({ bytes: bytesUpTo(maxInlineValueBytes) }),
  z.object({ blob: blobIdSchema, size: z.number().int().min(0) }),
])
export type CloneValue = z.infer<typeof cloneValueSchema>

export const threadTaskSchema = z.object({
  /** The bundled module. */
  module: blobIdSchema,
  /** Its name in stack traces and lists. */
  name: z.string().min(1).max(255).default('module.mjs'),
  /** Which export is called; it may return a promise. */
  export: z.string().min(1).max(255).default('default'),
  /** The serialised array of arguments; none where it is absent. */
  args: cloneValueSchema.optional(),
  /** Most that the thread's heap may grow to, in MiB; default the task's share of its node's memory. */
  maxHeapMiB: z.number().int().min(8).max(1_048_576).optional(),
})
export type ThreadTask = z.output<typeof threadTaskSchema>

/** What a function threw, as far as it can be told elsewhere. */
export const threadErrorSchema = z.object({
  name: z.string().max(255),
  message: z.string().max(4096),
  stack: z.string().max(maxStackChars).optional(),
})
export type ThreadError = z.infer<typeof threadErrorSchema>

/** How a thread task is shown where a command line would stand. */
export function showThreadTask({ name, export: exported }: Pick<ThreadTask, 'name' | 'export'>): string {
  return `${name}#${exported}()`
}
