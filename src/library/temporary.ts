/**
 * Directories of peers inside programs that were given none: made at their start, removed at their end. What a program left
 * that was killed is removed by a later one.
 */
import type { Stats } from 'node:fs'
import { chmod, lstat, mkdtemp, readdir, realpath, rm, writeFile } from 'node:fs/promises'
import { connect } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { controlSocketPath } from '../config.ts'

/** Of one peer, and of a mesh for tests, which has a directory for each of its machines. mkdtemp adds six characters. */
const prefixes = { peer: 'batchmesh-', mesh: 'batchmesh-test-' } as const
const names = /^batchmesh-(?:test-)?[A-Za-z0-9]{6}$/
/** A file in each: a data directory that somebody chose may have such a name too. */
export const markName = '.temporary'
/** Of machines in a mesh for tests; the first is the last to go. */
const firstMachine = 'machine-1'
/** A program has none of its nodes listening yet, or any more, for a much shorter time. */
const leftoverMs = 3_600_000

/** Makes one, and in the background looks for those that killed programs left. */
export async function temporaryDirectory(kind: keyof typeof prefixes): Promise<string> {
  const root = await realpath(tmpdir())
  void removeLeftovers(root, Date.now()).catch(() => undefined)
  const path = await mkdtemp(join(root, prefixes[kind]))
  // Tasks have users of their own where the program runs as root, and must be able to pass through.
  await chmod(path, 0o711)
  await writeFile(join(path, markName), '')
  return path
}

/**
 * Removes directories of this user in which no node has answered: nobody listens there, and nothing was made there for an
 * hour before `now`. Whether the program lives is not asked by its process id, which means nothing in another container
 * with the same `/tmp`.
 */
export async function removeLeftovers(root: string, now: number): Promise<void> {
  for (const name of await readdir(root)) {
    if (!names.test(name)) continue
    const path = join(root, name)
    const stat = await lstat(path).catch(() => undefined)
    if (stat === undefined || !stat.isDirectory() || !isOwn(stat) || stat.mtimeMs > now - leftoverMs) continue
    if (await isLeft(path)) await rm(path, { recursive: true, force: true }).catch(() => undefined)
  }
}

function isOwn(stat: Stats): boolean {
  return stat.uid === process.getuid?.()
}

async function isLeft(path: string): Promise<boolean> {
  const mark = await lstat(join(path, markName)).catch(() => undefined)
  if (mark === undefined || !isOwn(mark)) return false
  for (const dataDir of [path, join(path, firstMachine)]) if (await isAnswered(controlSocketPath(dataDir))) return false
  return true
}

/** Whether somebody listens, or may: a stopped program still does. */
function isAnswered(socketPath: string): Promise<boolean> {
  return new Promise((resolve) => {
    const socket = connect(socketPath)
    socket.once('connect', () => {
      socket.destroy()
      resolve(true)
    })
    socket.once('error', ({ code }: NodeJS.ErrnoException) => resolve(code !== 'ECONNREFUSED' && code !== 'ENOENT'))
  })
}
