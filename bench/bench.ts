/** What main.ts runs. */
import { parseArgs } from 'node:util'

export interface Bench {
  /** Its own options, for the usage. */
  usage: string
  /** Figures, and the lines of a table for people. */
  run(args: readonly string[]): Promise<{ result: unknown; lines: string[] }>
}

/** Options that are whole numbers, `--tasks 5000`, with their defaults. Throws on others. */
export function numbers<T extends Record<string, number>>(args: readonly string[], defaults: T): T {
  const options = Object.fromEntries(Object.keys(defaults).map((name) => [name, { type: 'string' as const }]))
  const { values } = parseArgs({ args: [...args], options })
  const given = Object.entries(values).map(([name, text]) => {
    if (typeof text !== 'string' || !/^\d+$/.test(text)) throw new Error(`--${name} must be a whole number`)
    return [name, Number(text)]
  })
  return { ...defaults, ...Object.fromEntries(given) }
}

/** Columns under their heads, the first flush left, the others flush right. */
export function table(head: readonly string[], rows: readonly (readonly string[])[]): string[] {
  const all = [head, ...rows]
  const widths = head.map((_, column) => Math.max(...all.map((row) => row[column]!.length)))
  const pad = (cell: string, column: number) => (column === 0 ? cell.padEnd(widths[column]!) : cell.padStart(widths[column]!))
  return all.map((row) => row.map(pad).join('  ').trimEnd())
}
