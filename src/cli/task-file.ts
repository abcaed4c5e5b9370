/** `batchmesh task logs` and `batchmesh task file …`. */
import { constants } from 'node:fs'
import { basename, resolve } from 'node:path'
import type { Command } from 'commander'
import { MeshError } from '../../protocols/errors.ts'
import type { FileEntry } from '../../protocols/files.ts'
import { readTaskFile } from '../mesh/task-files.ts'
import { type Context, given, integer, taskRef } from './context.ts'
import { showBytes, showTime } from './format.ts'
import type { Column } from './output.ts'
import { type SubtaskOption, subtaskOf, subtaskOption } from './task-subtasks.ts'

interface RefOptions {
  jobId?: string
  taskId?: string
}

const columns: Column<FileEntry>[] = [
  { title: 'name', value: (f) => (f.isDirectory ? `${f.name}/` : f.name) },
  { title: 'size', value: (f) => (f.isDirectory ? '' : isLink(f) ? 'link' : showBytes(f.size)), right: true },
  { title: 'changed', value: (f) => showTime(f.lastModified) },
]

/** Files that tasks share (--with) are links, and links are neither followed nor read. */
function isLink({ mode }: FileEntry): boolean {
  return (mode & constants.S_IFMT) === constants.S_IFLNK
}

export function registerFiles(group: Command, context: Context): void {
  const logs = group
    .command('logs')
    .description('Prints what a task wrote to its standard output.')
    .argument('[task]', 'JOB/TASK')
    .option('--job-id <id>')
    .option('--task-id <id>')
    .option('-f, --follow', 'wait for more until the task has ended')
    .option('--stderr', 'its standard error instead')
    .option(...subtaskOption)
    .option('--rank <number>', 'of an MPI program only the lines of this rank')
    .addHelpText('after', '\nExamples:\n  batchmesh task logs render/0042 -f\n  batchmesh task logs solve/mpi --rank 0')
  context.action<RefOptions & SubtaskOption & { follow?: boolean; stderr?: boolean; rank?: string }>(logs, async (options, [word]) => {
    const name = options.stderr === true ? 'stderr.txt' : 'stdout.txt'
    const rank = integer(options.rank, '--rank', 0)
    const ref = taskRef(word, options)
    const subtask = subtaskOf(options)
    const { interruptible } = await import('./interrupt.ts')
    const mesh = await context.mesh()
    await interruptible(context.world, async (signal) => {
      const pieces = readTaskFile(mesh, ref, name, { follow: options.follow, subtask, signal })
      const { multiInstanceSettings } = await mesh.control.call('getTask', ref, { signal })
      if (rank !== undefined || multiInstanceSettings !== undefined) {
        const { writeRanks } = await import('./mpi/stream.ts')
        const { ranks } = await writeRanks(context.world, context.world.stdout, pieces, rank)
        if (rank === undefined || ranks.has(rank)) return
        if (ranks.size > 0)
          context.say(`batchmesh: rank ${rank} has written no line to ${name}; the highest that has is ${Math.max(...ranks)}`)
        else context.say(`batchmesh: no line of ${name} names its rank; "batchmesh mpi run" and "mpirun --tag-output" see to that`)
      } else for await (const piece of pieces) await context.world.stdout.write(piece)
    })
  })

  const files = group.command('file').description('Files in the directory of a task, on the machine that ran it.')
  const list = files
    .command('list')
    .description('Lists the files of a task.')
    .argument('[task]', 'JOB/TASK')
    .option('--job-id <id>')
    .option('--task-id <id>')
    .option('--recursive', 'also what is in directories')
    .option(...subtaskOption)
    .addHelpText('after', '\nExample:\n  batchmesh task file list render/0042 --recursive')
  context.action<RefOptions & SubtaskOption & { recursive?: boolean }>(list, async (options, [word]) => {
    const request = { ...taskRef(word, options), recursive: options.recursive ?? false, subtask: subtaskOf(options) }
    const mesh = await context.mesh()
    const answer = await mesh.control.call('listTaskFiles', request)
    await context.list(columns, answer.files)
    if (answer.more) context.say('batchmesh: there are more files than are shown; list a directory below')
  })

  const download = files
    .command('download')
    .description('Copies a file of a task to this machine.')
    .argument('[task]', 'JOB/TASK')
    .argument('[file]', 'relative to the task directory: stdout.txt, wd/out.png')
    .option('--job-id <id>')
    .option('--task-id <id>')
    .option('--file-path <path>', 'the file, as Azure’s option')
    .option('--destination <path>', 'file to write, default its name here; - for standard output')
    .option(...subtaskOption)
    .addHelpText('after', '\nExample:\n  batchmesh task file download render/0042 wd/out.png --destination frame42.png')
  context.action<RefOptions & SubtaskOption & { filePath?: string; destination?: string }>(download, async (options, words) => {
    const isNamed = options.jobId !== undefined && options.taskId !== undefined
    const [word, file] = isNamed ? [undefined, words[0]] : words
    const ref = taskRef(word, options)
    const name = given(options.filePath ?? file, 'file, such as wd/out.png')
    const subtask = subtaskOf(options)
    const { interruptible } = await import('./interrupt.ts')
    const mesh = await context.mesh()
    await interruptible(context.world, async (signal) => {
      const pieces = readTaskFile(mesh, ref, name, { subtask, signal })
      if (options.destination === '-') {
        for await (const piece of pieces) await context.world.stdout.write(piece)
        return
      }
      const { writeWhole } = await import('../mesh/files.ts')
      const destination = resolve(context.world.cwd, options.destination ?? basename(name))
      try {
        await writeWhole(destination, pieces)
      } catch (error) {
        if ((error as NodeJS.ErrnoException).code !== 'EISDIR') throw error
        throw new MeshError('InvalidPropertyValue', `${destination} is a directory; name the file to write.`, { cause: error })
      }
      await context.done(`Wrote ${destination}.`, { file: name, destination })
    })
  })
}
