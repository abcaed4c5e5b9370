/** `batchmesh up`. */
import { hostname } from 'node:os'
import { resolve } from 'node:path'
import { text as readAll } from 'node:stream/consumers'
import { type Command, Option } from 'commander'
import { MeshError } from '../../../protocols/errors.ts'
import { memoryMiB } from '../../../protocols/model/vm-sizes.ts'
import { defaultPort } from '../../config.ts'
import type { LogLevel } from '../../mesh/log.ts'
import type { Settings } from '../../mesh/settings.ts'
import type { RunningNode, UpOptions } from '../../mesh/up-options.ts'
import { type Context, collect, integer, pairs, zeroOrMore } from '../context.ts'
import { visible } from '../output.ts'
import { stopOnInterrupt } from './stop.ts'

interface Options {
  join?: string
  port?: string
  listen?: string[]
  announce?: string[]
  bootstrap?: string[]
  mdns?: boolean
  lendCpus?: string
  lendMemory?: string
  blobQuota?: string
  diskReserve?: string
  pidsLimit?: string
  label?: string[]
  class?: 'dedicated' | 'low-priority'
  name?: string
  defaults?: boolean
  detach?: boolean
  service?: boolean
  user?: boolean
  logLevel: LogLevel
}

export function register(program: Command, context: Context): void {
  const command = program
    .command('up')
    .description(
      'Starts this machine’s node. The first start founds a mesh (this machine is then its coordinator) and prints how to add another machine; with --join it joins one. Later starts resume what the data directory holds, with the options given last.',
    )
    .option('--join <token>', 'join a mesh: the token, a file that holds it, or - for standard input')
    .option('--port <number>', `TCP port to listen on, default ${defaultPort}; 0 picks a free one`)
    .option('--listen <address>', 'address to listen on, default all; may repeat', collect)
    .option('--announce <multiaddr>', 'address to tell others; may repeat', collect)
    .option('--bootstrap <multiaddr>', 'peer to dial first; may repeat', collect)
    .option('--mdns', 'look for peers on the local network (the default)')
    .option('--no-mdns', 'do not look for peers on the local network')
    .option('--lend-cpus <number>', 'cores to lend, default all; 0: runs no tasks')
    .option('--lend-memory <amount>', 'memory to lend, such as 8GiB')
    .option('--blob-quota <amount>', 'disk to lend for blobs, such as 20GiB; default half of what is free, at most 100GiB')
    .option('--disk-reserve <amount>', 'free disk at which the largest task is ended; default 1GiB, at most 5 % of the disk; 0: none')
    .option('--pids-limit <number>', 'most processes and threads of one task, default 4096')
    .option('--label <name=value>', 'label that pools and tasks can ask for; may repeat', collect)
    .addOption(
      new Option('--class <class>', 'low-priority machines may leave at any time; default dedicated').choices([
        'dedicated',
        'low-priority',
      ]),
    )
    .option('--name <name>', 'name shown for this machine, default its host name')
    .option('--defaults', 'forget the options of earlier starts')
    .option('--detach', 'return when the node is ready and leave it running')
    .option('--service', 'make the node a service that starts with this machine (systemd, launchd)')
    .option('--user', 'with --service: a service of this user alone; as an ordinary user it always is')
    .addOption(new Option('--log-level <level>').choices(['debug', 'info', 'warn', 'error']).default('info'))
    .addHelpText(
      'after',
      `
Examples:
  batchmesh up                                   found a mesh, in the foreground
  batchmesh up --join mesh.token --detach        join one, in the background
  sudo batchmesh up --join mesh.token --service  join one, and start with the machine
  batchmesh up --lend-cpus 4 --class low-priority --label room=lab`,
    )
  context.action<Options>(command, async (options) => {
    const { mergeSettings, readSettings } = await import('../../mesh/settings.ts')
    const given = settingsOf(context.only(options, 'cli'))
    const join = await joinToken(options.join ?? context.world.env.BATCHMESH_JOIN, context)
    const before = options.defaults === true ? {} : await readSettings(context.dataDir)
    const settings = {
      kept: mergeSettings(before, given),
      used: mergeSettings(before, mergeSettings(settingsOf(context.only(options, 'elsewhere')), given)),
    }
    if (options.user === true && options.service !== true)
      throw new MeshError('InvalidPropertyValue', '--user says whose service it is; it needs --service.')
    if (options.service === true) {
      if (options.detach === true) throw new MeshError('InvalidPropertyValue', 'A service runs by itself: give --service or --detach.')
      const { installService } = await import('../service/service.ts')
      const { name, bootstrap, mdns } = withDefaults(settings.used)
      const logLevel = options.logLevel === 'info' ? undefined : options.logLevel
      return installService(context, {
        user: options.user === true,
        settings: settings.kept,
        member: { join, name: name!, bootstrap, mdns },
        logLevel,
      })
    }
    if (options.detach === true) {
      const { detach } = await import('./detach.ts')
      return detach(context, { dataDir: context.dataDir, join, given, defaults: options.defaults === true, logLevel: options.logLevel })
    }
    return runNode(context, join, settings, options.logLevel)
  })
}

/** `kept` is for later starts: what a variable or a configuration file says holds only as long as it says so. */
interface UsedSettings {
  used: Settings
  kept: Settings
}

