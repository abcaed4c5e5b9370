/** Where a node's data lives, and the numbers that every installation shares. */
import { join, resolve } from 'node:path'
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
