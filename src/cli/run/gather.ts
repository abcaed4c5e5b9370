/** What the reduce step gets: the outputs of all tasks, in its directory, under their paths. */
import { MeshError } from '../../../protocols/errors.ts'
import type { ResourceFile } from '../../../protocols/model/task.ts'
import { severalAtOnce } from '../../mesh/batches.ts'
import { fetchBlob } from '../../mesh/blobs.ts'
import type { Mesh } from '../../mesh/client.ts'
import { putTree } from '../../mesh/trees.ts'
import type { Output } from './results.ts'

/** Text of a list of files in a task: a quarter of the 1 MiB that the coordinator takes for a task, as there is more in it. */
const maxListChars = 1 << 18

/**
 * Resource files of the reduce step: listed one by one where they are few, which brings no byte through this machine,
 * else as one directory.
 */
export async function gather(mesh: Mesh, outputs: readonly Output[], signal: AbortSignal): Promise<ResourceFile[]> {
  const files = outputs.map(({ path, blob }): ResourceFile => ({ filePath: path, blob }))
  if (JSON.stringify(files).length <= maxListChars) return files
  // A directory is made of blobs that are in this machine's store.
  await severalAtOnce(outputs, async ({ path, blob, size }) => {
    const found = await fetchBlob(mesh, blob, signal)
    if (found.kind !== 'file' || found.size !== size)
      throw new MeshError('BlobCorrupt', `The blob ${blob} of the output ${path} is not the file of ${size} bytes that was reported.`)
  })
  const entries = outputs.map(({ path, blob, size }) => ({ path, id: blob, size }))
  return [{ filePath: '.', blob: (await putTree(mesh, entries, { signal })).id }]
}

/** Says which two tasks made what cannot lie in one directory, or undefined. */
export function collision(outputs: readonly Output[]): string | undefined {
  const makers = new Map<string, string>()
  for (const { path, taskId } of outputs) {
    const other = makers.get(path)
    if (other !== undefined && other !== taskId)
      return `tasks ${other} and ${taskId} both made ${path}; name it by a placeholder, such as {name} or {index}`
    makers.set(path, taskId)
  }
  for (const { path, taskId } of outputs) {
    for (let at = path.indexOf('/'); at >= 0; at = path.indexOf('/', at + 1)) {
      const other = makers.get(path.slice(0, at))
      if (other !== undefined) return `task ${other} made a file ${path.slice(0, at)}, and task ${taskId} a directory of that name`
    }
  }
  return undefined
}
