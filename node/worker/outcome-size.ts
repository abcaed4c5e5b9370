/** How large outcomes are on the wire, by an estimate from above. Pure. */
import type { Outcome } from '../../protocols/model/task.ts'

/** What an output entry has besides its path: a blob id, a size, permissions, and the names of the fields. */
const entryBytes = 120
/** What an outcome has besides its outputs and the end of its stderr.txt: times, an attempt, a failure. */
const outcomeBytes = 1024
/** One with more outputs is not reported: a few of them would fill the protocol's frame, and the coordinator's memory. */
export const maxOutcomeBytes = 16 << 20

export function outcomeSizeBytes({ outputs = [], stderrTail = '', failureInfo, threadResult, threadError }: Outcome): number {
  let bytes = outcomeBytes + Buffer.byteLength(stderrTail) + Buffer.byteLength(failureInfo?.message ?? '')
  if (threadResult !== undefined && 'bytes' in threadResult) bytes += threadResult.bytes.length
  if (threadError !== undefined) bytes += Buffer.byteLength(threadError.message) + Buffer.byteLength(threadError.stack ?? '')
  for (const { path } of outputs) bytes += entryBytes + Buffer.byteLength(path)
  return bytes
}

/** The outcome, or in place of one whose list of outputs is too large a failure that says so. */
export function reportable(outcome: Outcome): Outcome {
  if (outcomeSizeBytes(outcome) <= maxOutcomeBytes) return outcome
  const { exitCode, startTime, endTime, stderrTail, outputs = [] } = outcome
  const message = `The task has ${outputs.length} outputs whose names are together too long to report (more than ${maxOutcomeBytes >> 20} MiB). Put them into fewer files, such as an archive, or give them shorter names.`
  return { exitCode, startTime, endTime, stderrTail, failureInfo: { category: 'usererror', code: 'FileUploadMiscError', message } }
}
