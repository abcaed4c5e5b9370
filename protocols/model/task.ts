/** Tasks, with Azure Batch's names and state words (Batch REST: Task). Times are milliseconds since 1970. */
import { z } from 'zod'
import { blobIdSchema, entityIdSchema, peerIdSchema } from '../ids.ts'
import { isPattern, patternProblem } from './file-pattern.ts'
import { environmentSchema, maxLimitMs } from './job.ts'
import { mpiFlavorSchema } from './machine.ts'
import { demandSchema } from './resources.ts'
import { cloneValueSchema, threadErrorSchema, threadTaskSchema } from './thread-task.ts'

/** A path below the task's working directory: relative, no `..`, no NUL; `/` separates. */
export const relativePathSchema = z
  .string()
  .min(1)
  .max(4096)
  .refine((path) => !path.includes('\0') && !path.startsWith('/') && !path.split('/').includes('..'), {
    error: (issue) => `the path ${JSON.stringify(issue.input)} must be relative and must not lead out of the working directory`,
  })

/** A file (or a whole directory blob) put into the working directory before the command line starts. One source each. */
export const resourceFileSchema = z
  .object({
    filePath: relativePathSchema,
    blob: blobIdSchema.optional(),
    httpUrl: z
      .url({ protocol: /^https?$/ })
      .max(8192)
      .optional(),
    /** Octal, Azure's default 0770. */
    fileMode: z
      .string()
      .regex(/^0?[0-7]{3}$/, { error: 'fileMode is octal, such as 0755' })
      .optional(),
    /** Materialised once a machine and shown read-only, for large inputs that many tasks share. */
    shared: z.boolean().optional(),
  })
  .refine((file) => (file.blob === undefined) !== (file.httpUrl === undefined), {
    error: 'a resource file has exactly one of blob and httpUrl',
  })
export type ResourceFile = z.infer<typeof resourceFileSchema>

/** Files kept when the task ends, as blobs at the job's home. Pattern: `*`, `**`, `?`, `[abc]`, `[!a]`, relative to the working directory. */
export const outputFileSchema = z.object({
  filePattern: z
    .string()
    .min(1)
    .max(4096)
    .refine(isPattern, { error: (issue) => patternProblem(String(issue.input)) }),
  uploadCondition: z.enum(['tasksuccess', 'taskfailure', 'taskcompletion']).default('taskcompletion'),
})
export type OutputFile = z.infer<typeof outputFileSchema>

const idRangeSchema = z.object({ start: z.number().int().min(0), end: z.number().int().min(0) })

/** What a task is, before it is checked as a whole: {@link taskSpecSchema}. */
export const taskFieldsSchema = z.object({
  id: entityIdSchema,
  displayName: z.string().max(1024).optional(),
  /** Split into words and executed directly: no shell, no variables (protocols/model/command-line.ts). Empty for a thread task. */
  commandLine: z.string().max(131_072).default(''),
  /** A function to call instead of a command line. */
  thread: threadTaskSchema.optional(),
  environmentSettings: environmentSchema.optional(),
  resourceFiles: z.array(resourceFileSchema).max(100_000).optional(),
  outputFiles: z.array(outputFileSchema).max(1000).optional(),
  constraints: z
    .object({
      maxWallClockTimeMs: z.number().int().positive().max(maxLimitMs).optional(),
      maxTaskRetryCount: z.number().int().min(-1).optional(),
      /** How long the task directory stays on the machine; Azure's default 7 days. */
      retentionTimeMs: z.number().int().min(0).optional(),
    })
    .optional(),
  dependsOn: z.object({ taskIds: z.array(entityIdSchema).optional(), taskIdRanges: z.array(idRangeSchema).optional() }).optional(),
  requiredSlots: z.number().int().min(1).max(256).default(1),
  resources: demandSchema.optional(),
  multiInstanceSettings: z
    .object({
      numberOfInstances: z.number().int().min(1).max(100_000).default(1),
      /** Run by every member before the task's own command line. Azure requires one; here a gang can do without, and one of functions has none. */
      coordinationCommandLine: z.string().min(1).max(131_072).optional(),
      commonResourceFiles: z.array(resourceFileSchema).max(100_000).optional(),
      /** All members must have this MPI, in the same version. Without it nodes that agree are only preferred. */
      mpi: mpiFlavorSchema.optional(),
    })
    .optional(),
})

/** Exactly one of a command line and a function; of a gang of functions every member calls it. */
export function taskKindProblem(spec: {
  commandLine: string
  thread?: unknown
  multiInstanceSettings?: { coordinationCommandLine?: unknown; mpi?: unknown }
}): string | undefined {
  if (spec.thread === undefined) return spec.commandLine === '' ? 'a task has a commandLine, or a thread' : undefined
  if (spec.commandLine !== '') return 'a task has either a commandLine or a thread, not both'
  const { coordinationCommandLine, mpi } = spec.multiInstanceSettings ?? {}
  return coordinationCommandLine === undefined && mpi === undefined
    ? undefined
    : 'a thread task has neither a coordinationCommandLine nor mpi in its multiInstanceSettings'
}

export const taskSpecSchema = taskFieldsSchema.superRefine((spec, context) => {
  const problem = taskKindProblem(spec)
  if (problem !== undefined) context.addIssue({ code: 'custom', message: problem, path: ['commandLine'] })
})
export type TaskSpecInput = z.input<typeof taskSpecSchema>
export type TaskSpec = z.output<typeof taskSpecSchema>

