/**
 * What can be read from the store. Bytes are hashed whenever they leave it (B1); a blob whose bytes do not match is
 * taken out at once and becomes a partial file, whose good chunks need not be fetched again.
 */
import { open, rm } from 'node:fs/promises'
import { join } from 'node:path'
import { MeshError } from '../../protocols/errors.ts'
import type { BlobId } from '../../protocols/ids.ts'
import type { BlobStat } from '../../protocols/local.ts'
import { readChunk } from './chunk-io.ts'
import { type Child, directoryChildren } from './directory.ts'
import { detached, inThread } from './hash-pool.ts'
import type { Ledger, Row } from './ledger.ts'
import { quarantine } from './partial.ts'
import { chunkBytes, chunkCount, chunkLength, digestBytes, leafAt, parseBlobId, sha256 } from './unixfs.ts'

/** User and group that a file is given to. */
export interface FileOwner {
  uid: number
  gid: number
}

/** What it takes to check a blob, and its content where that is small. */
export type Manifest =
  | { kind: 'file'; size: number; leaves: Uint8Array; content?: Uint8Array }
  | { kind: 'directory'; size: number; block: Uint8Array }

export interface StoreLog {
  warn(fields: object, message: string): void
}

export abstract class BlobReader {
  readonly dir: string
  /** Called when a blob was found damaged and taken out; whoever can brings it back. */
  onDamaged: ((id: BlobId) => void) | undefined
  protected readonly ledger: Ledger
  protected readonly log: StoreLog | undefined

  constructor(dir: string, ledger: Ledger, log: StoreLog | undefined) {
    this.dir = dir
    this.ledger = ledger
    this.log = log
  }

  /** A chunk of a file that is still coming in, checked; undefined when it is not here. */
  protected abstract comingChunk(id: BlobId, index: number): Promise<Uint8Array | undefined>

  /** Which chunks of such a file came, one bit each; undefined when it is not coming in. */
  protected abstract comingBits(id: BlobId): Promise<Uint8Array | undefined>

  /** Where the bytes of a larger file lie; for the hand-out to tasks. */
  filePath(id: BlobId): string {
    return join(this.dir, 'files', id)
  }

  /** Whether the blob is here, a directory with all that is below it. */
  async has(id: BlobId): Promise<boolean> {
    const row = await this.ledger.get(id)
    if (row === undefined) return false
    return row.kind === 'file' || (await this.firstMissing(id)) === undefined
  }

  /** Rows of many blobs, without looking below directories. */
  rows(ids: readonly BlobId[]): Promise<(Row | undefined)[]> {
    return this.ledger.getMany(ids)
  }

  async stat(id: BlobId): Promise<BlobStat> {
    const row = await this.#row(id)
    const complete = row.kind === 'file' || (await this.firstMissing(id)) === undefined
    return { id, kind: row.kind, size: row.size, pins: await this.ledger.pins(id), complete }
  }

  /** Blobs in the order of their ids, up to `limit` after `after`. */
  async list(after?: BlobId, limit = 1000): Promise<BlobStat[]> {
    const items: BlobStat[] = []
    for await (const [id, row] of this.ledger.rows(after)) {
      items.push({ id, kind: row.kind, size: row.size, pins: await this.ledger.pins(id), complete: true })
      if (items.length >= limit) break
    }
    return items
  }

  /** The first id of a directory's tree that is not here. */
  async firstMissing(root: BlobId): Promise<BlobId | undefined> {
    const seen = new Set<BlobId>()
    const todo = [[root]]
    for (let ids = todo.pop(); ids !== undefined; ids = todo.pop()) {
      const unseen = ids.filter((id) => !seen.has(id))
      for (const id of unseen) seen.add(id)
      const rows = await this.ledger.getMany(unseen)
      for (const [index, id] of unseen.entries()) {
        if (rows[index] === undefined) return id
        if (rows[index].kind === 'directory') todo.push((await this.children(id)).map((child) => child.id))
      }
    }
    return undefined
  }

