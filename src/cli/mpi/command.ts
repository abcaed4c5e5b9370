/** `batchmesh mpi run`: its options. */
import { isAbsolute, posix } from 'node:path'
import { type Command, Option } from 'commander'
import { MeshError } from '../../../protocols/errors.ts'
import { entityIdSchema } from '../../../protocols/ids.ts'
import { type MpiFlavor, mpiFlavorSchema } from '../../../protocols/model/machine.ts'
import { memoryMiB } from '../../../protocols/model/vm-sizes.ts'
import { type Context, collect, integer, pairs, positive } from '../context.ts'
import { durationMs } from '../format.ts'
import { findShared, type StagedShared } from '../run/inputs.ts'
import { madeUpId, madeUpRetentionMs } from '../run/names.ts'
import { maxNodes } from './size.ts'

interface Options {
  ranks?: string
  nodes?: string
  cpus?: string
  memory?: string
  poolId?: string
  label?: string[]
  with?: string[]
  outputs?: string[]
  to?: string
  mpi?: MpiFlavor
  mca?: string[]
  env?: string[]
  tagOutput: boolean
  timeout?: string
  retries?: string
  retention?: string
  jobId?: string
  try?: boolean
  detach?: boolean
  quiet?: boolean
}

export function register(program: Command, context: Context): void {
  const group = program.command('mpi').description('MPI programs over several machines: no ssh, no keys, no shared file system.')
  const command = group
    .command('run')
    .description('Runs an MPI program on nodes that it gets all at once, and shows what its ranks print as it comes.')
    .argument('[program...]', 'the program, such as ./a.out, and its arguments')
    .option('-n, --ranks <number>', 'ranks (processes) to start, default one a core of --nodes; -np is understood too')
    .option('--nodes <number>', 'nodes to start them on, default as few as have a core for each rank')
    .option('--cpus <number>', 'cores for each rank, default 1; 0.5 puts two ranks on a core')
    .option('--memory <amount>', 'memory of each node, such as 4GiB')
    .option('--pool, --pool-id <id>', 'pool to run on, default a temporary one that goes with the job')
    .option('--label <name=value>', 'only machines with this label; may repeat', collect)
    .option('-w, --with <path>', 'file or directory that every rank needs, such as ./a.out; read-only; may repeat', collect)
    .option('--outputs <pattern>', 'files to keep of what rank 0 finds in its directory at the end; may repeat', collect)
    .option('-t, --to <dir>', 'directory here that outputs are written to')
    .addOption(new Option('--mpi <flavor>', 'default what the machines have, openmpi first').choices(mpiFlavorSchema.options))
    .option('--mca <name> <value>', 'parameter of Open MPI, passed on to mpirun; may repeat', collect)
    .option('-e, --env <name=value>', 'environment variable of all ranks; may repeat', collect)
    .option('--tag-output', 'begin each line with its rank; so it is unless --no-tag-output is given', true)
    .option('--no-tag-output', 'the lines of all ranks as they come')
    .option('--timeout <duration>', 'end it after this: 90s, 15m, 2h')
    .option('--retries <number>', 'run it again after a failure, so many times')
    .option('--retention <duration>', 'delete the job so long after its end; default 7d, with --job-id never')
    .option('--job-id <id>', 'name of the job, default made up')
    .option('--try', 'only see whether all ranks start: each prints the name of its machine instead of running the program')
    .option('-d, --detach', 'submit, print the job’s id and return')
    .option('-q, --quiet', 'only what the program prints')
    .addHelpText('after', details)
  context.rest.add(command, { '-np': '--ranks' })
  context.action<Options>(command, (options, words) => run(context, options, words))
}

async function run(context: Context, options: Options, words: string[]): Promise<number> {
  const { jobId, detach = false } = options
  if (words.length === 0) throw usage('Name the program, such as: batchmesh mpi run -n 4 --with ./a.out -- ./a.out')
  if (jobId !== undefined && !entityIdSchema.safeParse(jobId).success)
    throw usage(`--job-id ${jobId}: an id is 1 to 64 characters of A-Z, a-z, 0-9, _ and -.`)
  const ranks = integer(options.ranks, '-n', 1, 1_000_000)
  const nodes = integer(options.nodes, '--nodes', 1, maxNodes)
  if (ranks === undefined && nodes === undefined && options.poolId === undefined)
    throw usage('Say how many: -n RANKS, --nodes NODES, or both.')
  if (options.to !== undefined && (options.outputs ?? []).length === 0)
    throw usage('--to needs --outputs: it says which of the files are written there, such as --outputs "*.csv".')
  if (detach && options.try === true) throw usage('--try waits to see how it goes, so it cannot be detached.')
  if (detach && options.to !== undefined)
    throw usage(`--to needs the end of the program. Get its outputs later: batchmesh job wait JOB --to ${options.to}`)
  if (options.poolId !== undefined && (options.label !== undefined || options.memory !== undefined))
    throw usage('--label and --memory say what nodes a temporary pool has. Leave them out, or --pool.')
  const shared = await findShared(options.with ?? [], context.world.cwd)
  if (options.try !== true) checkShipped(words[0]!, shared)
  const { MpiRun } = await import('./run.ts')
  return new MpiRun(context, await context.mesh(), {
    request: {
      words,
      mca: pairs(options.mca, '--mca').map(([name, value]) => ({ name, value })),
      env: pairs(options.env, '--env').map(([name, value]) => ({ name, value })),
      isTagged: options.tagOutput,
      isTrial: options.try === true,
      outputs: options.outputs ?? [],
      retries: integer(options.retries, '--retries', -1),
      timeoutMs: options.timeout === undefined ? undefined : durationMs(options.timeout, '--timeout'),
      memoryMiB: options.memory === undefined ? undefined : memoryMiB(options.memory),
    },
    asked: { ranks, nodes, coresPerRank: positive(options.cpus, '--cpus') ?? 1 },
    flavor: options.mpi,
    shared,
    labels: options.label === undefined ? undefined : Object.fromEntries(pairs(options.label, '--label')),
    poolId: options.poolId,
    jobId: jobId ?? madeUpId('mpi'),
    isOwnId: jobId === undefined,
    retentionTimeMs:
      options.retention === undefined
        ? jobId === undefined
          ? madeUpRetentionMs
          : undefined
        : durationMs(options.retention, '--retention'),
    to: options.to,
    detach,
    quiet: options.quiet === true,
  }).execute()
}

/** A rank starts in a directory that has nothing but the files of --with. */
function checkShipped(program: string, shared: readonly StagedShared[]): void {
  if (!program.includes('/') || isAbsolute(program)) return
  const path = posix.normalize(program)
  if (!shared.some((one) => path === one.path || path.startsWith(`${one.path}/`)))
    throw usage(`${program} is not on the nodes: a rank starts in a directory that has only what --with names. Add: --with ${program}`)
}

function usage(message: string): MeshError {
  return new MeshError('InvalidPropertyValue', message)
}

const details = `
The files of --with lie in the working directory of every rank under the paths they have here. Everything else of a rank's
directory stays on its node; --outputs are those of rank 0's.

Examples:
  mpicc -o ring ring.c
  batchmesh mpi run -n 8 --nodes 4 --with ./ring -- ./ring
  batchmesh mpi run --nodes 2 --try -- ./ring                  does it start there at all?
  batchmesh mpi run -n 64 --mca btl_tcp_if_include eth0 --with model --outputs 'out/*.h5' --to . -- model/solve model/in.nml

Ctrl-C ends the program and gives its nodes back. Exit codes: that of the program; 1 it did not run, 2 wrong usage, 3 no node,
130 interrupted.`
