/** `batchmesh down` and `batchmesh leave`. */
import type { Command } from 'commander'
import { MeshError } from '../../../protocols/errors.ts'
import type { Context, Register } from '../context.ts'

/** A drain lasts as long as the longest task: it has no deadline of its own. */
const drainTimeoutMs = 2 ** 31 - 1

export const register: Register = (program, context, name) => (name === 'down' ? down(program, context) : leave(program, context))

function down(program: Command, context: Context): void {
  const command = program
    .command('down')
    .description('Stops this machine’s node. Its tasks are run elsewhere; the next "up" resumes its membership.')
    .option('--drain', 'let running tasks end first; no new ones start')
    .addHelpText('after', '\nExample:\n  batchmesh down --drain')
  context.action<{ drain?: boolean }>(command, async ({ drain = false }) => {
    const mesh = await context.mesh()
    if (drain) context.say('waiting for running tasks to end …')
    await ending(mesh.local.call('down', { drain }, { timeoutMs: drain ? drainTimeoutMs : undefined }))
    await context.done('The node has stopped.', { stopped: true })
  })
}

function leave(program: Command, context: Context): void {
  const command = program
    .command('leave')
    .description('Stops this machine’s node and leaves the mesh for good. To come back it needs a new token.')
    .option('--purge', 'also empty the data directory: identity, blobs, task files')
    .addHelpText('after', '\nExample:\n  batchmesh leave --purge')
  context.action<{ purge?: boolean }>(command, async ({ purge = false }) => {
    const mesh = await context.mesh()
    await ending(mesh.local.call('leave', { purge }))
    await context.done(`The machine has left the mesh.${purge ? ` ${context.dataDir} is empty.` : ''}`, { left: true, purged: purge })
  })
}

/** A node that exits may close the connection before its answer is out: that is success too. */
async function ending(answer: Promise<unknown>): Promise<void> {
  try {
    await answer
  } catch (error) {
    if (!(error instanceof MeshError) || error.code !== 'Unreachable') throw error
  }
}
