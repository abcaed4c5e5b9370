/** A control group of the kernel: limits of memory and of processes for what runs in it. Versions 1 and 2 differ only here. */
import { closeSync, existsSync, mkdirSync, openSync, readdirSync, readFileSync, readSync, rmdirSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { sendSignal } from './proc.ts'

export type Controller = 'memory' | 'pids'

/** Where groups can be made: the directory of the group above, by controller; one that cannot be had is absent. In version 2 both are the same. */
export interface CgroupPlace {
  version: 1 | 2
  above: Partial<Record<Controller, string>>
}

/** How often each limit stopped something since the group was made. */
export interface Hits {
  /** Processes that were ended because there was no memory for them. */
  oomKills: number
  /** Processes and threads that were not made. */
  refusedForks: number
}

/** A group is busy for a moment after its last process has ended. */
const removeTries = 50
const pauseMs = 20

export class Cgroup {
  /** Where groups within this one can be made. */
  readonly inside: CgroupPlace
  readonly #dirs: readonly string[]
  #events: { memory: number | undefined; pids: number | undefined } | undefined
  #limits: { memoryBytes?: number; processes?: number } = {}

  /** Made at once. Throws what the system says. */
  constructor({ version, above }: CgroupPlace, name: string) {
    const inside: CgroupPlace['above'] = {}
    for (const [controller, dir] of Object.entries(above) as [Controller, string][]) inside[controller] = join(dir, name)
    this.inside = { version, above: inside }
    this.#dirs = directoriesOf(this.inside)
    for (const dir of this.#dirs) mkdirSync(dir, { recursive: true })
  }

  /** Puts a process in. What it starts from then on is born here; what it has started stays where it is. */
  hold(pid: number): void {
    // A group without processes is nobody's to the system: somebody may have tidied up.
    if (!this.#dirs.every((dir) => existsSync(dir))) {
      for (const dir of this.#dirs) mkdirSync(dir, { recursive: true })
      const { memoryBytes, processes } = this.#limits
      this.#limits = {}
      this.#closeEvents()
      if (memoryBytes !== undefined) this.limitMemory(memoryBytes)
      if (processes !== undefined) this.limitProcesses(processes)
    }
    for (const dir of this.#dirs) writeFileSync(join(dir, 'cgroup.procs'), `${pid}`)
  }

  /** Most memory of all in the group together, swapped out or not. Costs nothing when it is what it was. */
  limitMemory(bytes: number): void {
    const dir = this.inside.above.memory
    if (dir === undefined || bytes === this.#limits.memoryBytes) return
    this.#limits.memoryBytes = bytes
    if (this.inside.version === 2) {
      writeFileSync(join(dir, 'memory.max'), `${bytes}`)
      // Swap would make the machine slow for all. Systems without it have no such file.
      if (existsSync(join(dir, 'memory.swap.max'))) writeFileSync(join(dir, 'memory.swap.max'), '0')
      return
    }
    const withSwap = join(dir, 'memory.memsw.limit_in_bytes')
    const files = [join(dir, 'memory.limit_in_bytes'), ...(existsSync(withSwap) ? [withSwap] : [])]
    // The limit with swap is never below the one without, so it depends on the old ones which must go first: both are tried.
    for (const file of [...files, ...files.toReversed()]) tryWrite(file, `${bytes}`)
  }

  /** Most processes and threads in the group together. */
  limitProcesses(count: number): void {
    const dir = this.inside.above.pids
    if (dir === undefined) return
    this.#limits.processes = count
    writeFileSync(join(dir, 'pids.max'), `${count}`)
  }

  /** Read from files that are kept open: one system call each, some 2 µs. */
  hits(): Hits {
    const { memory, pids } = this.inside.above
    this.#events ??= {
      memory: openEvents(memory, this.inside.version === 2 ? 'memory.events' : 'memory.oom_control'),
      pids: openEvents(pids, 'pids.events'),
    }
    return { oomKills: countIn(this.#events.memory, /^oom_kill (\d+)$/m), refusedForks: countIn(this.#events.pids, /^max (\d+)$/m) }
  }

  /** Ends all that is in it, also what forks as fast as it is killed. */
  async killAll(): Promise<void> {
    for (let tries = 0; tries < removeTries; tries += 1) {
      const pids = this.#dirs.flatMap(processesIn)
      if (pids.length === 0) return
      // In version 2, since Linux 5.14, all in one step.
      for (const dir of this.#dirs) if (existsSync(join(dir, 'cgroup.kill'))) tryWrite(join(dir, 'cgroup.kill'), '1')
      for (const pid of pids) sendSignal(pid, 'SIGKILL')
      await sleep(1)
    }
  }

  /** Removes it, with the groups in it, once nothing is in it any more. */
  async remove(): Promise<void> {
    this.#closeEvents()
    for (const dir of this.#dirs) {
      for (const name of groupsIn(dir)) await removeGroup(join(dir, name))
      await removeGroup(dir)
    }
  }

  #closeEvents(): void {
    for (const fd of [this.#events?.memory, this.#events?.pids]) if (fd !== undefined) closeSync(fd)
    this.#events = undefined
  }
}

/** The directories of a place, each once. */
export function directoriesOf({ above }: CgroupPlace): string[] {
  return [...new Set(Object.values(above))]
}

/** Names of the groups in a group. */
export function groupsIn(dir: string): string[] {
  try {
    return readdirSync(dir, { withFileTypes: true })
      .filter((entry) => entry.isDirectory())
      .map((entry) => entry.name)
  } catch {
    return []
  }
}

/** Removes a group once no process is in it; with one try, only if that works at once. */
export async function removeGroup(dir: string, tries = removeTries): Promise<void> {
  for (let at = 1; at <= tries; at += 1) {
    try {
      return rmdirSync(dir)
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== 'EBUSY') return
      if (at < tries) await sleep(pauseMs)
    }
  }
}

function processesIn(dir: string): number[] {
  try {
    const text = readFileSync(join(dir, 'cgroup.procs'), 'latin1')
    return text.split('\n').flatMap((line) => (line === '' ? [] : [Number(line)]))
  } catch {
    return []
  }
}

function openEvents(dir: string | undefined, file: string): number | undefined {
  try {
    return dir === undefined ? undefined : openSync(join(dir, file), 'r')
  } catch {
    // An older kernel does not count.
    return undefined
  }
}

const eventBytes = Buffer.alloc(512)

function countIn(fd: number | undefined, pattern: RegExp): number {
  if (fd === undefined) return 0
  try {
    const bytes = readSync(fd, eventBytes, 0, eventBytes.length, 0)
    return Number(pattern.exec(eventBytes.toString('latin1', 0, bytes))?.[1] ?? 0)
  } catch {
    // The group is gone.
    return 0
  }
}

function tryWrite(path: string, text: string): void {
  try {
    writeFileSync(path, text)
  } catch {
    // Not in this order, or not now: what holds is what the kernel took.
  }
}
