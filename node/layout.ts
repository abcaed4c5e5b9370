/** Where everything of a node lies in its data directory, and whether task users can get to what they must reach. */
import { chmodSync, mkdirSync, statSync } from 'node:fs'
import { dirname, join } from 'node:path'
import { MeshError } from '../protocols/errors.ts'

export interface Layout {
  readonly dataDir: string
  /** Private to the node. */
  readonly identity: string
  readonly run: string
  readonly journal: string
  readonly coordinator: string
  readonly blobs: string
  readonly log: string
  /** Open to task users, as far as directories.ts and staging.ts let them in. */
  readonly tasks: string
  readonly shared: string
  /** A copy of the program that thread tasks run in; open to everybody. */
  readonly runtime: string
}

export function layoutOf(dataDir: string): Layout {
  const at = (name: string) => join(dataDir, name)
  return {
    dataDir,
    identity: at('identity'),
    run: at('run'),
    journal: at('journal'),
    coordinator: at('coordinator'),
    blobs: at('blobs'),
    log: at('log'),
    tasks: at('tasks'),
    shared: at('shared'),
    runtime: at('runtime'),
  }
}

/** What no task may see (S1). */
export function privatePaths(layout: Layout): string[] {
  return [layout.identity, layout.run, layout.journal, layout.coordinator, layout.blobs, layout.log]
}

/**
 * Makes the data directory. Where tasks run as other users than the node's, they must be able to pass through every
 * directory above their own; throws InvalidPropertyValue with the directory that shuts them out.
 */
export function prepareDataDir(layout: Layout, tasksHaveOwnUsers: boolean): void {
  mkdirSync(layout.dataDir, { recursive: true, mode: 0o711 })
  for (const path of privatePaths(layout)) mkdirSync(path, { recursive: true, mode: 0o700 })
  if (!tasksHaveOwnUsers) return
  chmodSync(layout.dataDir, 0o711)
  for (let path = dirname(layout.dataDir); ; path = dirname(path)) {
    if ((statSync(path).mode & 0o001) === 0) {
      throw new MeshError(
        'InvalidPropertyValue',
        `Tasks run as users of their own here and cannot pass through ${path}. Choose another data directory (--data), or allow it: chmod o+x ${path}`,
      )
    }
    if (path === dirname(path)) return
  }
}
