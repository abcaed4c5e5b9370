/** `batchmesh submit`: a script for Slurm, run by the mesh. */
import { readFile } from 'node:fs/promises'
import { basename, resolve } from 'node:path'
import { type Command, Option } from 'commander'
import { MeshError } from '../../../protocols/errors.ts'
import { type Context, collect } from '../context.ts'
import { findShared } from '../run/inputs.ts'
import { ignoredOptions, slurmOptions } from './options.ts'
import { directivesOf, type Given, maxScriptBytes } from './script.ts'
import { settingsOf } from './settings.ts'

interface Own {
  with?: string[]
  outputs?: string[]
  to?: string
  wrap?: string
  parsable?: boolean
  quiet?: boolean
}

export function register(program: Command, context: Context): void {
  const command = program
    .command('submit')
    .description('Submits a script written for Slurm: reads its #SBATCH lines, and runs it as a job.')
    .argument('[script]', 'a script; all words behind it are its arguments')
    .argument('[args...]')
  for (const { name, short, value, about, here = name } of slurmOptions) {
    // -o says how results are printed, everywhere.
    const flag = short === undefined || here !== name ? `--${here}` : `-${short}, --${here}`
    command.addOption(new Option(value === undefined ? flag : `${flag} <${value}>`, about))
  }
  for (const { name, short, hasValue } of ignoredOptions) {
    if (name === 'parsable') continue
    const flag = short === undefined ? `--${name}` : `-${short}, --${name}`
    command.addOption(new Option(hasValue ? `${flag} <value>` : flag).hideHelp())
  }
  command
    .option('--wrap <command>', 'a command for sh instead of a script')
    .option('--with <path>', 'file or directory that the script needs; on every node, read-only; may repeat', collect)
    .option('--outputs <pattern>', 'files to keep of what the script writes, default all; may repeat', collect)
    .option('--to <dir>', 'with --wait: directory here that they are written to')
    .option('--parsable', 'print the number of the job alone')
    .option('-Q, --quiet', 'no hints, no progress')
    .addHelpText('after', details)
  context.rest.add(command)
  context.action<Own & Record<string, unknown>>(command, (options, words) => run(context, options, words))
}

async function run(context: Context, options: Own & Record<string, unknown>, words: string[]): Promise<number> {
  const { cwd, env } = context.world
  const [path, ...args] = options.wrap === undefined ? words : ['wrap', ...words]
  if (path === undefined) throw usage('Name the script, such as: batchmesh submit job.sh; or give a command: --wrap "make test"')
  if (options.wrap !== undefined && words.length > 0) throw usage('Give either a script or --wrap.')
  const text = options.wrap === undefined ? await textOf(resolve(cwd, path)) : `#!/bin/sh\n${options.wrap}\n`
  const { given, ignored } = directivesOf(text, path)
  const commandLine = givenHere(options)
  for (const { name } of ignoredOptions) if (name !== 'parsable' && options[attributeOf(name)] !== undefined) ignored.push(`--${name}`)
  const settings = settingsOf(given, commandLine, { scriptName: basename(path), environment: env })
  const quiet = options.quiet === true
  if (!quiet) {
    if (ignored.length > 0) context.say(`note: ${[...new Set(ignored)].join(', ')} means nothing here and is passed over`)
    for (const note of settings.notes) context.say(`note: ${note}`)
  }
  if (options.to !== undefined && !settings.waits)
    throw usage(`--to belongs to --wait. Get the files later: batchmesh job wait JOB --to ${options.to}`)
  const shared = await findShared(options.with ?? [], cwd)
  const taken = shared.find((one) => one.path === '.batchmesh' || one.path.startsWith('.batchmesh/'))
  if (taken !== undefined) throw usage(`--with ${taken.path}: that place in the task is the script’s own. Rename it.`)
  const { submit } = await import('./run.ts')
  return submit(context, await context.mesh(), {
    script: { path: basename(path), text, args },
    settings,
    shared,
    outputs: options.outputs ?? ['**'],
    to: options.to,
    parsable: options.parsable === true,
    quiet,
  })
}

/** What the command line says of the options of sbatch. */
function givenHere(options: Record<string, unknown>): Given[] {
  return slurmOptions.flatMap(({ name, here = name }): Given[] => {
    // The two of a pair have one value.
    if (name === 'requeue' || name === 'no-requeue')
      return options.requeue === (name === 'requeue') ? [{ name, value: true, place: `--${name}` }] : []
    const value = options[attributeOf(here)]
    return typeof value === 'string' || value === true ? [{ name, value, place: `--${here}` }] : []
  })
}

function attributeOf(name: string): string {
  return name.replaceAll(/-(\w)/g, (_, letter: string) => letter.toUpperCase())
}

async function textOf(path: string): Promise<string> {
  let bytes: Buffer
  try {
    bytes = await readFile(path)
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException
    if (code === 'ENOENT') throw usage(`There is no script ${path}.`)
    if (code === 'EISDIR') throw usage(`${path} is a directory, no script.`)
    throw usage(`The script ${path} cannot be read: ${(error as Error).message}.`)
  }
  if (bytes.length > maxScriptBytes) throw usage(`The script ${path} is larger than 4 MiB. Bring what it holds as a file: --with FILE`)
  try {
    return new TextDecoder('utf-8', { fatal: true, ignoreBOM: true }).decode(bytes)
  } catch {
    throw usage(`The script ${path} is not UTF-8 text. Convert it, such as with iconv.`)
  }
}

function usage(message: string): MeshError {
  return new MeshError('InvalidPropertyValue', message)
}

const details = `
Options stand in lines #SBATCH before the first command of the script; those of the command line go before them. In the script
--output is the file of standard output; here it is --output-file, because -o says how results are printed everywhere.

The script runs in an empty directory on some machine, with what --with names in it. mpirun and srun start its tasks on all
nodes that it got. Its output and the files that it writes stay in the mesh: with --wait they come back here, else later:
  batchmesh task logs JOB/batch -f
  batchmesh job wait JOB --to DIR

Examples:
  batchmesh submit job.sh
  batchmesh submit -N 4 --ntasks-per-node 2 --with ./a.out --wait mpi.sh
  batchmesh submit --array 0-99%10 --time 00:10:00 --with simulate.py sweep.sh`