export const taskStateSchema = z.enum(['active', 'preparing', 'running', 'completed'])
export type TaskState = z.infer<typeof taskStateSchema>

/** Codes of Azure's failureInfo that a mesh uses, and the mesh's own (after the blank line). */
export const failureCodes = [
  'FailureExitCode',
  'TaskEnded',
  'CommandProgramNotFound',
  'CommandLaunchFailed',
  'BlobNotFound',
  'BlobDownloadMiscError',
  'ResourceFileCreateFailed',
  'ResourceFileWriteFailed',
  'FileUploadMiscError',
  'MaxInternalRetryCountReached',
  'DiskFull',
  'Unknown',

  'MaxWallClockTimeExpiry',
  'MachineLost',
  'ThreadFailed',
  'ThreadEnded',
  'ThreadOutOfMemory',
  'ThreadHostLost',
] as const
/** What a `reason` can be. */
export const failureReasons = ['MemoryLimitExceeded', 'ProcessLimitExceeded', 'MemberLost', 'MembersUnreachable'] as const
export const failureInfoSchema = z.object({
  category: z.enum(['usererror', 'servererror']),
  code: z.enum(failureCodes),
  /**
   * More exactly than the code, in words that may grow: {@link failureReasons}, or one of a newer version. A list of codes
   * cannot grow, because older peers refuse what they do not know.
   */
  reason: z.string().max(64).optional(),
  message: z.string().max(4096),
  /** Of a gang of functions: which member's call failed, from 0. */
  rank: z.number().int().min(0).optional(),
})
export type FailureInfo = z.infer<typeof failureInfoSchema>

/** The exactest word for a failure. */
export function failureName({ code, reason }: Pick<FailureInfo, 'code' | 'reason'>): string {
  return reason ?? code
}

/** A failure in one line. */
export function failureText(failure: FailureInfo): string {
  const where = failure.rank === undefined ? '' : ` at rank ${failure.rank}`
  return `${failureName(failure)}${where}: ${failure.message}`
}

/** A file that was kept: its path below the working directory and its blob. */
export const outputEntrySchema = z.object({
  path: relativePathSchema,
  blob: blobIdSchema,
  size: z.number().int().min(0),
  /** Permissions, without setuid, setgid and sticky bits. */
  mode: z.number().int().min(0).max(0o777).optional(),
})
export type OutputEntry = z.infer<typeof outputEntrySchema>

/** How one attempt ended, as the machine that ran it reports it. */
export const outcomeSchema = z.object({
  /** Absent when the program never ran. A program ended by signal n has 128 + n, as shells say. */
  exitCode: z.number().int().optional(),
  failureInfo: failureInfoSchema.optional(),
  startTime: z.number(),
  endTime: z.number(),
  outputs: z.array(outputEntrySchema).max(100_000).optional(),
  /** The last bytes of stderr.txt of a failed attempt, at most 2 KiB, so that failures can be shown without asking the machine. */
  stderrTail: z.string().max(4096).optional(),
  /** What the function of a thread task returned. */
  threadResult: cloneValueSchema.optional(),
  /** What it threw. */
  threadError: threadErrorSchema.optional(),
  /** Of a function that never looked for its directory: there is none, and stdout.txt and stderr.txt are empty. */
  noFiles: z.literal(true).optional(),
})
export type Outcome = z.infer<typeof outcomeSchema>

/** Why an attempt is over. Only `failure` spends a retry (C1). */
export const attemptEndSchema = z.enum(['success', 'failure', 'lost', 'preempted', 'requeued', 'terminated', 'program-missing'])
export type AttemptEnd = z.infer<typeof attemptEndSchema>

export const attemptRecordSchema = z.object({
  epoch: z.number().int(),
  machine: peerIdSchema,
  nodeId: z.string(),
  grantTime: z.number(),
  startTime: z.number().optional(),
  endTime: z.number().optional(),
  end: attemptEndSchema.optional(),
  exitCode: z.number().int().optional(),
})
export type AttemptRecord = z.infer<typeof attemptRecordSchema>

export const taskViewSchema = taskFieldsSchema.extend({
  jobId: z.string(),
  state: taskStateSchema,
  /** Finer than the state: a task that is `running` may still fetch inputs or be storing outputs. */
  phase: z.enum(['fetching', 'executing', 'uploading']).optional(),
  creationTime: z.number(),
  stateTransitionTime: z.number(),
  executionInfo: z.object({
    startTime: z.number().optional(),
    endTime: z.number().optional(),
    exitCode: z.number().int().optional(),
    result: z.enum(['success', 'failure']).optional(),
    failureInfo: failureInfoSchema.optional(),
    /** Runs again after a failure of the program (C1). */
    retryCount: z.number().int(),
    /** Runs again for other reasons: lost or preempted machine, node taken away (C1). */
    requeueCount: z.number().int(),
  }),
  nodeInfo: z
    .object({ poolId: z.string(), nodeId: z.string(), machine: peerIdSchema, machineName: z.string(), taskRootDirectory: z.string() })
    .optional(),
  outputs: z.array(outputEntrySchema),
  stderrTail: z.string().optional(),
  threadResult: cloneValueSchema.optional(),
  threadError: threadErrorSchema.optional(),
  /** The newest attempts, oldest first. */
  attempts: z.array(attemptRecordSchema),
})
export type TaskView = z.infer<typeof taskViewSchema>
