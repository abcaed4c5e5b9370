/** `batchmesh run`: its options, and the dry run. */
import type { Command } from 'commander'
import { MeshError, toMeshError } from '../../../protocols/errors.ts'
import { entityIdSchema } from '../../../protocols/ids.ts'
import type { Demand } from '../../../protocols/model/resources.ts'
import { memoryMiB } from '../../../protocols/model/vm-sizes.ts'
import { isOutOfReach } from '../../mesh/sessions.ts'
import { parseArray } from '../array.ts'
import { type Context, collect, integer, pairs, positive } from '../context.ts'
import { durationMs, showBytes } from '../format.ts'
import { RunPlan, type RunRequest } from './plan.ts'

interface Options {
  inputs?: string[]
  array?: string
  with?: string[]
  outputs?: string[]
  to?: string
  reduce?: string
  reduceOutputs?: string[]
  stdout?: boolean
  retries?: string
  timeout?: string
  cpus?: string
  memory?: string
  gpus?: string
  slots?: string
  label?: string[]
  env?: string[]
  jobId?: string
  poolId?: string
  dryRun?: boolean
  retention?: string
  detach?: boolean
  quiet?: boolean
}

export function register(program: Command, context: Context): void {
  const command = program
    .command('run')
    .description('Runs a command once for each input, wherever in the mesh there is room, and brings the results back.')
    .argument('[command...]', 'one string, run by sh -c; or, after --, a program and its arguments, run without a shell')
    .option('-i, --inputs <glob>', 'files, one task each; may repeat', collect)
    .option('-a, --array <indexes>', 'numbers instead of files, one task each: 0-999, 0-999:2, 1,5,9')
    .option('-w, --with <path>', 'directory or file that every task needs, staged once a machine, read-only; may repeat', collect)
    .option('--outputs <pattern>', 'files to keep of what a task makes, such as "*.png"; may repeat', collect)
    .option('-t, --to <dir>', 'directory here that outputs are written to, as they come')
    .option('-r, --reduce <command>', 'one last task that gets all outputs in its directory, when all have succeeded')
    .option('--reduce-outputs <pattern>', 'files to keep of the last task, default all that it makes; may repeat', collect)
    .option('--stdout', 'print what each task writes to standard output, as it ends')
    .option('--retries <number>', 'run a task again after a failure, so many times')
    .option('--timeout <duration>', 'end a task after this: 90s, 15m, 2h')
    .option('--cpus <number>', 'cores that a task needs')
    .option('--memory <amount>', 'memory that a task needs, such as 4GiB')
    .option('--gpus <number>', 'GPUs that a task needs')
    .option('--slots <number>', 'task slots that a task takes')
    .option('--label <name=value>', 'only machines with this label; may repeat', collect)
    .option('-e, --env <name=value>', 'environment variable of the tasks; may repeat', collect)
    .option('--job-id <id>', 'name of the job, default made up')
    .option('--pool-id <id>', 'pool to run on, default every machine')
    .option(
      '--retention <duration>',
      'delete the job, with its outputs in the mesh, so long after its end; default 7d, with --job-id never',
    )
    .option('-n, --dry-run', 'only say what would be run')
    .option('-d, --detach', 'submit, print the job’s id and return')
    .option('-q, --quiet', 'no progress')
    .addHelpText('after', details)
  context.action<Options>(command, (options, words) => run(context, options, words))
}

async function run(context: Context, options: Options, words: string[]): Promise<number> {
  if (options.detach === true && options.reduce !== undefined)
    throw usage(
      '--reduce cannot be detached: its inputs are known only when the other tasks have ended. Leave out --detach, or run it in a terminal multiplexer.',
    )
  const plan = new RunPlan(await requestOf(context, options, words))
  const retentionTimeMs = options.retention === undefined ? undefined : durationMs(options.retention, '--retention')
  if (options.dryRun === true) return dryRun(context, plan, options.poolId)
  const mesh = await context.mesh()
  const { Run } = await import('./run.ts')
  return new Run(context, mesh, plan, {
    jobId: options.jobId ?? madeUpId(),
    isOwnId: options.jobId === undefined,
    poolId: options.poolId,
    retentionTimeMs: retentionTimeMs ?? (options.jobId === undefined ? madeUpRetentionMs : undefined),
    detach: options.detach === true,
    printsStdout: options.stdout === true,
    quiet: options.quiet === true,
  }).execute()
}

