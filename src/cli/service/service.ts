/** `batchmesh up --service` and `batchmesh down --service`: the node as a service of this machine. */
import { access, constants, mkdir, rm, stat, writeFile } from 'node:fs/promises'
import { dirname, join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { MeshError } from '../../../protocols/errors.ts'
import type { MemberOptions } from '../../mesh/enrol.ts'
import { pause } from '../../mesh/sessions.ts'
import type { Settings } from '../../mesh/settings.ts'
import type { Context } from '../context.ts'
import { managerOf, tell } from './manager.ts'

/** A node is ready within a second or two; a large database takes longer, and then its log says so. */
const readyMs = 20_000
const readyPollMs = 250

export interface ServiceOptions {
  /** For the service manager of the user; as an ordinary user there is no other. */
  user: boolean
  /** To be kept for each start. */
  settings: Settings
  member: Omit<MemberOptions, 'dataDir'>
  /** Absent: the default. */
  logLevel: string | undefined
}

/** Makes the machine a member, keeps its options, writes the service down and starts it where its manager runs. Answers the exit code. */
export async function installService(context: Context, options: ServiceOptions): Promise<number> {
  const { dataDir, world } = context
  const user = options.user || process.getuid?.() !== 0
  const manager = managerOf(dataDir, user, world.env)
  const [{ becomeMember }, { writeSettings }] = await Promise.all([import('../../mesh/enrol.ts'), import('../../mesh/settings.ts')])
  // Before anything is done that a second try would find done.
  await refuseUnwritable(manager.path)
  // The token is used up here: a unit can be read by everybody.
  const { how, mesh } = await becomeMember({ ...options.member, dataDir })
  await mkdir(join(dataDir, 'log'), { recursive: true, mode: 0o700 })
  await writeSettings(dataDir, options.settings)
  const text = manager.text({ program: programWords(), dataDir, user, logLevel: options.logLevel })
  await writeFile(manager.path, text, { mode: 0o644 })
  const means = how === 'joined' ? ['Submitters of this mesh can run programs on this machine.'] : []
  const lines = [`This machine ${verbs[how]} the mesh ${mesh}.`, ...means, `Wrote ${manager.path}`]
  const view = { service: manager.name, file: manager.path, meshId: mesh, how, started: manager.runs }
  if (!manager.runs) {
    const commands = manager.enable.map((words) => `  ${words.join(' ')}`)
    await context.done([...lines, 'Its service manager does not run here. Where it does, start it with:', ...commands].join('\n'), view)
    return 0
  }
  for (const words of manager.enable) await tell(words, world.env)
  if (!(await isReady(context)))
    throw new MeshError(
      'OperationTimedOut',
      `The service ${manager.name} was started, but its node does not answer yet. See its log: ${manager.log}`,
    )
  const add = how === 'founded' ? ['To add a machine: batchmesh invite'] : []
  const note = manager.note === undefined ? [] : [manager.note]
  await context.done(
    [...lines, `The service ${manager.name} runs, and starts with the machine. Its log: ${manager.log}`, ...note, ...add].join('\n'),
    view,
  )
  return 0
}

/** Stops the service, and takes it away. The membership and the data stay. */
export async function removeService(context: Context, options: { user: boolean }): Promise<void> {
  const user = options.user || process.getuid?.() !== 0
  const manager = managerOf(context.dataDir, user, context.world.env)
  const isThere = await stat(manager.path).then(
    () => true,
    () => false,
  )
  if (!isThere) {
    const other = user ? 'without --user, as root' : 'with --user'
    throw new MeshError(
      'InvalidPropertyValue',
      `There is no service ${manager.name}: ${manager.path} is missing. Was it made ${other}, or for another --data?`,
    )
  }
  if (manager.runs) for (const words of manager.disable) await tell(words, context.world.env)
  await rm(manager.path)
  if (manager.runs) for (const words of manager.forget) await tell(words, context.world.env)
  const stopped = manager.runs ? 'stopped and removed' : 'removed; its manager does not run here'
  await context.done(`The service ${manager.name} is ${stopped}. The membership and the data stay in ${context.dataDir}.`, {
    service: manager.name,
    removed: true,
    stopped: manager.runs,
  })
}

const verbs = { founded: 'founded', joined: 'joined', resumed: 'is in' } as const

/** Node as it runs now, with the bound of its memory that bin/batchmesh gives it, and this program. */
function programWords(): string[] {
  const ending = import.meta.url.endsWith('.ts') ? 'ts' : 'js'
  return [
    process.execPath,
    ...process.execArgv.filter((word) => word.startsWith('--max-semi-space-size=')),
    fileURLToPath(new URL(`../main.${ending}`, import.meta.url)),
  ]
}

async function refuseUnwritable(path: string): Promise<void> {
  try {
    await mkdir(dirname(path), { recursive: true })
    await access(dirname(path), constants.W_OK)
  } catch (error) {
    throw new MeshError('InvalidPropertyValue', `The service cannot be written to ${path}: ${(error as Error).message}`, { cause: error })
  }
}

async function isReady(context: Context): Promise<boolean> {
  const { connect } = await import('../../mesh.ts')
  for (const deadline = Date.now() + readyMs; Date.now() < deadline; await pause(readyPollMs)) {
    const mesh = await connect({ dataDir: context.dataDir, open: context.world.open }).catch(() => undefined)
    await mesh?.close()
    if (mesh !== undefined) return true
  }
  return false
}
