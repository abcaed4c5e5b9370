/**
 * Executor of task processes: lanes of helpers (lane.ts) in the best isolation that works on this machine, found by
 * really trying each tier. A lane serves one job for its whole life: another job gets a new one, with a new user where
 * the node is root, and with temporary directories of its own where the tier has namespaces, so that nothing of a job
 * (processes, shared memory, files left in /tmp) is within another's reach.
 */
import { createHash, randomBytes, randomInt } from 'node:crypto'
import { chmodSync, existsSync, mkdirSync, mkdtempSync, readdirSync, rmSync } from 'node:fs'
import { availableParallelism } from 'node:os'
import { join } from 'node:path'
import type { JobUid } from '../../protocols/ids.ts'
import { type IsolationTier, isolationTierSchema } from '../../protocols/model/machine.ts'
import type { Ended, Executor, Lane, MemoryLimit, Owner, StartRequest } from '../ports.ts'
import { Cgroups } from './cgroups.ts'
import { type LaneSetup, ShellLane, startHelper } from './lane.ts'
import { type HeldLimits, heldLimits, type TaskLimits } from './limits.ts'
import { sweepText } from './script.ts'
import { Spawner } from './spawner.ts'
import { isWithin, removeTemporary, temporaryOf } from './temporary.ts'
import { type LanePlan, laneCommands, traceOf } from './tiers.ts'

/** Users of lanes lie from here on: far above those of people and of subordinate ranges, and below 2^31, which some tools take as signed. */
const firstUid = 0x6000_0000
/** Users of one node. A lane takes the next one, so a number comes back only after so many lanes. */
const uidsPerNode = 0x1_0000
/** Groups of nodes lie above all users of lanes, up to 2^31. */
const firstGroup = 0x7000_0000
const groups = 0x0fff_ffff
/** Nodes on one machine get different ranges by a hash of their seed. */
const uidRanges = 0x1000

const lanesPrefix = 'lanes-'

/** A spare lane is started so long after the last one was taken: not while a job's first tasks start. */
const spareDelayMs = 200

/** More idle lanes than could run at once are no use. Asked once: each time reads files of the system. */
const maxIdleLanes = 2 * availableParallelism()

export interface ExecutorOptions {
  /** A directory of the node for its pipes and its lanes' temporary files; made, private to the node's user. */
  runDir: string
  /** What tells this node from others on the machine (its data directory): selects the users of its lanes. */
  seed: string
  /** Directories of the node that no task may see (identity, control socket, stores). Missing ones are made, private to the node's user. */
  hidePaths: readonly string[]
  /**
   * The directory of all jobs, and the one in it that lanes of one job must see; it must exist when a lane of the job is
   * asked for. Used where tasks run as the node's own user, so that only hiding keeps jobs apart.
   */
  jobDirs?: { root: string; of: (jobUid: JobUid) => string }
  /** Takes this tier, or fails. Otherwise the best that works. */
  tier?: IsolationTier
  /** First user id for lanes, instead of one derived from `seed`; {@link uidsPerNode} follow it. */
  uidBase?: number
  /** What tasks may take, where the machine has control groups; absent: all that they get. */
  limits?: TaskLimits
  /** A lane idle for so long is ended. Default 60 s: longer than the gaps within a job, short enough to give memory back. */
  idleMs?: number
  /** Keeps one lane started that no job has had yet, so that the first task of a job waits for no namespaces; where lanes do not depend on the job. */
  spare?: boolean
}

export interface TaskExecutor extends Executor {
  readonly limits: HeldLimits
  /** Removes the control groups of nodes that were killed. Call it when no other node can be using the data directory. */
  sweepGroups(): Promise<void>
}

interface IdleLane {
  jobUid: JobUid
  lane: ShellLane
  timer: NodeJS.Timeout
}

/**
 * What executors of nodes that were killed left in `runDir`. List it before starting an executor there, and remove it
 * ({@link removeTree}) when it is sure that no other node uses the data directory.
 */
export function leftLanes(runDir: string): string[] {
  const names = existsSync(runDir) ? readdirSync(runDir) : []
  return names.filter((name) => name.startsWith(lanesPrefix)).map((name) => join(runDir, name))
}

