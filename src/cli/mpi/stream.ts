/** A task's output as it comes: standard output and error apart, each line behind its rank. */
import { MeshError } from '../../../protocols/errors.ts'
import type { Mesh } from '../../mesh/client.ts'
import { readTaskFile, type TaskRef } from '../../mesh/task-files.ts'
import type { Output, World } from '../world.ts'
import { type RankLine, RankReader, shownLine } from './ranks.ts'

/** Bytes as text of one character each, so that what is no UTF-8 comes out as it went in. */
const asText = (bytes: Uint8Array) => Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength).toString('latin1')
const asBytes = (text: string) => Buffer.from(text, 'latin1')

export function isColoured({ env }: World, output: Output): boolean {
  return output.isTTY && (env.NO_COLOR === undefined || env.NO_COLOR === '')
}

/** Writes what the pieces hold, a line behind its rank; with `rank` only lines of that one. Answers whether a line had one. */
export async function writeRanks(
  world: World,
  output: Output,
  pieces: AsyncIterable<Uint8Array>,
  rank?: number,
): Promise<{ ranks: ReadonlySet<number> }> {
  const reader = new RankReader()
  const coloured = isColoured(world, output)
  const ranks = new Set<number>()
  const write = async (lines: readonly RankLine[]) => {
    for (const line of lines) if (line.rank !== undefined) ranks.add(line.rank)
    const text = lines
      .filter((line) => rank === undefined || line.rank === rank)
      .map((line) => shownLine(line, coloured))
      .join('')
    if (text !== '') await output.write(asBytes(text))
  }
  for await (const piece of pieces) await write(reader.push(asText(piece)))
  await write(reader.end())
  return { ranks }
}

/** Prints both streams of a task until it has ended; a task that never ran has none. */
export async function printTask(
  mesh: Mesh,
  world: World,
  ref: TaskRef,
  options: { isTagged: boolean; signal: AbortSignal },
): Promise<void> {
  const { isTagged, signal } = options
  const print = async (name: string, output: Output) => {
    const pieces = readTaskFile(mesh, ref, name, { follow: true, signal })
    try {
      if (isTagged) await writeRanks(world, output, pieces)
      else for await (const piece of pieces) await output.write(piece)
    } catch (error) {
      if (!(error instanceof MeshError) || error.code !== 'FileNotFound') throw error
    }
  }
  await Promise.all([print('stdout.txt', world.stdout), print('stderr.txt', world.stderr)])
}
