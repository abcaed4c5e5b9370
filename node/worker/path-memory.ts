/** Where the directories of attempts that ended here lie: the newest from memory, older ones from the disk's layout. */
import { type Attempt, attemptKey } from '../../protocols/ids.ts'
import type { Journal } from '../journal.ts'
import type { Directories, TaskPaths } from '../ports.ts'
import type { Unit } from './units.ts'

/** Saves a look at the disk for what is asked for right after a task's end. */
const maxRemembered = 10_000

export class PathMemory {
  readonly #directories: Directories
  readonly #journal: Journal
  readonly #recent = new Map<string, TaskPaths>()

  constructor(directories: Directories, journal: Journal) {
    this.#directories = directories
    this.#journal = journal
  }

  remember(unit: Unit): void {
    if (unit.paths === undefined) return
    this.#recent.set(unit.key, unit.paths)
    if (this.#recent.size <= maxRemembered) return
    const [oldest] = this.#recent.keys()
    this.#recent.delete(oldest!)
  }

  find(attempt: Attempt): TaskPaths | undefined {
    const recent = this.#recent.get(attemptKey(attempt))
    if (recent !== undefined) return recent
    const jobId = this.#journal.jobId(attempt.jobUid)
    return jobId === undefined ? undefined : this.#directories.find(attempt, jobId)
  }
}
