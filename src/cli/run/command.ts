/** `batchmesh run`: its options, and the dry run. */
import type { Command } from 'commander'
import { MeshError, toMeshError } from '../../../protocols/errors.ts'
import { isOutOfReach } from '../../mesh/sessions.ts'
import { type Context, collect, integer } from '../context.ts'
import { durationMs, showBytes } from '../format.ts'
import { each } from './items.ts'
import { madeUpId, madeUpRetentionMs } from './names.ts'
import { RunPlan } from './plan.ts'
import { type RunCommandOptions, requestOf } from './request.ts'

export function register(program: Command, context: Context): void {
  const command = program
    .command('run')
    .description('Runs a command once for each input, wherever in the mesh there is room, and brings the results back.')
    .argument('[command...]', 'one string, run by sh -c; or, after --, a program and its arguments, run without a shell')
    .option('-i, --inputs <glob>', 'files, one task each; - for a list on standard input; may repeat', collect)
    .option('-0, --null', 'the list on standard input has NUL between its names, as find -print0 writes it')
    .option('-a, --array <indexes>', 'numbers instead of files, one task each: 0-999, 0-999:2, 1,5,9')
    .option('--table <file>', 'rows of a .tsv or .csv file, one task each; the first row names the columns; - for standard input')
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
    .option('--try [number]', 'run only the first tasks, default one, and say how they went')
    .option('--resume', 'run only what has not succeeded in an earlier run of the same command')
    .option('--max-fails <number>', 'end the job when so many tasks have failed')
    .option('-n, --dry-run', 'only say what would be run')
    .option('-d, --detach', 'submit, print the job’s id and return')
    .option('-q, --quiet', 'no progress')
    .addHelpText('after', details)
  // `--try 'wc {input}'` means one task and a command: commander would take the command for the number.
  const parseOptions = command.parseOptions.bind(command)
  command.parseOptions = (words) => parseOptions(wholeTry(words))
  context.action<RunCommandOptions>(command, (options, words) => run(context, options, words))
}

/** A `--try` that no number follows says its default itself, so that it does not take the word behind it. */
function wholeTry(words: readonly string[]): string[] {
  const end = words.indexOf('--')
  return words.map((word, at) => (word === '--try' && (end === -1 || at < end) && !/^\d+$/.test(words[at + 1] ?? '') ? '--try=1' : word))
}

async function run(context: Context, options: RunCommandOptions, words: string[]): Promise<number> {
  if (options.detach === true && options.reduce !== undefined)
    throw usage(
      '--reduce cannot be detached: its inputs are known only when the other tasks have ended. Leave out --detach, or run it in a terminal multiplexer.',
    )
  const tryCount = integer(options.try, '--try', 1)
  const maxFails = integer(options.maxFails, '--max-fails', 1)
  const isDetached = options.detach === true
  if (tryCount !== undefined && options.resume === true) throw usage('Give either --try or --resume.')
  if (tryCount !== undefined && isDetached) throw usage('--try waits to see how its tasks went, so it cannot be detached.')
  if (maxFails !== undefined && isDetached)
    throw usage('--max-fails cannot be detached: it is this command that counts the failures. Leave out --detach.')
  const plan = new RunPlan(await requestOf(context, options, words))
  const retentionTimeMs = options.retention === undefined ? undefined : durationMs(options.retention, '--retention')
  if (options.dryRun === true) return dryRun(context, plan, options, tryCount)
  const mesh = await context.mesh()
  const { Run } = await import('./run.ts')
  return new Run(context, mesh, plan, {
    jobId: options.jobId ?? madeUpId('run'),
    isOwnId: options.jobId === undefined,
    poolId: options.poolId,
    retentionTimeMs: retentionTimeMs ?? (options.jobId === undefined ? madeUpRetentionMs : undefined),
    tryCount,
    maxFails,
    resume: options.resume === true,
    detach: isDetached,
    printsStdout: options.stdout === true,
    quiet: options.quiet === true,
  }).execute()
}

async function dryRun(context: Context, plan: RunPlan, options: RunCommandOptions, tryCount = plan.count): Promise<number> {
  const { poolId } = options
  const count = Math.min(tryCount, plan.count)
  const files = new Map<string, number>()
  if (plan.items.hasInput)
    for (const at of each([{ start: 0, end: count - 1, step: 1 }]))
      for (const { isShared, source, size } of plan.items.files(at)) if (!isShared) files.set(source, size)
  for (const { source, size } of plan.request.shared.flatMap((one) => one.files)) files.set(source, size)
  const uploadBytes = [...files.values()].reduce((sum, size) => sum + size, 0)
  const commands = Array.from({ length: Math.min(3, count) }, (_, at) => plan.commandLine(at))
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
  if (options.resume === true)
    details.push('What has succeeded before is left out. How much that is shows only when the inputs have been read and uploaded.')
  const shownMachines =
    machines === undefined
      ? 'not known'
      : machines.length === 0
        ? 'none'
        : machines.map(({ name, slots }) => `${name} (${slots} ${slots === 1 ? 'slot' : 'slots'})`).join(', ')
  await context.one(
    [
      ['tasks', `${count}${plan.request.reduce === undefined || options.try !== undefined ? '' : ' and one reduce step'}`],
      ['commands', [...commands, ...(count > 3 ? ['…'] : [])].join('\n')],
      ['to upload', `${showBytes(uploadBytes)} in ${files.size} ${files.size === 1 ? 'file' : 'files'}`],
      ['machines', shownMachines],
      ['notes', details.join('\n')],
    ],
    { tasks: count, commands, uploadBytes, uploadFiles: files.size, machines, details },
  )
  return 0
}

function usage(message: string): MeshError {
  return new MeshError('InvalidPropertyValue', message)
}

const details = `
Placeholders, in the command, in --outputs, in --to and in the values of --env:
  {input}   path of the input as the task sees it: as given when it lies below
            the current directory, else its name        frames/a.b.pov
  {base}    name with extension                         a.b.pov
  {name}    name without its last extension             a.b
  {ext}     its last extension, without the dot         pov
  {dir}     directory                                   frames
  {index}   number of the task from 0, or the index of --array; {index:04} is 0007
  {column}  with --table: the cell of that column; columns go before the names above
  {{        a brace
They are quoted for the shell where they stand; do not quote them yourself.

Examples:
  batchmesh run 'povray +I{input} +O{name}.png' --inputs 'frames/*.pov' --outputs '*.png' --to out/
  batchmesh run './simulate --seed {index} > {index}.csv' --array 0-999 --with simulate --outputs '*.csv' \\
      --reduce 'cat *.csv > all.csv' --reduce-outputs all.csv --to results/
  batchmesh run 'bwa mem ref/hg.fa {r1} {r2} > {sample}.sam' --table samples.tsv --inputs '{r1}' --inputs '{r2}' \\
      --with ref --outputs '*.sam' --to 'out/{sample}/' --try
  find /data -name '*.log' -print0 | batchmesh run 'grep -c ERROR {input}' --inputs - -0 --stdout
  batchmesh run --inputs '*.wav' --outputs '*.opus' --to . -- opusenc {input} {name}.opus

Ctrl-C asks whether to stop the job, leave it running, or go on.
Exit codes: 0 all tasks succeeded, 1 some failed, 2 wrong usage, 3 no node, 130 interrupted.`
