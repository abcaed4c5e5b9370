/** `mesh.blobs`. */
import { stat } from 'node:fs/promises'
import { basename, join, resolve } from 'node:path'
import { MeshError } from '../../protocols/errors.ts'
import type { BlobStat } from '../../protocols/local.ts'
import { fetchBlob, type PutBlob, putStream, readBlob, Uploader } from '../mesh/blobs.ts'
import type { Mesh as Client } from '../mesh/client.ts'
import { downloadTree } from '../mesh/download.ts'
import { writeWhole } from '../mesh/files.ts'
import { piecesOf } from '../mesh/thread-values.ts'
import { listTree, type TreeFile } from '../mesh/trees.ts'
import { gathered } from './bytes.ts'
import { pages } from './pages.ts'

/** How a blob is put. */
export interface PutBlobOptions {
  /** Name of a pin that keeps it; `false`: none, and what no job uses is collected after a while. Default `user`. */
  pin?: string | false
  signal?: AbortSignal
  /** Told how many bytes each piece brought. */
  onBytes?: (count: number) => void
}

/** How a blob is read. */
export interface ReadBlobOptions {
  signal?: AbortSignal
}

const userPin = 'user'

/**
 * Files and directories by content. An id is the IPFS CID of the content: the same bytes have the same id everywhere,
 * and are stored once. Content is looked for all over the mesh and checked when it arrives.
 */
export class Blobs {
  readonly #client: Client

  /** @internal */
  constructor(client: Client) {
    this.#client = client
  }

  /** Stores a file of this machine. @throws {@link MeshError} `InvalidPropertyValue` (no such file), `StoreFull` */
  async putFile(path: string, options: PutBlobOptions = {}): Promise<PutBlob> {
    const source = resolve(path)
    if ((await stat(source).catch(() => undefined))?.isDirectory())
      throw new MeshError('InvalidPropertyValue', `${path} is a directory; use putDirectory.`)
    return new Uploader(this.#client, putOptions(options)).put(source)
  }

  /** Stores a directory with all files below it; links are followed. @throws {@link MeshError} `InvalidPropertyValue`, `StoreFull` */
  async putDirectory(path: string, options: PutBlobOptions = {}): Promise<PutBlob> {
    const source = resolve(path)
    if ((await stat(source).catch(() => undefined))?.isFile())
      throw new MeshError('InvalidPropertyValue', `${path} is a file; use putFile.`)
    return new Uploader(this.#client, putOptions(options)).put(source)
  }

  /** Stores bytes, or a text as UTF-8. @throws {@link MeshError} `StoreFull` */
  putBytes(content: Uint8Array | string, options: PutBlobOptions = {}): Promise<PutBlob> {
    const bytes = typeof content === 'string' ? new TextEncoder().encode(content) : new Uint8Array(content)
    return putStream(this.#client, piecesOf(bytes), { ...putOptions(options), size: bytes.length })
  }

  /**
   * Writes a blob to this machine's disk: a file to the path `to` (or into it, where it ends in `/`), a directory below
   * it. Each file appears whole or not at all. `only` takes single files of a directory. Answers where it lies.
   * @throws {@link MeshError} `BlobNotFound`, `FileNotFound` for one of `only`
   */
  async get(id: string, to: string, options: ReadBlobOptions & { only?: readonly string[] } = {}): Promise<string> {
    const { signal, only } = options
    const { kind, size } = await fetchBlob(this.#client, id, signal)
    if (kind === 'directory') {
      await downloadTree(this.#client, id, resolve(to), { only, signal })
      return resolve(to)
    }
    if (only !== undefined) throw new MeshError('InvalidPropertyValue', `The blob ${id} is a file; only a directory has single files.`)
    const path = to.endsWith('/') ? join(resolve(to), basename(id)) : resolve(to)
    await writeWhole(path, readBlob(this.#client, id, size, signal))
    return path
  }

  /** The bytes of a file blob. For one that is larger than memory: {@link stream}. @throws {@link MeshError} `BlobNotFound` */
  read(id: string, options: ReadBlobOptions = {}): Promise<Buffer> {
    return gathered(this.stream(id, options))
  }

  /** The bytes of a file blob, piece by piece. @throws {@link MeshError} `BlobNotFound`, `InvalidPropertyValue` for a directory */
  async *stream(id: string, options: ReadBlobOptions = {}): AsyncGenerator<Uint8Array, void, undefined> {
    const { kind, size } = await fetchBlob(this.#client, id, options.signal)
    if (kind === 'directory')
      throw new MeshError('InvalidPropertyValue', `The blob ${id} is a directory; write it to disk with get, or list it with entries.`)
    yield* readBlob(this.#client, id, size, options.signal)
  }

  /** The files of a directory blob: path, id and size of each. @throws {@link MeshError} `BlobNotFound` */
  entries(id: string, options: ReadBlobOptions = {}): Promise<TreeFile[]> {
    return listTree(this.#client, id, options.signal)
  }

  /** What this machine's store knows of a blob. @throws {@link MeshError} `BlobNotFound` */
  stat(id: string): Promise<BlobStat> {
    return this.#client.local.call('blobStat', { id })
  }

  /** The blobs in this machine's store. */
  list(): AsyncGenerator<BlobStat, void, undefined> {
    return pages((after) => this.#client.local.call('blobList', { after }))
  }

  /** Keeps a blob in this machine's store, fetching it if need be. @throws {@link MeshError} `BlobNotFound` */
  async pin(id: string, name: string = userPin): Promise<void> {
    await fetchBlob(this.#client, id)
    await this.#client.local.call('pin', { id, name })
  }

  /** Takes a pin back. What nothing else keeps is collected after a while. */
  async unpin(id: string, name: string = userPin): Promise<void> {
    await this.#client.local.call('unpin', { id, name })
  }
}

function putOptions({ pin, signal, onBytes }: PutBlobOptions) {
  return {
    ...(pin === false ? {} : { pin: pin ?? userPin }),
    ...(signal === undefined ? {} : { signal }),
    ...(onBytes === undefined ? {} : { onBytes }),
  }
}
