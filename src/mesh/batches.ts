/** Many files in few requests: what goes together, and how much at once. */
import { smallBytes } from '../../protocols/blobs.ts'
import { maxBlobPieceBytes, maxSmallFiles } from '../../protocols/local.ts'

/** A node that hashes a large file, copies it to its home, or pulls it from far away answers only then. */
export const bulkTimeoutMs = 3_600_000
/** Requests are bound by round trips and by the disk, so several go at once. */
const worksAtOnce = 4

/** Positions of files that go together: small ones up to what one request holds, larger ones each by itself. */
export function batches(files: readonly { size: number }[]): number[][] {
  const made: number[][] = []
  let open: number[] = []
  let openBytes = 0
  for (const [at, { size }] of files.entries()) {
    if (size > smallBytes) {
      made.push([at])
      continue
    }
    if (open.length >= maxSmallFiles || openBytes + size > maxBlobPieceBytes) {
      open = []
      openBytes = 0
    }
    if (open.length === 0) made.push(open)
    open.push(at)
    openBytes += size
  }
  return made
}

/** Works on items, several at once. After a failure nothing more is begun, and what was is awaited before it is passed on. */
export async function severalAtOnce<T>(items: readonly T[], work: (item: T) => Promise<void>): Promise<void> {
  let next = 0
  let broken = false
  const worker = async () => {
    while (next < items.length && !broken) {
      const item = items[next]!
      next += 1
      try {
        await work(item)
      } catch (error) {
        broken = true
        throw error
      }
    }
  }
  const failed = (await Promise.allSettled(Array.from({ length: worksAtOnce }, worker))).find((result) => result.status === 'rejected')
  if (failed !== undefined) throw failed.reason
}
