/**
 * What the hashing threads do: everything that reads or hashes more than a little. File descriptors belong to the whole
 * process, so a thread reads from those that the main thread has opened and checked.
 */
import {
  closeSync,
  constants,
  copyFileSync,
  fchmodSync,
  fchownSync,
  fdatasyncSync,
  linkSync,
  openSync,
  readSync,
  unlinkSync,
  writeSync,
} from 'node:fs'
import { type BuiltDirectory, buildDirectory } from './directory.ts'
import { chunkBytes, chunkCount, chunkLength, digestBytes, fileRoot, leafAt, parseBlobId, sha256 } from './unixfs.ts'

export interface TakenIn {
  id: string
  size: number
  totalBytes: number
  leaves: Uint8Array
}

/** Copies what `fd` reads to a new file, synced, and names it. The copy is hashed, not the source, which may change. */
export function takeIn({ fd, to, maxBytes }: { fd: number; to: string; maxBytes: number }): TakenIn | 'too-large' {
  const cloned = clone(fd, to)
  const target = openSync(to, cloned ? 'r+' : 'wx+', 0o600)
  try {
    const digests: Uint8Array[] = []
    const buffer = Buffer.allocUnsafe(chunkBytes)
    let size = 0
    for (;;) {
      const length = readFully(cloned ? target : fd, buffer, size)
      if (length === 0 && size > 0) break
      if (size + length > maxBytes) return 'too-large'
      const chunk = buffer.subarray(0, length)
      digests.push(sha256(chunk))
      if (!cloned) writeFully(target, chunk, size)
      size += length
      if (length < chunkBytes) break
    }
    fchmodSync(target, 0o444)
    fdatasyncSync(target)
    const leaves = Buffer.concat(digests)
    const root = fileRoot(leaves, size)
    return { id: root.id, size, totalBytes: root.totalBytes, leaves: new Uint8Array(leaves) }
  } finally {
    closeSync(target)
  }
}

/** A reflink, where the file system can: no byte is copied. */
function clone(fd: number, to: string): boolean {
  if (process.platform !== 'linux') return false
  try {
    copyFileSync(`/proc/self/fd/${fd}`, to, constants.COPYFILE_FICLONE_FORCE | constants.COPYFILE_EXCL)
    return true
  } catch {
    return false
  }
}

export interface HandOut {
  from: string
  to: string
  size: number
  leaves: Uint8Array
  mode: number
  owner?: { uid: number; gid: number } | undefined
  /** A hard link will do: nobody who gets it may write to it. */
  mayLink: boolean
}

/**
 * Makes a file of its own of one in the store: a reflink where the file system can, else a hard link where that is
 * allowed, else a copy. What was made is hashed; false, and nothing is left, when it does not match.
 */
export function handOut({ from, to, size, leaves, mode, owner, mayLink }: HandOut): boolean {
  const cloned = tryTo(() => copyFileSync(from, to, constants.COPYFILE_EXCL | constants.COPYFILE_FICLONE_FORCE))
  const linked = !cloned && mayLink && tryTo(() => linkSync(from, to))
  if (!cloned && !linked) copyFileSync(from, to, constants.COPYFILE_EXCL)
  if (mismatches({ path: to, size, leaves }).length > 0) {
    unlinkSync(to)
    return false
  }
  if (linked) return true
  const fd = openSync(to, constants.O_RDONLY | constants.O_NOFOLLOW)
  try {
    // Before the mode: giving a file away clears bits of it.
    if (owner !== undefined) fchownSync(fd, owner.uid, owner.gid)
    fchmodSync(fd, mode)
  } finally {
    closeSync(fd)
  }
  return true
}

function tryTo(work: () => void): boolean {
  try {
    work()
    return true
  } catch {
    return false
  }
}

/** Root id of a list of leaves: for a large file building it takes longer than the main thread may wait. */
export function rootOf({ leaves, size }: { leaves: Uint8Array; size: number }): { id: string; totalBytes: number } {
  const root = fileRoot(leaves, size)
  return { id: root.id, totalBytes: root.totalBytes }
}

/** Builds a large directory: hashing thousands of names takes longer than the main thread may wait. */
export async function directoryOf(links: { name: string; id: string; totalBytes: number }[]): Promise<Omit<BuiltDirectory, 'cid'>> {
  const { id, totalBytes, nodes } = await buildDirectory(
    links.map(({ name, id, totalBytes }) => ({ name, cid: parseBlobId(id).cid, totalBytes })),
  )
  return { id, totalBytes, nodes }
}

/** Those of the chunks (all when `indexes` is absent) whose bytes do not match. */
export function mismatches(task: { path: string; size: number; leaves: Uint8Array; indexes?: number[] }): number[] {
  const fd = openSync(task.path, 'r')
  try {
    const buffer = Buffer.allocUnsafe(chunkBytes + 1)
    const bad: number[] = []
    const count = chunkCount(task.size)
    const check = (index: number) => {
      const expected = chunkLength(task.size, index)
      // One byte more than the last chunk has is asked for, so that a file that grew is found out.
      const wanted = index === count - 1 ? expected + 1 : expected
      const length = readFully(fd, buffer.subarray(0, wanted), index * chunkBytes)
      if (length !== expected || !matches(buffer.subarray(0, length), leafAt(task.leaves, index))) bad.push(index)
    }
    if (task.indexes === undefined) for (let index = 0; index < count; index++) check(index)
    else for (const index of task.indexes) check(index)
    return bad
  } finally {
    closeSync(fd)
  }
}

function matches(bytes: Uint8Array, digest: Uint8Array): boolean {
  return digest.length === digestBytes && Buffer.compare(sha256(bytes), digest) === 0
}

function readFully(fd: number, buffer: Uint8Array, position: number): number {
  let length = 0
  while (length < buffer.length) {
    const read = readSync(fd, buffer, length, buffer.length - length, position + length)
    if (read === 0) break
    length += read
  }
  return length
}

function writeFully(fd: number, bytes: Uint8Array, position: number): void {
  let written = 0
  while (written < bytes.length) written += writeSync(fd, bytes, written, bytes.length - written, position + written)
}
