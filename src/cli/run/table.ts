/** `--table`: rows of named cells. The one door to csv-parse. */
import { CsvError, parse } from 'csv-parse/sync'
import { MeshError } from '../../../protocols/errors.ts'

/** Rows are held in memory, and sent as tasks of their own. */
const maxRows = 1_000_000

export interface Table {
  columns: readonly string[]
  rows: readonly { cells: readonly string[]; line: number }[]
}

/** Reads a table whose first row names its columns. `name` is what errors call it. Throws InvalidPropertyValue. */
export function parseTable(bytes: Uint8Array, name: string): Table {
  const text = textOf(bytes, name)
  const delimiter = delimiterOf(text, name)
  let read: { info: { lines: number }; record: string[] }[]
  try {
    read = parse(text, {
      delimiter,
      // In tab-separated files a quote within a cell is mostly just that: 5" disk.
      relax_quotes: delimiter === '\t',
      relax_column_count: true,
      skip_empty_lines: true,
      info: true,
    }) as unknown as typeof read
  } catch (error) {
    if (!(error instanceof CsvError)) throw error
    throw usage(`${name} is not understood: ${error.message.replace(/\.?$/, '.')}`, error)
  }
  const [first, ...rest] = read
  if (first === undefined) throw usage(`${name} is empty. Its first row names the columns.`)
  const columns = checkedColumns(first.record, name)
  if (rest.length === 0) throw usage(`${name} has no row below its first, which names the columns.`)
  if (rest.length > maxRows) throw usage(`${name} has more than ${maxRows} rows. Split it into several runs.`)
  const rows = rest.map(({ record, info: { lines } }) => {
    if (record.length !== columns.length)
      throw usage(`${name}, line ${lines}: ${cellCount(record.length)}, but the first row names ${columns.length}.`)
    return { cells: record, line: lines }
  })
  return { columns, rows }
}

function textOf(bytes: Uint8Array, name: string): string {
  let text: string
  try {
    // Takes the byte order mark away.
    text = new TextDecoder('utf-8', { fatal: true }).decode(bytes)
  } catch (error) {
    throw usage(`${name} is not UTF-8 text. Save it as UTF-8.`, error)
  }
  if (text.includes('\0')) throw usage(`${name} is not UTF-8 text: it holds NUL bytes. Save it as UTF-8.`)
  return text
}

/** The name says what separates cells; else the first line does. */
function delimiterOf(text: string, name: string): string {
  if (/\.csv$/i.test(name)) return ','
  if (/\.(tsv|tab)$/i.test(name)) return '\t'
  return /^[^\n]*\t/.test(text) ? '\t' : ','
}

function checkedColumns(columns: readonly string[], name: string): readonly string[] {
  for (const [at, column] of columns.entries()) {
    if (column.trim() === '') throw usage(`${name}: column ${at + 1} has no name. The first row names the columns.`)
    if (columns.indexOf(column) < at) throw usage(`${name} has two columns ${column}. Give each its own name.`)
    if (/[{}\n]/.test(column)) throw usage(`${name}: the column name ${JSON.stringify(column)} holds a brace or a line break. Rename it.`)
  }
  return columns
}

function cellCount(count: number): string {
  return count === 1 ? '1 cell' : `${count} cells`
}

function usage(message: string, cause?: unknown): MeshError {
  return new MeshError('InvalidPropertyValue', message, { cause })
}
