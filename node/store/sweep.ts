/**
 * Garbage: blobs that nothing pins, holds or is about to. What is wanted is marked first, over whole directories; each
 * unmarked blob is then looked at again inside the ledger's next group, renamed away, and only unlinked when its row
 * is gone from the disk. Whoever pins or holds a directory meanwhile adds it to the marks in the same order, so nothing
 * can slip between the two looks.
 */
import { rename, rm } from 'node:fs/promises'
import { failpoint } from '../../protocols/failpoint.ts'
import type { BlobId } from '../../protocols/ids.ts'
import { directoryChildren } from './directory.ts'
import type { Ledger, Row } from './ledger.ts'

export interface SweepResult {
  removed: number
  freedBytes: number
}

export interface SweepOptions {
  ledger: Ledger
  now: number
  /** In use by this process now. */
  held: () => Iterable<BlobId>
  isHeld: (id: BlobId) => boolean
  filePath: (id: BlobId) => string
  trashPath: (id: BlobId) => string
  /** Stops when so much is free, the oldest first; everything goes when absent. */
  neededBytes?: number
}

/** Removals asked for at once: they share a group of the ledger. */
const sweepBatch = 256

export class Sweep {
  readonly #options: SweepOptions
  readonly #marked = new Set<BlobId>()

  constructor(options: SweepOptions) {
    this.#options = options
  }

  /** Marks a blob and all below it. */
  async mark(root: BlobId): Promise<void> {
    const { ledger } = this.#options
    const todo = [root]
    for (let id = todo.pop(); id !== undefined; id = todo.pop()) {
      if (this.#marked.has(id)) continue
      this.#marked.add(id)
      const row = await ledger.get(id)
      if (row?.kind !== 'directory') continue
      const block = await ledger.detail(id)
      if (block !== undefined) for (const child of directoryChildren(id, block)) todo.push(child.id)
    }
  }

  async run(): Promise<SweepResult> {
    const { ledger, held, now, neededBytes } = this.#options
    for await (const id of ledger.pinned()) await this.mark(id)
    for (const id of held()) await this.mark(id)
    for await (const [id, row] of ledger.rows()) if (row.keepUntil > now) await this.mark(id)
    const garbage: [BlobId, Row][] = []
    for await (const [id, row] of ledger.rows()) if (!this.#marked.has(id)) garbage.push([id, row])
    // Directories before what is in them, so that none stands there with a part of it gone.
    garbage.sort(([, a], [, b]) => (a.kind === b.kind ? a.since - b.since : a.kind === 'directory' ? -1 : 1))
    const result: SweepResult = { removed: 0, freedBytes: 0 }
    for (let first = 0; first < garbage.length; first += sweepBatch) {
      if (neededBytes !== undefined && result.freedBytes >= neededBytes) break
      const removed = await Promise.all(garbage.slice(first, first + sweepBatch).map(([id]) => this.#remove(id)))
      for (const row of removed) {
        if (row === undefined) continue
        result.removed += 1
        result.freedBytes += row.kind === 'file' ? row.size : 0
      }
    }
    return result
  }

  async #remove(id: BlobId): Promise<Row | undefined> {
    const { ledger, isHeld, now, filePath, trashPath } = this.#options
    const row = await ledger.change(async (changes) => {
      const current = await changes.get(id)
      if (current === undefined || current.keepUntil > now) return undefined
      if (this.#marked.has(id) || isHeld(id) || (await changes.isPinned(id))) return undefined
      if (current.where === 'file') await rename(filePath(id), trashPath(id)).catch(ignoreMissing)
      failpoint('blobs.sweep.trashed')
      changes.remove(id, current)
      return current
    })
    if (row !== undefined) failpoint('blobs.sweep.forgotten')
    if (row?.where === 'file') await rm(trashPath(id), { force: true })
    return row
  }
}

function ignoreMissing(error: NodeJS.ErrnoException): void {
  if (error.code !== 'ENOENT') throw error
}
