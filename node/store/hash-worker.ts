/**
 * What the hashing threads do: everything that reads or hashes more than a little. File descriptors belong to the whole
 * process, so a thread reads from those that the main thread has opened and checked.
 */
import { closeSync, constants, copyFileSync, fchmodSync, fdatasyncSync, openSync, readSync, writeSync } from 'node:fs'
import { move } from 'piscina'
import { chunkBytes, chunkCount, chunkLength, digestBytes, fileRoot, leafAt, sha256 } from './unixfs.ts'

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

/** Root id of a list of leaves: for a large file building it takes longer than the main thread may wait. */
export function rootOf({ leaves, size }: { leaves: Uint8Array; size: number }): { id: string; totalBytes: number } {
  const root = fileRoot(leaves, size)
  return { id: root.id, totalBytes: root.totalBytes }
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

/** Reads one chunk; undefined when its bytes do not match. */
export function readChunk(task: { path: string; offset: number; length: number; digest: Uint8Array }): Uint8Array | undefined {
  const fd = openSync(task.path, 'r')
  try {
    const bytes = new Uint8Array(task.length)
    const length = readFully(fd, bytes, task.offset)
    if (length !== task.length || !matches(bytes, task.digest)) return undefined
    return move(bytes) as Uint8Array
  } finally {
    closeSync(fd)
  }
}

/** Writes one chunk if its bytes match. */
export function writeChunk(task: { fd: number; offset: number; data: Uint8Array; digest: Uint8Array }): boolean {
  if (!matches(task.data, task.digest)) return false
  writeFully(task.fd, task.data, task.offset)
  return true
}

/** Writes one chunk and says its digest. */
export function appendChunk(task: { fd: number; offset: number; data: Uint8Array }): Uint8Array {
  writeFully(task.fd, task.data, task.offset)
  return new Uint8Array(sha256(task.data))
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
