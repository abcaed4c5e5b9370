/** A script's settings as a job and its tasks. Pure. */
import { MeshError } from '../../../protocols/errors.ts'
import { joinCommandLine } from '../../../protocols/model/command-line.ts'
import type { JobSpecInput } from '../../../protocols/model/job.ts'
import type { MachineView, MpiFlavor } from '../../../protocols/model/machine.ts'
import type { PoolSpecInput, PoolView } from '../../../protocols/model/pool.ts'
import type { ResourceFile, TaskSpec } from '../../../protocols/model/task.ts'
import { arrayCount, escapeTemplate, lastOf, type TaskArray, taskArraySchema } from '../../../protocols/model/task-array.ts'
import { firstIssue } from '../../../protocols/rpc.ts'
import { checkTask, type JsonObject } from '../json-file.ts'
import { chooseNodes } from '../mpi/choose.ts'
import { nodesThatFit, nodesWith, type Size, sizeOf } from '../mpi/size.ts'
import { commonFile, ranksPerNodeVariable, temporaryPool } from '../mpi/spec.ts'
import { kitDirectory } from './programs.ts'
import type { Settings } from './settings.ts'

/** The one task of a job that is no array, as Slurm calls that step. */
export const batchTaskId = 'batch'
/** Metadata of the job: names of the files that standard output and error go to. */
export const outputMetadata = 'slurm.output'
export const errorMetadata = 'slurm.error'

/** What nodes a script gets. */
export interface Places {
  size: Size
  cpusPerTask: number
  /** Made for the job alone. */
  pool?: PoolSpecInput
  mpi?: MpiFlavor
}

/** How many nodes, and whether they have to be reserved: one that any machine has needs no pool of its own. */
export function placesOf(settings: Settings, machines: readonly MachineView[], pool: PoolView | undefined, jobId: string): Places {
  const { ntasksPerNode, cpusPerTask = 1 } = settings
  const ntasks = settings.ntasks ?? (settings.nodes ?? 1) * (ntasksPerNode ?? 1)
  const nodes = settings.nodes ?? (ntasksPerNode === undefined ? undefined : Math.ceil(ntasks / ntasksPerNode))
  const asked = { ranks: ntasks, coresPerRank: cpusPerTask }
  const alone: Size = { ranks: ntasks, nodes: 1, ranksPerNode: ntasks, cores: ntasks * cpusPerTask }
  const connected = machines.filter((machine) => machine.connected)
  const largest = pool?.nodeSize.cores ?? Math.max(0, ...connected.map(({ capacity }) => capacity.cores))
  // Where no machine has room, one task waits and is explained; several can be spread.
  if (nodes === 1 || (nodes === undefined && (ntasks === 1 || alone.cores <= largest))) return { size: alone, cpusPerTask }
  const wide = { ...asked, ...(nodes === undefined ? {} : { nodes }) }
  if (pool !== undefined && pool.id !== 'default') {
    if (!pool.enableInterNodeCommunication || pool.taskSlotsPerNode !== 1)
      throw new MeshError(
        'OperationNotValidOnPool',
        `Pool ${pool.id} is not for scripts of several nodes: that takes one with --enable-inter-node-communication and one task slot a node. Without --partition a temporary one is made.`,
      )
    const target = pool.targetDedicatedNodes + pool.targetLowPriorityNodes
    const { size, least } = sizeOf(
      wide,
      Array.from({ length: target }, () => pool.nodeSize.cores),
      nodesWith,
    )
    if (size === undefined)
      throw wrong(`Pool ${pool.id} has ${target} nodes of ${pool.nodeSize.cores} cores; ${least.nodes} of ${least.cores} are needed.`)
    return { size, cpusPerTask }
  }
  const needs = {
    memoryMiB: settings.memoryPerNodeMiB,
    gpus: settings.gpusPerNode,
  }
  const withMpi = connected.filter(({ mpi }) => (mpi ?? []).length > 0)
  if (withMpi.length > 0) {
    const choice = chooseNodes(withMpi, wide, undefined)
    return {
      size: choice.size,
      cpusPerTask,
      mpi: choice.mpi.flavor,
      pool: temporaryPool(jobId, choice, { ...needs, ...memoryOf(settings, choice.size) }),
    }
  }
  const { size, least } = sizeOf(
    wide,
    connected.map(({ capacity }) => capacity.cores),
  )
  if (size === undefined)
    throw wrong(
      `The mesh has no room for ${least.nodes} nodes of ${least.cores} cores: its ${connected.length} machines have up to ${largest}.`,
    )
  const dedicated = connected.filter((machine) => machine.class === 'dedicated').map(({ capacity }) => capacity.cores)
  const stay = Math.min(size.nodes, nodesThatFit(dedicated, size.cores))
  const parts = { size, dedicated: stay, lowPriority: size.nodes - stay }
  return { size, cpusPerTask, pool: temporaryPool(jobId, parts, { ...needs, ...memoryOf(settings, size) }) }
}

