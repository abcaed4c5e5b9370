/** Heat in a plate, on any number of nodes (heat.ts). Each has a block of the plate and, around it, a rim of its neighbours' cells. */
import type { Group } from 'batchmesh'

export interface Plate {
  rows: number
  columns: number
  steps: number
}

/** Share of the difference that a cell takes over in a step: more than a quarter is not stable. */
const conductivity = 0.2
/** The largest change is looked at this often: it takes a word with all others. */
const lookEvery = 100

/** The temperatures at the end, row by row (at rank 0), and the largest change of a cell in the last step. */
export async function heat(group: Group, { rows, columns, steps }: Plate): Promise<{ field: Float64Array; change: number }> {
  const [down, across] = gridOf(group.size)
  const [y, x] = [Math.floor(group.rank / across), group.rank % across]
  const [top, left] = [first(y, down, rows), first(x, across, columns)]
  const block = new Block(first(y + 1, down, rows) - top, first(x + 1, across, columns) - left)
  block.fill((row, column) => warmth((top + row) / rows, (left + column) / columns))

  // Nobody lies beyond the edge of the plate: there the rim keeps its temperature.
  const above = y > 0 ? group.rank - across : undefined
  const below = y < down - 1 ? group.rank + across : undefined
  const west = x > 0 ? group.rank - 1 : undefined
  const east = x < across - 1 ? group.rank + 1 : undefined
  const swap = async (to: number | undefined, edge: Float64Array): Promise<Float64Array | undefined> => {
    return to === undefined ? undefined : (await group.sendrecv<Float64Array>(edge, to, { from: to })).data
  }

  let change = 0
  for (let step = 1; step <= steps; step += 1) {
    const [north, south, atWest, atEast] = await Promise.all([
      swap(above, block.row(0)),
      swap(below, block.row(block.rows - 1)),
      swap(west, block.column(0)),
      swap(east, block.column(block.columns - 1)),
    ])
    if (north !== undefined) block.setRow(-1, north)
    if (south !== undefined) block.setRow(block.rows, south)
    if (atWest !== undefined) block.setColumn(-1, atWest)
    if (atEast !== undefined) block.setColumn(block.columns, atEast)
    const own = block.step()
    if (step % lookEvery === 0 || step === steps) change = (await group.allreduce(Float64Array.of(own), 'max'))[0]!
  }

  const blocks = await group.gather({ top, left, columns: block.columns, cells: block.cells() })
  const field = new Float64Array(group.rank === 0 ? rows * columns : 0)
  for (const part of blocks ?? []) {
    for (let at = 0; at < part.cells.length; at += part.columns)
      field.set(part.cells.subarray(at, at + part.columns), (part.top + at / part.columns) * columns + part.left)
  }
  return { field, change }
}

/** A hot disc and a cold one in a lukewarm plate. */
function warmth(y: number, x: number): number {
  if (Math.hypot(y - 0.4, x - 0.3) < 0.2) return 100
  return Math.hypot(y - 0.6, x - 0.75) < 0.15 ? 0 : 30
}

/** How many blocks lie one below the other, and side by side: as square as the number allows. */
function gridOf(size: number): [number, number] {
  let down = Math.floor(Math.sqrt(size))
  while (size % down > 0) down -= 1
  return [down, size / down]
}

function first(block: number, blocks: number, cells: number): number {
  return Math.floor((block * cells) / blocks)
}

class Block {
  readonly rows: number
  readonly columns: number
  #now: Float64Array
  #next: Float64Array

  constructor(rows: number, columns: number) {
    this.rows = rows
    this.columns = columns
    this.#now = new Float64Array((rows + 2) * (columns + 2))
    this.#next = this.#now.slice()
  }

  #at(row: number, column: number): number {
    return (row + 1) * (this.columns + 2) + column + 1
  }

  /** With the rim. */
  fill(value: (row: number, column: number) => number): void {
    for (let row = -1; row <= this.rows; row += 1)
      for (let column = -1; column <= this.columns; column += 1) this.#now[this.#at(row, column)] = value(row, column)
    this.#next.set(this.#now)
  }

  row(row: number): Float64Array {
    return this.#now.slice(this.#at(row, 0), this.#at(row, this.columns))
  }

  setRow(row: number, values: Float64Array): void {
    this.#now.set(values, this.#at(row, 0))
  }

  column(column: number): Float64Array {
    return Float64Array.from({ length: this.rows }, (_, row) => this.#now[this.#at(row, column)]!)
  }

  setColumn(column: number, values: Float64Array): void {
    for (const [row, value] of values.entries()) this.#now[this.#at(row, column)] = value
  }

  /** One step of time; the largest change of a cell. */
  step(): number {
    const [now, next, width] = [this.#now, this.#next, this.columns + 2]
    let largest = 0
    for (let row = 0; row < this.rows; row += 1) {
      const end = this.#at(row, this.columns)
      for (let at = this.#at(row, 0); at < end; at += 1) {
        const change = conductivity * (now[at - width]! + now[at + width]! + now[at - 1]! + now[at + 1]! - 4 * now[at]!)
        next[at] = now[at]! + change
        largest = Math.max(largest, Math.abs(change))
      }
    }
    // The rim of the plate is in both.
    this.#now = next
    this.#next = now
    return largest
  }

  cells(): Float64Array {
    const cells = new Float64Array(this.rows * this.columns)
    for (let row = 0; row < this.rows; row += 1) cells.set(this.row(row), row * this.columns)
    return cells
  }
}
