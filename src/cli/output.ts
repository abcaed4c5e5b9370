/** What commands print: tables, JSON, tab-separated values. */
import type { JSONValue } from './query.ts'
import type { World } from './world.ts'

export const formats = ['table', 'json', 'tsv'] as const
export type Format = (typeof formats)[number]

export interface Column<T> {
  title: string
  value: (row: T) => string | number | boolean | undefined
  /** Numbers stand to the right. */
  right?: boolean
  /** Least width in a table; rows that come one by one are not measured against each other. */
  width?: number
}

function cell(value: string | number | boolean | undefined): string {
  return value === undefined ? '' : typeof value === 'boolean' ? (value ? 'yes' : 'no') : String(value)
}

/** Control characters and backslashes escaped, so that a row stays a row, also on a terminal. */
export function tsvCell(text: string): string {
  return visible(text.replaceAll('\\', '\\\\').replaceAll('\r', '\\r'))
}

/**
 * Control characters would move the cursor or forge rows; marks of writing direction would show a name as another. They
 * are shown escaped.
 */
export function visible(text: string): string {
  return text.replaceAll(/\p{Cc}|\p{Bidi_Control}|[\u2028\u2029]/gu, (c) => {
    if (c === '\n') return '\\n'
    if (c === '\t') return '\\t'
    const code = c.charCodeAt(0).toString(16)
    return code.length > 2 ? `\\u${code}` : `\\x${code.padStart(2, '0')}`
  })
}

/** The same for text of several lines, which stay lines. */
export function visibleLines(text: string): string {
  return text.split('\n').map(visible).join('\n')
}

/** Rows below their titles; cut at `width` where one is given. */
export function table<T>(columns: readonly Column<T>[], rows: readonly T[], width?: number): string {
  const cells = rows.map((row) => columns.map((column) => visible(cell(column.value(row)))))
  const titles = columns.map(({ title }) => title.toUpperCase())
  const widths = titles.map((title, at) =>
    cells.reduce((most, row) => Math.max(most, row[at]!.length), Math.max(title.length, columns[at]!.width ?? 0)),
  )
  const line = (texts: readonly string[]) => {
    const text = texts
      .map((part, at) => (columns[at]!.right ? part.padStart(widths[at]!) : part.padEnd(widths[at]!)))
      .join('  ')
      .trimEnd()
    return width !== undefined && text.length > width ? `${text.slice(0, Math.max(1, width - 1))}…` : text
  }
  return `${[titles, ...cells].map(line).join('\n')}\n`
}

export function tsv<T>(columns: readonly Column<T>[], rows: readonly T[]): string {
  const lines = [columns.map(({ title }) => title), ...rows.map((row) => columns.map((column) => tsvCell(cell(column.value(row)))))]
  return `${lines.map((line) => line.join('\t')).join('\n')}\n`
}

/** One row by itself, without titles. */
export function rowOf<T>(format: 'table' | 'tsv', columns: readonly Column<T>[], row: T): string {
  if (format === 'tsv') return `${columns.map((column) => tsvCell(cell(column.value(row)))).join('\t')}\n`
  const cells = columns.map((column) => visible(cell(column.value(row))).padEnd(column.width ?? column.title.length))
  return `${cells.join('  ').trimEnd()}\n`
}

/** Prints a list. JSON is the views as they are. */
export async function printList<T>(world: World, format: Format, columns: readonly Column<T>[], rows: readonly T[]): Promise<void> {
  if (format === 'json') return world.stdout.write(`${JSON.stringify(rows, undefined, 2)}\n`)
  if (format === 'tsv') return world.stdout.write(tsv(columns, rows))
  await world.stdout.write(table(columns, rows, world.stdout.isTTY ? world.stdout.columns : undefined))
}

export type Fields = readonly (readonly [title: string, value: string | number | boolean | undefined])[]

/** Prints one thing: a line a field; as TSV a title row and a value row. Fields without a value are left out of the table. */
export async function printOne(world: World, format: Format, fields: Fields, view: unknown): Promise<void> {
  if (format === 'json') return world.stdout.write(`${JSON.stringify(view, undefined, 2)}\n`)
  if (format === 'tsv') {
    const columns = fields.map(([title, value]) => ({ title, value: () => value }))
    return world.stdout.write(tsv(columns, [view]))
  }
  const shown = fields.filter(([, value]) => value !== undefined && value !== '')
  const width = shown.reduce((most, [title]) => Math.max(most, title.length), 0)
  const text = shown
    .map(
      ([title, value]) => `${`${title}:`.padEnd(width + 1)} ${visibleLines(cell(value)).replaceAll('\n', `\n${' '.repeat(width + 2)}`)}\n`,
    )
    .join('')
  await world.stdout.write(text)
}

/**
 * Prints what a query has found, as `az` does: JSON as it is; as TSV and as a table a row for each item of a list, a cell
 * for each of its values. TSV has no title line here, so that a script can take the values as they come.
 */
export async function printFound(world: World, format: Format, found: JSONValue): Promise<void> {
  if (format === 'json') return world.stdout.write(`${JSON.stringify(found, undefined, 2)}\n`)
  const items = Array.isArray(found) ? found : found === null ? [] : [found]
  if (format === 'tsv') return world.stdout.write(items.map((item) => `${cellsOf(item).map(tsvCell).join('\t')}\n`).join(''))
  if (items.every((item) => !isObject(item) && !Array.isArray(item)))
    return world.stdout.write(items.map((item) => `${visible(flat(item))}\n`).join(''))
  const titles = [
    ...new Set(items.flatMap((item) => (isObject(item) ? Object.keys(item) : cellsOf(item).map((_, at) => `column ${at + 1}`)))),
  ]
  const columns = titles.map(
    (title, at): Column<JSONValue> => ({
      title,
      value: (item) => (isObject(item) ? flat(item[title] ?? null) : cellsOf(item)[at]),
    }),
  )
  await world.stdout.write(table(columns, items, world.stdout.isTTY ? world.stdout.columns : undefined))
}

function isObject(value: JSONValue): value is Record<string, JSONValue> {
  return typeof value === 'object' && value !== null && !Array.isArray(value)
}

function cellsOf(item: JSONValue): string[] {
  return (Array.isArray(item) ? item : isObject(item) ? Object.values(item) : [item]).map(flat)
}

function flat(value: JSONValue): string {
  return value === null ? '' : typeof value === 'string' ? value : JSON.stringify(value)
}
