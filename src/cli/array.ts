/** Indexes of `--array`: `0-999`, `0-999:2`, `1,5,9`, or several of these with commas. */
import { MeshError } from '../../protocols/errors.ts'
import { countOf, type IndexRange, lastOf, maxArrayTasks } from '../../protocols/model/task-array.ts'

/** The indexes as rising ranges without overlap, whatever the order they are given in. Throws InvalidPropertyValue. */
export function parseArray(text: string): IndexRange[] {
  const ranges = text
    .split(',')
    .map((part) => rangeOf(part, text))
    .sort((a, b) => a.start - b.start || a.end - b.end)
  if (ranges.reduce((sum, range) => sum + countOf(range), 0) > maxArrayTasks)
    throw usage(`--array ${short(text)} has more than ${maxArrayTasks} indexes. Split it into several runs.`)
  const built = new RangeBuilder()
  for (let at = 0; at < ranges.length; ) {
    // Ranges that reach into each other, such as 0-10:2,1-11:2, become one list.
    let behind = at + 1
    for (let end = lastOf(ranges[at]!); behind < ranges.length && ranges[behind]!.start <= end; behind += 1)
      end = Math.max(end, lastOf(ranges[behind]!))
    if (behind === at + 1) built.range(ranges[at]!)
    else for (const index of mergedIndexes(ranges.slice(at, behind), text)) built.index(index)
    at = behind
  }
  return built.ranges
}

function rangeOf(part: string, text: string): IndexRange {
  const found = /^(\d{1,15})(?:-(\d{1,15})(?::(\d{1,15}))?)?$/.exec(part.trim())
  if (found === null) throw usage(`--array ${short(text)} is not understood at "${part}". Write 0-999, 0-999:2 or 1,5,9.`)
  const start = Number(found[1])
  const end = found[2] === undefined ? start : Number(found[2])
  const step = found[3] === undefined ? 1 : Number(found[3])
  if (step === 0) throw usage(`--array ${short(text)}: the step of "${part}" is 0.`)
  if (end < start) throw usage(`--array ${short(text)}: the range "${part}" ends before it starts.`)
  return { start, end, step }
}

function mergedIndexes(ranges: readonly IndexRange[], text: string): Float64Array {
  const all = new Float64Array(ranges.reduce((sum, range) => sum + countOf(range), 0))
  let at = 0
  for (const { start, end, step } of ranges) {
    for (let index = start; index <= end; index += step) {
      all[at] = index
      at += 1
    }
  }
  all.sort()
  const twice = all.findIndex((index, place) => place > 0 && index === all[place - 1])
  if (twice !== -1) throw usage(`--array ${short(text)} names ${all[twice]} twice.`)
  return all
}

/** A list pasted into a command may be long; an error need not be. */
function short(text: string): string {
  return text.length > 60 ? `${text.slice(0, 60)}…` : text
}

/** Puts rising indexes together to as few ranges as are plain to see. */
export class RangeBuilder {
  readonly ranges: IndexRange[] = []

  range(range: IndexRange): void {
    if (range.start === lastOf(range)) this.index(range.start)
    else this.ranges.push({ ...range, end: lastOf(range) })
  }

  index(index: number): void {
    const last = this.ranges.at(-1)
    if (last === undefined || (last.start !== last.end && index !== last.end + last.step))
      this.ranges.push({ start: index, end: index, step: 1 })
    else {
      if (last.start === last.end) last.step = index - last.start
      last.end = index
    }
  }
}

/** Azure's taskIdRanges, which know no step; undefined where they would be more than `most`. */
export function idRanges(ranges: readonly IndexRange[], most: number): { start: number; end: number }[] | undefined {
  const found: { start: number; end: number }[] = []
  for (const range of ranges) {
    const parts = range.step === 1 ? [range] : singles(range, most)
    for (const { start, end } of parts ?? []) {
      const last = found.at(-1)
      if (last !== undefined && last.end + 1 === start) last.end = end
      else found.push({ start, end })
    }
    if (parts === undefined || found.length > most) return undefined
  }
  return found
}

function singles(range: IndexRange, most: number): { start: number; end: number }[] | undefined {
  if (countOf(range) > most) return undefined
  return Array.from({ length: countOf(range) }, (_, at) => ({ start: range.start + at * range.step, end: range.start + at * range.step }))
}

function usage(message: string): MeshError {
  return new MeshError('InvalidPropertyValue', message)
}
