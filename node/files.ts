/**
 * Serving side of protocols/files.ts: what lies in a task's directory.
 *
 * A task may put anything there, links to the node's own files included, and change it while it is read. So no path is
 * ever handed to the system whole: each component is opened by itself, from the directory opened before it, and never
 * through a link (S1).
 */
import { constants } from 'node:fs'
import { type FileHandle, lstat, open, readdir } from 'node:fs/promises'
import { setTimeout as sleep } from 'node:timers/promises'
import { MeshError } from '../protocols/errors.ts'
import { type FileChunk, type FileEntry, type filesProtocol, maxListed, noFile } from '../protocols/files.ts'
import type { Handlers } from '../protocols/rpc.ts'
import type { FindAttempt, TaskPaths } from './ports.ts'

/** How often a file that is followed is looked at: under what a reader of logs notices, and next to no work. */
const pollMs = 50

/** Directories in directories that a listing follows; each holds a file descriptor. Deeper ones are left out, and `more` says so. */
const maxDepth = 64

const directoryFlags = constants.O_RDONLY | constants.O_DIRECTORY | constants.O_NOFOLLOW
// Non-blocking: opening a FIFO must not wait for a writer before it is refused.
const fileFlags = constants.O_RDONLY | constants.O_NOFOLLOW | constants.O_NONBLOCK

type FilesServer = (typeof filesProtocol)['server']

/** Handlers of the files protocol over the attempts that `find` knows. */
export function filesHandlers(find: FindAttempt): Handlers<FilesServer> {
  const located = (attempt: Parameters<FindAttempt>[0]) => {
    const found = find(attempt)
    if (found === undefined) throw new MeshError('TaskFilesCleanedup', 'The directory of this attempt is not on this machine any more.')
    return found
  }
  return {
    calls: {
      list: async ({ attempt, recursive, prefix }) => {
        const { paths } = located(attempt)
        return paths === undefined ? { files: [], more: false } : await listFiles(paths, recursive, prefix ?? '')
      },
      read: ({ attempt, ...request }, { signal }) => readChunk(() => located(attempt), request, signal),
    },
    notes: {},
  }
}

/** The words of a relative name. Throws InvalidPropertyValue when it could lead elsewhere. */
export function nameComponents(name: string): string[] {
  const components = name.split('/')
  if (name.includes('\0') || components.some((part) => part === '' || part === '.' || part === '..')) {
    throw new MeshError(
      'InvalidPropertyValue',
      `The file name ${JSON.stringify(name)} must be relative to the task directory, without "." or "..".`,
    )
  }
  return components
}

/** An open directory, and the path by which its entries are reached. */
interface Place {
  handle: FileHandle
  path: string
}

/** On Linux entries are reached through the open directory itself, which nobody can exchange; elsewhere by its path. */
async function openPlace(path: string | Buffer, flags: number): Promise<Place> {
  const handle = await open(path, flags)
  return { handle, path: process.platform === 'linux' ? `/proc/self/fd/${handle.fd}` : path.toString() }
}

interface Listing {
  recursive: boolean
  prefix: string
  files: FileEntry[]
}

async function listFiles(paths: TaskPaths, recursive: boolean, prefix: string): Promise<{ files: FileEntry[]; more: boolean }> {
  const listing: Listing = { recursive, prefix, files: [] }
  const top = await openPlace(paths.taskDir, directoryFlags).catch(asMeshError(''))
  try {
    return { more: await listInto(listing, top, '', 0), files: listing.files }
  } finally {
    await top.handle.close()
  }
}

/** Names in a directory, sorted. They are bytes: one that is no text is shown as far as it is, and cannot be read by its name. */
async function entriesOf(place: Place): Promise<{ entry: string; bytes: Buffer }[]> {
  const names = await readdir(place.path, { encoding: 'buffer' })
  return names.map((bytes) => ({ entry: bytes.toString(), bytes })).sort((a, b) => (a.entry < b.entry ? -1 : 1))
}

