/** A member of a multi-instance task but the primary (Azure Batch: list the subtasks of a multi-instance task). */
import { z } from 'zod'
import { peerIdSchema } from '../ids.ts'
import { failureInfoSchema } from './task.ts'

export const subtaskStateSchema = z.enum(['preparing', 'running', 'completed'])
export type SubtaskState = z.infer<typeof subtaskStateSchema>

/** Of the task's newest attempt. */
export const subtaskViewSchema = z.object({
  /** From 1; the primary, which has no entry, would be 0. */
  id: z.number().int().min(1),
  nodeInfo: z.object({
    poolId: z.string(),
    nodeId: z.string(),
    machine: peerIdSchema,
    machineName: z.string(),
    taskRootDirectory: z.string(),
  }),
  state: subtaskStateSchema,
  startTime: z.number().optional(),
  endTime: z.number().optional(),
  /** Of its coordination command; absent when it was ended with the primary. */
  exitCode: z.number().int().optional(),
  result: z.enum(['success', 'failure']).optional(),
  failureInfo: failureInfoSchema.optional(),
})
export type SubtaskView = z.infer<typeof subtaskViewSchema>
