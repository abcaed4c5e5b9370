/** Directory blobs, named and listed page by page, so that one of hundreds of thousands of files works too. */
import { maxTreePage } from '../../protocols/local.ts'
import { batches, bulkTimeoutMs, severalAtOnce } from './batches.ts'
import type { Mesh } from './client.ts'

export interface TreeFile {
  /** Below the tree's root, `/` between names. */
  path: string
  id: string
  size: number
}

/** Makes a directory of blobs that were put before. */
export async function putTree(
  mesh: Mesh,
  entries: readonly TreeFile[],
  options: { signal?: AbortSignal | undefined; pin?: string | undefined },
): Promise<{ id: string; size: number }> {
  const { signal, pin } = options
  // A handle belongs to one session, so all pages go through this one.
  const session = await mesh.local.session()
  const { handle } = await session.call('treeBegin', {}, { signal })
  for (let at = 0; at < entries.length; at += maxTreePage)
    await session.call('treeAdd', { handle, entries: entries.slice(at, at + maxTreePage) }, { signal })
  return await session.call('treeEnd', { handle, pin }, { signal, timeoutMs: bulkTimeoutMs })
}

/** All files of a directory blob, which is brought here if need be. */
export async function listTree(mesh: Mesh, id: string, signal?: AbortSignal): Promise<TreeFile[]> {
  const all: TreeFile[] = []
  for (let after: number | undefined = 0; after !== undefined; ) {
    const page: { entries: TreeFile[]; next?: number | undefined } = await mesh.local.call(
      'entries',
      { id, after },
      { signal, persist: true, timeoutMs: bulkTimeoutMs },
    )
    all.push(...page.entries)
    after = page.next
  }
  return all
}

/** Hands each file to `write`: small ones whole, many in one request, larger ones as they are read by `readLarge`. */
export async function readTree(
  mesh: Mesh,
  files: readonly TreeFile[],
  readLarge: (file: TreeFile) => AsyncIterable<Uint8Array>,
  write: (file: TreeFile, pieces: AsyncIterable<Uint8Array> | readonly Uint8Array[]) => Promise<void>,
  signal?: AbortSignal,
): Promise<void> {
  await severalAtOnce(batches(files), async (batch) => {
    signal?.throwIfAborted()
    if (batch.length === 1) {
      const file = files[batch[0]!]!
      return await write(file, readLarge(file))
    }
    const ids = batch.map((at) => files[at]!.id)
    const answer = await mesh.local.call('readSmall', { ids }, { signal, persist: true })
    for (const [index, at] of batch.entries()) await write(files[at]!, [answer.files[index]!])
  })
}