/** Adds what is in an open directory, sorted by name; true when something was left out. */
async function listInto(listing: Listing, place: Place, above: string, depth: number): Promise<boolean> {
  let more = false
  for (const { entry, bytes } of await entriesOf(place)) {
    const name = `${above}${entry}`
    const isMatch = name.startsWith(listing.prefix)
    // A directory is entered only if names below it can match.
    if (!isMatch && !listing.prefix.startsWith(`${name}/`)) continue
    const path = Buffer.concat([Buffer.from(`${place.path}/`), bytes])
    const stat = await lstat(path).catch(() => undefined)
    // Gone meanwhile.
    if (stat === undefined) continue
    const isDirectory = stat.isDirectory()
    if (isMatch) {
      if (listing.files.length >= maxListed) return true
      listing.files.push({ name, isDirectory, size: isDirectory ? 0 : stat.size, lastModified: stat.mtimeMs, mode: stat.mode })
    }
    if (!isDirectory || !listing.recursive) continue
    const below = depth < maxDepth ? await openPlace(path, directoryFlags).catch(() => undefined) : undefined
    if (below === undefined) {
      more = true
      continue
    }
    try {
      if (await listInto(listing, below, `${name}/`, depth + 1)) more = true
    } finally {
      await below.handle.close()
    }
  }
  return more
}

async function readChunk(
  locate: () => { paths: TaskPaths | undefined; running: boolean },
  request: { name: string; offset: number; length: number; waitMs: number },
  signal: AbortSignal,
): Promise<FileChunk> {
  const components = nameComponents(request.name)
  const deadline = performance.now() + request.waitMs
  for (;;) {
    // Asked before reading: what an ended task wrote is then all read.
    const { paths, running } = locate()
    const mayWait = running && performance.now() < deadline && !signal.aborted
    const chunk = await readOnce(paths, components, request).catch((error: unknown) => {
      // The file may not be there yet, and be made while the task runs.
      if (mayWait && error instanceof MeshError && error.code === 'FileNotFound') return undefined
      throw error
    })
    if (chunk !== undefined && (chunk.data.length > 0 || request.length === 0 || !mayWait)) return { ...chunk, final: !running }
    await sleep(pollMs)
  }
}

async function readOnce(
  paths: TaskPaths | undefined,
  components: readonly string[],
  request: { name: string; offset: number; length: number },
): Promise<{ data: Uint8Array; size: number }> {
  if (paths === undefined) return noFile(request)
  const file = await openBelow(paths, components)
  try {
    const stat = await file.stat()
    if (!stat.isFile()) {
      const what = stat.isDirectory() ? 'a directory' : 'neither a file nor a directory'
      throw new MeshError('InvalidPropertyValue', `${request.name} is ${what}; only files can be read.`)
    }
    if (request.offset > stat.size) {
      throw new MeshError('InvalidRange', `${request.name} has ${stat.size} bytes; the range starts at ${request.offset}.`)
    }
    const buffer = new Uint8Array(Math.min(request.length, stat.size - request.offset))
    let filled = 0
    while (filled < buffer.length) {
      const { bytesRead } = await file.read(buffer, filled, buffer.length - filled, request.offset + filled)
      // Cut short meanwhile.
      if (bytesRead === 0) break
      filled += bytesRead
    }
    return { data: buffer.subarray(0, filled), size: stat.size }
  } finally {
    await file.close()
  }
}

/** Opens a file below the task directory, one component at a time, never through a link. */
async function openBelow(paths: TaskPaths, components: readonly string[]): Promise<FileHandle> {
  const name = components.join('/')
  let place = await openPlace(paths.taskDir, directoryFlags).catch(asMeshError(name))
  for (const [index, component] of components.entries()) {
    const above = place
    const flags = index === components.length - 1 ? fileFlags : directoryFlags
    try {
      place = await openPlace(`${above.path}/${component}`, flags).catch(asMeshError(name))
    } finally {
      await above.handle.close()
    }
  }
  return place.handle
}

function asMeshError(name: string): (error: unknown) => never {
  return (error) => {
    const code = error instanceof Error ? (error as NodeJS.ErrnoException).code : undefined
    if (code === 'ENOENT' || code === 'ENAMETOOLONG') throw new MeshError('FileNotFound', `There is no file ${name} in the task directory.`)
    if (code === 'ELOOP' || code === 'ENOTDIR') {
      throw new MeshError(
        'FileNotFound',
        `${name} is, or leads through, a symbolic link or a file; links in task directories are not followed.`,
      )
    }
    if (code === 'ENXIO') throw new MeshError('InvalidPropertyValue', `${name} is neither a file nor a directory; only files can be read.`)
    if (code === 'EACCES') throw new MeshError('FileNotFound', `${name} cannot be opened: the task took away the permission.`)
    throw error
  }
}
