/**
 * The ids of an array's tasks: a prefix and an index of a fixed number of digits, so that they sort as their indexes do
 * and each tells its index. Positions count the indexes from 0. Pure arithmetic: nothing here walks through an array.
 */
import { foldId } from '../protocols/ids.ts'
import { countOf, digitsOf, type IndexRange, lastOf, type TaskArray } from '../protocols/model/task-array.ts'

export interface ArrayIds {
  /** Folded. */
  readonly prefix: string
  readonly digits: number
  readonly ranges: readonly IndexRange[]
  /** Position of the first index of each range. */
  readonly starts: readonly number[]
  readonly count: number
}

export function idsOf(array: TaskArray): ArrayIds {
  const starts: number[] = []
  let count = 0
  for (const range of array.indexes) {
    starts.push(count)
    count += countOf(range)
  }
  return { prefix: foldId(array.idPrefix), digits: digitsOf(array), ranges: array.indexes, starts, count }
}

/** What arrays share whose ids could be looked for in the same way. */
export function shapeOf({ prefix, digits }: Pick<ArrayIds, 'prefix' | 'digits'>): string {
  return `${prefix}/${digits}`
}

/** The shapes that an id could have, each with the index that it then tells. */
export function* shapesOfId(id: string): Generator<{ shape: string; index: number }> {
  for (let digits = 1; digits <= Math.min(15, id.length); digits += 1) {
    const from = id.length - digits
    const code = id.charCodeAt(from)
    if (code < 48 || code > 57) return
    yield { shape: shapeOf({ prefix: id.slice(0, from), digits }), index: Number(id.slice(from)) }
  }
}

/** The last range that starts at or before a value, by binary search; -1 where there is none. */
function rangeAt(count: number, startOf: (at: number) => number, value: number): number {
  let [low, high] = [0, count]
  while (low < high) {
    const middle = (low + high) >> 1
    if (startOf(middle) <= value) low = middle + 1
    else high = middle
  }
  return low - 1
}

export function indexAt({ ranges, starts }: ArrayIds, position: number): number {
  const at = ranges.length === 1 ? 0 : rangeAt(ranges.length, (i) => starts[i]!, position)
  const { start, step } = ranges[at]!
  return start + (position - starts[at]!) * step
}

/** The position of an index; undefined where the array has none such. */
export function positionOf({ ranges, starts }: ArrayIds, index: number): number | undefined {
  const at = rangeAt(ranges.length, (i) => ranges[i]!.start, index)
  const range = ranges[at]
  if (range === undefined || index > range.end || (index - range.start) % range.step !== 0) return undefined
  return starts[at]! + (index - range.start) / range.step
}

/** The folded id of a position. */
export function idAt(ids: ArrayIds, position: number): string {
  return ids.prefix + String(indexAt(ids, position)).padStart(ids.digits, '0')
}

/** The first position whose id comes after a text; `count` where none does. */
export function positionAfter(ids: ArrayIds, text: string): number {
  let [low, high] = [0, ids.count]
  while (low < high) {
    const middle = (low + high) >> 1
    if (idAt(ids, middle) <= text) low = middle + 1
    else high = middle
  }
  return low
}

/** An id that two arrays have in common, exactly: `a1` and `05` make the same as `a` and `105`. */
export function commonId(one: ArrayIds, other: ArrayIds): string | undefined {
  const [short, long] = one.prefix.length <= other.prefix.length ? [one, other] : [other, one]
  if (short.prefix.length + short.digits !== long.prefix.length + long.digits || !long.prefix.startsWith(short.prefix)) return undefined
  const extra = long.prefix.slice(short.prefix.length)
  if (!/^\d*$/.test(extra)) return undefined
  // The longer prefix ends with digits that are the first ones of the other's index.
  const index = commonIndex(short.ranges, long.ranges, Number(extra) * 10 ** long.digits)
  return index === undefined ? undefined : short.prefix + String(index).padStart(short.digits, '0')
}

/** A number that is in both lists of rising ranges, the second moved up by `shift`. Walks through the shorter list only. */
function commonIndex(ones: readonly IndexRange[], others: readonly IndexRange[], shift: number): number | undefined {
  if (ones.length > others.length) {
    const found = commonIndex(others, ones, -shift)
    return found === undefined ? undefined : found + shift
  }
  for (const one of ones) {
    const first = Math.max(
      0,
      rangeAt(others.length, (at) => others[at]!.start + shift, one.start),
    )
    for (let at = first; at < others.length && others[at]!.start + shift <= one.end; at += 1) {
      const { start, end, step } = others[at]!
      const found = commonNumber(one, { start: start + shift, end: end + shift, step })
      if (found !== undefined) return found
    }
  }
  return undefined
}

/** The smallest number that two ranges both hit (Chinese remainder theorem). */
function commonNumber(a: IndexRange, b: IndexRange): number | undefined {
  const [low, high] = [Math.max(a.start, b.start), Math.min(lastOf(a), lastOf(b))]
  if (low > high) return undefined
  // Products of steps leave the numbers that doubles hold exactly.
  const [stepA, stepB, gap] = [BigInt(a.step), BigInt(b.step), BigInt(b.start) - BigInt(a.start)]
  const { divisor, factor } = euclid(stepA, stepB)
  if (gap % divisor !== 0n) return undefined
  const period = (stepA / divisor) * stepB
  const meeting = BigInt(a.start) + stepA * ((gap / divisor) * factor)
  const least = BigInt(low)
  const found = least + ((((meeting - least) % period) + period) % period)
  return found <= BigInt(high) ? Number(found) : undefined
}

/** The greatest common divisor, and a factor with factor * a = divisor (mod b). */
function euclid(a: bigint, b: bigint): { divisor: bigint; factor: bigint } {
  let [r0, r1, f0, f1] = [a, b, 1n, 0n]
  while (r1 !== 0n) {
    const quotient = r0 / r1
    ;[r0, r1] = [r1, r0 - quotient * r1]
    ;[f0, f1] = [f1, f0 - quotient * f1]
  }
  return { divisor: r0, factor: f0 }
}

export function hasId(ids: ArrayIds, id: string): boolean {
  for (const { shape, index } of shapesOfId(id)) if (shape === shapeOf(ids) && positionOf(ids, index) !== undefined) return true
  return false
}

/** Whether an id stands for a whole number from `start` to `end` (dependencies.ts: leading zeros do not count). */
export function hasNumberIn({ prefix, digits, ranges }: ArrayIds, start: number, end: number): boolean {
  if (!/^\d*$/.test(prefix)) return false
  const offset = Number(prefix) * 10 ** digits
  return ranges.some((range) => {
    const from = Math.max(0, start - offset - range.start)
    const first = range.start + Math.ceil(from / range.step) * range.step
    return first <= Math.min(end - offset, lastOf(range))
  })
}
