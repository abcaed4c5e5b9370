/** Bytes in a schema. (`z.instanceof(Uint8Array)` would insist on an unshared buffer, which no decoder promises.) */
import { z } from 'zod'

export const bytesSchema = z.custom<Uint8Array>((value) => value instanceof Uint8Array, 'bytes are expected')

export function bytesUpTo(maxBytes: number): z.ZodType<Uint8Array, Uint8Array> {
  return bytesSchema.refine((bytes) => bytes.length <= maxBytes, `at most ${maxBytes} bytes are allowed`)
}
