/**
 * A member of a gang of command lines, from its lane to its end (Azure Batch: multi-instance tasks).
 *
 *   common files --> coordination command --> rally --> primary: own files --> command line --> its exit code
 *                                                   --> subtask: what is launched on it, until it is stopped
 *
 * What the coordination command leaves running stays until then, and nothing of the member after it.
 */
import { join } from 'node:path'
import type { Attempt } from '../../protocols/ids.ts'
import type { JobBrief } from '../../protocols/leases.ts'
import type { Limit } from '../attempt-limit.ts'
import { directoryName } from '../directories.ts'
import type { Ended, Lane, Log, MemoryLimit, TaskDirectories, TaskPaths } from '../ports.ts'
import { explainExit } from '../post-mortem.ts'
import type { Gangs } from './gangs.ts'
import { endWithLost } from './member.ts'
import { MemberProgram } from './member-program.ts'
import type { Gang } from './membership.ts'

export interface MemberParts {
  gangs: Gangs
  directories: TaskDirectories
  log: Log
  now(): number
}

export interface MemberRun {
  lane: Lane
  attempt: Attempt
  job: JobBrief
  gang: Gang
  paths: TaskPaths
  coordination: readonly string[] | undefined
  command: readonly string[]
  env: Readonly<Record<string, string>>
  sharedLink: string | undefined
  memory: MemoryLimit | undefined
  limit: Limit
  stageCommon(): Promise<void>
  /** Only for the primary. */
  stageOwn(): Promise<void>
  /** Of a subtask its coordination command has begun, of the primary its command line. */
  started(startTime: number): void
}

/** The primary's stdout.txt and stderr.txt are for its command line. */
export function coordinationStderr({ taskDir }: TaskPaths): string {
  return join(taskDir, 'coordination-stderr.txt')
}

/** Runs it to its end. Throws TaskFailure where the gang does not come together; rejects with another error if the lane broke. */
export async function runMember(parts: MemberParts, run: MemberRun): Promise<Ended> {
  const { gangs, directories, log } = parts
  const { lane, attempt, job, gang, paths, limit } = run
  const isPrimary = gang.index === 0
  const member = gangs.enter({ attempt, gang, paths, owner: lane.owner })
  endWithLost(member, limit)
  const over = new AbortController()
  const signal = AbortSignal.any([limit.signal, over.signal])
  let dir: string | undefined
  let program: MemberProgram | undefined
  try {
    await run.stageCommon()
    dir = directories.makeOwn(attempt.jobUid, job.jobId, `member-${directoryName(attempt)}`, lane.owner)
    const { coordination, command, env, sharedLink, memory } = run
    program = await MemberProgram.start(
      {
        ...{ lane, dir, paths, coordination, command, env, sharedLink, memory },
        mark: `${attempt.jobUid}/${directoryName(attempt)}`,
        stdoutPath: isPrimary ? join(paths.taskDir, 'coordination-stdout.txt') : paths.stdout,
        stderrPath: isPrimary ? coordinationStderr(paths) : paths.stderr,
      },
      signal,
      (startTime) => {
        if (!isPrimary) run.started(startTime)
      },
    )
    member.attach(program)
    const { ready, ended } = program
    const prepared = gangs.prepare(member, signal)
    prepared.catch(() => undefined)
    if (!(await Promise.race([ready.then(() => true), ended.then(() => false)]))) return explained(await ended, run)
    const meeting = meet()
    meeting.catch(() => undefined)
    await Promise.race([meeting, ended])
    return await ended

    async function meet(): Promise<void> {
      await prepared
      await member.rally(new Uint8Array(), signal)
      if (!isPrimary) return
      await run.stageOwn()
      program!.go()
      run.started(parts.now())
    }
  } catch (error) {
    over.abort(error)
    await program?.ended.catch(() => undefined)
    throw error
  } finally {
    gangs.leave(member)
    if (dir !== undefined)
      directories
        .removeOwn(dir)
        .catch((error: unknown) => log.warn({ err: error, attempt }, 'the own directory of a member of a gang could not be removed'))
  }
}

/** A coordination command that failed says so, and is told from the command line. */
function explained(ended: Ended, { coordination, paths, env }: MemberRun): Ended {
  if (ended.killed || ended.failureInfo !== undefined || coordination === undefined) return ended
  const failure = explainExit(ended.exitCode, coordination[0]!, paths.wd, env.PATH ?? '')
  return { ...ended, failureInfo: { ...failure, message: `Coordination command: ${failure.message}` } }
}
