/** `batchmesh mesh backup` and `batchmesh mesh restore`. */
import { readFile } from 'node:fs/promises'
import { resolve } from 'node:path'
import { text as readAll } from 'node:stream/consumers'
import type { Command } from 'commander'
import { MeshError } from '../../protocols/errors.ts'
import type { Mesh } from '../mesh/client.ts'
import { type Context, given } from './context.ts'
import { showBytes, showTime } from './format.ts'

interface Options {
  passphraseFile?: string
  replace?: boolean
}

export function register(program: Command, context: Context): void {
  const mesh = program.command('mesh').description('The mesh as a whole: backing it up, and putting it back.')
  backup(mesh, context)
  restore(mesh, context)
}

function backup(mesh: Command, context: Context): void {
  const command = mesh
    .command('backup')
    .description(
      'Writes the mesh’s root key, the founder’s identity and settings, and all pools, jobs and tasks to one file, as they stand at one moment; the node may run. Blobs are not in it.',
    )
    .argument('<file>', 'where to write it')
    .option('--passphrase-file <file>', 'encrypt it with the passphrase in this file; - for standard input')
    .option('--replace', 'replace a file that is there already')
    .addHelpText(
      'after',
      '\nExamples:\n  batchmesh mesh backup mesh.backup\n  batchmesh mesh backup /safe/mesh.backup --replace --passphrase-file key',
    )
  context.action<Options>(command, async ({ passphraseFile, replace }, [word]) => {
    const file = resolve(context.world.cwd, given(word, 'file to write'))
    const passphrase = await readPassphrase(context, passphraseFile)
    const { backUp } = await import('../mesh/backup.ts')
    const done = await backUp({ dataDir: context.dataDir, file, mesh: await runningNode(context), passphrase, replace })
    await context.done(
      [
        `Wrote ${file} (${showBytes(done.bytes)}): the mesh ${done.mesh} with ${count(done.jobs, 'job')}. Blobs are not in it.`,
        passphrase === undefined
          ? 'It holds the mesh’s root key in clear: whoever has this file can take over the mesh. Keep it like a password.'
          : 'It holds the mesh’s root key: whoever has this file and its passphrase can take over the mesh.',
      ].join('\n'),
      { file, ...done, encrypted: passphrase !== undefined },
    )
  })
}

function restore(mesh: Command, context: Context): void {
  const command = mesh
    .command('restore')
    .description(
      'Puts a mesh back from a backup, into a data directory that belongs to no mesh, on this or another machine. The next "up" resumes it.',
    )
    .argument('<file>', 'what "mesh backup" wrote')
    .option('--passphrase-file <file>', 'the passphrase that it was encrypted with; - for standard input')
    .addHelpText('after', '\nExample:\n  batchmesh mesh restore mesh.backup && batchmesh up')
  context.action<Options>(command, async ({ passphraseFile }, [word]) => {
    const file = resolve(context.world.cwd, given(word, 'backup'))
    const passphrase = await readPassphrase(context, passphraseFile)
    const { restoreMesh } = await import('../mesh/restore.ts')
    const done = await restoreMesh({ dataDir: context.dataDir, file, passphrase })
    await context.done(
      [
        `Restored the mesh ${done.mesh} as it was at ${showTime(done.time)}: ${count(done.jobs, 'job')}, ${count(done.members, 'member')}. Start it: batchmesh up`,
        'The machine that was the founder before must not be started again with its old data.',
        'Invitations made before are withdrawn; machines that joined after the backup join again. If this machine has another address than the founder had, start it with the same --port in the same local network, or tell the workers: batchmesh up --bootstrap /ip4/…/tcp/…',
      ].join('\n'),
      { ...done },
    )
  })
}

function count(number: number, noun: string): string {
  return `${number} ${noun}${number === 1 ? '' : 's'}`
}

/** The node of the data directory, if one runs. */
function runningNode(context: Context): Promise<Mesh | undefined> {
  return context.mesh().catch((error: unknown) => {
    if (error instanceof MeshError && error.code === 'Unreachable') return undefined
    throw error
  })
}

/** The file's first line. */
async function readPassphrase(context: Context, file: string | undefined): Promise<string | undefined> {
  if (file === undefined) return undefined
  let text: string
  try {
    text = file === '-' ? await readAll(context.world.stdin) : await readFile(resolve(context.world.cwd, file), 'utf8')
  } catch (error) {
    throw new MeshError('InvalidPropertyValue', `--passphrase-file ${file} cannot be read: ${(error as Error).message}`, { cause: error })
  }
  const passphrase = text.split(/\r?\n/)[0]!
  if (passphrase === '') throw new MeshError('InvalidPropertyValue', `--passphrase-file ${file}: its first line is empty.`)
  return passphrase
}
