/**
 * Keeps tasks from filling the disk of their node, which would end the node itself: its journal could not be written.
 * While tasks run, the free room is looked at; below the reserve, the task whose directories hold the most is ended.
 * There is no limit before that: a disk that has room is there to be used.
 */
import { type BigIntStats, constants } from 'node:fs'
import { type FileHandle, lstat, open, opendir, statfs } from 'node:fs/promises'
import { join } from 'node:path'
import type { FailureInfo } from '../protocols/model/task.ts'
import type { DiskWatch, Log } from './ports.ts'
import { removeTree } from './remove-tree.ts'

const gib = 2 ** 30
/** What a fast disk takes in half a second, and room for journal and database until an owner comes. */
const mostReserveBytes = gib
/** Of a small disk. */
const reserveShare = 1 / 20
/** A task that holds less than this part of the reserve is not what fills the disk. */
const guiltyShare = 1 / 16
const lookEveryMs = 250
/** A tree of more entries is not counted to its end: it is large as it is. */
const maxEntries = 500_000
/** What is left of the output files of a task that filled the disk. */
export const keptLogBytes = 2 ** 20

export interface DiskGuardOptions {
  /** A directory on the disk. */
  path: string
  /** Default: 1 GiB, at most a twentieth of the disk. 0: nothing is watched. */
  reserveBytes?: number | undefined
  log: Pick<Log, 'warn'>
  everyMs?: number
  /** Bytes of the disk, and how many are free for an ordinary user. */
  look?: () => Promise<{ free: number; total: number }>
}

interface Watched {
  directories: readonly string[]
  end: (failure: FailureInfo) => void
  isEnded: boolean
}

export class DiskGuard implements DiskWatch {
  readonly #options: DiskGuardOptions
  readonly #watched = new Set<Watched>()
  #timer: NodeJS.Timeout | undefined
  #looking: Promise<void> | undefined

  constructor(options: DiskGuardOptions) {
    this.#options = options
  }

  watch(directories: readonly string[], end: (failure: FailureInfo) => void): () => void {
    const watched: Watched = { directories, end, isEnded: false }
    this.#watched.add(watched)
    this.#timer ??= setInterval(() => void this.#tick(), this.#options.everyMs ?? lookEveryMs).unref()
    return () => void this.#watched.delete(watched)
  }

  async close(): Promise<void> {
    clearInterval(this.#timer)
    await this.#looking
  }

  #tick(): Promise<void> {
    // The timer outlives a gap between two tasks, not a longer one.
    if (this.#watched.size === 0) {
      clearInterval(this.#timer)
      this.#timer = undefined
      return Promise.resolve()
    }
    this.#looking ??= this.#look()
      .catch((error: unknown) => this.#options.log.warn({ err: error }, 'the free room of the disk could not be looked at'))
      .finally(() => {
        this.#looking = undefined
      })
    return this.#looking
  }

  async #look(): Promise<void> {
    const { free, total } = await (this.#options.look ?? (() => room(this.#options.path)))()
    const reserve = this.#options.reserveBytes ?? Math.min(mostReserveBytes, total * reserveShare)
    // One at a time: what an ended task held is being given back.
    if (free >= reserve || [...this.#watched].some(({ isEnded }) => isEnded)) return
    let largest: { watched: Watched; bytes: number } | undefined
    for (const watched of [...this.#watched]) {
      const bytes = await sizeOf(watched.directories)
      if (bytes > (largest?.bytes ?? 0) && this.#watched.has(watched)) largest = { watched, bytes }
    }
    if (largest === undefined || largest.bytes < reserve * guiltyShare) return
    this.#options.log.warn(
      { free, reserve, holds: largest.bytes, directories: largest.watched.directories },
      'the disk is filling up; the largest task is ended',
    )
    largest.watched.isEnded = true
    largest.watched.end({
      category: 'usererror',
      code: 'DiskFull',
      message: `The task was ended because its files hold ${inGib(largest.bytes)} and the disk of the machine has only ${inGib(free)} left, of which it keeps ${inGib(reserve)} free (--disk-reserve). They were removed, but for the first MiB of stdout.txt and stderr.txt. Write less, or use a machine with more room.`,
    })
  }
}

async function room(path: string): Promise<{ free: number; total: number }> {
  const { bavail, blocks, bsize } = await statfs(path)
  return { free: bavail * bsize, total: blocks * bsize }
}

/** Bytes that trees take on their disks; other file systems mounted in them are left out, links are not followed. */
export async function sizeOf(paths: readonly string[]): Promise<number> {
  let bytes = 0
  let entries = 0
  const open: { path: Buffer; dev: bigint | undefined }[] = paths.map((path) => ({ path: Buffer.from(path), dev: undefined }))
  for (let next = open.pop(); next !== undefined && entries < maxEntries; next = open.pop()) {
    entries += 1
    const state: BigIntStats | undefined = await lstat(next.path, { bigint: true }).catch(() => undefined)
    if (state === undefined || (next.dev !== undefined && state.dev !== next.dev)) continue
    bytes += Number(state.blocks) * 512
    if (!state.isDirectory()) continue
    // Names are bytes: one that is no text must not hide what it names.
    const directory = await opendir(next.path, { encoding: 'buffer' as BufferEncoding }).catch(() => undefined)
    if (directory === undefined) continue
    for await (const { name } of directory) {
      open.push({ path: Buffer.concat([next.path, Buffer.from('/'), name as unknown as Buffer]), dev: state.dev })
      if (open.length > maxEntries) break
    }
  }
  return bytes
}

/** Gives back the room of a task's files, all but the beginnings of these. Nothing of the task runs any more. */
export async function emptyDirectory(directory: string, kept: readonly string[]): Promise<void> {
  for await (const { name } of await opendir(directory)) {
    const path = join(directory, name)
    if (!kept.includes(path) || !(await shorten(path))) await removeTree(path)
  }
}

/** Cuts a file that is no other's too; false when it is none, which the task may have seen to. */
async function shorten(path: string): Promise<boolean> {
  let file: FileHandle | undefined
  try {
    file = await open(path, constants.O_RDWR | constants.O_NOFOLLOW | constants.O_NONBLOCK)
    const state = await file.stat()
    if (!state.isFile() || state.nlink > 1) return false
    if (state.size > keptLogBytes) await file.truncate(keptLogBytes)
    return true
  } catch {
    return false
  } finally {
    await file?.close()
  }
}

function inGib(bytes: number): string {
  return bytes < gib / 10 ? `${(bytes / 2 ** 20).toFixed(1)} MiB` : `${(bytes / gib).toFixed(1)} GiB`
}
