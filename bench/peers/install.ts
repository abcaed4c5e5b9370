/** Where the systems come from: Debian's packages, installed only when asked for, and npm's into a temporary directory. */
import { execFile } from 'node:child_process'
import { existsSync } from 'node:fs'
import { rm, writeFile } from 'node:fs/promises'
import { createRequire } from 'node:module'
import { promisify } from 'node:util'
import { Missing } from './missing.ts'
import type { Place } from './place.ts'

const execute = promisify(execFile)

const debianPackages = [
  'parallel',
  'gearman-job-server',
  'gearman-tools',
  'postgresql',
  'redis-server',
  'python3-distributed',
  'slurm-wlm',
  'munge',
]
/** Asked by the packages' scripts before they start a service: 101 forbids it (Debian: invoke-rc.d). */
const policy = '/usr/sbin/policy-rc.d'

/** Installs the packages of all systems; no service is started by it. */
export async function installDebianPackages(): Promise<void> {
  const isOurs = !existsSync(policy)
  if (isOurs) await writeFile(policy, '#!/bin/sh\nexit 101\n', { mode: 0o755 })
  try {
    const env = { ...process.env, DEBIAN_FRONTEND: 'noninteractive' }
    await execute('apt-get', ['install', '-y', '--no-install-recommends', ...debianPackages], { env, maxBuffer: 64 << 20 })
  } finally {
    if (isOurs) await rm(policy)
  }
}

/** Installs packages of npm's below the place. */
export async function installFromNpm(place: Place, packages: readonly string[]): Promise<void> {
  try {
    // Without optional packages: they are native speed-ups for other platforms too, which not every registry has.
    await place.run([
      'npm',
      'install',
      '--prefix',
      place.dir,
      '--omit=optional',
      '--ignore-scripts',
      '--no-audit',
      '--no-fund',
      ...packages,
    ])
  } catch (error) {
    throw new Missing(`npm could not install ${packages.join(' and ')}: ${(error as Error).message}`)
  }
}

/** What a package exports that was installed below the directory. */
// biome-ignore lint/suspicious/noExplicitAny: it is not installed where types are checked
export function requireFrom(dir: string, name: string): any {
  return createRequire(`${dir}/`)(name)
}
