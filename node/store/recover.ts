/** What is put right when a store is opened: the traces of a process that ended in the middle of something. */
import { readdir, rename, rm, stat } from 'node:fs/promises'
import { join } from 'node:path'
import type { Ledger } from './ledger.ts'

/** A partial file that nobody asked for in so long is given up. */
const partialKeepMs = 7 * 86_400_000
/** Rows read at once. */
const lookupBatch = 1000

/** Uploads in pieces do not survive their process. */
export async function clearTmp(dir: string): Promise<void> {
  for (const name of await readdir(join(dir, 'tmp'))) await rm(join(dir, 'tmp', name), { force: true })
}

export async function recover(dir: string, ledger: Ledger): Promise<void> {
  // Renamed away for removal, but the row's removal did not reach the disk: it is a blob still.
  for (const name of await readdir(join(dir, 'trash'))) {
    const from = join(dir, 'trash', name)
    if ((await ledger.get(name)) === undefined) await rm(from, { force: true })
    else await rename(from, join(dir, 'files', name))
  }
  // Renamed into place, but the row did not reach the disk: it never was a blob.
  const names = await readdir(join(dir, 'files'))
  for (let first = 0; first < names.length; first += lookupBatch) {
    const some = names.slice(first, first + lookupBatch)
    const rows = await ledger.getMany(some)
    for (const [index, name] of some.entries()) if (rows[index] === undefined) await rm(join(dir, 'files', name), { force: true })
  }
  for (const name of await readdir(join(dir, 'partial'))) {
    const path = join(dir, 'partial', name)
    if (Date.now() - (await stat(path)).mtimeMs > partialKeepMs) await rm(path, { force: true })
  }
}
