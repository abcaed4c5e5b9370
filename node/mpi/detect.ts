/** Which MPI this machine has for tasks, and which fast networks. */
import { execFile } from 'node:child_process'
import { existsSync } from 'node:fs'
import { readdir, readFile } from 'node:fs/promises'
import { join } from 'node:path'
import type { InstalledMpi } from '../../protocols/model/machine.ts'
import { systemPath } from '../environment.ts'

/** A launcher that hangs, as on a network file system that is away, must not be waited for. */
const versionTimeoutMs = 5000

/** Launchers by the names that distributions give them; where several are installed, `mpirun` is the one that tasks get. */
const launchers = ['mpirun', 'mpirun.openmpi', 'mpiexec.hydra', 'mpiexec.mpich']

export interface DetectOptions {
  /** Directories of programs that tasks get, in order; the system's if absent. */
  path?: string
  /** Where the system's own files are; the root directory, unless a test says otherwise. */
  systemRoot?: string
  timeoutMs?: number
}

/** One of each flavor at most. Never rejects. Takes at most 5 s. */
export async function installedMpi({ path = systemPath, timeoutMs = versionTimeoutMs }: DetectOptions = {}): Promise<InstalledMpi[]> {
  const found = await Promise.all(
    launchers.map(async (name) => {
      const file = path
        .split(':')
        .map((directory) => join(directory, name))
        .find((candidate) => existsSync(candidate))
      return file === undefined ? undefined : readVersion(await versionOf(file, path, timeoutMs))
    }),
  )
  const byFlavor = new Map<string, InstalledMpi>()
  for (const mpi of found) if (mpi !== undefined && !byFlavor.has(mpi.flavor)) byFlavor.set(mpi.flavor, mpi)
  return [...byFlavor.values()]
}

/** What a launcher says of itself with `--version`; undefined for one that is not known here. */
export function readVersion(said: string): InstalledMpi | undefined {
  const openMpi = /\(Open MPI\) (\d[\w.+-]*)/.exec(said)?.[1]
  if (openMpi !== undefined) return { flavor: 'openmpi', version: openMpi.slice(0, 64) }
  // Intel's and others' Hydra say so in other words.
  const mpich = /^HYDRA build details:\s+Version:\s+(\d[\w.+-]*)/m.exec(said)?.[1]
  return mpich === undefined ? undefined : { flavor: 'mpich', version: mpich.slice(0, 64) }
}

function versionOf(file: string, path: string, timeoutMs: number): Promise<string> {
  return new Promise((resolve) => {
    // Not even the kill reaches a process that hangs on its file system.
    const timer = setTimeout(() => resolve(''), timeoutMs).unref()
    const child = execFile(file, ['--version'], { timeout: timeoutMs, killSignal: 'SIGKILL', env: { PATH: path } }, (_error, stdout) => {
      clearTimeout(timer)
      resolve(stdout)
    })
    child.unref()
  })
}

/** Devices with a port that is up: InfiniBand and what shows itself as such (RoCE, Omni-Path, EFA), and Slingshot. Never rejects. */
export async function activeFabrics({ systemRoot = '/' }: DetectOptions = {}): Promise<string[]> {
  const infiniband = join(systemRoot, 'sys/class/infiniband')
  const active: string[] = []
  for (const device of await names(infiniband)) {
    const ports = join(infiniband, device, 'ports')
    const states = await Promise.all((await names(ports)).map((port) => readFile(join(ports, port, 'state'), 'utf8').catch(() => '')))
    if (states.some((state) => state.includes('ACTIVE'))) active.push(device)
  }
  // The driver of Slingshot (cxi) has a device for each adapter that works.
  active.push(...(await names(join(systemRoot, 'sys/class/cxi'))))
  return active.map((name) => name.slice(0, 64)).slice(0, 64)
}

async function names(path: string): Promise<string[]> {
  return (await readdir(path).catch((): string[] => [])).sort()
}
