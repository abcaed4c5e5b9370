/** `batchmesh down` and `batchmesh leave`. */
import { readFileSync } from 'node:fs'
import type { Command } from 'commander'
import { MeshError } from '../../../protocols/errors.ts'
import type { Mesh } from '../../mesh/client.ts'
import { pause } from '../../mesh/sessions.ts'
import type { Context, Register } from '../context.ts'

/** A drain lasts as long as the longest task: it has no deadline of its own. */
const drainTimeoutMs = 2 ** 31 - 1
/** Ending takes a second; closing a large store or emptying a large directory some more. */
const exitTimeoutMs = 60_000
const exitPollMs = 50

export const register: Register = (program, context, name) => (name === 'down' ? down(program, context) : leave(program, context))

function down(program: Command, context: Context): void {
  const command = program
    .command('down')
    .description('Stops this machine’s node. Its tasks are run elsewhere; the next "up" resumes its membership.')
    .option('--drain', 'let running tasks end first; no new ones start')
    .option('--service', 'stop and remove the service that "up --service" made; the data stays')
    .option('--user', 'with --service: the one of this user alone')
    .addHelpText('after', '\nExamples:\n  batchmesh down --drain\n  sudo batchmesh down --service')
  context.action<DownOptions>(command, async ({ drain = false, service = false, user = false }) => {
    if (user && !service) throw new MeshError('InvalidPropertyValue', '--user says whose service it is; it needs --service.')
    if (service) {
      // Its tasks end first; then there is no node for the manager to stop.
      if (drain) await drainNode(context)
      const { removeService } = await import('../service/service.ts')
      return removeService(context, { user })
    }
    if (drain) await drainNode(context)
    else await end(context, (mesh) => mesh.local.call('down', { drain: false }))
    await context.done('The node has stopped.', { stopped: true })
  })
}

interface DownOptions {
  drain?: boolean
  service?: boolean
  user?: boolean
}

async function drainNode(context: Context): Promise<void> {
  context.say('waiting for running tasks to end …')
  await end(context, (mesh) => mesh.local.call('down', { drain: true }, { timeoutMs: drainTimeoutMs }))
}

function leave(program: Command, context: Context): void {
  const command = program
    .command('leave')
    .description('Stops this machine’s node and leaves the mesh for good. To come back it needs a new token.')
    .option('--purge', 'also empty the data directory: identity, blobs, task files')
    .addHelpText('after', '\nExample:\n  batchmesh leave --purge')
  context.action<{ purge?: boolean }>(command, async ({ purge = false }) => {
    await end(context, (mesh) => mesh.local.call('leave', { purge }))
    await context.done(`The machine has left the mesh.${purge ? ` ${context.dataDir} is empty.` : ''}`, { left: true, purged: purge })
  })
}

/** Asks the node to end and waits until its process is gone, so that what follows finds the port and the data directory free. */
async function end(context: Context, ask: (mesh: Mesh) => Promise<unknown>): Promise<void> {
  const mesh = await context.mesh()
  const { pid } = await mesh.local.call('status', {})
  try {
    await ask(mesh)
  } catch (error) {
    // A node that exits may close the connection before its answer is out: that is success too.
    if (!(error instanceof MeshError) || error.code !== 'Unreachable') throw error
  }
  const deadline = Date.now() + exitTimeoutMs
  while (isAlive(pid)) {
    if (Date.now() > deadline)
      throw new MeshError('OperationTimedOut', `The node (process ${pid}) is ending but has not ended yet. See its log.`)
    await pause(exitPollMs)
  }
}

function isAlive(pid: number): boolean {
  try {
    process.kill(pid, 0)
    return !isZombie(pid)
  } catch (error) {
    return (error as NodeJS.ErrnoException).code === 'EPERM'
  }
}

/** Ended, but not yet waited for by its parent: a detached node's is the init process, which in containers may take its time. */
function isZombie(pid: number): boolean {
  if (process.platform !== 'linux') return false
  try {
    // "pid (name) state …"; the name may hold anything, parentheses too.
    return / [ZX] /.test(readFileSync(`/proc/${pid}/stat`, 'utf8').replace(/^.*\)/s, '').slice(0, 3))
  } catch {
    return false
  }
}
