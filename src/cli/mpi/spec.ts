/** What `batchmesh mpi run` adds to the mesh: a pool, a job and its task. Pure. */
import { MeshError } from '../../../protocols/errors.ts'
import { joinCommandLine } from '../../../protocols/model/command-line.ts'
import type { JobSpecInput } from '../../../protocols/model/job.ts'
import type { MpiFlavor } from '../../../protocols/model/machine.ts'
import type { PoolSpecInput } from '../../../protocols/model/pool.ts'
import type { ResourceFile, TaskSpec } from '../../../protocols/model/task.ts'
import { checkTask } from '../json-file.ts'
import type { Choice } from './choose.ts'
import type { Size } from './size.ts'

export const mpiTaskId = 'mpi'
/** How many ranks a node of the gang takes, for the list of hosts that mpirun gets there. */
export const ranksPerNodeVariable = 'BATCHMESH_MPI_RANKS_PER_NODE'

export interface MpiRequest {
  /** The program and its arguments. */
  words: readonly string[]
  mca: readonly { name: string; value: string }[]
  env: readonly { name: string; value: string }[]
  isTagged: boolean
  /** Only to see whether it starts: another program in its place. */
  isTrial: boolean
  outputs: readonly string[]
  retries?: number | undefined
  timeoutMs?: number | undefined
  memoryMiB?: number | undefined
}

/** What a trial runs on each rank instead of the program: the name of its machine. */
const trialWords = ['uname', '-n'] as const

/** The words of mpirun. Each flavor has its own names for the same. */
export function mpirunWords(request: MpiRequest, { ranks }: Pick<Size, 'ranks'>, flavor: MpiFlavor): string[] {
  const { mca, isTagged, isTrial } = request
  if (flavor === 'mpich' && mca.length > 0)
    throw new MeshError(
      'InvalidPropertyValue',
      '--mca is Open MPI’s; with MPICH set variables instead, such as -e MPIR_CVAR_CH4_NETMOD=ucx.',
    )
  const program = isTrial ? trialWords : request.words
  if (flavor === 'openmpi')
    return [
      'mpirun',
      '-n',
      String(ranks),
      ...(isTagged ? ['--tag-output'] : []),
      ...mca.flatMap(({ name, value }) => ['--mca', name, value]),
      ...program,
    ]
  return [
    // Where both are installed, mpirun is mostly Open MPI's; this name MPICH alone has.
    'mpiexec.hydra',
    ...hydraPlace,
    '-n',
    String(ranks),
    ...(isTagged ? ['-prepend-rank'] : []),
    ...['sh', '-c', 'cd "$HOME" && exec "$@"', 'sh'],
    ...program,
  ]
}

/**
 * Hydra starts ranks in the directory of the first node, which the others do not have, and with its environment. So they
 * start in one that all have, with their own environment, and go home: each node's HOME is the task's working directory.
 */
const hydraPlace = ['-wdir', '/', '-genvlist', 'UCX_TLS'] as const

/** Below the task directory, where common files go (AZ_BATCH_TASK_SHARED_DIR), lies the working directory of each member. */
const workingDirectory = 'wd'

/** The gang. Files of --with come to the working directory of every member, so that `./a.out` is found wherever a rank starts. */
export function mpiTask(request: MpiRequest, size: Size, flavor: MpiFlavor, shared: readonly ResourceFile[]): TaskSpec {
  const { env, outputs, retries, timeoutMs, memoryMiB } = request
  return checkTask({
    id: mpiTaskId,
    commandLine: joinCommandLine(mpirunWords(request, size, flavor)),
    environmentSettings: [...env, { name: ranksPerNodeVariable, value: String(size.ranksPerNode) }],
    ...(outputs.length > 0 ? { outputFiles: outputs.map((filePattern) => ({ filePattern, uploadCondition: 'tasksuccess' })) } : {}),
    constraints: { maxTaskRetryCount: retries ?? 0, ...(timeoutMs === undefined ? {} : { maxWallClockTimeMs: timeoutMs }) },
    ...(memoryMiB === undefined ? {} : { resources: { memoryMiB } }),
    multiInstanceSettings: {
      numberOfInstances: size.nodes,
      mpi: flavor,
      ...(shared.length > 0 ? { commonResourceFiles: shared.map((file) => commonFile(file)) } : {}),
    },
  })
}

/** A file for the working directory of every member. */
export function commonFile(file: ResourceFile): ResourceFile {
  return { ...file, filePath: `${workingDirectory}/${file.filePath}` }
}

/** Nodes for this job alone: the coordinator gives them back when it ends, whatever has become of the program that asked. */
export function temporaryPool(
  id: string,
  { size, mpi, dedicated, lowPriority }: Pick<Choice, 'size' | 'dedicated' | 'lowPriority'> & { mpi?: Choice['mpi'] },
  more: { memoryMiB?: number | undefined; gpus?: number | undefined; labels?: Record<string, string> | undefined },
): PoolSpecInput {
  const { memoryMiB, gpus, labels } = more
  const parts = [
    `cores=${size.cores}`,
    ...(memoryMiB === undefined ? [] : [`memory=${memoryMiB}MiB`]),
    ...(gpus === undefined ? [] : [`gpus=${gpus}`]),
  ]
  return {
    id,
    vmSize: parts.join(','),
    targetDedicatedNodes: dedicated,
    targetLowPriorityNodes: lowPriority,
    enableInterNodeCommunication: true,
    poolLifetimeOption: 'job',
    ...(mpi === undefined ? {} : { mpi }),
    ...(labels === undefined ? {} : { labels }),
  }
}

export function mpiJob(id: string, poolId: string, retentionTimeMs: number | undefined): JobSpecInput {
  return { id, poolId, ...(retentionTimeMs === undefined ? {} : { retentionTimeMs }) }
}