async function requestOf(context: Context, options: Options, words: string[]): Promise<RunRequest> {
  const { cwd } = context.world
  if (words.length === 0 || words[0] === '') throw usage("Give the command to run, such as: batchmesh run 'wc -l {input}' --inputs '*.txt'")
  if (options.inputs !== undefined && options.array !== undefined) throw usage('Give either --inputs or --array.')
  if (options.jobId !== undefined && !entityIdSchema.safeParse(options.jobId).success)
    throw usage(`--job-id ${options.jobId}: an id is 1 to 64 characters of A-Z, a-z, 0-9, _ and -.`)
  const { findInputs, findShared } = await import('./inputs.ts')
  const shared = await findShared(options.with ?? [], cwd)
  return {
    // `run -- prog` has one word too, but is to be run as it is.
    command: words.length === 1 && !context.hasDashes ? words[0]! : words,
    inputs: options.inputs === undefined ? undefined : await findInputs(options.inputs, cwd, shared),
    indexes: options.array === undefined ? undefined : parseArray(options.array),
    shared,
    outputs: options.outputs ?? [],
    to: options.to,
    reduce: options.reduce,
    reduceOutputs: options.reduceOutputs ?? [],
    env: pairs(options.env, '--env').map(([name, value]) => ({ name, value })),
    retries: integer(options.retries, '--retries', -1),
    timeoutMs: options.timeout === undefined ? undefined : durationMs(options.timeout, '--timeout'),
    slots: integer(options.slots, '--slots', 1, 256),
    demand: demandOf(options),
  }
}

function demandOf(options: Options): Demand | undefined {
  const demand: Demand = {
    cores: positive(options.cpus, '--cpus'),
    memoryMiB: options.memory === undefined ? undefined : memoryMiB(options.memory),
    gpus: integer(options.gpus, '--gpus', 0),
    labels: options.label === undefined ? undefined : Object.fromEntries(pairs(options.label, '--label')),
  }
  const asked = Object.entries(demand).filter(([, value]) => value !== undefined)
  return asked.length === 0 ? undefined : Object.fromEntries(asked)
}

/** A job of a made-up name is asked for soon or never; until it is deleted its blobs take room at its home. */
const madeUpRetentionMs = 7 * 86_400_000

/** Sorts by time in lists, and is not made up twice. */
function madeUpId(): string {
  const now = new Date()
    .toISOString()
    .replaceAll(/[-:]|\..*/g, '')
    .replace('T', '-')
  return `run-${now}-${crypto.randomUUID().slice(0, 8)}`
}

async function dryRun(context: Context, plan: RunPlan, poolId: string | undefined): Promise<number> {
  const { inputs = [], shared } = plan.request
  const files = new Map(
    [...inputs.filter(({ isShared }) => !isShared), ...shared.flatMap((one) => one.files)].map(({ source, size }) => [source, size]),
  )
  const uploadBytes = [...files.values()].reduce((sum, size) => sum + size, 0)
  const commands = Array.from({ length: Math.min(3, plan.count) }, (_, at) => plan.commandLine(at))
  let machines: { name: string; slots: number }[] | undefined
  let details: string[]
  try {
    const mesh = await context.mesh()
    // A pool that is not there is the same error as in earnest.
    if (poolId !== undefined) await mesh.control.call('getPool', { poolId })
    const { requiredSlots, resources } = plan.spec(0, [])
    const answer = await mesh.control.call('eligible', { poolId, task: { requiredSlots, resources } })
    machines = answer.machines
    details = answer.details
  } catch (error) {
    if (!isOutOfReach(error)) throw error
    details = [toMeshError(error).message]
  }
  const shownMachines =
    machines === undefined
      ? 'not known'
      : machines.length === 0
        ? 'none'
        : machines.map(({ name, slots }) => `${name} (${slots} ${slots === 1 ? 'slot' : 'slots'})`).join(', ')
  await context.one(
    [
      ['tasks', `${plan.count}${plan.request.reduce === undefined ? '' : ' and one reduce step'}`],
      ['commands', [...commands, ...(plan.count > 3 ? ['…'] : [])].join('\n')],
      ['to upload', `${showBytes(uploadBytes)} in ${files.size} ${files.size === 1 ? 'file' : 'files'}`],
      ['machines', shownMachines],
      ['notes', details.join('\n')],
    ],
    { tasks: plan.count, commands, uploadBytes, uploadFiles: files.size, machines, details },
  )
  return 0
}

function usage(message: string): MeshError {
  return new MeshError('InvalidPropertyValue', message)
}

const details = `
Placeholders, in the command, in --outputs and in --to:
  {input}   path of the input as the task sees it: as given when it lies below
            the current directory, else its name        frames/a.b.pov
  {base}    name with extension                         a.b.pov
  {name}    name without its last extension             a.b
  {ext}     its last extension, without the dot         pov
  {dir}     directory                                   frames
  {index}   number of the task from 0, or the index of --array; {index:04} is 0007
  {{        a brace
They are quoted for the shell where they stand; do not quote them yourself.

Examples:
  batchmesh run 'povray +I{input} +O{name}.png' --inputs 'frames/*.pov' --outputs '*.png' --to out/
  batchmesh run './simulate --seed {index} > {index}.csv' --array 0-999 --with simulate --outputs '*.csv' \\
      --reduce 'cat *.csv > all.csv' --reduce-outputs all.csv --to results/
  batchmesh run --inputs '*.wav' --outputs '*.opus' --to . -- opusenc {input} {name}.opus

Ctrl-C asks whether to stop the job, leave it running, or go on.
Exit codes: 0 all tasks succeeded, 1 some failed, 2 wrong usage, 3 no node, 130 interrupted.`
