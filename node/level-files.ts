/** The files of a LevelDB of this node, to be looked at before it is opened. */
import { readdirSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import type { LevelFiles } from '../protocols/level-log.ts'

export function levelFiles(directory: string): LevelFiles {
  return { list: () => readdirSync(directory), read: (name) => readFileSync(join(directory, name)) }
}
