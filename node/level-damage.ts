/** What has happened to the files of a LevelDB of this node, before it is opened. */
import { readdir, readFile } from 'node:fs/promises'
import { join } from 'node:path'
import { filesTrouble, isLogDamaged } from '../protocols/level-log.ts'

/** Undefined when nothing has, or there is no database yet. */
export async function levelDamage(directory: string): Promise<string | undefined> {
  const names = await readdir(directory).catch((): string[] => [])
  const trouble = filesTrouble(names)
  if (trouble !== undefined) return trouble
  for (const name of names) {
    if (!name.endsWith('.log')) continue
    // Gone meanwhile, when another process uses it: opening says so.
    const log = await readFile(join(directory, name)).catch(() => new Uint8Array())
    if (isLogDamaged(log)) return `the rows in ${name} do not match their checksums`
  }
  return undefined
}
