/** What this machine has, and what of it the node lends. */
import { execFile } from 'node:child_process'
import { readdirSync, readFileSync } from 'node:fs'
import { statfs } from 'node:fs/promises'
import { availableParallelism, totalmem } from 'node:os'
import { join } from 'node:path'
import type { Capacity } from '../protocols/model/resources.ts'

const mebibyte = 1 << 20

/** A GPU tool that hangs (a driver in trouble) must not keep the node from starting. */
const gpuTimeoutMs = 2000

/** Where the system's own files are; the root directory, unless a test says otherwise. */
export interface SystemOptions {
  systemRoot?: string
  /** Command that lists GPUs, one a line. */
  gpuCommand?: readonly string[]
}

/** What this machine has, limits of its container or service (cgroup v1 and v2) taken into account. */
export async function measureMachine(options: SystemOptions = {}): Promise<Capacity> {
  const root = options.systemRoot ?? '/'
  const groups = controlGroups(root)
  const cores = Math.min(availableParallelism(), ...groups.map((group) => cpuQuota(group)))
  const memory = Math.min(totalmem(), ...groups.map((group) => memoryLimit(group)))
  return { cores, memoryMiB: Math.floor(memory / mebibyte), gpus: await countGpus(root, options.gpuCommand) }
}

/** Free space for an ordinary user on the file system of `path`, in MiB. */
export async function freeDiskMiB(path: string): Promise<number> {
  const { bavail, bsize } = await statfs(path)
  return Math.floor((bavail * bsize) / mebibyte)
}

/** What is lent: all that there is, or less where the owner says so (`--lend-cpus`, `--lend-memory`). Throws RangeError when that is not possible. */
export function lend(has: Capacity, wanted: { cores?: number | undefined; memoryMiB?: number | undefined }): Capacity {
  return {
    cores: lentAmount('--lend-cpus', 'cores', has.cores, wanted.cores),
    memoryMiB: lentAmount('--lend-memory', 'MiB of memory', has.memoryMiB, wanted.memoryMiB),
    gpus: has.gpus,
  }
}

function lentAmount(option: string, unit: string, has: number, wanted: number | undefined): number {
  if (wanted === undefined) return has
  if (!Number.isFinite(wanted) || wanted < 0) throw new RangeError(`${option} must be a number of 0 or more, not ${wanted}.`)
  if (wanted > has)
    throw new RangeError(
      `${option} ${wanted} is more than this machine has: ${has} ${unit}. Give at most ${has}, or leave the option away to lend all.`,
    )
  return wanted
}

/** Directories of the control groups that this process is in, from its own up to the root, in each hierarchy. */
function controlGroups(root: string): string[] {
  const found = new Set<string>()
  for (const line of read(join(root, 'proc/self/cgroup')).split('\n')) {
    // hierarchy:controllers:path; the second is empty in version 2.
    const [, controllers, path] = /^[0-9]+:([^:]*):(\/.*)$/.exec(line) ?? []
    if (controllers === undefined || path === undefined) continue
    const mounts = controllers === '' ? ['', 'unified'] : [controllers, ...controllers.split(',')]
    for (const mount of mounts) {
      const parts = path.split('/').filter((part) => part !== '' && part !== '..')
      for (let length = parts.length; length >= 0; length -= 1) found.add(join(root, 'sys/fs/cgroup', mount, ...parts.slice(0, length)))
    }
  }
  return [...found]
}

/** Cores that a group may use, as a fraction if need be; Infinity where it has no limit. */
function cpuQuota(group: string): number {
  const [quota, period] = read(join(group, 'cpu.max')).trim().split(' ')
  if (quota !== undefined && period !== undefined) return ratio(Number(quota), Number(period))
  return ratio(Number(read(join(group, 'cpu.cfs_quota_us')) || Number.NaN), Number(read(join(group, 'cpu.cfs_period_us'))))
}

function ratio(quota: number, period: number): number {
  // "max" (v2) and -1 (v1) mean no limit.
  return quota > 0 && period > 0 ? quota / period : Number.POSITIVE_INFINITY
}

/** Bytes that a group may use; Infinity where it has no limit. */
function memoryLimit(group: string): number {
  const text = read(join(group, 'memory.max')) || read(join(group, 'memory.limit_in_bytes'))
  const limit = Number(text.trim() || Number.NaN)
  return limit > 0 ? limit : Number.POSITIVE_INFINITY
}

/** NVIDIA by its tool or its driver's files, others by their render nodes; 0 when there is none. Takes at most 2 s. */
async function countGpus(root: string, command: readonly string[] = ['nvidia-smi', '--list-gpus']): Promise<number> {
  const listed = await new Promise<string>((resolve) => {
    // Not even the kill reaches a process that hangs in its driver.
    const timer = setTimeout(() => resolve(''), gpuTimeoutMs)
    execFile(command[0]!, command.slice(1), { timeout: gpuTimeoutMs, killSignal: 'SIGKILL' }, (error, stdout) => {
      clearTimeout(timer)
      resolve(error === null ? stdout : '')
    })
  })
  const byTool = listed.split('\n').filter((line) => line.startsWith('GPU ')).length
  if (byTool > 0) return byTool
  const byDriver = names(join(root, 'proc/driver/nvidia/gpus')).length
  if (byDriver > 0) return byDriver
  return names(join(root, 'dev/dri')).filter((name) => name.startsWith('renderD')).length
}

function names(path: string): string[] {
  try {
    return readdirSync(path)
  } catch {
    // Not there: no such device.
    return []
  }
}

function read(path: string): string {
  try {
    return readFileSync(path, 'utf8')
  } catch {
    // Not there, or not for us: no limit is known.
    return ''
  }
}
