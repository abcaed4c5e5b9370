/**
 * A reporter for scripts/test: lists what was skipped, and leaves the one line that says how the run went in the file
 * that BATCHMESH_SUMMARY_FILE names, so that the script can print it last, after every other reporter.
 */
import { writeFileSync } from 'node:fs'
import type { Reporter, SerializedError, TestModule } from 'vitest/node'

export interface Summary {
  passed: number
  failed: number
  skipped: number
}

/** `3 passed, 0 failed`, with `, 2 skipped` where some were. */
export function summaryLine({ passed, failed, skipped }: Summary): string {
  return `${passed} passed, ${failed} failed${skipped > 0 ? `, ${skipped} skipped` : ''}`
}

/** A run is good when something ran and nothing failed: a suite that finds no tests must not look green. */
export function isGood({ passed, failed }: Summary): boolean {
  return passed > 0 && failed === 0
}

export default class SummaryReporter implements Reporter {
  onTestRunEnd(modules: readonly TestModule[], unhandledErrors: readonly SerializedError[]): void {
    const summary: Summary = { passed: 0, failed: unhandledErrors.length, skipped: 0 }
    const skippedTests: string[] = []
    for (const module of modules) {
      // a file that could not be loaded, or whose hook broke, has no failed test of its own
      let broken = module.errors().length
      for (const suite of module.children.allSuites()) broken += suite.errors().length
      summary.failed += broken
      for (const test of module.children.allTests()) {
        const result = test.result()
        if (result.state === 'passed') summary.passed++
        else if (result.state === 'failed') summary.failed++
        else {
          summary.skipped++
          const reason = result.state === 'skipped' && result.note !== undefined ? ` (${result.note})` : ''
          skippedTests.push(`  ${module.relativeModuleId} > ${test.fullName}${reason}`)
        }
      }
    }
    const skippedList = skippedTests.length > 0 ? `Skipped:\n${skippedTests.join('\n')}\n` : ''
    const file = process.env.BATCHMESH_SUMMARY_FILE
    const text = `${skippedList}${summaryLine(summary)}\n`
    if (file === undefined) process.stdout.write(text)
    else writeFileSync(file, text)
    if (!isGood(summary)) process.exitCode = 1
  }
}
