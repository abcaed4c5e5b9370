/**
 * A lane's own `/tmp`, `/var/tmp` and `/dev/shm` (S1): what a task leaves there is out of other jobs' reach, and goes
 * with the lane. The first two are directories on the node's disk, so that large files take no memory.
 */
import { chmodSync, existsSync, mkdirSync, realpathSync } from 'node:fs'
import { totalmem } from 'node:os'
import { join } from 'node:path'
import { removeTree } from '../remove-tree.ts'

/** A directory of the machine in whose place a lane sees one of its own. */
export interface Cover {
  path: string
  /** What lies there instead; absent: a file system in memory. */
  from?: string
}

export interface Temporary {
  /** In the order in which they can be mounted: first those that do not lie over what the others come from. */
  covers: readonly Cover[]
  /** What stays visible at its own path in a covered directory: where a node lives below `/tmp`, it is there. */
  stays: readonly string[]
  /** Bound of what lies in memory: half of the machine's, as the system itself has it. */
  memoryBytes: number
}

export function isWithin(path: string, directory: string): boolean {
  return path === directory || path.startsWith(`${directory}/`)
}

/** What a lane has of its own, in a directory that {@link makeTemporary} makes. `needed`: directories that its tasks must see, or that lead to one. */
export function temporaryOf(directory: string, needed: readonly string[]): Temporary {
  const paths = new Set(['/tmp', '/var/tmp', '/dev/shm'].filter((path) => existsSync(path)).map((path) => realpathSync(path)))
  const homes = needed.map((path) => realpathSync(path))
  const covers = [...paths].map((path): Cover => {
    return path.startsWith('/dev/') || path.startsWith('/run/')
      ? { path }
      : { path, from: join(directory, path.slice(1).replaceAll('/', '-')) }
  })
  const isHome = (cover: Cover) => homes.some((home) => isWithin(home, cover.path))
  const stays = new Set(
    covers.flatMap(({ path }) =>
      homes.filter((home) => isWithin(home, path)).map((home) => join(path, home.slice(path.length + 1).split('/')[0]!)),
    ),
  )
  return {
    covers: [...covers.filter((cover) => !isHome(cover)), ...covers.filter(isHome)],
    stays: [...stays],
    memoryBytes: Math.floor(totalmem() / 2),
  }
}

/** Makes the directories, open to every user of the lane, as those of the machine are; what is there stays. */
export function makeTemporary({ covers }: Temporary): void {
  for (const { from } of covers) {
    if (from === undefined) continue
    mkdirSync(from, { recursive: true })
    chmodSync(from, 0o1777)
  }
}

/** Removes them with all that is in them, when nothing of the lane runs any more. */
export async function removeTemporary(directory: string): Promise<void> {
  await removeTree(directory)
}
