/** Local files: what lies below a directory, and downloads that are either whole or not there. */
import { isUtf8 } from 'node:buffer'
import { randomBytes } from 'node:crypto'
import { mkdir, open, readdir, realpath, rename, rm, stat } from 'node:fs/promises'
import { dirname, join } from 'node:path'
import { MeshError } from '../../protocols/errors.ts'

export interface LocalFile {
  /** Relative to the directory, `/` separates; empty for a single file. */
  path: string
  /** Where it lies. */
  source: string
  size: number
}

/** Size of a local file or all files below a directory (links are followed), sorted by path. Throws InvalidPropertyValue for what cannot be uploaded. */
export async function listLocal(source: string): Promise<{ isDirectory: boolean; files: LocalFile[] }> {
  const found = await statOf(source)
  if (found.isFile()) return { isDirectory: false, files: [{ path: '', source, size: found.size }] }
  if (!found.isDirectory()) throw new MeshError('InvalidPropertyValue', `${source} is neither a file nor a directory.`)
  const files: LocalFile[] = []
  await walk(source, '', files, [await realpath(source)])
  files.sort((a, b) => (a.path < b.path ? -1 : 1))
  return { isDirectory: true, files }
}

async function statOf(path: string) {
  try {
    return await stat(path)
  } catch (error) {
    const code = (error as NodeJS.ErrnoException).code
    if (code === 'ENOENT' || code === 'ENOTDIR') throw new MeshError('InvalidPropertyValue', `There is no file ${path}.`, { cause: error })
    if (code === 'EACCES') throw new MeshError('InvalidPropertyValue', `${path} cannot be read: permission denied.`, { cause: error })
    if (code === 'ELOOP') throw new MeshError('InvalidPropertyValue', `${path} is a link that leads to itself.`, { cause: error })
    throw error
  }
}

async function walk(directory: string, prefix: string, files: LocalFile[], parents: readonly string[]): Promise<void> {
  for (const bytes of await readdir(directory, { encoding: 'buffer' })) {
    const name = bytes.toString()
    if (!isUtf8(bytes)) throw new MeshError('InvalidPropertyValue', `The name of ${join(directory, name)} is not UTF-8; rename it.`)
    const source = join(directory, name)
    const path = `${prefix}${name}`
    const found = await statOf(source)
    if (found.isFile()) files.push({ path, source, size: found.size })
    else if (found.isDirectory()) {
      const real = await realpath(source)
      if (parents.includes(real)) throw new MeshError('InvalidPropertyValue', `${source} is a link to a directory that holds it.`)
      await walk(source, `${path}/`, files, [...parents, real])
    } else throw new MeshError('InvalidPropertyValue', `${source} is neither a file nor a directory (a socket, pipe or device).`)
  }
}

/** Writes a file under a temporary name beside its destination and renames it once it is whole. On failure nothing is left. */
export async function writeWhole(
  destination: string,
  pieces: AsyncIterable<Uint8Array> | Iterable<Uint8Array>,
  mode?: number,
): Promise<void> {
  const directory = dirname(destination)
  await mkdir(directory, { recursive: true })
  const temporary = join(directory, `.batchmesh-${randomBytes(8).toString('hex')}.part`)
  const executable = ((mode ?? 0) & 0o111) !== 0
  const file = await open(temporary, 'wx', executable ? 0o777 : 0o666)
  try {
    try {
      for await (const piece of pieces) await file.writeFile(piece)
    } finally {
      await file.close()
    }
    await rename(temporary, destination)
  } catch (error) {
    await rm(temporary, { force: true })
    throw error
  }
}

/** Whether a local file has this content. `pieces` is asked only for a file of the right size. */
export async function isSameFile(
  path: string,
  size: number,
  pieces: () => AsyncIterable<Uint8Array> | Iterable<Uint8Array>,
): Promise<boolean> {
  let file: Awaited<ReturnType<typeof open>>
  try {
    file = await open(path)
  } catch {
    return false
  }
  try {
    const found = await file.stat()
    if (!found.isFile() || found.size !== size) return false
    for await (const piece of pieces()) {
      const { buffer, bytesRead } = await file.read({ buffer: Buffer.alloc(piece.length) })
      if (bytesRead !== piece.length || !buffer.equals(piece)) return false
    }
    return true
  } finally {
    await file.close()
  }
}