function settingsOf(options: Partial<Options>): Settings {
  return {
    port: integer(options.port, '--port', 0, 65_535),
    listen: options.listen,
    announce: options.announce,
    bootstrap: options.bootstrap,
    mdns: options.mdns,
    lendCpus: zeroOrMore(options.lendCpus, '--lend-cpus'),
    lendMemoryMiB: options.lendMemory === undefined ? undefined : memoryMiB(options.lendMemory),
    blobQuotaMiB: options.blobQuota === undefined ? undefined : memoryMiB(options.blobQuota),
    diskReserveMiB: options.diskReserve === undefined ? undefined : reserve(options.diskReserve),
    pidsLimit: integer(options.pidsLimit, '--pids-limit', 1, 4_194_304),
    labels: options.label === undefined ? undefined : Object.fromEntries(pairs(options.label, '--label')),
    class: options.class,
    name: options.name,
  }
}

/** An amount, or 0 for none. */
function reserve(text: string): number {
  return /^0+$/.test(text) ? 0 : memoryMiB(text)
}

function withDefaults(settings: Settings): Omit<UpOptions, 'dataDir' | 'join' | 'log'> {
  const { port = defaultPort, listen = [], announce = [], bootstrap = [], mdns = true, labels = {}, name = hostname() } = settings
  return { ...settings, port, listen, announce, bootstrap, mdns, labels, class: settings.class ?? 'dedicated', name }
}

/** The token itself, or what the file or standard input holds. */
async function joinToken(given: string | undefined, context: Context): Promise<string | undefined> {
  if (given === undefined || given === '') return undefined
  let token = given
  if (given === '-') token = await readAll(context.world.stdin)
  else {
    const { readFile } = await import('node:fs/promises')
    try {
      token = await readFile(resolve(context.world.cwd, given), 'utf8')
    } catch (error) {
      // What is no file is taken as the token itself, unless it plainly is a path.
      const code = (error as NodeJS.ErrnoException).code
      const isPath = /^[./~]/.test(given)
      if (isPath || (code !== 'ENOENT' && code !== 'ENAMETOOLONG' && code !== 'ENOTDIR'))
        throw new MeshError('InvalidPropertyValue', `The token file ${given} cannot be read: ${(error as Error).message}`, { cause: error })
    }
  }
  token = token.trim()
  if (token === '' || /\s/.test(token))
    throw new MeshError('InvalidPropertyValue', '--join holds no token. Make one on a machine of the mesh: batchmesh invite')
  return token
}

/** Runs the node in this process until it has ended. */
async function runNode(context: Context, join: string | undefined, { used, kept }: UsedSettings, least: LogLevel): Promise<number> {
  const { world, dataDir } = context
  const [{ startNode }, { makeLog }, { manageMemory }, { writeSettings }] = await Promise.all([
    import('../../mesh.ts'),
    import('../../mesh/log.ts'),
    import('../../mesh/memory.ts'),
    import('../../mesh/settings.ts'),
  ])
  const log = makeLog({ readable: world.stderr.isTTY, least, write: (line) => void world.stderr.write(line) })
  if (join !== undefined) await world.stdout.write(`${joiningMeans}\n`)
  const node = await startNode({ ...withDefaults(used), dataDir, join, log }).catch((error: unknown) => {
    throw error instanceof RangeError && error.message.startsWith('--lend')
      ? new MeshError('InvalidPropertyValue', error.message, { cause: error })
      : error
  })
  const unhook = stopOnInterrupt(world, node, log)
  const stopGiving = manageMemory()
  try {
    // Not before it runs: options that it cannot start with are not to come back.
    await writeSettings(dataDir, kept).catch((error: unknown) => log('warn', 'the options of this start could not be kept', { error }))
    // In the background it goes to a log, which is kept and passed on: no place for a token. The parent, which waits for it, gets it whole.
    const isDetached = process.send !== undefined
    await world.stdout.write(welcome(isDetached ? { ...node, invitation: undefined } : node))
    process.send?.({ ready: { peer: node.peer, meshId: node.meshId, welcome: welcome(node) } })
    await node.ended
    return 0
  } finally {
    stopGiving()
    unhook()
  }
}

export const joiningMeans = 'Joining means: submitters of this mesh can run programs on this machine, as the user that tasks run as.'

type Welcomed = Pick<RunningNode, 'name' | 'peer' | 'how' | 'meshId' | 'lends' | 'taskUser' | 'invitation'>

/** What is printed when the node is ready. */
export function welcome(node: Welcomed): string {
  const lines = [`Node ${visible(node.name)} (${node.peer}) ${verbs[node.how]} mesh ${node.meshId}.`]
  lines.push(lendingOf(node))
  if (node.how === 'joined') lines.push(`Submitters of this mesh can run programs here as user ${node.taskUser}.`)
  if (node.invitation !== undefined) {
    lines.push(
      '',
      'To add a machine, run there:',
      '',
      `  batchmesh up --join ${node.invitation}`,
      '',
      'For another token later: batchmesh invite',
    )
  }
  return `${lines.join('\n')}\n`
}

function lendingOf({ lends }: Welcomed): string {
  const labels = Object.entries(lends.labels).map(([name, value]) => `${name}=${value}`)
  const what =
    lends.cores === 0
      ? 'It runs no tasks'
      : `It lends ${lends.cores} ${lends.cores === 1 ? 'core' : 'cores'} and ${lends.memoryMiB} MiB of memory`
  return `${what}, as a ${lends.class} machine${labels.length === 0 ? '' : ` with ${visible(labels.join(', '))}`}.`
}

const verbs = { founded: 'founded', joined: 'joined', resumed: 'is back in' } as const
