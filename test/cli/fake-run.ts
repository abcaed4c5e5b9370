/** How the fake mesh runs a command: really, in a directory as a node makes them. */
import { spawnSync } from 'node:child_process'
import { mkdirSync, mkdtempSync, readdirSync, readFileSync, writeFileSync } from 'node:fs'
import { dirname, join } from 'node:path'
import { splitCommandLine } from '../../protocols/model/command-line.ts'
import { matchesPatterns } from '../../protocols/model/file-pattern.ts'
import type { OutputEntry, TaskSpec } from '../../protocols/model/task.ts'

interface Blobs {
  readonly blobs: ReadonlyMap<string, Buffer>
  readonly trees: ReadonlyMap<string, readonly { path: string; id: string }[]>
  addBlob(data: Buffer): string
}

export interface RanCommand {
  stdout: Buffer
  stderr: Buffer
  exitCode: number
  outputs: OutputEntry[]
}

/** Of a gang only the primary runs. */
export function runCommand(blobs: Blobs, spec: TaskSpec, at: { jobId: string; root: string; path: string }): RanCommand {
  const taskDir = mkdtempSync(join(at.root, 'task-'))
  const wd = join(taskDir, 'wd')
  mkdirSync(wd)
  const shared = new Set<string>()
  for (const { filePath, blob } of spec.multiInstanceSettings?.commonResourceFiles ?? []) {
    stage(blobs, join(taskDir, filePath), blob!)
    for (const path of filesBelow(wd)) shared.add(path)
  }
  for (const file of spec.resourceFiles ?? []) stage(blobs, join(wd, file.filePath), file.blob!)
  for (const file of spec.resourceFiles ?? [])
    if (file.shared === true) for (const path of filesBelow(wd)) if (`${path}/`.startsWith(`${file.filePath}/`)) shared.add(path)
  const [program, ...args] = splitCommandLine(spec.commandLine)
  const env = {
    PATH: at.path,
    AZ_BATCH_JOB_ID: at.jobId,
    ...(spec.multiInstanceSettings === undefined ? {} : { AZ_BATCH_TASK_SHARED_DIR: taskDir, AZ_BATCH_HOST_LIST: '10.0.0.1,10.0.0.2' }),
    ...Object.fromEntries((spec.environmentSettings ?? []).map(({ name, value }) => [name, value])),
  }
  const ended = spawnSync(program!, args, { cwd: wd, env })
  const exitCode = ended.status ?? 127
  const outputs: OutputEntry[] = []
  const patterns = (spec.outputFiles ?? [])
    .filter(({ uploadCondition }) => uploadCondition === 'taskcompletion' || (uploadCondition === 'tasksuccess') === (exitCode === 0))
    .map(({ filePattern }) => filePattern)
  // What tasks share is shown to them through links, which are no outputs.
  for (const path of filesBelow(wd).filter((name) => matchesPatterns(name, patterns) && !shared.has(name))) {
    const data = readFileSync(join(wd, path))
    outputs.push({ path, blob: blobs.addBlob(data), size: data.length })
  }
  return { stdout: ended.stdout ?? Buffer.alloc(0), stderr: ended.stderr ?? Buffer.alloc(0), exitCode, outputs }
}

/** Puts a blob, a file or a whole directory, at a path. */
export function stage(blobs: Blobs, path: string, blob: string): void {
  const tree = blobs.trees.get(blob)
  if (tree !== undefined) {
    for (const entry of tree) stage(blobs, join(path, entry.path), entry.id)
    return
  }
  mkdirSync(dirname(path), { recursive: true })
  writeFileSync(path, blobs.blobs.get(blob)!, { mode: 0o770 })
}

function filesBelow(directory: string): string[] {
  return readdirSync(directory, { recursive: true, withFileTypes: true })
    .filter((entry) => entry.isFile())
    .map((entry) => join(entry.parentPath, entry.name).slice(directory.length + 1))
    .sort()
}
