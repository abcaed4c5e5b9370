/** Indexes of `--array`: `0-999`, `0-999:2`, `1,5,9`, or several of these with commas. */
import { MeshError } from '../../protocols/errors.ts'

/** A job of more tasks is better split: the list of indexes is held in memory by the command. */
export const maxArrayTasks = 1_000_000

/** The indexes in the order given. Throws InvalidPropertyValue. */
export function parseArray(text: string): number[] {
  const indexes: number[] = []
  const seen = new Set<number>()
  for (const part of text.split(',')) {
    const found = /^(\d{1,15})(?:-(\d{1,15})(?::(\d{1,15}))?)?$/.exec(part.trim())
    if (found === null) throw usage(`--array ${text} is not understood at "${part}". Write 0-999, 0-999:2 or 1,5,9.`)
    const start = Number(found[1])
    const end = found[2] === undefined ? start : Number(found[2])
    const step = found[3] === undefined ? 1 : Number(found[3])
    if (step === 0) throw usage(`--array ${text}: the step of "${part}" is 0.`)
    if (end < start) throw usage(`--array ${text}: the range "${part}" ends before it starts.`)
    for (let index = start; index <= end; index += step) {
      if (seen.has(index)) throw usage(`--array ${text} names ${index} twice.`)
      if (indexes.length === maxArrayTasks)
        throw usage(`--array ${text} has more than ${maxArrayTasks} indexes. Split it into several runs.`)
      seen.add(index)
      indexes.push(index)
    }
  }
  return indexes
}

/** Sorted numbers as inclusive ranges, as Azure's taskIdRanges want them. */
export function toRanges(indexes: readonly number[]): { start: number; end: number }[] {
  const ranges: { start: number; end: number }[] = []
  for (const index of [...indexes].sort((a, b) => a - b)) {
    const last = ranges.at(-1)
    if (last !== undefined && index === last.end + 1) last.end = index
    else ranges.push({ start: index, end: index })
  }
  return ranges
}

function usage(message: string): MeshError {
  return new MeshError('InvalidPropertyValue', message)
}
