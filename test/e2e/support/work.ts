/** Work for a mesh under test: jobs of small shell scripts, and the traces that they leave outside the mesh. */
import { appendFile, chmod, mkdir, readdir, readFile, writeFile } from 'node:fs/promises'
import { availableParallelism } from 'node:os'
import { join } from 'node:path'
import { joinCommandLine } from '../../../protocols/model/command-line.ts'
import type { JobView } from '../../../protocols/model/job.ts'
import type { TaskView } from '../../../protocols/model/task.ts'
import type { MeshLab, NodeProcess } from './mesh-lab.ts'

/** Cores that a worker of a test lends: two where the machine has them. */
export const cores = Math.min(2, availableParallelism())
export const lendAll = ['--lend-cpus', String(cores)]
export const lendNone = ['--lend-cpus', '0']

/** The command line that runs a script. */
export function sh(script: string): string {
  return joinCommandLine(['sh', '-c', script])
}

export interface TaskInput {
  id: string
  commandLine: string
  [property: string]: unknown
}

/** Makes a job of these tasks. */
export async function submit(
  lab: MeshLab,
  node: NodeProcess | string,
  jobId: string,
  tasks: readonly TaskInput[],
  job: Record<string, unknown> = {},
): Promise<void> {
  await lab.json(node, ['job', 'create', jobId, '--json-file', '-'], { stdin: JSON.stringify(job) })
  if (tasks.length > 0) await lab.json(node, ['task', 'create', jobId, '--json-file', '-'], { stdin: JSON.stringify(tasks) })
}

export async function jobOf(lab: MeshLab, node: NodeProcess | string, jobId: string): Promise<JobView> {
  return (await lab.json(node, ['job', 'show', jobId])) as JobView
}

export async function tasksOf(lab: MeshLab, node: NodeProcess | string, jobId: string): Promise<TaskView[]> {
  return (await lab.json(node, ['task', 'list', jobId])) as TaskView[]
}

export async function taskOf(lab: MeshLab, node: NodeProcess | string, ref: string): Promise<TaskView> {
  return (await lab.json(node, ['task', 'show', ref])) as TaskView
}

/** `job wait`: throws unless every task succeeded. */
export async function succeed(lab: MeshLab, node: NodeProcess | string, jobId: string): Promise<void> {
  const { code, stderr } = await lab.cli(node, ['job', 'wait', jobId])
  if (code !== 0) throw new Error(`job wait ${jobId} ended with ${code}: ${stderr}`)
}

/** Files that tasks append lines to, whatever user they run as. */
export class Traces {
  readonly dir: string

  private constructor(dir: string) {
    this.dir = dir
  }

  static async create(lab: MeshLab): Promise<Traces> {
    const dir = join(lab.root, 'traces')
    await mkdir(dir)
    await chmod(dir, 0o777)
    return new Traces(dir)
  }

  /** The file's path, made so that every user can append to it. */
  async file(name: string): Promise<string> {
    const path = join(this.dir, name)
    await writeFile(path, '')
    await chmod(path, 0o666)
    return path
  }

  async lines(name: string): Promise<string[]> {
    return (await readFile(join(this.dir, name), 'utf8')).split('\n').filter((line) => line !== '')
  }

  /** Lets tasks go on that wait with {@link gate}. */
  async open(name: string): Promise<void> {
    await appendFile(join(this.dir, name), 'open\n')
  }

  /** Shell words that wait until the file has a line. */
  static gate(path: string): string {
    return `while ! [ -s ${path} ]; do sleep 0.05; done`
  }
}

/** Every line's number of occurrences. */
export function counted(lines: readonly string[]): Map<string, number> {
  const counts = new Map<string, number>()
  for (const line of lines) counts.set(line, (counts.get(line) ?? 0) + 1)
  return counts
}

/** Processes with this word in their command line, zombies left out. */
export async function processesWith(word: string): Promise<number[]> {
  const found: number[] = []
  for (const entry of await readdir('/proc')) {
    if (!/^\d+$/.test(entry) || Number(entry) === process.pid) continue
    const line = await readFile(`/proc/${entry}/cmdline`, 'utf8').catch(() => '')
    if (line.split('\0').includes(word)) found.push(Number(entry))
  }
  return found
}
