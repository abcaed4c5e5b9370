/** What a simulated program does, written in its command line. */
import { type Attempt, attemptKey } from '../../protocols/ids.ts'
import type { Outcome, TaskSpec } from '../../protocols/model/task.ts'

export interface Plan {
  /** Run time. */
  ms: number
  fetchMs: number
  uploadMs: number
  /** `flaky`: every third attempt or so ends badly. */
  ends: 'well' | 'badly' | 'flaky'
  /** Machines, by name, that have the program; absent: all. */
  on?: string[]
}

export function commandOf(plan: Plan): string {
  return JSON.stringify(plan)
}

export function planOf(spec: TaskSpec): Plan {
  return JSON.parse(spec.commandLine) as Plan
}

/** How the attempt ends on a machine: the same whenever and wherever it is asked. */
export function exitCodeOf(plan: Plan, attempt: Attempt, machineName: string): number {
  if (plan.on !== undefined && !plan.on.includes(machineName)) return 127
  if (plan.ends === 'flaky') return hash(attemptKey(attempt)) % 3 === 0 ? 1 : 0
  return plan.ends === 'well' ? 0 : 1
}

/** Of a program that has ended, or of a member of a gang that has lost another. */
export function outcomeOf(how: number | 'member lost', startTime: number, endTime: number): Outcome {
  if (how === 'member lost') {
    const failureInfo = {
      category: 'servererror',
      code: 'MachineLost',
      reason: 'MemberLost',
      message: 'another member fell silent',
    } as const
    return { startTime, endTime, failureInfo }
  }
  const failureInfo = { category: 'usererror' as const, code: 'FailureExitCode' as const, message: 'the program ended badly' }
  return { exitCode: how, startTime, endTime, ...(how === 0 ? {} : { failureInfo }) }
}

function hash(text: string): number {
  let value = 2166136261
  for (const char of text) value = Math.imul(value ^ char.codePointAt(0)!, 16777619)
  return value >>> 8
}
