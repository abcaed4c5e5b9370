/**
 * Outputs that a machine reports are held against the task's own patterns: what a submitter later writes to its disk
 * under these names is then what the submitter asked for, whatever the machine says (S1).
 */
import { decode } from '../protocols/codec.ts'
import { taskKey } from '../protocols/ids.ts'
import type { Report } from '../protocols/leases.ts'
import { patternMatcher } from '../protocols/model/file-pattern.ts'
import type { Outcome, TaskSpec } from '../protocols/model/task.ts'
import type { SpecCache } from './spec-cache.ts'

/** The reports as they are to be taken: one whose outputs the task does not name becomes a failure without outputs. */
export async function vetReports(specs: SpecCache, reports: readonly Report[]): Promise<readonly Report[]> {
  const claims = reports.filter(({ outcome }) => (outcome.outputs?.length ?? 0) > 0)
  if (claims.length === 0) return reports
  const found = await specs.read(claims.map(({ attempt }) => attempt))
  const vetted = new Map<Report, Report>()
  for (const report of claims) {
    const { jobUid, task } = report.attempt
    const bytes = found.get(taskKey(jobUid, task))
    // Without a spec the job is gone, and the report is refused anyway.
    if (bytes === undefined) continue
    const spec = decode(bytes) as TaskSpec
    const isNamed = patternMatcher((spec.outputFiles ?? []).map(({ filePattern }) => filePattern))
    const strange = report.outcome.outputs!.find(({ path }) => !isNamed(path))
    if (strange !== undefined) vetted.set(report, { attempt: report.attempt, outcome: refused(report.outcome, strange.path) })
  }
  return reports.map((report) => vetted.get(report) ?? report)
}

function refused({ exitCode, startTime, endTime, stderrTail }: Outcome, path: string): Outcome {
  const message = `The machine reported the output ${JSON.stringify(path.slice(0, 200))}, which no output pattern of the task names.`
  return { exitCode, startTime, endTime, stderrTail, failureInfo: { category: 'servererror', code: 'FileUploadMiscError', message } }
}
