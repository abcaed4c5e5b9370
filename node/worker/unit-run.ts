/** A task that runs by itself, on a lane or in a thread of its own (runner.ts), and where the files of one lie. */
import type { Outcome } from '../../protocols/model/task.ts'
import type { NodeFacts } from '../environment.ts'
import type { FindAttempt, MemoryLimit, TaskDirectories } from '../ports.ts'
import { type RunnerParts, runTask } from '../runner.ts'
import { stopperOf, type Unit, type Units } from './units.ts'

export interface UnitRun extends RunnerParts {
  node: NodeFacts
  memoryMiB: number
  memory: MemoryLimit
  started(unit: Unit): void
  uploading(unit: Unit): void
  /** Its slot is free. */
  vacated(): void
}

/** Runs it to its outcome; undefined when it was stopped. */
export async function runUnit(unit: Unit, parts: UnitRun): Promise<Outcome | undefined> {
  const { node, memoryMiB, memory } = parts
  const stop = new AbortController()
  unit.phase = 'fetching'
  unit.stopper = stopperOf(stop)
  return await runTask(
    parts,
    { attempt: unit.attempt, node, memoryMiB, memory, ...unit.work! },
    {
      placed: (paths) => {
        unit.paths = paths
      },
      started: (startTime) => {
        unit.startTime = startTime
        unit.phase = 'running'
        parts.started(unit)
      },
      vacated: () => parts.vacated(),
      uploading: () => {
        unit.phase = 'uploading'
        parts.uploading(unit)
      },
    },
    stop.signal,
  )
}

/** For the files service: of attempts that are here, and of those that were. */
export function finderOf(units: Units, directories: Pick<TaskDirectories, 'find'>): FindAttempt {
  return (attempt) => {
    const unit = units.get(attempt)
    if (unit?.paths !== undefined) return { paths: unit.paths, running: unit.phase !== 'finished' }
    const found = directories.find(attempt)
    if (found !== undefined || unit === undefined || unit.phase === 'unstarted') return found
    const running = unit.phase !== 'finished'
    return running || unit.outcome?.noFiles === true ? { paths: undefined, running } : undefined
  }
}
