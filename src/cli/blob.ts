/** `batchmesh blob …`. */
import { join, resolve } from 'node:path'
import type { Command } from 'commander'
import type { BlobStat } from '../../protocols/local.ts'
import { type Context, collect, given } from './context.ts'
import { showBytes } from './format.ts'
import type { Column } from './output.ts'

const columns: Column<BlobStat>[] = [
  { title: 'id', value: (b) => b.id },
  { title: 'kind', value: (b) => b.kind },
  { title: 'size', value: (b) => showBytes(b.size), right: true },
  { title: 'complete', value: (b) => b.complete },
  { title: 'pins', value: (b) => b.pins.join(',') },
]
/** The pin that `put` and `pin` set unless another is named. */
const userPin = 'user'

export function register(program: Command, context: Context): void {
  const group = program
    .command('blob')
    .description('Content-addressed files and directories. An id is an IPFS CID: the same content has the same id everywhere.')
  put(group, context)
  get(group, context)

  const list = group
    .command('list')
    .description('Lists the blobs in this machine’s store.')
    .addHelpText('after', '\nExample:\n  batchmesh blob list -o tsv')
  context.action(list, async () => {
    const mesh = await context.mesh()
    const items: BlobStat[] = []
    let after: string | undefined
    do {
      const page = await mesh.local.call('blobList', { after })
      items.push(...page.items)
      after = page.next
    } while (after !== undefined)
    await context.list(columns, items)
  })

  const stat = group
    .command('stat')
    .description('Shows what is known here of a blob.')
    .argument('<id>')
    .addHelpText('after', '\nExample:\n  batchmesh blob stat bafybei…')
  context.action(stat, async (_, [id]) => {
    const view = await (await context.mesh()).local.call('blobStat', { id: given(id, 'blob') })
    await context.one(
      columns.map(({ title, value }) => [title, value(view)] as const),
      view,
    )
  })

  for (const verb of ['pin', 'unpin'] as const) {
    const command = group
      .command(verb)
      .description(verb === 'pin' ? 'Keeps a blob: it is fetched if need be and never collected.' : 'Lets go of a pinned blob.')
      .argument('<id>')
      .option('--name <name>', 'name of the pin', userPin)
      .addHelpText('after', `\nExample:\n  batchmesh blob ${verb} bafybei…`)
    context.action<{ name: string }>(command, async ({ name }, [id]) => {
      const mesh = await context.mesh()
      if (verb === 'pin') {
        const { fetchBlob } = await import('../mesh/blobs.ts')
        await fetchBlob(mesh, given(id, 'blob'))
      }
      await mesh.local.call(verb, { id: given(id, 'blob'), name })
      await context.done(verb === 'pin' ? `Pinned as ${name}.` : `The pin ${name} is gone.`, { id, name, pinned: verb === 'pin' })
    })
  }

  const gc = group.command('gc').description('Removes blobs that nothing keeps.').addHelpText('after', '\nExample:\n  batchmesh blob gc')
  context.action(gc, async () => {
    const answer = await (await context.mesh()).local.call('gc', {}, { timeoutMs: 600_000 })
    await context.done(`Removed ${answer.removed} blobs, ${showBytes(answer.freedBytes)}; ${showBytes(answer.usedBytes)} in use.`, answer)
  })
}

function put(group: Command, context: Context): void {
  const command = group
    .command('put')
    .description('Stores files or directories and prints their ids. They are pinned, so that they stay.')
    .argument('<path...>', 'file or directory')
    .option('--pin <name>', 'name of the pin', userPin)
    .option('--no-pin', 'do not pin: what no job uses is collected later')
    .addHelpText('after', '\nExample:\n  batchmesh blob put model.bin assets/')
  context.action<{ pin: string | false }>(command, async (options, paths) => {
    const { Uploader } = await import('../mesh/blobs.ts')
    const { interruptible } = await import('./interrupt.ts')
    const mesh = await context.mesh()
    await interruptible(context.world, async (signal) => {
      const uploader = new Uploader(mesh, { signal, pin: options.pin === false ? undefined : options.pin })
      const rows: { id: string; size: number; path: string }[] = []
      const shown: Column<(typeof rows)[number]>[] = [
        { title: 'id', value: (r) => r.id },
        { title: 'size', value: (r) => showBytes(r.size), right: true },
        { title: 'path', value: (r) => r.path },
      ]
      try {
        for (const path of paths) rows.push({ ...(await uploader.put(resolve(context.world.cwd, path))), path })
      } finally {
        // What is stored is stored, and pinned: its id must be known though a later one failed.
        if (rows.length > 0) await context.list(shown, rows)
      }
    })
  })
}

function get(group: Command, context: Context): void {
  const command = group
    .command('get')
    .description(
      'Writes a blob to a file or directory, from wherever in the mesh it is. Without --destination a file goes to standard output.',
    )
    .argument('<id>')
    .option('--destination <path>', 'file for a file, directory for a directory')
    .option('--only <path>', 'of a directory, only this file; may repeat', collect)
    .addHelpText('after', '\nExample:\n  batchmesh blob get bafybei… --destination out/')
  context.action<{ destination?: string; only?: string[] }>(command, async (options, [word]) => {
    const { fetchBlob, readBlob } = await import('../mesh/blobs.ts')
    const { writeWhole } = await import('../mesh/files.ts')
    const { interruptible } = await import('./interrupt.ts')
    const id = given(word, 'blob')
    const mesh = await context.mesh()
    await interruptible(context.world, async (signal) => {
      const blob = await fetchBlob(mesh, id, signal)
      if (blob.kind === 'file') {
        if (options.destination === undefined) {
          for await (const piece of readBlob(mesh, id, blob.size, signal)) await context.world.stdout.write(piece)
          return
        }
        const path = resolve(context.world.cwd, options.destination)
        await writeWhole(options.destination.endsWith('/') ? join(path, id) : path, readBlob(mesh, id, blob.size, signal))
      } else {
        const root = resolve(context.world.cwd, given(options.destination, 'directory to write to, with --destination'))
        const { downloadTree } = await import('../mesh/download.ts')
        await downloadTree(mesh, id, root, { only: options.only, signal })
      }
      await context.done(`Wrote ${options.destination}.`, { id, size: blob.size, destination: options.destination })
    })
  })
}
