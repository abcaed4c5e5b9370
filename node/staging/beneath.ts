/**
 * Directories that other users can write to, entered without following a link. Where the system has /proc, names are
 * resolved from the opened directory itself, so that nothing that is renamed or linked meanwhile leads elsewhere.
 */
import { constants, existsSync } from 'node:fs'
import { type FileHandle, mkdir, open, readdir } from 'node:fs/promises'
import { join } from 'node:path'
import type { Owner } from '../ports.ts'

const hasProc = existsSync('/proc/self/fd')
const directoryFlags = constants.O_RDONLY | constants.O_DIRECTORY | constants.O_NOFOLLOW
/** Never waits for the other end of a pipe, never follows a link. */
const fileFlags = constants.O_RDONLY | constants.O_NOFOLLOW | constants.O_NONBLOCK

/** Mode of directories that are made for a task, Azure's default for its files. */
const directoryMode = 0o770

export class Beneath {
  readonly #handle: FileHandle
  readonly #path: string

  private constructor(handle: FileHandle, path: string) {
    this.#handle = handle
    this.#path = path
  }

  static async open(path: string): Promise<Beneath> {
    return new Beneath(await open(path, directoryFlags), path)
  }

  /** A path of a name in this directory, good as long as this is open. */
  at(name: string): string {
    return hasProc ? `/proc/self/fd/${this.#handle.fd}/${name}` : join(this.#path, name)
  }

  /** Names and kinds of what is in it. Names are bytes: not every name is text. */
  async list(): Promise<{ name: Buffer; isDirectory: boolean; isFile: boolean; isLink: boolean }[]> {
    const entries = await readdir(this.at('.'), { withFileTypes: true, encoding: 'buffer' })
    return entries.map((entry) => ({
      name: entry.name as Buffer,
      isDirectory: entry.isDirectory(),
      isFile: entry.isFile(),
      isLink: entry.isSymbolicLink(),
    }))
  }

  /** A directory in this one; ENOTDIR or ELOOP when it is something else. */
  async enter(name: string): Promise<Beneath> {
    return new Beneath(await open(this.at(name), directoryFlags), join(this.#path, name))
  }

  /** Like {@link enter}; makes the directory when it is not there. */
  async make(name: string, owner: Owner | undefined): Promise<Beneath> {
    let made = true
    await mkdir(this.at(name), { mode: directoryMode }).catch((error: NodeJS.ErrnoException) => {
      if (error.code !== 'EEXIST') throw error
      made = false
    })
    const directory = await this.enter(name)
    if (made) {
      await directory.#handle.chmod(directoryMode)
      if (owner !== undefined) await directory.#handle.chown(owner.uid, owner.gid)
    }
    return directory
  }

  /** Opens what is meant to be a regular file, for reading; check its kind before use. */
  async openFile(name: string): Promise<FileHandle> {
    return await open(this.at(name), fileFlags)
  }

  async uid(): Promise<number> {
    return (await this.#handle.stat()).uid
  }

  async close(): Promise<void> {
    await this.#handle.close()
  }
}

/** Runs `work` in the directory that the names lead to, each opened from the one before; made on the way with `make`. */
export async function within<T>(
  root: string,
  names: readonly string[],
  make: { owner: Owner | undefined } | undefined,
  work: (directory: Beneath) => Promise<T>,
): Promise<T> {
  let directory = await Beneath.open(root)
  try {
    for (const name of names) {
      const inner = make === undefined ? await directory.enter(name) : await directory.make(name, make.owner)
      await directory.close()
      directory = inner
    }
    return await work(directory)
  } finally {
    await directory.close()
  }
}
