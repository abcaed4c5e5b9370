/** What jobs leave on the machine, and its removal when they are deleted: also what ends only after it was told of that. */
import type { JobUid } from '../../protocols/ids.ts'
import { type JobBrief, maxKeptJobs } from '../../protocols/leases.ts'
import type { WorkerOptions } from './contract.ts'
import type { Unit, Units } from './units.ts'

export class KeptJobs {
  readonly #options: Pick<WorkerOptions, 'threads' | 'directories' | 'log'>
  readonly #units: Units
  readonly #briefs: Map<JobUid, JobBrief>
  /** Deleted jobs of which something is still ending here: its files go after it. */
  readonly #ending = new Set<JobUid>()

  constructor(options: Pick<WorkerOptions, 'threads' | 'directories' | 'log'>, units: Units, briefs: Map<JobUid, JobBrief>) {
    this.#options = options
    this.#units = units
    this.#briefs = briefs
  }

  /** For the hello: those that were deleted meanwhile are answered. */
  list(): JobUid[] {
    return this.#options.directories.jobs.slice(-maxKeptJobs)
  }

  /** The job was deleted. */
  remove(jobUid: JobUid): void {
    this.#briefs.delete(jobUid)
    if (this.#units.ofJob(jobUid)) this.#ending.add(jobUid)
    const { threads, directories, log } = this.#options
    threads
      .endJob(jobUid)
      .then(() => directories.purgeJob(jobUid))
      .catch((error: unknown) => log.warn({ err: error, jobUid }, 'the task directories of a deleted job stay until they expire'))
  }

  /** Nothing of this unit is left but its directory. */
  ended({ attempt: { jobUid } }: Unit): void {
    if (!this.#ending.has(jobUid) || this.#units.ofJob(jobUid)) return
    this.#ending.delete(jobUid)
    this.remove(jobUid)
  }
}
