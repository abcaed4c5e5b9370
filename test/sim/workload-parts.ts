/** What scripts of submitters are made of. */
import { type JobSpec, type JobSpecInput, jobSpecSchema } from '../../protocols/model/job.ts'
import { type DeallocationOption, type PoolSpec, type PoolSpecInput, poolSpecSchema } from '../../protocols/model/pool.ts'
import { type TaskSpec, type TaskSpecInput, taskSpecSchema } from '../../protocols/model/task.ts'
import { type TaskArray, type TaskArrayInput, taskArraySchema } from '../../protocols/model/task-array.ts'
import { commandOf, type Plan } from './plan.ts'
import type { World } from './world.ts'

export type Request =
  | { kind: 'addPool'; spec: PoolSpec }
  | { kind: 'resizePool'; poolId: string; targetDedicatedNodes: number; nodeDeallocationOption: DeallocationOption }
  | { kind: 'addJob'; spec: JobSpec }
  | { kind: 'addTasks'; jobId: string; tasks: TaskSpec[] }
  | { kind: 'addTaskArray'; jobId: string; array: TaskArray }
  /** From now on the job ends with its last task. */
  | { kind: 'closeJob'; jobId: string }
  | { kind: 'terminateTask'; jobId: string; taskId: string }
  | { kind: 'reactivateTask'; jobId: string; taskId: string }
  | { kind: 'terminateJob'; jobId: string }
  | { kind: 'deleteJob'; jobId: string }

/** Requests that follow each other; each is asked `waitMs` after the one before was answered. */
export type Script = { waitMs: number; request: Request }[]

const plain: Plan = { ms: 100, fetchMs: 5, uploadMs: 2, ends: 'well' }

export const endless = { constraints: { maxTaskRetryCount: -1 } }

export function pool(spec: PoolSpecInput): Request {
  return { kind: 'addPool', spec: poolSpecSchema.parse(spec) }
}

export function task(id: string, plan: Partial<Plan>, more: Partial<TaskSpecInput> = {}): TaskSpec {
  return taskSpecSchema.parse({ id, commandLine: commandOf({ ...plain, ...plan }), ...more })
}

/** Adds a job and its tasks, in two parts, and lets it end with the last. */
export function job(world: World, spec: JobSpecInput, tasks: TaskSpec[], waitMs = world.between(0, 20_000)): Script {
  const half = world.between(1, tasks.length)
  const parts = [tasks.slice(0, half), tasks.slice(half)].filter((part) => part.length > 0)
  return [
    { waitMs, request: { kind: 'addJob', spec: jobSpecSchema.parse(spec) } },
    ...parts.map((part) => ({ waitMs: world.between(0, 2000), request: { kind: 'addTasks' as const, jobId: spec.id, tasks: part } })),
    { waitMs: 0, request: { kind: 'closeJob', jobId: spec.id } },
  ]
}

export function many(world: World, low: number, high: number, make: (id: string) => TaskSpec): TaskSpec[] {
  return Array.from({ length: world.between(low, high) }, (_, i) => make(`t${i}`))
}

export function array(
  plan: Partial<Plan>,
  input: Omit<TaskArrayInput, 'template'>,
  more: Partial<TaskArrayInput['template']> = {},
): TaskArray {
  return taskArraySchema.parse({ ...input, template: { commandLine: commandOf({ ...plain, ...plan }), ...more } })
}

export function addArray(jobId: string, added: TaskArray, waitMs = 0): Script[number] {
  return { waitMs, request: { kind: 'addTaskArray', jobId, array: added } }
}
