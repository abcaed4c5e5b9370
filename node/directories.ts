/**
 * Directories of a node, in Azure Batch's layout (Batch: files and directories on nodes):
 *
 *     <root>/shared  startup  applications  fsmounts  volatile
 *     <root>/workitems/<jobId>/job-<jobUid>/<task>[.<epoch>]/{stdout.txt,stderr.txt,wd/}
 *
 * `job-<n>` is Azure's own level, always `job-1` there; here n is the job's uid, so a job that reuses an id never meets
 * the files of the one before. An epoch from the second on is appended to the task, so a late attempt shares no file
 * with its successor; task ids have no dot, so no name is ambiguous. `<task>` is the id as attempts name it (case folded).
 *
 * While its task runs, a task directory belongs to the lane's user; all above it belong to the node and can be passed
 * through but not listed (0711). After the end it is sealed: the node's again, closed to every later task (S1). A sealed
 * directory carries its own expiry, as its modification time, and the sticky bit as the sign; so no list can get lost.
 */
import { chmodSync, chownSync, lstatSync, mkdirSync, readdirSync, renameSync, rmdirSync, utimesSync } from 'node:fs'
import { lstat, readdir } from 'node:fs/promises'
import { basename, join } from 'node:path'
import { failpoint } from '../protocols/failpoint.ts'
import { type Attempt, attemptKey, type JobUid } from '../protocols/ids.ts'
import { emptyDirectory } from './disk-guard.ts'
import type { FindAttempt, Owner, TaskPaths } from './ports.ts'
import { removeTaskDirectory, removeTree } from './remove-tree.ts'
import { pathsIn } from './task-paths.ts'

/** Azure Batch's default retention of a task directory: 7 days. */
export const defaultRetentionMs = 7 * 24 * 3600 * 1000

const sealedMode = 0o1700
const stickyBit = 0o1000

export class Directories {
  readonly root: string
  /** Directories of the node that tasks are told of (AZ_BATCH_NODE_*_DIR). */
  readonly node: { shared: string; startup: string; applications: string; fsmounts: string; volatile: string; workitems: string }
  readonly #jobs = new Map<JobUid, string>()
  readonly #running = new Set<string>()
  readonly #own = new Set<string>()
  #trash = 0

  /** Makes the node's directories under `root` and finds the jobs that are there. */
  constructor(root: string) {
    this.root = root
    const at = (name: string) => join(root, name)
    this.node = {
      shared: at('shared'),
      startup: at('startup'),
      applications: at('applications'),
      fsmounts: at('fsmounts'),
      volatile: at('volatile'),
      workitems: at('workitems'),
    }
    for (const path of [root, ...Object.values(this.node)]) makeDirectory(path, 0o711)
    for (const jobId of readdirSync(this.node.workitems)) {
      const names = readdirSync(join(this.node.workitems, jobId))
      // A process ended between making, or removing, it and what was in it.
      if (names.length === 0) rmdirSync(join(this.node.workitems, jobId))
      for (const name of names) {
        const uid = /^job-([0-9]+)$/.exec(name)?.[1]
        if (uid !== undefined) this.#jobs.set(Number(uid), join(this.node.workitems, jobId, name))
      }
    }
  }

