/** docs/faults.md: every row names tests that are there. */
import { existsSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { describe, expect, it } from 'vitest'

const root = join(import.meta.dirname, '..')
const rows = readFileSync(join(root, 'docs/faults.md'), 'utf8')
  .split('\n')
  .filter((line) => line.startsWith('| ') && !/^\| (fault|---)/.test(line))
  .map((line) =>
    line
      .slice(1, -1)
      .split('|')
      .map((cell) => cell.trim()),
  )

describe('docs/faults.md', () => {
  it('has rows', () => {
    expect(rows.length).toBeGreaterThan(30)
  })

  it.each(rows.map((cells) => [cells[0]!, cells] as const))('has the five columns and tests for: %s', (_, cells) => {
    expect(cells).toHaveLength(5)
    for (const entry of cells[4]!.split('<br>')) {
      const [, file, link, name] = /^\[([^\]]+)\]\(\.\.\/([^)]+)\): (.+)$/.exec(entry) ?? []
      expect(file, entry).toBe(link)
      expect(existsSync(join(root, file!)), file).toBe(true)
      // A part of a test's name, as it is written in the file.
      expect(readFileSync(join(root, file!), 'utf8')).toContain(name!)
    }
  })
})