/** Memory of one node. */
function memoryOf({ memoryPerNodeMiB, memoryPerCoreMiB }: Settings, { cores }: Size): { memoryMiB?: number } {
  if (memoryPerNodeMiB !== undefined) return { memoryMiB: memoryPerNodeMiB }
  return memoryPerCoreMiB === undefined ? {} : { memoryMiB: Math.ceil(memoryPerCoreMiB * cores) }
}

function gpusOf({ gpus, gpusPerNode }: Settings, { nodes }: Size): { gpus?: number } {
  const each = gpusPerNode ?? (gpus === undefined ? undefined : Math.ceil(gpus / nodes))
  return each === undefined ? {} : { gpus: each }
}

export function submitJob(
  jobId: string,
  settings: Settings,
  places: Places,
  more: { mark: { name: string; value: string }; retentionTimeMs: number },
): JobSpecInput {
  const { jobName, array, poolId, isRequeued, output, error, dependencies } = settings
  return {
    id: jobId,
    displayName: jobName,
    ...(places.pool !== undefined ? { poolId: places.pool.id } : poolId === undefined ? {} : { poolId }),
    ...(array?.limit === undefined ? {} : { maxParallelTasks: array.limit }),
    ...(isRequeued ? {} : { disconnect: { replace: false } }),
    ...(dependencies.length === 0 ? {} : { dependsOnJobs: [...dependencies] }),
    retentionTimeMs: more.retentionTimeMs,
    metadata: [more.mark, { name: outputMetadata, value: output }, ...(error === undefined ? [] : [{ name: errorMetadata, value: error }])],
  }
}

export interface Script {
  /** Its name in the task. */
  name: string
  args: readonly string[]
}

export interface Files {
  /** The script and what starts it, for the working directory. */
  kit: readonly ResourceFile[]
  /** What was asked for by --with: every node has it. */
  shared: readonly ResourceFile[]
  outputs: readonly string[]
}

function fields(jobId: string, script: Script, settings: Settings, places: Places, files: Files, host: string): JsonObject {
  const { error, directory, timeMs, env } = settings
  const { size, mpi } = places
  const isGang = size.nodes > 1
  const words = [
    'sh',
    `${kitDirectory}/launch`,
    ...(error === undefined ? ['-j'] : []),
    ...(directory === undefined ? [] : ['-D', directory]),
    script.name,
    ...script.args,
  ]
  const resources = {
    ...(size.cores === 1 || isGang ? {} : { cores: size.cores }),
    ...memoryOf(settings, size),
    ...gpusOf(settings, size),
  }
  return {
    commandLine: joinCommandLine(words),
    environmentSettings: [...variables(jobId, settings, places, host), ...env],
    resourceFiles: [...files.kit, ...(isGang ? [] : files.shared)],
    // What a script has written stays, however it ends.
    outputFiles: files.outputs.map((filePattern) => ({ filePattern, uploadCondition: 'taskcompletion' })),
    constraints: { maxTaskRetryCount: 0, ...(timeMs === undefined ? {} : { maxWallClockTimeMs: timeMs }) },
    ...(Object.keys(resources).length === 0 ? {} : { resources }),
    ...(isGang
      ? {
          multiInstanceSettings: {
            numberOfInstances: size.nodes,
            ...(mpi === undefined ? {} : { mpi }),
            ...(files.shared.length === 0 ? {} : { commonResourceFiles: files.shared.map(commonFile) }),
          },
        }
      : {}),
  }
}

