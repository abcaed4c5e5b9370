/** Measures each live node from outside, and reads what its probe wrote. Linux: /proc. */
import { lstat, readdir, readFile } from 'node:fs/promises'
import { join } from 'node:path'
import type { Machine } from './nodes.ts'
import type { Probe } from './probe.ts'
import type { Sample } from './verdict.ts'

const mib = 1 << 20
/** Ticks a second in /proc/PID/stat: USER_HZ, which is 100 on every Linux that Node runs on. */
const ticks = 100
/** Databases, where a node of its kind has them. */
const databases = ['coordinator', 'journal']
/** What is kept as long as there is room, and no longer. */
const caches = ['blobs', 'shared']
/** A probe line older than this is of another time. */
const freshMs = 40_000

export interface Measured extends Sample {
  pid: number
  /** Processor time of the process itself so far, in seconds. */
  cpu: number
  /** Kinds of handles, and bytes on disk by directory, for whoever looks for the reason. */
  details: { handles?: Record<string, number>; disk: Record<string, number> }
}

/** A sample of a machine; undefined where it is not up. `seconds` is the time of the run. */
export async function sample(machine: Machine, seconds: number): Promise<Measured | undefined> {
  const { process: node, name, life, dataDir, stopped } = machine
  if (node === undefined) return undefined
  const { pid } = node
  try {
    const [status, fds, line, processes, probe, disk] = await Promise.all([
      readFile(`/proc/${pid}/status`, 'utf8'),
      readdir(`/proc/${pid}/fd`),
      readFile(`/proc/${pid}/stat`, 'utf8'),
      descendants(pid),
      lastProbe(machine.probe, pid),
      diskUse(dataDir),
    ])
    const fields = line.slice(line.lastIndexOf(')') + 2).split(' ')
    const of = (parts: readonly string[]) => parts.reduce((sum, part) => sum + (disk[part] ?? 0), 0)
    const field = (key: string) => Number(new RegExp(`^${key}:\\s+(\\d+)`, 'm').exec(status)?.[1])
    return {
      time: Math.round(seconds),
      node: name,
      life,
      pid,
      rss: field('VmRSS') / 1024,
      fds: fds.length,
      threads: field('Threads'),
      processes: processes.length,
      disk: (total(disk) - of(caches)) / mib,
      database: of(databases) / mib,
      cache: of(caches) / mib,
      cpu: (Number(fields[11]) + Number(fields[12])) / ticks,
      ...(probe === undefined ? {} : { heap: probe.heap / mib, external: probe.external / mib, handles: total(probe.handles) }),
      ...(probe === undefined || stopped ? {} : { lag: probe.lagMs }),
      details: { ...(probe === undefined ? {} : { handles: probe.handles }), disk },
    }
  } catch (error) {
    // It ended while it was measured.
    if (['ENOENT', 'ESRCH', 'EACCES'].includes((error as NodeJS.ErrnoException).code ?? '')) return undefined
    throw error
  }
}

const total = (counts: Record<string, number>): number => Object.values(counts).reduce((a, b) => a + b, 0)

async function lastProbe(file: string, pid: number): Promise<Probe | undefined> {
  const text = await readFile(file, 'utf8').catch(() => '')
  const line = text.trimEnd().split('\n').at(-1)
  if (line === undefined || line === '') return undefined
  const probe = JSON.parse(line) as Probe
  return probe.pid === pid && Date.now() - probe.time < freshMs ? probe : undefined
}

/** Parent of every process. */
export async function parents(): Promise<Map<number, number>> {
  const found = new Map<number, number>()
  for (const entry of await readdir('/proc')) {
    if (!/^\d+$/.test(entry)) continue
    const line = await readFile(`/proc/${entry}/stat`, 'utf8').catch(() => '')
    const parent = /^\d+ \(.*\) \S (\d+)/s.exec(line)?.[1]
    if (parent !== undefined) found.set(Number(entry), Number(parent))
  }
  return found
}

/** All that a process has started, as far as it still belongs to it. */
async function descendants(pid: number): Promise<number[]> {
  const all = await parents()
  const below = new Set([pid])
  for (let before = 0; before !== below.size; ) {
    before = below.size
    for (const [child, parent] of all) if (below.has(parent)) below.add(child)
  }
  below.delete(pid)
  return [...below]
}

/** Bytes on disk below each entry of a directory. What vanishes meanwhile counts nothing. */
async function diskUse(dir: string): Promise<Record<string, number>> {
  const use: Record<string, number> = {}
  for (const name of await readdir(dir)) use[name] = await bytesBelow(join(dir, name))
  return use
}

async function bytesBelow(path: string): Promise<number> {
  const entry = await lstat(path).catch(() => undefined)
  if (entry === undefined) return 0
  if (!entry.isDirectory()) return entry.blocks * 512
  let sum = entry.blocks * 512
  for (const name of await readdir(path).catch(() => [])) sum += await bytesBelow(join(path, name))
  return sum
}
