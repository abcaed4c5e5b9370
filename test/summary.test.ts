import { spawnSync } from 'node:child_process'
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'

const root = join(import.meta.dirname, '..')
let directory: string
beforeEach(() => {
  directory = mkdtempSync(join(tmpdir(), 'batchmesh-summary-'))
})
afterEach(() => {
  rmSync(directory, { recursive: true, force: true })
})

/** Runs vitest, as scripts/test does, over test files of its own. */
function runSuite(files: Record<string, string>): { summary: string[]; code: number | null } {
  for (const [name, text] of Object.entries(files)) writeFileSync(join(directory, name), text)
  const summaryFile = join(directory, 'summary')
  const vitest = join(root, 'node_modules', 'vitest', 'vitest.mjs')
  const reporter = join(root, 'test', 'support', 'summary-reporter.ts')
  const { status } = spawnSync(process.execPath, [vitest, 'run', '--root', directory, '--globals', `--reporter=${reporter}`], {
    env: { PATH: process.env.PATH, BATCHMESH_SUMMARY_FILE: summaryFile },
    stdio: 'ignore',
  })
  return { summary: readFileSync(summaryFile, 'utf8').trimEnd().split('\n'), code: status }
}

describe('the summary of a run', () => {
  it('ends with the counts, and a good run with 0', () => {
    const { summary, code } = runSuite({ 'a.test.js': "it('a', () => {})\nit('b', () => {})" })
    expect(summary).toEqual(['2 passed, 0 failed'])
    expect(code).toBe(0)
  })

  it('names what was skipped, with the reason where one was given', () => {
    const skip = `it.sk${'ip'}If(true)('needs a GPU', () => {})`
    const { summary, code } = runSuite({ 'a.test.js': `it('a', () => {})\nit('b', (c) => c.skip('not root'))\n${skip}` })
    expect(summary).toEqual(['Skipped:', '  a.test.js > b (not root)', '  a.test.js > needs a GPU', '1 passed, 0 failed, 2 skipped'])
    expect(code).toBe(0)
  })

  it('counts a failed test, and ends with an error', () => {
    const { summary, code } = runSuite({ 'a.test.js': "it('a', () => {})\nit('b', () => { throw new Error('x') })" })
    expect(summary).toEqual(['1 passed, 1 failed'])
    expect(code).toBe(1)
  })

  it('counts a file that cannot be loaded, and a rejection that nobody handled, as failures', () => {
    const { summary, code } = runSuite({
      'a.test.js': "throw new Error('x')",
      'b.test.js': "it('b', async () => { Promise.reject(new Error('x')); await new Promise((r) => setTimeout(r, 1)) })",
    })
    expect(summary).toEqual(['1 passed, 2 failed'])
    expect(code).toBe(1)
  })

  it('is no success when nothing ran', () => {
    const skip = `it.sk${'ip'}If(true)('b', () => {})`
    const { summary, code } = runSuite({ 'a.test.js': skip })
    expect(summary.at(-1)).toBe('0 passed, 0 failed, 1 skipped')
    expect(code).toBe(1)
  })
})
