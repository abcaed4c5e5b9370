/**
 * `--json-file`: pools, jobs and tasks as JSON, in Azure Batch's shape (ISO 8601 durations, poolInfo.poolId …) or in
 * Batchmesh's own (…Ms). A property that Batchmesh does not have is refused by name: nothing is dropped unseen.
 */
import { resolve } from 'node:path'
import type { z } from 'zod'
import { MeshError } from '../../protocols/errors.ts'
import { jobSpecSchema } from '../../protocols/model/job.ts'
import { poolSpecSchema } from '../../protocols/model/pool.ts'
import { taskSpecSchema } from '../../protocols/model/task.ts'
import { firstIssue } from '../../protocols/rpc.ts'
import { isoDurationMs } from './format.ts'
import type { World } from './world.ts'

export type JsonObject = Record<string, unknown>
/** What becomes of a property: taken as it is, or converted into properties of the result. */
type Rule = 'as it is' | ((value: unknown, path: string) => JsonObject)
type Rules = Readonly<Record<string, Rule>>

/** Local files of a resource file, uploaded when the task is submitted. */
export const localFileProperty = 'localFile'

function refuse(message: string): never {
  throw new MeshError('InvalidPropertyValue', message)
}

function convert(value: unknown, rules: Rules, path: string): JsonObject {
  if (typeof value !== 'object' || value === null || Array.isArray(value)) refuse(`${path} must be an object.`)
  const result: JsonObject = {}
  for (const [name, inner] of Object.entries(value)) {
    const rule = Object.hasOwn(rules, name) ? rules[name] : undefined
    const innerPath = path === '' ? name : `${path}.${name}`
    if (rule === undefined) refuse(`${innerPath} is not supported by Batchmesh. Leave it out.`)
    if (inner === null || inner === undefined) continue
    for (const [key, converted] of Object.entries(rule === 'as it is' ? { [name]: inner } : rule(inner, innerPath))) {
      if (Object.hasOwn(result, key)) refuse(`${innerPath} is given twice, in Azure's shape and in Batchmesh's.`)
      result[key] = converted
    }
  }
  return result
}

function duration(name: string): Rule {
  return (value, path) => {
    const ms = typeof value === 'string' ? isoDurationMs(value) : undefined
    if (ms === undefined) refuse(`${path} must be an ISO 8601 duration such as PT15M or P7D, without years and months.`)
    return { [name]: ms }
  }
}

function object(name: string, rules: Rules): Rule {
  return (value, path) => ({ [name]: convert(value, rules, path) })
}

function list(name: string, rules: Rules): Rule {
  return (value, path) => {
    if (!Array.isArray(value)) refuse(`${path} must be an array.`)
    return { [name]: value.map((item, at) => convert(item, rules, `${path}[${at}]`)) }
  }
}

/** Azure has the choice; a mesh knows only this value of it. */
function only(expected: unknown): Rule {
  return (value, path) => {
    if (JSON.stringify(value) !== JSON.stringify(expected)) refuse(`${path}: Batchmesh supports only ${JSON.stringify(expected)}.`)
    return {}
  }
}

const kept = (...names: string[]): Rules => Object.fromEntries(names.map((name) => [name, 'as it is' as const]))

const outputsAreBlobs: Rule = (_, path) =>
  refuse(`${path} is not supported by Batchmesh: outputs are kept as blobs of the mesh. Leave it out.`)

const resourceFileRules: Rules = kept('filePath', 'httpUrl', 'fileMode', 'blob', 'shared', localFileProperty)
const environmentRules: Rules = kept('name', 'value')

const taskRules: Rules = {
  ...kept('id', 'displayName', 'commandLine', 'requiredSlots', 'resources'),
  // Of Batchmesh alone. Its module may be a local file, its arguments are plain JSON: see task-function.ts.
  thread: object('thread', kept('module', 'name', 'export', 'args', 'maxHeapMiB')),
  environmentSettings: list('environmentSettings', environmentRules),
  resourceFiles: list('resourceFiles', resourceFileRules),
  outputFiles: list('outputFiles', {
    ...kept('filePattern', 'uploadCondition'),
    uploadOptions: (value, path) => convert(value, kept('uploadCondition'), path),
    destination: outputsAreBlobs,
  }),
  constraints: object('constraints', {
    ...kept('maxTaskRetryCount', 'maxWallClockTimeMs', 'retentionTimeMs'),
    maxWallClockTime: duration('maxWallClockTimeMs'),
    retentionTime: duration('retentionTimeMs'),
  }),
  dependsOn: object('dependsOn', { ...kept('taskIds'), taskIdRanges: list('taskIdRanges', kept('start', 'end')) }),
  multiInstanceSettings: object('multiInstanceSettings', {
    ...kept('numberOfInstances', 'coordinationCommandLine', 'mpi'),
    commonResourceFiles: list('commonResourceFiles', resourceFileRules),
  }),
}