/** Finds the best tier that works and starts its spawner. Rejects, with what each tier said, when none works. */
export async function startExecutor(options: ExecutorOptions): Promise<TaskExecutor> {
  mkdirSync(options.runDir, { recursive: true, mode: 0o700 })
  chmodSync(options.runDir, 0o700)
  const { jobDirs } = options
  const covering = options.hidePaths.find((path) => jobDirs !== undefined && isWithin(jobDirs.root, path))
  if (covering !== undefined)
    throw new Error(`Tasks could not see their directories: ${jobDirs!.root} lies in ${covering}, which is hidden from them.`)
  for (const path of options.hidePaths) mkdirSync(path, { recursive: true, mode: 0o700 })
  const runDir = mkdtempSync(join(options.runDir, lanesPrefix))
  const isRoot = process.getuid?.() === 0
  const failures: string[] = []
  const memoryBytes = (options.limits?.memoryMiB ?? 0) * 2 ** 20
  const groups = options.limits === undefined ? 'no limits were asked for' : await Cgroups.open({ seed: options.seed, memoryBytes })
  for (const tier of isolationTierSchema.options) {
    if (options.tier !== undefined && options.tier !== tier) continue
    // Root has no use for a user namespace: its tasks would still be root to every file.
    if ((tier === 'bwrap' || tier === 'userns') === isRoot && tier !== 'process-group') {
      failures.push(`${tier}: the node runs ${isRoot ? 'as root, for which user+pidns is meant' : 'as an ordinary user'}`)
      continue
    }
    const pool = new LanePool(options, { runDir, tier, isRoot, groups })
    const complaint = await pool.probe()
    if (complaint === undefined) {
      pool.keepSpare()
      return pool
    }
    failures.push(`${tier}: ${complaint}`)
    await pool.closeSpawner()
  }
  if (typeof groups !== 'string') await groups.close()
  rmSync(runDir, { recursive: true, force: true })
  throw new Error(`No way to run task processes works on this machine. ${failures.join('; ')}`)
}

interface PoolParts {
  runDir: string
  tier: IsolationTier
  isRoot: boolean
  /** Control groups, or why there are none. */
  groups: Cgroups | string
}

class LanePool implements TaskExecutor {
  readonly tier: IsolationTier
  readonly #groups: Cgroups | undefined
  readonly limits: HeldLimits
  readonly #options: ExecutorOptions
  readonly #runDir: string
  readonly #isRoot: boolean
  readonly #nonce = randomBytes(12).toString('hex')
  readonly #uidBase: number
  readonly #all = new Set<ShellLane>()
  readonly #idle: IdleLane[] = []
  #spawner: Spawner | undefined
  #spare: ShellLane | undefined
  #spareTimer: NodeJS.Timeout | undefined
  /** Of this process alone: what sweeps after a node that was killed must not find the lanes of the one that comes after it. */
  readonly #nodeGroup = firstGroup + randomInt(groups)
  #uidOffset = randomInt(uidsPerNode)
  #variant = 0
  #count = 0
  #isClosed = false

  constructor(options: ExecutorOptions, { runDir, tier, isRoot, groups }: PoolParts) {
    this.tier = tier
    this.#options = options
    this.#runDir = runDir
    this.#isRoot = isRoot
    const range = createHash('sha256').update(options.seed).digest().readUInt16BE() % uidRanges
    this.#groups = typeof groups === 'string' ? undefined : groups
    this.limits = heldLimits(groups, isRoot && options.limits !== undefined)
    this.#uidBase = options.uidBase ?? firstUid + range * uidsPerNode
  }

