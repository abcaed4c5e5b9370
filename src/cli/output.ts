/** What commands print: tables, JSON, tab-separated values. */
import type { World } from './world.ts'

export const formats = ['table', 'json', 'tsv'] as const
export type Format = (typeof formats)[number]

export interface Column<T> {
  title: string
  value: (row: T) => string | number | boolean | undefined
  /** Numbers stand to the right. */
  right?: boolean
}

function cell(value: string | number | boolean | undefined): string {
  return value === undefined ? '' : typeof value === 'boolean' ? (value ? 'yes' : 'no') : String(value)
}

/** Tabs, line breaks and backslashes escaped, so that a row stays a row. */
export function tsvCell(text: string): string {
  return text.replaceAll('\\', '\\\\').replaceAll('\t', '\\t').replaceAll('\n', '\\n').replaceAll('\r', '\\r')
}

/** Control characters would move the cursor or forge rows: they are shown escaped. */
export function visible(text: string): string {
  return text.replaceAll(/\p{Cc}/gu, (c) =>
    c === '\n' ? '\\n' : c === '\t' ? '\\t' : `\\x${c.charCodeAt(0).toString(16).padStart(2, '0')}`,
  )
}

/** The same for text of several lines, which stay lines. */
export function visibleLines(text: string): string {
  return text.split('\n').map(visible).join('\n')
}

/** Rows below their titles; cut at `width` where one is given. */
export function table<T>(columns: readonly Column<T>[], rows: readonly T[], width?: number): string {
  const cells = rows.map((row) => columns.map((column) => visible(cell(column.value(row)))))
  const titles = columns.map(({ title }) => title.toUpperCase())
  const widths = titles.map((title, at) => cells.reduce((most, row) => Math.max(most, row[at]!.length), title.length))
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
