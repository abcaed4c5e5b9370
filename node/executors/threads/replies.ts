/** What a child says, as far as it is believed: it runs a stranger's code. */
import { z } from 'zod'
import { bytesUpTo } from '../../../protocols/bytes.ts'
import { maxInlineValueBytes, threadErrorSchema } from '../../../protocols/model/thread-task.ts'
import { maxCalls, maxCardBytes } from './messages.ts'

const answerSchema = z.discriminatedUnion('how', [
  z.object({
    how: z.literal('returned'),
    value: bytesUpTo(maxInlineValueBytes).optional(),
    size: z.number().int().min(0).optional(),
  }),
  z.object({ how: z.literal('gathered') }),
  z.object({ how: z.literal('threw'), error: threadErrorSchema, after: z.enum(['loss', 'failure']).optional() }),
  z.object({ how: z.literal('exited'), code: z.number().int().min(0).max(255) }),
  z.object({ how: z.literal('memory') }),
  z.object({ how: z.literal('ended') }),
])

const id = z.number().int()
const time = z.number().min(0)

export const fromChildSchema = z.union([
  z.object({ id, answer: answerSchema, began: time.optional(), ended: time.optional(), stuck: z.literal(true).optional() }),
  z.object({ began: id, at: time }),
  z.object({ returned: z.array(id).max(maxCalls) }),
  z.object({ place: id }),
  z.object({ rally: id, card: bytesUpTo(maxCardBytes) }),
  z.object({ ready: z.literal(true) }),
])
