/** Grants as they come from the coordinator. */
import { decode } from '../../protocols/codec.ts'
import { attemptKey, type JobUid } from '../../protocols/ids.ts'
import type { Grant, JobBrief } from '../../protocols/leases.ts'
import { noDemand } from '../../protocols/model/resources.ts'
import { type FailureInfo, taskSpecSchema } from '../../protocols/model/task.ts'
import { firstIssue } from '../../protocols/rpc.ts'
import type { Unit } from './units.ts'

/** The unit that a grant names, with a failure if its spec is not understood here; undefined when its job is not known. */
export function readGrant(grant: Grant, briefs: ReadonlyMap<JobUid, JobBrief>): { unit: Unit; failure?: FailureInfo } | undefined {
  const { attempt, nodeId, gang } = grant
  const job = briefs.get(attempt.jobUid)
  if (job === undefined) return undefined
  const key = attemptKey(attempt)
  const spec = taskSpecSchema.safeParse(decodeSpec(grant.spec))
  if (!spec.success) {
    const unit: Unit = { key, attempt, nodeId, phase: 'finished', slots: 0, demand: noDemand, passed: 0 }
    const message = `The machine does not understand the task: ${firstIssue(spec.error)}. Is its Batchmesh older than the coordinator's?`
    return { unit, failure: { category: 'servererror', code: 'Unknown', message } }
  }
  const { requiredSlots: slots, resources } = spec.data
  const work = { spec: spec.data, job, gang }
  return { unit: { key, attempt, nodeId, phase: 'unstarted', work, slots, demand: resources ?? noDemand, passed: 0 } }
}

function decodeSpec(bytes: Uint8Array): unknown {
  try {
    return decode(bytes)
  } catch {
    return undefined
  }
}
