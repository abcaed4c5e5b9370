/** Removing what tasks left. */
import { chmod, readdir, rm } from 'node:fs/promises'
import { join } from 'node:path'

/** Removes a tree without following links. An ordinary user must first open directories that the task closed. */
export async function removeTree(path: string): Promise<void> {
  try {
    await rm(path, { recursive: true, force: true })
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException
    if (code !== 'EACCES' && code !== 'EPERM') throw error
    await openTree(path)
    await rm(path, { recursive: true, force: true })
  }
}

async function openTree(path: string): Promise<void> {
  await chmod(path, 0o700)
  for (const entry of await readdir(path, { withFileTypes: true })) {
    if (entry.isDirectory()) await openTree(join(path, entry.name))
  }
}
