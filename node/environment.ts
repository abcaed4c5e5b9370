/**
 * The environment of a task's program: Azure Batch's variables, then the job's common settings, then the task's own;
 * a later one wins (Azure Batch: compute node environment variables). Nothing of the node's own environment is passed on.
 */
import type { Grant } from '../protocols/leases.ts'
import type { EnvironmentSettings } from '../protocols/model/job.ts'
import type { TaskPaths } from './ports.ts'

export interface NodeFacts {
  poolId: string
  nodeId: string
  isDedicated: boolean
  /** AZ_BATCH_NODE_ROOT_DIR. */
  rootDir: string
  accountName: string
  accountUrl: string
  /** Name of the user that tasks run as. */
  user: string
}

export interface JobFacts {
  jobId: string
  commonEnvironmentSettings?: EnvironmentSettings
}

type Environment = Record<string, string>

/** Where programs of the system are looked for; the node's own PATH may hold directories that tasks cannot read. */
export const systemPath = '/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin'
/**
 * Where every member of a gang finds its own task directory, by a link: programs that one of them starts on the others name
 * files by it (Azure: the shared directory has the same path on every node). Only where a lane has a /tmp of its own.
 */
export const sharedLink = '/tmp/batchmesh-shared'
/** The port in AZ_BATCH_MASTER_NODE is the Azure service's own; programs only use the address before it. */
const masterPort = 6000

function nodeEnvironment(node: NodeFacts, job: JobFacts): Environment {
  return {
    PATH: systemPath,
    LANG: 'C.UTF-8',
    USER: node.user,
    LOGNAME: node.user,
    SHELL: '/bin/sh',
    AZ_BATCH_ACCOUNT_NAME: node.accountName,
    AZ_BATCH_ACCOUNT_URL: node.accountUrl,
    AZ_BATCH_POOL_ID: node.poolId,
    AZ_BATCH_NODE_ID: node.nodeId,
    AZ_BATCH_NODE_IS_DEDICATED: String(node.isDedicated),
    AZ_BATCH_NODE_ROOT_DIR: node.rootDir,
    AZ_BATCH_NODE_SHARED_DIR: `${node.rootDir}/shared`,
    AZ_BATCH_NODE_STARTUP_DIR: `${node.rootDir}/startup`,
    AZ_BATCH_NODE_MOUNTS_DIR: `${node.rootDir}/fsmounts`,
    AZ_BATCH_JOB_ID: job.jobId,
  }
}

export interface TaskFacts {
  taskId: string
  paths: TaskPaths
  /** TMPDIR. */
  tmpDir: string
  environmentSettings?: EnvironmentSettings
  gang?: Grant['gang']
  /** AZ_BATCH_TASK_SHARED_DIR of a gang; its task directory if absent. */
  sharedDir?: string | undefined
  /** What a member of a gang has for mpirun (mpi/preset.ts). */
  mpi?: Readonly<Environment> | undefined
}

/** The whole environment of one task: what it shares with others of its job on the node, and its own on top. */
export function taskEnvironment(node: NodeFacts, job: JobFacts, task: TaskFacts): Environment {
  return { ...sharedEnvironment(node, job), ...ownEnvironment(job, task) }
}

/** What all tasks of a job on a node share. */
export function sharedEnvironment(node: NodeFacts, job: JobFacts): Environment {
  const env = nodeEnvironment(node, job)
  for (const { name, value } of job.commonEnvironmentSettings ?? []) env[name] = value
  return env
}

/** What only this task has, or has otherwise than the others. */
export function ownEnvironment(job: Pick<JobFacts, 'commonEnvironmentSettings'>, task: TaskFacts): Environment {
  const env: Environment = {
    HOME: task.paths.wd,
    TMPDIR: task.tmpDir,
    AZ_BATCH_TASK_ID: task.taskId,
    AZ_BATCH_TASK_DIR: task.paths.taskDir,
    AZ_BATCH_TASK_WORKING_DIR: task.paths.wd,
  }
  Object.assign(env, task.mpi)
  if (task.gang !== undefined) Object.assign(env, gangEnvironment(task.gang, task.sharedDir ?? task.paths.taskDir))
  // The job's settings win over what every task has.
  for (const { name } of job.commonEnvironmentSettings ?? []) delete env[name]
  for (const { name, value } of task.environmentSettings ?? []) env[name] = value
  return env
}

function gangEnvironment(gang: NonNullable<Grant['gang']>, sharedDir: string): Environment {
  const addresses = gang.members.map((member) => member.address)
  return {
    AZ_BATCH_TASK_SHARED_DIR: sharedDir,
    AZ_BATCH_NODE_LIST: addresses.join(';'),
    AZ_BATCH_HOST_LIST: addresses.join(','),
    AZ_BATCH_MASTER_NODE: `${addresses[0] ?? ''}:${masterPort}`,
    AZ_BATCH_IS_CURRENT_NODE_MASTER: String(gang.index === 0),
    CCP_NODES: [gang.members.length, ...gang.members.flatMap((member) => [member.address, member.cores])].join(' '),
  }
}
