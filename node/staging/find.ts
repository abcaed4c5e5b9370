/** Finds the files that output patterns name, below a task's working directory and nowhere else. */

import { isUtf8 } from 'node:buffer'
import { readlink } from 'node:fs/promises'
import { toMeshError } from '../../protocols/errors.ts'
import { parsePattern, type Segment, step } from '../../protocols/model/file-pattern.ts'
import { TaskFailure } from '../ports.ts'
import { Beneath } from './beneath.ts'

/** Outputs of one task (protocols/model/task.ts). */
const maxOutputs = 100_000
/** Directories below each other: each is held open while those in it are looked through, for all tasks of the node at once. */
const maxDepth = 200
/** Bytes of a path below the working directory (protocols/model/task.ts). */
const maxPathBytes = 4096

export function uploadFailure(message: string, cause?: unknown): TaskFailure {
  return new TaskFailure({ category: 'usererror', code: 'FileUploadMiscError', message: message.slice(0, 4096) }, { cause })
}

/** Paths below `wd` that at least one pattern names, in the order found. `isInput` says of a link's target that it is a shared input. */
export async function findOutputs(wd: string, patterns: readonly string[], isInput: (target: string) => boolean): Promise<string[]> {
  const found = new Set<string>()
  const root = await Beneath.open(wd)
  try {
    await walk({ directory: root, prefix: '', depth: 0, found, isInput }, patterns.map(parsed))
  } finally {
    await root.close()
  }
  return [...found]
}

function parsed(pattern: string): Segment[] {
  try {
    return parsePattern(pattern)
  } catch (error) {
    throw uploadFailure(toMeshError(error).message, error)
  }
}

interface Place {
  directory: Beneath
  prefix: string
  depth: number
  found: Set<string>
  isInput: (target: string) => boolean
}

async function walk(place: Place, patterns: readonly Segment[][]): Promise<void> {
  const { directory, prefix, depth, found } = place
  if (depth > maxDepth) throw uploadFailure(`The directory ${prefix.slice(0, 100)}… is more than ${maxDepth} levels deep.`)
  for (const entry of await directory.list()) {
    const name = entry.name.toString()
    const deeper: Segment[][] = []
    let named = false
    let literalStep = false
    for (const pattern of patterns) {
      for (const rest of step(pattern, name)) {
        if (rest.length === 0) named = true
        else {
          deeper.push(rest)
          literalStep ||= rest.length === pattern.length - 1 && pattern[0]!.kind === 'name' && pattern[0]!.literal
        }
      }
    }
    const path = prefix + name
    if (!named && deeper.length === 0) continue
    if (!isUtf8(entry.name)) throw uploadFailure(`The name of the output ${JSON.stringify(path)} is not UTF-8; rename it.`)
    if (entry.isDirectory) {
      if (deeper.length > 0) await descend(place, name, deeper)
      continue
    }
    if (entry.isLink) {
      if (place.isInput(await readlink(directory.at(name)))) continue
      if (named || literalStep)
        throw uploadFailure(
          `The output ${path} is a symbolic link; only regular files are kept. Write the file itself, or narrow the pattern.`,
        )
      continue
    }
    if (!named) continue
    if (!entry.isFile) throw uploadFailure(`The output ${path} is a pipe, socket or device; only regular files are kept.`)
    if (Buffer.byteLength(path) > maxPathBytes)
      throw uploadFailure(`The path of the output ${path.slice(0, 100)}… is longer than ${maxPathBytes} bytes; write it less deep.`)
    found.add(path)
    if (found.size > maxOutputs) throw uploadFailure(`The patterns name more than ${maxOutputs} files; keep an archive of them instead.`)
  }
}

async function descend(place: Place, name: string, patterns: Segment[][]): Promise<void> {
  const inner = await place.directory.enter(name)
  try {
    await walk({ ...place, directory: inner, prefix: `${place.prefix}${name}/`, depth: place.depth + 1 }, patterns)
  } finally {
    await inner.close()
  }
}