  /** Children of one node of a directory, checked. */
  async children(id: BlobId): Promise<Child[]> {
    return directoryChildren(id, await this.#detail(id, 'directory'))
  }

  async manifest(id: BlobId): Promise<Manifest> {
    const row = await this.#row(id)
    if (row.kind === 'directory') return { kind: 'directory', size: row.size, block: await this.#detail(id, 'directory') }
    const manifest = { kind: 'file' as const, size: row.size, leaves: await this.#leaves(id, row) }
    return row.where === 'row' ? { ...manifest, content: await this.#detail(id, 'file') } : manifest
  }

  /** Bytes of a chunk, checked against its digest (B1). A blob found damaged is taken out. */
  async chunk(id: BlobId, index: number): Promise<Uint8Array> {
    const row = await this.ledger.get(id)
    if (row === undefined) {
      const coming = await this.comingChunk(id, index)
      if (coming === undefined) throw new MeshError('BlobNotFound', `The blob ${id} is not in this store.`)
      return coming
    }
    if (row.kind !== 'file') throw new MeshError('InvalidPropertyValue', `The blob ${id} is a directory; only files have bytes to read.`)
    if (!Number.isInteger(index) || index < 0 || index >= chunkCount(row.size)) {
      throw new MeshError('InvalidRange', `The blob ${id} has ${chunkCount(row.size)} chunks; there is no chunk ${index}.`)
    }
    if (row.where === 'row') return await this.#detail(id, 'file')
    const task = {
      path: this.filePath(id),
      offset: index * chunkBytes,
      length: chunkLength(row.size, index),
      digest: leafAt(await this.#leaves(id, row), index),
    }
    const bytes = await readChunk(task).catch(() => undefined)
    if (bytes !== undefined) return bytes
    throw await this.takeOut(id)
  }

  /** Which chunks of a file are here: one bit each, lowest bit first; empty when none are. Their bytes are checked when they are read. */
  async chunksHere(id: BlobId): Promise<Uint8Array> {
    const row = await this.ledger.get(id)
    if (row === undefined) return (await this.comingBits(id)) ?? new Uint8Array()
    const count = row.kind === 'file' ? chunkCount(row.size) : 0
    const bits = new Uint8Array(Math.ceil(count / 8)).fill(0xff)
    if (count % 8 > 0) bits[bits.length - 1] = (1 << (count % 8)) - 1
    return bits
  }

  /** A range of a file, checked; shorter at its end. */
  async read(id: BlobId, offset: number, length: number): Promise<Uint8Array> {
    const row = await this.#row(id)
    if (row.kind !== 'file') throw new MeshError('InvalidPropertyValue', `The blob ${id} is a directory; only files have bytes to read.`)
    if (offset > row.size) throw new MeshError('InvalidRange', `The blob ${id} has ${row.size} bytes; the range begins at ${offset}.`)
    const end = Math.min(row.size, offset + length)
    const pieces: Uint8Array[] = []
    for (let at = offset; at < end; ) {
      const index = Math.floor(at / chunkBytes)
      const chunk = await this.chunk(id, index)
      const piece = chunk.subarray(at - index * chunkBytes, end - index * chunkBytes)
      pieces.push(piece)
      at += piece.length
    }
    return pieces.length === 1 ? pieces[0]! : Buffer.concat(pieces)
  }

  /**
   * Makes a file outside the store of a blob, checked (B1); what is done to it never reaches the store. A hard link
   * shares the store's inode, so it is made only for a read-only file of a task that runs as another user.
   */
  async handOut(id: BlobId, to: string, options: { mode: number; owner?: FileOwner | undefined }): Promise<void> {
    const { mode, owner } = options
    const row = await this.#row(id)
    if (row.kind !== 'file') throw new MeshError('InvalidPropertyValue', `The blob ${id} is a directory, not a file.`)
    if (row.where === 'row') {
      const content = await this.#detail(id, 'file')
      const file = await open(to, 'wx', 0o600)
      try {
        await file.writeFile(content)
        if (owner !== undefined) await file.chown(owner.uid, owner.gid)
        await file.chmod(mode)
      } finally {
        await file.close()
      }
      return
    }
    const mayLink = mode === 0o444 && owner !== undefined && owner.uid !== process.geteuid?.()
    const leaves = detached(await this.#leaves(id, row))
    const intact = await inThread('handOut', { from: this.filePath(id), to, size: row.size, leaves, mode, owner, mayLink })
    if (!intact) throw await this.takeOut(id)
  }

  /** Takes a damaged blob out of the store; its pins stay for when it is back. Resolves to the error to throw. */
  async takeOut(id: BlobId): Promise<MeshError> {
    const taken = await this.ledger.change(async (changes) => {
      const row = await changes.get(id)
      if (row === undefined) return false
      if (row.where === 'file')
        await quarantine(this.filePath(id), join(this.dir, 'partial'), id, row.size).catch(() => rm(this.filePath(id), { force: true }))
      changes.remove(id, row)
      return true
    })
    if (taken) {
      this.log?.warn({ blob: id }, 'a blob on disk does not match its id and was taken out of the store')
      this.onDamaged?.(id)
    }
    return new MeshError(
      'BlobCorrupt',
      `The bytes of the blob ${id} on disk do not match its id; it was taken out of the store, fetch it again.`,
    )
  }

  pins(id: BlobId): Promise<string[]> {
    return this.ledger.pins(id)
  }

  async #row(id: BlobId): Promise<Row> {
    const row = await this.ledger.get(id)
    if (row === undefined) throw new MeshError('BlobNotFound', `The blob ${id} is not in this store.`)
    return row
  }

  /** The detail of a directory or of a file in the database, checked against its id. */
  async #detail(id: BlobId, kind: Row['kind']): Promise<Uint8Array> {
    const detail = await this.ledger.detail(id)
    if (detail === undefined) throw new MeshError('BlobNotFound', `The blob ${id} is not in this store.`)
    if ((parseBlobId(id).codec === 'raw') !== (kind === 'file'))
      throw new MeshError('InvalidPropertyValue', `The blob ${id} is no ${kind}.`)
    if (Buffer.compare(sha256(detail), parseBlobId(id).digest) !== 0) throw await this.takeOut(id)
    return detail
  }

  /** The digests of a file's chunks, checked against its id. */
  async #leaves(id: BlobId, row: Row): Promise<Uint8Array> {
    if (row.size <= chunkBytes) return parseBlobId(id).digest
    const leaves = await this.ledger.detail(id)
    if (leaves === undefined || leaves.length !== chunkCount(row.size) * digestBytes) throw await this.takeOut(id)
    return leaves
  }
}
