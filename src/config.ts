/** Where a node's data lives, and the numbers that every installation shares. */
import { homedir } from 'node:os'
import { dirname, join, resolve } from 'node:path'
import envPaths from 'env-paths'

/** TCP port of a node: not assigned by IANA to a service in common use, and below the ephemeral ranges. */
export const defaultPort = 4747

/** The data directory: `--data`, else BATCHMESH_DATA, else the platform's convention (as root on Linux /var/lib/batchmesh). Absolute. */
export function dataDirectory(option?: string, env: Record<string, string | undefined> = process.env): string {
  const chosen = option ?? env['BATCHMESH_DATA']
  if (chosen !== undefined && chosen !== '') return resolve(chosen)
  if (process.platform === 'linux' && process.getuid?.() === 0) return '/var/lib/batchmesh'
  return envPaths('batchmesh', { suffix: '' }).data
}

/** The owner-only socket on which a node answers its command line. */
export function controlSocketPath(dataDir: string): string {
  return join(dataDir, 'run', 'control.sock')
}

export interface ConfigFile {
  path: string
  /** Of this user, or of the whole machine. */
  scope: 'user' | 'system'
  /** Named by the user, so that it has to be there. */
  isNamed: boolean
}

/**
 * The configuration files, the stronger one first: the user's in the platform's place for such files, or the one that
 * BATCHMESH_CONFIG names (empty: none at all); then the machine's.
 */
export function configFiles(env: Record<string, string | undefined> = process.env): ConfigFile[] {
  const named = env['BATCHMESH_CONFIG']
  if (named === '') return []
  const programData = env['ProgramData'] ?? 'C:\\ProgramData'
  const system = process.platform === 'win32' ? join(programData, 'batchmesh', 'config.toml') : '/etc/batchmesh/config.toml'
  const user = named ?? join(envPaths('batchmesh', { suffix: '' }).config, 'config.toml')
  return [
    { path: resolve(user), scope: 'user', isNamed: named !== undefined },
    { path: system, scope: 'system', isNamed: false },
  ]
}

/** A path that stands in a configuration file: `~` is the home directory, anything relative lies beside the file. */
export function pathInFile(path: string, file: string): string {
  if (path === '~' || path.startsWith('~/')) return join(homedir(), path.slice(1))
  return resolve(dirname(file), path)
}
