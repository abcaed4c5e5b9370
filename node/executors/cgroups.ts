/**
 * What tasks can take of the machine, held by control groups. The node has a group, bounded by what it lends; in it each lane
 * has one, bounded by what its task may have. So a task costs no group of its own, and what one takes is never another's.
 *
 *     <found by cgroup-places.ts>/batchmesh-<mark of the data directory>-<pid>-<nonce>/lane-<n>
 *
 * Only a lane's helper is put into its group, and all that it starts is born there; the machinery around it stays outside.
 */
import { spawn } from 'node:child_process'
import { createHash, randomBytes } from 'node:crypto'
import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { Cgroup, type CgroupPlace, directoriesOf, groupsIn, removeGroup } from './cgroup.ts'
import { candidatePlaces, enable } from './cgroup-places.ts'

export interface CgroupOptions {
  /** What tells this node from others on the machine: its data directory. */
  seed: string
  /** Most that all tasks together may have; absent: what the machine has. */
  memoryBytes?: number | undefined
  systemRoot?: string | undefined
}

const namePattern = /^batchmesh-([0-9a-f]{8})-(\d+)-[0-9a-f]+$/
/** All tasks together leave so much of the process ids for everybody else. */
const ownShareOfPids = 0.5

export class Cgroups {
  /** Which limits hold; `why` says what keeps the others from it. */
  readonly limits: { memory: boolean; processes: boolean }
  readonly version: 1 | 2
  readonly why: string | undefined
  readonly #place: CgroupPlace
  readonly #group: Cgroup
  readonly #left: readonly string[]
  readonly #mark: string
  #count = 0

  private constructor(mark: string, place: CgroupPlace, group: Cgroup, why: string | undefined) {
    this.#mark = mark
    this.#place = place
    this.#group = group
    this.version = place.version
    this.limits = { memory: place.above.memory !== undefined, processes: place.above.pids !== undefined }
    this.why = why
    const own = (name: string) => namePattern.exec(name)
    this.#left = directoriesOf(place)
      .flatMap(groupsIn)
      .filter((name) => own(name)?.[1] === mark && directoriesOf(group.inside).every((dir) => !dir.endsWith(`/${name}`)))
  }

  /** The best place that works, found by putting a process into a group there; or why there is none. */
  static async open({ seed, memoryBytes, systemRoot }: CgroupOptions): Promise<Cgroups | string> {
    const mark = createHash('sha256').update(seed).digest('hex').slice(0, 8)
    const name = `batchmesh-${mark}-${process.pid}-${randomBytes(4).toString('hex')}`
    const said = new Set<string>()
    for (const { place, prepare } of candidatePlaces(systemRoot)) {
      let group: Cgroup | undefined
      try {
        prepare()
        group = new Cgroup(place, name)
        if (place.version === 2)
          for (const dir of directoriesOf(group.inside)) enable(dir, Object.keys(place.above) as (keyof typeof place.above)[])
        if (memoryBytes !== undefined && memoryBytes > 0) group.limitMemory(memoryBytes)
        group.limitProcesses(processesForTasks())
        await tryHolding(group)
        return new Cgroups(mark, place, group, Object.keys(place.above).length > 1 ? undefined : [...said].join('; '))
      } catch (error) {
        said.add((error as Error).message)
        await group?.remove()
      }
    }
    return said.size === 0
      ? 'this system has no control groups for memory and processes, or this process may not see them'
      : [...said].join('; ')
  }

  /** A group for one lane. Throws when it cannot be made any more. */
  lane(processes: number): Cgroup {
    this.#count += 1
    const group = new Cgroup(this.#group.inside, `lane-${this.#count}`)
    group.limitProcesses(processes)
    return group
  }

  /**
   * Removes what nodes left that were killed: of this data directory, with all that still runs there, and what is empty of
   * others. Call it when no other node can be using the data directory.
   */
  async sweepLeft(): Promise<void> {
    for (const above of directoriesOf(this.#place))
      for (const name of groupsIn(above)) {
        const [, mark, pid] = namePattern.exec(name) ?? []
        if (mark === undefined) continue
        const dir = join(above, name)
        if (this.#left.includes(name)) await endGroups(this.#place.version, dir)
        else if (mark !== this.#mark && !isAlive(Number(pid)))
          for (const inner of [...groupsIn(dir), '.']) await removeGroup(join(dir, inner), 1)
      }
  }

  /** Once all lanes have ended. */
  async close(): Promise<void> {
    await this.#group.remove()
  }
}

/** Ends what runs in the groups of a node, and removes them. */
async function endGroups(version: 1 | 2, dir: string): Promise<void> {
  for (const name of groupsIn(dir)) {
    const group = new Cgroup({ version, above: { memory: dir } }, name)
    await group.killAll()
    await group.remove()
  }
  await removeGroup(dir)
}

/** Puts a process into a group within, as a lane will. Throws what the system says. */
async function tryHolding(group: Cgroup): Promise<void> {
  const trial = new Cgroup(group.inside, 'trial')
  const sleeper = spawn('sleep', ['60'], { stdio: 'ignore' })
  const gone = new Promise((resolve) => sleeper.once('close', resolve).once('error', resolve))
  try {
    trial.limitMemory(2 ** 30)
    trial.limitProcesses(64)
    if (sleeper.pid === undefined) throw new Error('no process could be started')
    trial.hold(sleeper.pid)
  } finally {
    sleeper.kill('SIGKILL')
    await gone
    await trial.remove()
  }
}

/** Half of what the system can have. */
function processesForTasks(): number {
  const most = ['kernel/pid_max', 'kernel/threads-max'].map((name) => {
    try {
      return Number(readFileSync(join('/proc/sys', name), 'latin1'))
    } catch {
      return 32_768
    }
  })
  return Math.floor(Math.min(...most) * ownShareOfPids)
}

function isAlive(pid: number): boolean {
  try {
    process.kill(pid, 0)
    return true
  } catch (error) {
    return (error as NodeJS.ErrnoException).code !== 'ESRCH'
  }
}
