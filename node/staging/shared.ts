/**
 * Large inputs that many tasks share: made once a machine, read-only, and shown to each task through a link. They are
 * copies, so whatever happens to them never reaches the store; before each use it is checked that nothing was changed.
 */
import { renameSync } from 'node:fs'
import { chmod, lstat, mkdir, readdir, rename, rm } from 'node:fs/promises'
import { join } from 'node:path'
import type { BlobId } from '../../protocols/ids.ts'
import { Limit } from '../blobs/limit.ts'
import type { BlobStore } from '../store/store.ts'
import { walkTree } from '../store/tree.ts'

/** Readable and executable for every task: one file serves them all, so it has one mode. */
const sharedMode = 0o555
/** The node, their owner, can still remove them. */
const directoryMode = 0o755
const filesAtOnce = 8
/** Copies that no task uses any more are kept up to this, for the next task that wants them. */
const keepUnusedBytes = 20 * 2 ** 30

interface Entry {
  ready: Promise<string>
  bytes: number
  /** Working directories of tasks that may be using it. */
  users: Set<string>
  /** What lies where, and its state when it was checked: a change of content or mode changes the time of status. */
  seen: Map<string, string>
}

export class SharedInputs {
  readonly dir: string
  readonly #store: BlobStore
  readonly #keepUnusedBytes: number
  /** The longest unused first. */
  readonly #entries = new Map<BlobId, Entry>()
  #opened: Promise<void> | undefined
  #lastTmp = 0

  constructor(store: BlobStore, dir: string, keepBytes = keepUnusedBytes) {
    this.#store = store
    this.dir = dir
    this.#keepUnusedBytes = keepBytes
  }

  /** Path of the blob's shared copy, made and checked, for the task in `user`. The blob is in the store and held. */
  async path(id: BlobId, user: string): Promise<string> {
    await this.#open()
    const standing = this.#entries.get(id)
    if (standing !== undefined) {
      this.#use(id, standing, user)
      const path = await standing.ready
      if (await unchanged(standing.seen)) return path
      if (this.#entries.get(id) === standing) this.#entries.delete(id)
    }
    let entry = this.#entries.get(id)
    if (entry === undefined) {
      entry = { seen: new Map(), users: new Set(), bytes: 0, ready: Promise.resolve('') }
      entry.ready = this.#make(id, entry)
      this.#entries.set(id, entry)
      entry.ready.catch(() => this.#entries.delete(id))
    }
    this.#use(id, entry, user)
    return await entry.ready
  }

  /** The task in `user` has ended. Copies that are in nobody's use make room, the longest unused first. */
  async done(user: string): Promise<void> {
    let unusedBytes = 0
    for (const entry of this.#entries.values()) {
      entry.users.delete(user)
      if (entry.users.size === 0) unusedBytes += entry.bytes
    }
    for (const [id, entry] of this.#entries) {
      if (unusedBytes <= this.#keepUnusedBytes) break
      if (entry.users.size > 0) continue
      unusedBytes -= entry.bytes
      this.#entries.delete(id)
      // In the same turn, so that a copy made anew meanwhile has its place.
      const old = this.#tmpPath()
      renameSync(join(this.dir, id), old)
      await remove(old)
    }
  }

  #use(id: BlobId, entry: Entry, user: string): void {
    entry.users.add(user)
    this.#entries.delete(id)
    this.#entries.set(id, entry)
  }

  #tmpPath(): string {
    this.#lastTmp += 1
    return join(this.dir, `.tmp-${this.#lastTmp}`)
  }

  /** Whether a link's target is one of the copies. */
  isShared = (target: string): boolean => target.startsWith(`${this.dir}/`)

  /** Copies of an earlier process are not trusted; no task of it is left. */
  #open(): Promise<void> {
    this.#opened ??= (async () => {
      await mkdir(this.dir, { recursive: true })
      await chmod(this.dir, directoryMode)
      for (const name of await readdir(this.dir)) await remove(join(this.dir, name))
    })()
    return this.#opened
  }

  async #make(id: BlobId, made: Entry): Promise<string> {
    const tmp = this.#tmpPath()
    const final = join(this.dir, id)
    const directories: string[] = []
    const files: { path: string; id: BlobId }[] = []
    try {
      await walkTree(this.#store, id, (entry) => {
        const path = entry.path === '' ? '' : `/${entry.path}`
        if (entry.kind === 'directory') directories.push(path)
        else {
          files.push({ path, id: entry.id })
          made.bytes += entry.size
        }
      })
      for (const path of directories) {
        await mkdir(tmp + path)
        // Set apart from the making, which the umask would narrow.
        await chmod(tmp + path, directoryMode)
      }
      const limit = new Limit(filesAtOnce)
      await Promise.all(files.map((file) => limit.run(() => this.#store.handOut(file.id, tmp + file.path, { mode: sharedMode }))))
      await remove(final)
      await rename(tmp, final)
    } catch (error) {
      await remove(tmp)
      throw error
    }
    for (const path of [...directories, ...files.map((file) => file.path)]) made.seen.set(final + path, await fingerprint(final + path))
    return final
  }
}

/** Changes with every write, truncation, replacement or change of mode; only root can set the time of status back. */
async function fingerprint(path: string): Promise<string> {
  const { dev, ino, size, mode, mtimeNs, ctimeNs } = await lstat(path, { bigint: true })
  return [dev, ino, size, mode, mtimeNs, ctimeNs].join(' ')
}

async function unchanged(seen: ReadonlyMap<string, string>): Promise<boolean> {
  for (const [path, state] of seen) {
    const now = await fingerprint(path).catch(() => undefined)
    if (now !== state) return false
  }
  return true
}

/** Removes a tree, also one whose modes a task has changed. */
async function remove(path: string): Promise<void> {
  const state = await lstat(path).catch(() => undefined)
  if (state === undefined) return
  if (state.isDirectory()) {
    await chmod(path, 0o700)
    for (const name of await readdir(path)) await remove(join(path, name))
  }
  await rm(path, { recursive: true, force: true })
}
