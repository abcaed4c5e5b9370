/** The command line: finds the command, loads only what it needs, and turns the end of it into an exit code. */
import { Command, CommanderError, Option } from 'commander'
import { type MeshError, toMeshError } from '../../protocols/errors.ts'
import { version } from '../version.ts'
import { Context, type Register } from './context.ts'
import { formats, visible } from './output.ts'
import type { World } from './world.ts'

interface Group {
  summary: string
  load: () => Promise<{ register: Register }>
}

/** Commands in the order of the help. Each is loaded when it is called. */
const groups: Record<string, Group> = {
  up: { summary: 'start this machine’s node: found a mesh, or join one', load: () => import('./node/up.ts') },
  down: { summary: 'stop this machine’s node', load: () => import('./node/down.ts') },
  leave: { summary: 'leave the mesh for good', load: () => import('./node/down.ts') },
  status: { summary: 'show the node and the mesh', load: () => import('./node/status.ts') },
  invite: { summary: 'print a token that lets another machine join', load: () => import('./node/invite.ts') },
  revoke: { summary: 'withdraw a machine’s membership', load: () => import('./node/invite.ts') },
  machine: { summary: 'machines of the mesh', load: () => import('./machine.ts') },
  run: { summary: 'run a command over many inputs', load: () => import('./run/command.ts') },
  mpi: { summary: 'run an MPI program over several machines', load: () => import('./mpi/command.ts') },
  submit: { summary: 'submit a script written for Slurm', load: () => import('./submit/command.ts') },
  explain: { summary: 'say why a task or pool waits', load: () => import('./explain.ts') },
  events: { summary: 'show what happened in the mesh', load: () => import('./events.ts') },
  job: { summary: 'create, watch and stop jobs', load: () => import('./job.ts') },
  task: { summary: 'create, inspect and stop tasks, read their files', load: () => import('./task.ts') },
  pool: { summary: 'create, resize and delete pools', load: () => import('./pool.ts') },
  node: { summary: 'compute nodes of a pool', load: () => import('./pool.ts') },
  doctor: { summary: 'check what a node needs here, and say what to mend', load: () => import('./doctor/doctor.ts') },
  mesh: { summary: 'back the mesh up, or put it back', load: () => import('./mesh.ts') },
  version: { summary: 'versions of this program, the node and the mesh', load: () => import('./version.ts') },
  config: { summary: 'show what is set for this machine and this user, and where', load: () => import('./config.ts') },
  completion: { summary: 'print the script that completes commands in a shell', load: () => import('./completion.ts') },
  blob: { summary: 'put, get and keep content-addressed files', load: () => import('./blob.ts') },
}

export const exitCodes = { success: 0, failed: 1, usage: 2, noNode: 3, interrupted: 130 } as const

const usageCodes: ReadonlySet<string> = new Set(['InvalidPropertyValue', 'InvalidRequestBody', 'TaskDependenciesNotSpecifiedOnJob'])

/** Exit code of an error: 2 for what the user wrote, 3 where no node or coordinator answers, 1 for the rest. */
export function exitCodeOf(error: MeshError): number {
  if (usageCodes.has(error.code)) return exitCodes.usage
  if (error.code === 'NoCoordinator' || error.code === 'Unreachable') return exitCodes.noNode
  return exitCodes.failed
}

/** The first word that is neither an option nor the value of a global option. */
function commandName(argv: readonly string[]): string | undefined {
  for (let at = 0; at < argv.length; at += 1) {
    const word = argv[at]!
    if (word === '--data' || word === '-o' || word === '--output' || word === '--query') at += 1
    else if (word === 'help') return argv[at + 1]
    else if (!word.startsWith('-')) return word
  }
  return undefined
}

