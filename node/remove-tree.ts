/** Removing what tasks left. */
import { rmdirSync, unlinkSync } from 'node:fs'
import { chmod, readdir, rename, rm } from 'node:fs/promises'
import { setImmediate as nextTurn } from 'node:timers/promises'
import { pathsIn } from './task-paths.ts'

/**
 * Removes a task's directory. Most hold nothing but what every task has: four calls then, made at once, cost a third of
 * a walk through it by the thread pool. Whatever else it holds, the walk finds. Neither follows a link.
 */
export async function removeTaskDirectory(path: string): Promise<void> {
  const { taskDir, wd, stdout, stderr } = pathsIn(path)
  try {
    unlinkSync(stdout)
    unlinkSync(stderr)
    rmdirSync(wd)
    rmdirSync(taskDir)
  } catch {
    return await removeTree(path)
  }
  // Thousands in a row leave the loop to others between them.
  await nextTurn()
}

/** Removes a tree without following links, also one whose directories a task has closed, or laid deeper than any path reaches. */
export async function removeTree(path: string): Promise<void> {
  try {
    await rm(path, { recursive: true, force: true })
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException
    if (code !== 'EACCES' && code !== 'EPERM' && code !== 'ENAMETOOLONG') throw error
    await flatten(path)
    await rm(path, { recursive: true, force: true })
  }
}

/** Opens every directory of a tree and moves it up to the top, so that all have short paths. Names are bytes: not every name is text. */
async function flatten(path: string): Promise<void> {
  let count = 0
  const open = [path]
  for (let directory = open.pop(); directory !== undefined; directory = open.pop()) {
    await chmod(directory, 0o700)
    for (const entry of await readdir(directory, { withFileTypes: true, encoding: 'buffer' })) {
      if (!entry.isDirectory()) continue
      count += 1
      const up = `${path}/.batchmesh-removing-${process.pid}-${count}`
      const from = Buffer.concat([Buffer.from(`${directory}/`), entry.name])
      // To move a directory it must itself be open.
      await chmod(from, 0o700)
      await rename(from, up)
      open.push(up)
    }
  }
}