const jobRules: Rules = {
  ...kept('id', 'displayName', 'poolId', 'priority', 'maxParallelTasks', 'onAllTasksComplete', 'usesTaskDependencies'),
  ...kept('disconnect', 'home', 'retentionTimeMs', 'dependsOnJobs'),
  poolInfo: (value, path) => convert(value, kept('poolId'), path),
  commonEnvironmentSettings: list('commonEnvironmentSettings', environmentRules),
  metadata: list('metadata', environmentRules),
  constraints: object('constraints', {
    ...kept('maxTaskRetryCount', 'maxWallClockTimeMs'),
    maxWallClockTime: duration('maxWallClockTimeMs'),
  }),
  onTaskFailure: only('noaction'),
}

const poolRules: Rules = {
  ...kept('id', 'displayName', 'vmSize', 'targetDedicatedNodes', 'targetLowPriorityNodes', 'taskSlotsPerNode'),
  ...kept('enableInterNodeCommunication', 'nodeFillType', 'resizeTimeoutMs', 'labels', 'mpi', 'poolLifetimeOption'),
  resizeTimeout: duration('resizeTimeoutMs'),
  taskSchedulingPolicy: (value, path) => convert(value, kept('nodeFillType'), path),
  metadata: list('metadata', environmentRules),
  enableAutoScale: only(false),
  // Every pool definition for Azure has to name an image. A machine of the mesh has the system that it has.
  virtualMachineConfiguration: (value, path) => {
    convert(value, kept('imageReference', 'nodeAgentSKUId'), path)
    return {}
  },
}

function checked<S extends z.ZodType>(schema: S, value: JsonObject, what: string): z.output<S> {
  const parsed = schema.safeParse(value)
  if (!parsed.success) refuse(`${what}: ${firstIssue(parsed.error)}`)
  return parsed.data
}

/** A pool in either shape, with properties that options of the command line give instead. */
export function poolFromJson(value: unknown, given: JsonObject = {}) {
  return checked(poolSpecSchema, { ...convert(value, poolRules, ''), ...defined(given) }, 'the pool')
}

export function jobFromJson(value: unknown, given: JsonObject = {}) {
  return checked(jobSpecSchema, { ...convert(value, jobRules, ''), ...defined(given) }, 'the job')
}

/** One task, an array of tasks, or Azure's collection `{"value": [...]}`; local files are still to be uploaded: see {@link checkTask}. */
export function tasksFromJson(value: unknown): JsonObject[] {
  if (Array.isArray(value)) return value.map((item, at) => convert(item, taskRules, `[${at}]`))
  if (typeof value === 'object' && value !== null && 'value' in value) {
    const { value: tasks } = convert(value, { value: list('value', taskRules) }, '')
    return tasks as JsonObject[]
  }
  return [convert(value, taskRules, '')]
}

/** A task that is ready to be submitted. Throws InvalidPropertyValue with its id and what is wrong. */
export function checkTask(task: JsonObject) {
  return checked(taskSpecSchema, task, typeof task.id === 'string' ? `task ${task.id}` : 'the task')
}

function defined(object: JsonObject): JsonObject {
  return Object.fromEntries(Object.entries(object).filter(([, value]) => value !== undefined))
}

/** The value of a JSON file, `-` for standard input. */
export async function readJson(path: string, { stdin, cwd }: Pick<World, 'stdin' | 'cwd'>): Promise<unknown> {
  let text: string
  if (path === '-') {
    const { text: readAll } = await import('node:stream/consumers')
    text = await readAll(stdin)
  } else {
    const { readFile } = await import('node:fs/promises')
    try {
      text = await readFile(resolve(cwd, path), 'utf8')
    } catch (error) {
      throw new MeshError('InvalidPropertyValue', `--json-file ${path} cannot be read: ${(error as Error).message}`, { cause: error })
    }
  }
  try {
    return JSON.parse(text)
  } catch (error) {
    throw new MeshError('InvalidPropertyValue', `--json-file ${path} is not JSON: ${(error as Error).message}`, { cause: error })
  }
}