  /** Tries the tier's variants; undefined when one works, else what they said. */
  async probe(): Promise<string | undefined> {
    const said: string[] = []
    const variants = laneCommands(this.tier, this.#plan(undefined)).length
    for (this.#variant = 0; this.#variant < variants; this.#variant += 1) {
      const setup = this.#setup(undefined)
      try {
        const helper = await startHelper(setup)
        helper.kill()
        await helper.gone
        return undefined
      } catch (error) {
        said.push(error instanceof Error ? error.message : String(error))
      } finally {
        await removeTemporary(this.#temporaryDir(setup.plan))
      }
    }
    return [...new Set(said)].join(' ')
  }

  async lane(jobUid: JobUid): Promise<Lane> {
    if (this.#isClosed) throw new Error('The executor is closed.')
    const at = this.#idle.findLastIndex((idle) => idle.jobUid === jobUid)
    const [reused] = at >= 0 ? this.#idle.splice(at, 1) : []
    if (reused !== undefined) clearTimeout(reused.timer)
    const lane = reused?.lane ?? this.#takeSpare() ?? new ShellLane(this.#setup(jobUid))
    this.#all.add(lane)
    try {
      await lane.ready()
    } catch (error) {
      await this.#end(lane)
      throw error
    }
    return new LaneLease(lane, this.tier === 'process-group' ? undefined : this.#temporaryDir(lane.plan), (isSpoilt) =>
      this.#giveBack(jobUid, lane, isSpoilt),
    )
  }

  /** Starts a spare lane in a moment, if there is none and lanes are the same for all jobs. */
  keepSpare(): void {
    if (this.#options.spare !== true || this.#hidesJobs) return
    this.#spareTimer ??= setTimeout(() => {
      this.#spareTimer = undefined
      if (this.#isClosed || this.#spare !== undefined) return
      const spare = new ShellLane(this.#setup(undefined))
      this.#spare = spare
      this.#all.add(spare)
      // Whoever takes it tries again, and is told why.
      spare.ready().catch(() => undefined)
    }, spareDelayMs).unref()
  }

  #takeSpare(): ShellLane | undefined {
    const spare = this.#spare
    this.#spare = undefined
    this.keepSpare()
    return spare
  }

  async close(): Promise<void> {
    this.#isClosed = true
    clearTimeout(this.#spareTimer)
    for (const idle of this.#idle.splice(0)) clearTimeout(idle.timer)
    await Promise.all([...this.#all].map((lane) => this.#end(lane)))
    await this.closeSpawner()
    await this.#groups?.close()
    rmSync(this.#runDir, { recursive: true, force: true })
  }

  async closeSpawner(): Promise<void> {
    await this.#spawner?.close()
  }

  /** Where a lane's temporary files lie. */
  #temporaryDir({ index }: Pick<LanePlan, 'index'>): string {
    return join(this.#runDir, `${index}.tmp`)
  }

  async sweepGroups(): Promise<void> {
    await this.#groups?.sweepLeft()
  }

  #setup(jobUid: JobUid | undefined): LaneSetup {
    const groups = this.#groups
    const processes = this.#options.limits?.processes
    return {
      tier: this.tier,
      spawner: () => this.#livingSpawner(),
      variant: this.#variant,
      plan: this.#plan(jobUid),
      // The helper counts, too.
      group: groups === undefined || processes === undefined ? undefined : () => groups.lane(processes + 1),
      processes,
    }
  }

  /** The spawner; another one if it was killed (its lanes, and what ran on them, ended with it). */
  #livingSpawner(): Spawner {
    if (this.#spawner === undefined || this.#spawner.isEnded) {
      // Where no namespace dies with the node, the spawner outlives it for the moment that the sweep takes.
      const atEnd = this.tier === 'process-group' ? `exec 2>/dev/null; ${sweepText(traceOf(this.#plan(undefined), 'node'))}` : undefined
      this.#spawner = new Spawner(this.#runDir, { deathSignal: atEnd === undefined, atEnd })
    }
    return this.#spawner
  }

  /** Where each lane has a user of its own, permissions keep jobs apart, and nothing needs to be hidden for it. */
  get #hidesJobs(): boolean {
    return this.#options.jobDirs !== undefined && !this.#isRoot
  }

  #plan(jobUid: JobUid | undefined): LanePlan {
    this.#count += 1
    const { hidePaths, jobDirs } = this.#options
    // Through its service manager a user can have programs started outside of any namespace.
    const runtimeDir = `/run/user/${process.getuid?.()}`
    const hide = [
      ...hidePaths,
      this.#runDir,
      ...(this.#hidesJobs ? [jobDirs!.root] : []),
      ...(!this.#isRoot && existsSync(runtimeDir) ? [runtimeDir] : []),
    ]
    const index = this.#count
    const temporary = temporaryOf(this.#temporaryDir({ index }), [this.#runDir, ...(jobDirs === undefined ? [] : [jobDirs.root])])
    // What lies in a covered directory is not to be seen anyway, unless it is in what stays.
    const isCovered = (path: string) =>
      temporary.covers.some((cover) => isWithin(path, cover.path)) && !temporary.stays.some((stay) => isWithin(path, stay))
    return {
      owner: this.#isRoot ? this.#nextOwner() : undefined,
      nodeGroup: this.#nodeGroup,
      hide: hide.filter(
        (path, at) => !isCovered(path) && !hide.some((other, otherAt) => isWithin(path, other) && (path !== other || otherAt < at)),
      ),
      keep: this.#hidesJobs && jobUid !== undefined ? jobDirs!.of(jobUid) : undefined,
      temporary,
      index,
      nonce: this.#nonce,
      // A user of its own per lane: the system counts its processes even without control groups.
      processes: this.#isRoot && this.#groups?.limits.processes !== true ? this.#options.limits?.processes : undefined,
      // Tasks with the node's own user id could change their own limits.
      readOnly: !this.#isRoot && this.#groups !== undefined ? ['/sys/fs/cgroup'] : [],
    }
  }

  #nextOwner(): Owner {
    this.#uidOffset = (this.#uidOffset % (uidsPerNode - 1)) + 1
    const uid = this.#uidBase + this.#uidOffset
    return { uid, gid: uid }
  }

  #giveBack(jobUid: JobUid, lane: ShellLane, isSpoilt: boolean): void {
    if (this.#isClosed) return
    if (isSpoilt) return void this.#end(lane)
    const timer = setTimeout(() => this.#evict(this.#idle.findIndex((idle) => idle.lane === lane)), this.#options.idleMs ?? 60_000)
    timer.unref()
    this.#idle.push({ jobUid, lane, timer })
    if (this.#idle.length > maxIdleLanes) this.#evict(0)
  }

  #evict(at: number): void {
    const [evicted] = at >= 0 ? this.#idle.splice(at, 1) : []
    if (evicted === undefined) return
    clearTimeout(evicted.timer)
    void this.#end(evicted.lane)
  }

  async #end(lane: ShellLane): Promise<void> {
    await lane.close()
    // What cannot be removed now goes with the directory of all lanes.
    await removeTemporary(this.#temporaryDir(lane.plan)).catch(() => undefined)
    this.#all.delete(lane)
  }
}

/** A lane in the hands of one holder: released once, then of no more use to it. */
class LaneLease implements Lane {
  readonly #lane: ShellLane
  readonly temporaryDir: string | undefined
  readonly #giveBack: (isSpoilt: boolean) => void
  #isReleased = false
  #isRunning = false

  constructor(lane: ShellLane, temporaryDir: string | undefined, giveBack: (isSpoilt: boolean) => void) {
    this.#lane = lane
    this.temporaryDir = temporaryDir
    this.#giveBack = giveBack
  }

  get owner(): Owner | undefined {
    return this.#lane.owner
  }

  async run(start: StartRequest, signal: AbortSignal, onStart?: (startTime: number) => void): Promise<Ended> {
    if (this.#isReleased || this.#isRunning) throw new Error(`The lane ${this.#isReleased ? 'was given back' : 'runs another task'}.`)
    this.#isRunning = true
    try {
      return await this.#lane.run(start, signal, onStart)
    } finally {
      this.#isRunning = false
    }
  }

  limitMemory(memory: MemoryLimit): void {
    this.#lane.limitMemory(memory)
  }

  release(isSpoilt = false): void {
    if (this.#isReleased) return
    if (this.#isRunning) throw new Error('A lane cannot be given back while its task runs.')
    this.#isReleased = true
    this.#giveBack(isSpoilt)
  }
}
