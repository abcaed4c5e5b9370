/** What the tasks of a run are made of: files, rows of a table, indexes of an array, or nothing. Tasks are told apart by their position. */
import { countOf, type IndexRange, lastOf } from '../../../protocols/model/task-array.ts'
import type { Columns, TemplateValues } from '../template.ts'
import type { RowFiles, StagedInput } from './inputs.ts'
import type { Table } from './table.ts'

export interface Items {
  readonly kind: 'one' | 'inputs' | 'array' | 'table'
  /** Whether {input} stands for something. */
  readonly hasInput: boolean
  readonly count: number
  /** The index of the last task. */
  readonly lastIndex: number
  /** Columns of the table. */
  readonly columns?: Columns
  values(at: number): TemplateValues
  /** Files of this task's own. */
  files(at: number): readonly StagedInput[]
  positionOf(index: number): number | undefined
}

/** Positions, as ranges. */
export type Positions = readonly IndexRange[]

export function* each(ranges: Positions): Generator<number> {
  for (const { start, end, step } of ranges) for (let at = start; at <= end; at += step) yield at
}

const noFiles: readonly StagedInput[] = []

/** One task a file. */
export function inputItems(inputs: readonly StagedInput[]): Items {
  return {
    kind: 'inputs',
    hasInput: true,
    count: inputs.length,
    lastIndex: inputs.length - 1,
    values: (at) => ({ input: inputs[at]!.path, index: at }),
    files: (at) => [inputs[at]!],
    positionOf: (index) => (index < inputs.length ? index : undefined),
  }
}

/** One task that needs no file. */
export const singleItem: Items = {
  kind: 'one',
  hasInput: false,
  count: 1,
  lastIndex: 0,
  values: () => ({ index: 0 }),
  files: () => noFiles,
  positionOf: (index) => (index === 0 ? 0 : undefined),
}

/** One task an index. Holds the ranges, however many indexes they have. */
export class ArrayItems implements Items {
  readonly kind = 'array'
  readonly hasInput = false
  readonly ranges: readonly IndexRange[]
  readonly count: number
  readonly lastIndex: number
  /** Position of the first index of each range. */
  readonly #firsts: number[] = []
  readonly #starts: readonly number[]

  constructor(ranges: readonly IndexRange[]) {
    this.ranges = ranges
    this.#starts = ranges.map(({ start }) => start)
    let count = 0
    for (const range of ranges) {
      this.#firsts.push(count)
      count += countOf(range)
    }
    this.count = count
    this.lastIndex = lastOf(ranges.at(-1)!)
  }

  values(at: number): TemplateValues {
    const which = lastAtMost(this.#firsts, at)
    const { start, step } = this.ranges[which]!
    return { index: start + (at - this.#firsts[which]!) * step }
  }

  files(): readonly StagedInput[] {
    return noFiles
  }

  positionOf(index: number): number | undefined {
    const which = lastAtMost(this.#starts, index)
    const range = this.ranges[which]
    if (range === undefined || index > lastOf(range) || (index - range.start) % range.step !== 0) return undefined
    return this.#firsts[which]! + (index - range.start) / range.step
  }
}

/** Place of the last of rising numbers that is not above `most`; -1 where there is none. */
function lastAtMost(numbers: readonly number[], most: number): number {
  let low = 0
  let high = numbers.length
  while (low < high) {
    const middle = (low + high) >> 1
    if (numbers[middle]! <= most) low = middle + 1
    else high = middle
  }
  return low - 1
}

/** One task a row, with the files that it names. */
export function tableItems({ columns, rows }: Table, { staged, paths }: RowFiles): Items {
  const places = new Map(columns.map((name, at) => [name, at]))
  return {
    kind: 'table',
    hasInput: (staged[0]?.length ?? 0) > 0,
    count: rows.length,
    lastIndex: rows.length - 1,
    columns: new Set(columns),
    values: (at) => ({
      input: staged[at]?.[0]?.path,
      index: at,
      cell: (column) => {
        const file = paths.get(column)
        return (file === undefined ? undefined : staged[at]![file]?.path) ?? rows[at]!.cells[places.get(column)!]!
      },
    }),
    files: (at) => {
      const files = (staged[at] ?? noFiles).filter((file) => file !== undefined)
      return files.filter(({ path }, place) => files.findIndex((file) => file.path === path) === place)
    },
    positionOf: (index) => (index < rows.length ? index : undefined),
  }
}