  /** Jobs that have a directory here. */
  get jobs(): JobUid[] {
    return [...this.#jobs.keys()]
  }

  /** The directory of a job, made if it is not there yet. Call it before asking the executor for a lane of the job. */
  openJob(jobUid: JobUid, jobId: string): string {
    const known = this.#jobs.get(jobUid)
    if (known !== undefined) return known
    makeDirectory(join(this.node.workitems, jobId), 0o711)
    const path = join(this.node.workitems, jobId, `job-${jobUid}`)
    makeDirectory(path, 0o711)
    this.#jobs.set(jobUid, path)
    return path
  }

  /** What a lane of this job must see (ExecutorOptions.jobDirs). Throws when the job was not opened. */
  ofJob(jobUid: JobUid): string {
    const path = this.#jobs.get(jobUid)
    if (path === undefined) throw new Error(`The directory of job ${jobUid} was not opened before a lane was asked for.`)
    return path
  }

  /**
   * Makes the directory of an attempt that is about to run, for its lane's owner. What an earlier mesh left under the
   * same name is removed. Throws when this attempt runs already, or the disk is full.
   */
  make(attempt: Attempt, jobId: string, owner: Owner | undefined): TaskPaths {
    const key = attemptKey(attempt)
    if (this.#running.has(key)) throw new Error(`The attempt ${key} runs already.`)
    const paths = pathsIn(join(this.openJob(attempt.jobUid, jobId), directoryName(attempt)))
    try {
      mkdirSync(paths.taskDir, { mode: 0o700 })
    } catch (error) {
      if (!hasCode(error, 'EEXIST')) throw error
      this.#discard(paths.taskDir)
      failpoint('directory.task.discarded')
      mkdirSync(paths.taskDir, { mode: 0o700 })
    }
    mkdirSync(paths.wd, { mode: 0o700 })
    if (owner !== undefined) {
      chownSync(paths.wd, owner.uid, owner.gid)
      chownSync(paths.taskDir, owner.uid, owner.gid)
    }
    failpoint('directory.task.made')
    this.#running.add(key)
    return paths
  }

  /**
   * Makes a directory for what the node itself keeps for a job, anew: `+<name>`, which is no task's. Tasks of the job see
   * it; it belongs to `owner`, or is the node's and open to read. What an earlier process left goes with the next sweep.
   */
  makeOwn(jobUid: JobUid, jobId: string, name: string, owner: Owner | undefined): string {
    const path = join(this.openJob(jobUid, jobId), `+${name}`)
    if (statOf(path) !== undefined) this.#discard(path)
    makeDirectory(path, owner === undefined ? 0o755 : 0o700)
    if (owner !== undefined) chownSync(path, owner.uid, owner.gid)
    this.#own.add(path)
    return path
  }

  async removeOwn(path: string): Promise<void> {
    await removeTree(path)
    this.#own.delete(path)
  }

  empty({ taskDir, stdout, stderr }: TaskPaths): Promise<void> {
    return emptyDirectory(taskDir, [stdout, stderr])
  }

  /** Closes an ended attempt's directory to all later tasks; it is removed `retentionMs` after `now`. */
  seal(attempt: Attempt, now: number, retentionMs = defaultRetentionMs): void {
    this.#running.delete(attemptKey(attempt))
    const job = this.#jobs.get(attempt.jobUid)
    if (job === undefined) return
    failpoint('directory.task.sealing')
    sealDirectory(join(job, directoryName(attempt)), now + retentionMs)
  }

  /** For the files service: where an attempt's directory is, while it is there. */
  readonly find: FindAttempt = (attempt) => {
    const job = this.#jobs.get(attempt.jobUid)
    if (job === undefined || /[/\0]|^\.{1,2}$/.test(attempt.task)) return undefined
    const paths = pathsIn(join(job, directoryName(attempt)))
    if (statOf(paths.taskDir) === undefined) return undefined
    return { paths, running: this.#running.has(attemptKey(attempt)) }
  }

  /**
   * Removes what has expired at `now` and returns how many task directories that were. A directory whose task ended with
   * an earlier process of the node, unsealed, is sealed with the default retention.
   */
  async expire(now: number): Promise<number> {
    let removed = 0
    const failures: unknown[] = []
    for (const [jobUid, job] of this.#jobs) {
      for (const name of await readdir(job)) {
        const taskDir = join(job, name)
        if (this.#isRunning(jobUid, name) || this.#own.has(taskDir)) continue
        // One that cannot be removed keeps no other.
        try {
          if (await this.#expireOne(taskDir, now)) removed += 1
        } catch (error) {
          failures.push(error)
        }
      }
      if (!this.#hasRunning(jobUid)) this.#forgetIfEmpty(jobUid, job)
    }
    if (failures.length > 0) throw failures[0]
    return removed
  }

  /** True for a task directory that was removed. */
  async #expireOne(taskDir: string, now: number): Promise<boolean> {
    if (basename(taskDir).startsWith('+')) {
      await removeTree(taskDir)
      return false
    }
    const stat = await lstat(taskDir)
    if ((stat.mode & stickyBit) === 0) sealDirectory(taskDir, now + defaultRetentionMs)
    else if (stat.mtimeMs <= now) {
      await removeTaskDirectory(taskDir)
      return true
    }
    return false
  }

  /** Removes all that ended attempts of a job left here. */
  async purgeJob(jobUid: JobUid): Promise<void> {
    const job = this.#jobs.get(jobUid)
    if (job === undefined) return
    for (const name of await readdir(job)) {
      if (!this.#isRunning(jobUid, name) && !this.#own.has(join(job, name))) await removeTaskDirectory(join(job, name))
    }
    if (!this.#hasRunning(jobUid)) this.#forgetIfEmpty(jobUid, job)
  }

  #isRunning(jobUid: JobUid, name: string): boolean {
    const [, task, epoch, member] = /^([^.+]+)(?:\.(\d+))?(?:\+(\d+))?$/.exec(name) ?? []
    if (task === undefined) return false
    const named = { jobUid, task, epoch: Number(epoch ?? 1), member: member === undefined ? undefined : Number(member) }
    return this.#running.has(attemptKey(named))
  }

  #hasRunning(jobUid: JobUid): boolean {
    for (const key of this.#running) if (key.startsWith(`${jobUid}/`)) return true
    return false
  }

  #forgetIfEmpty(jobUid: JobUid, job: string): void {
    try {
      rmdirSync(job)
      this.#jobs.delete(jobUid)
      rmdirSync(join(job, '..'))
    } catch (error) {
      if (!hasCode(error, 'ENOTEMPTY') && !hasCode(error, 'ENOENT')) throw error
    }
  }

  /** Moves a directory out of the way at once; it expires with the next sweep. */
  #discard(path: string): void {
    this.#trash += 1
    const name = `${path}.0.${process.pid}-${this.#trash}`
    renameSync(path, name)
    sealDirectory(name, 0)
  }
}

/** A machine may run several members of a gang: each but the primary has its number behind a plus, which is in no task's id. */
export function directoryName({ task, epoch, member }: Attempt): string {
  const name = epoch === 1 ? task : `${task}.${epoch}`
  return member === undefined ? name : `${name}+${member}`
}

function makeDirectory(path: string, mode: number): void {
  mkdirSync(path, { recursive: true })
  // The mode of mkdir is cut by the umask.
  chmodSync(path, mode)
}

/** The parent belongs to the node, so the name cannot be exchanged for a link meanwhile. */
function sealDirectory(path: string, expires: number): void {
  const stat = statOf(path)
  if (stat === undefined) return
  const uid = process.getuid?.()
  if (uid !== undefined && stat.uid !== uid) chownSync(path, uid, process.getgid!())
  chmodSync(path, sealedMode)
  utimesSync(path, expires / 1000, expires / 1000)
}

function statOf(path: string) {
  return lstatSync(path, { throwIfNoEntry: false })
}

function hasCode(error: unknown, code: string): boolean {
  return error instanceof Error && (error as NodeJS.ErrnoException).code === code
}