/** Runs one command line (without the program's name) and answers its exit code. */
export async function runCli(argv: readonly string[], world: World): Promise<number> {
  const written: Promise<void>[] = []
  let isDebug = world.env.BATCHMESH_DEBUG !== undefined && world.env.BATCHMESH_DEBUG !== ''
  /** The whole program, of which only the named commands are loaded (all: without names). */
  const build = async (names?: readonly string[]): Promise<Command> => {
    const program = makeProgram(world, written)
    for (const [name, group] of Object.entries(groups)) {
      if (names === undefined || names.includes(name)) (await group.load()).register(program, context, name)
      else program.command(name).description(group.summary)
    }
    return program
  }
  const context = new Context(world, argv, build)
  const wanted = commandName(argv)
  try {
    if (wanted === undefined && argv.some((word) => word === '--version' || word === '-V')) {
      await world.stdout.write(`${version}\n`)
      return exitCodes.success
    }
    if (wanted === '__complete') {
      const { complete } = await import('./complete.ts')
      return await complete(context, argv.slice(argv.indexOf(wanted) + 1))
    }
    const program = await build(wanted === undefined ? [] : [wanted])
    program.on('option:debug', () => {
      isDebug = true
    })
    await program.parseAsync(context.rest.separate(program, argv), { from: 'user' })
    return context.exitCode
  } catch (error) {
    if (error instanceof CommanderError) return error.exitCode === 0 ? exitCodes.success : exitCodes.usage
    return await report(error, world, isDebug)
  } finally {
    await context.close()
    await Promise.all(written)
  }
}

/** The program with what all commands share. What it prints itself is on its way in `written`. */
function makeProgram(world: World, written: Promise<void>[]): Command {
  return new Command('batchmesh')
    .description('Runs batch jobs on the machines you already have.')
    .exitOverride()
    .configureOutput({
      writeOut: (text) => void written.push(world.stdout.write(text)),
      writeErr: (text) => void written.push(world.stderr.write(text.replace(/^error: /, 'batchmesh: '))),
      getOutHelpWidth: () => (world.stdout.isTTY ? Math.min(world.stdout.columns, 110) : 100),
      getErrHelpWidth: () => (world.stderr.isTTY ? Math.min(world.stderr.columns, 110) : 100),
      getOutHasColors: () => false,
      getErrHasColors: () => false,
    })
    .option('--data <dir>', 'data directory of the node (default: $BATCHMESH_DATA, else the platform’s place)')
    .addOption(new Option('-o, --output <format>', 'how results are printed (default: table)').choices([...formats]))
    .option('--query <expression>', 'JMESPath expression over the JSON of the result; -o then says how what it finds is printed')
    .option('--debug', 'show where an error comes from')
    .option('-V, --version', 'print the version')
    .helpCommand('help [command]', 'help for a command')
    .helpOption('-h, --help', 'help for a command')
    .configureHelp({ showGlobalOptions: true })
    .addHelpText('after', firstSteps)
}

async function report(thrown: unknown, world: World, isDebug: boolean): Promise<number> {
  const error = toMeshError(thrown)
  if (error.code === 'Aborted') {
    await world.stderr.write('batchmesh: interrupted\n')
    return exitCodes.interrupted
  }
  await world.stderr.write(`batchmesh: ${visible(error.message.trim().replaceAll(/\s*\n\s*/g, ' '))}\n`)
  if (isDebug)
    await world.stderr.write(`${thrown instanceof Error ? (thrown.stack ?? thrown.message) : String(thrown)}\n${causeOf(thrown)}`)
  return exitCodeOf(error)
}

function causeOf(error: unknown): string {
  return error instanceof Error && error.cause instanceof Error ? `caused by ${error.cause.stack ?? error.cause.message}\n` : ''
}

const firstSteps = `
First steps:
  batchmesh up                                      on the first machine; it prints how to add another
  batchmesh run 'wc -l {input}' --inputs '*.txt' --stdout
  batchmesh run 'povray +I{input} +O{name}.png' --inputs 'frames/*.pov' --outputs '*.png' --to out/

Exit codes: 0 success, 1 something failed, 2 wrong usage, 3 no node or coordinator answers, 130 interrupted.`
