/** The data directory: there or to be made, writable, with room, on a disk that keeps what it says, and passable for tasks. */
import { randomBytes } from 'node:crypto'
import { access, constants, open, stat, statfs, unlink } from 'node:fs/promises'
import { dirname, join } from 'node:path'
import { showBytes } from '../format.ts'
import { type Check, ok, problem, warning } from './check.ts'

/** Below the one a node works no more, below the other a job of any size fills it. */
const leastBytes = 100 * 2 ** 20
const littleBytes = 2 * 2 ** 30
/** Every acknowledged step waits for one: disks take 0.5 to 20 ms. */
const slowSyncMs = 100
const syncs = 7

/** The directory itself, or what exists nearest above it. */
async function existing(path: string): Promise<{ there: string; isDirectory: boolean }> {
  for (let at = path; ; at = dirname(at)) {
    const found = await stat(at).catch(() => undefined)
    if (found !== undefined || at === dirname(at)) return { there: at, isDirectory: found?.isDirectory() !== false }
  }
}

export async function checkData(dataDir: string): Promise<Check[]> {
  const { there, isDirectory } = await existing(dataDir)
  if (!isDirectory)
    return [problem('data directory', `${dataDir} cannot be made: ${there} is a file`, 'Choose another with --data or $BATCHMESH_DATA.')]
  const isMade = there === dataDir
  const writable = await access(there, constants.W_OK | constants.X_OK).then(
    () => true,
    () => false,
  )
  if (!writable) {
    const what = isMade ? `${dataDir} cannot be written by this user` : `${dataDir} cannot be made: ${there} cannot be written by this user`
    return [problem('data directory', what, 'Choose another with --data or $BATCHMESH_DATA, or run as its owner.')]
  }
  const checks = [ok('data directory', isMade ? `${dataDir}, writable` : `${dataDir} will be made by the first "batchmesh up"`)]
  checks.push(await checkRoom(there), await checkSync(there))
  if (process.getuid?.() === 0) checks.push(await checkPassable(there))
  return checks
}

async function checkRoom(path: string): Promise<Check> {
  const { bavail, bsize } = await statfs(path)
  const free = bavail * bsize
  const found = `${showBytes(free)} free`
  if (free < leastBytes) return problem('disk', found, 'Make room, or choose a data directory on another disk with --data.')
  if (free < littleBytes) return warning('disk', found, 'Inputs, outputs and task directories live here; make room or choose another disk.')
  return ok('disk', found)
}

async function checkSync(directory: string): Promise<Check> {
  const path = join(directory, `.doctor-${randomBytes(6).toString('hex')}`)
  const times: number[] = []
  const file = await open(path, 'wx', 0o600)
  try {
    for (let i = 0; i < syncs; i += 1) {
      await file.write(randomBytes(4096))
      const start = performance.now()
      await file.datasync()
      times.push(performance.now() - start)
    }
  } finally {
    await file.close()
    await unlink(path)
  }
  const middle = times.sort((a, b) => a - b)[Math.floor(syncs / 2)]!
  const found = `a write is on the disk after ${middle.toFixed(1)} ms`
  if (middle <= slowSyncMs) return ok('disk sync', found)
  return warning('disk sync', found, 'Every accepted job and result waits for that. A local disk is better than a network one.')
}

/** Tasks of a root node run as users of their own, and pass through every directory above theirs. */
async function checkPassable(path: string): Promise<Check> {
  for (let at = path; ; at = dirname(at)) {
    // The data directory itself is opened by the node.
    if (at !== path && ((await stat(at)).mode & 0o001) === 0)
      return problem('task users', `tasks run as users of their own here and cannot pass through ${at}`, `chmod o+x ${at}`)
    if (at === dirname(at)) return ok('task users', 'can pass through to their directories')
  }
}
