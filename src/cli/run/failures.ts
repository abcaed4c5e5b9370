/** Failed tasks in groups: the same failure of a thousand tasks is said once. */
import type { TaskEvent } from '../../../protocols/control.ts'
import { failureName } from '../../../protocols/model/task.ts'
import { hintOf } from './hints.ts'

export interface FailureGroup {
  /** What happened, such as `exit code 2`. */
  what: string
  taskIds: string[]
  /** The end of stderr of the first of them. */
  stderr: string[]
  /** What to do about it, where that is known. */
  hint?: string
}

const shownLines = 5
const shownTasks = 8

type Failed = Pick<TaskEvent, 'taskId' | 'exitCode' | 'failureInfo' | 'stderrTail'>

function what({ exitCode, failureInfo }: Failed): string {
  const name = failureInfo === undefined ? undefined : failureName(failureInfo)
  if (name !== undefined && name !== 'FailureExitCode') return `${name}: ${failureInfo!.message}`
  return exitCode === undefined
    ? 'failed before it could run'
    : `exit code ${exitCode}${exitCode > 128 && exitCode < 160 ? ` (signal ${exitCode - 128})` : ''}`
}

function lastLines(text: string | undefined): string[] {
  return (text ?? '')
    .trimEnd()
    .split('\n')
    .filter((line) => line.trim() !== '')
    .slice(-shownLines)
}

/** Failures are alike when the same thing happened and their stderr ends alike, numbers and names of files aside. */
export class Failures {
  readonly #groups = new Map<string, FailureGroup>()

  /** True when it is the first of its kind. */
  add(task: Failed): boolean {
    const stderr = lastLines(task.stderrTail)
    const ending = (stderr.at(-1) ?? '').replaceAll(/['"][^'"]*['"]|\S*[/.]\S*|0x[0-9a-f]+|\d+/gi, '*')
    const key = `${what(task).replaceAll(/\d+(?= |$)/g, (n) => (what(task).startsWith('exit code') ? n : '*'))}\n${ending}`
    const group = this.#groups.get(key)
    const hint = hintOf(task.stderrTail)
    if (group !== undefined) group.taskIds.push(task.taskId)
    else this.#groups.set(key, { what: what(task), taskIds: [task.taskId], stderr, ...(hint === undefined ? {} : { hint }) })
    return group === undefined
  }

  get groups(): FailureGroup[] {
    return [...this.#groups.values()].sort((a, b) => b.taskIds.length - a.taskIds.length)
  }

  /** Lines for people, largest group first. */
  lines(): string[] {
    return this.groups.flatMap(({ what, taskIds, stderr, hint }) => {
      const ids = [...taskIds].sort()
      const named = ids.slice(0, shownTasks).join(', ') + (ids.length > shownTasks ? ` and ${ids.length - shownTasks} more` : '')
      return [
        `${ids.length === 1 ? '1 task' : `${ids.length} tasks`} failed: ${what} (${named})`,
        ...stderr.map((line) => `    ${line.replaceAll('\t', '  ').replace(/\r$/, '')}`),
        ...(hint === undefined ? [] : [`    ${hint}`]),
      ]
    })
  }
}