/** What scripts look at, but for what is known only on the machine (programs.ts). Slurm sets some only if they were asked for. */
function variables(jobId: string, settings: Settings, { size, cpusPerTask }: Places, host: string): { name: string; value: string }[] {
  const { jobName, poolId, cpusPerTask: askedCpus, ntasksPerNode, array, memoryPerNodeMiB, memoryPerCoreMiB } = settings
  const node = size.ranksPerNode * cpusPerTask
  const gpus = gpusOf(settings, size).gpus
  const values: Record<string, string | number | undefined> = {
    SLURM_JOB_ID: jobId,
    SLURM_JOBID: jobId,
    SLURM_JOB_NAME: jobName,
    SLURM_JOB_PARTITION: poolId ?? 'default',
    SLURM_SUBMIT_HOST: host,
    SLURM_NTASKS: size.ranks,
    SLURM_NPROCS: size.ranks,
    SLURM_NNODES: size.nodes,
    SLURM_JOB_NUM_NODES: size.nodes,
    SLURM_TASKS_PER_NODE: size.nodes === 1 ? String(size.ranks) : `${size.ranksPerNode}(x${size.nodes})`,
    SLURM_NTASKS_PER_NODE: ntasksPerNode,
    SLURM_CPUS_PER_TASK: askedCpus,
    SLURM_CPUS_ON_NODE: node,
    SLURM_JOB_CPUS_PER_NODE: size.nodes === 1 ? String(node) : `${node}(x${size.nodes})`,
    SLURM_MEM_PER_NODE: memoryPerNodeMiB,
    SLURM_MEM_PER_CPU: memoryPerCoreMiB,
    SLURM_GPUS: gpus === undefined ? undefined : gpus * size.nodes,
    SLURM_GPUS_ON_NODE: gpus,
    SLURM_PROCID: 0,
    SLURM_LOCALID: 0,
    SLURM_NODEID: 0,
    [ranksPerNodeVariable]: size.nodes > 1 ? size.ranksPerNode : undefined,
  }
  if (array !== undefined) {
    const { ranges } = array
    Object.assign(values, {
      SLURM_ARRAY_JOB_ID: jobId,
      SLURM_ARRAY_TASK_COUNT: arrayCount({ indexes: ranges }),
      SLURM_ARRAY_TASK_MIN: ranges[0]!.start,
      SLURM_ARRAY_TASK_MAX: lastOf(ranges.at(-1)!),
      SLURM_ARRAY_TASK_STEP: ranges.length === 1 ? ranges[0]!.step : undefined,
    })
  }
  return Object.entries(values).flatMap(([name, value]) => (value === undefined ? [] : [{ name, value: String(value) }]))
}

export function submitTask(jobId: string, script: Script, settings: Settings, places: Places, files: Files, host: string): TaskSpec {
  return checkTask({ id: batchTaskId, ...fields(jobId, script, settings, places, files, host) })
}

/** The runs of the script as one array; its texts are taken as they are, but for the index. */
export function submitArray(jobId: string, script: Script, settings: Settings, places: Places, files: Files, host: string): TaskArray {
  const plain = fields(jobId, script, settings, places, files, host) as {
    commandLine: string
    environmentSettings: { name: string; value: string }[]
    resourceFiles: ResourceFile[]
    outputFiles: { filePattern: string }[]
  }
  const template = {
    ...plain,
    commandLine: escapeTemplate(plain.commandLine),
    environmentSettings: [
      ...plain.environmentSettings.map(({ name, value }) => ({ name, value: escapeTemplate(value) })),
      { name: 'SLURM_ARRAY_TASK_ID', value: '{index}' },
    ],
    resourceFiles: plain.resourceFiles.map((file) => ({ ...file, filePath: escapeTemplate(file.filePath) })),
    outputFiles: plain.outputFiles.map((file) => ({ ...file, filePattern: escapeTemplate(file.filePattern) })),
  }
  const parsed = taskArraySchema.safeParse({ indexes: settings.array!.ranges, template })
  if (!parsed.success) throw wrong(`the tasks: ${firstIssue(parsed.error)}`)
  return parsed.data
}

function wrong(message: string): MeshError {
  return new MeshError('InvalidPropertyValue', message)
}
