/** A blob, written to this machine's disk: each file appears whole or not at all. */
import { join } from 'node:path'
import { MeshError } from '../../protocols/errors.ts'
import { readBlob } from './blobs.ts'
import type { Mesh } from './client.ts'
import { writeWhole } from './files.ts'
import { listTree, readTree } from './trees.ts'

export interface TreeDownload {
  /** Only these files of the directory. */
  only?: readonly string[] | undefined
  signal?: AbortSignal | undefined
}

/** Writes the files of a directory blob below `root`. Rejects with FileNotFound when one of `only` is not in it. */
export async function downloadTree(mesh: Mesh, id: string, root: string, options: TreeDownload = {}): Promise<void> {
  const { signal } = options
  const entries = await listTree(mesh, id, signal)
  const only = options.only === undefined ? undefined : new Set(options.only)
  const wanted = only === undefined ? entries : entries.filter(({ path }) => only.has(path))
  const found = new Set(wanted.map(({ path }) => path))
  const missing = options.only?.find((path) => !found.has(path))
  if (missing !== undefined) throw new MeshError('FileNotFound', `The directory has no file ${missing}.`)
  await readTree(
    mesh,
    wanted,
    ({ id: file, size }) => readBlob(mesh, file, size, signal),
    ({ path }, pieces) => writeWhole(below(root, path), pieces),
    signal,
  )
}

/** A path of a directory blob came from elsewhere: it may not lead out of the destination. */
function below(root: string, path: string): string {
  if (path === '' || path.startsWith('/') || path.split('/').includes('..'))
    throw new MeshError('BlobCorrupt', `The directory holds a path that leads out of it: ${path}`)
  return join(root, path)
}
