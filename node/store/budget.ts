/** The room that blobs may take: what is stored, and what is on its way in. */
import { MeshError } from '../../protocols/errors.ts'

export class Budget {
  readonly quotaBytes: number
  readonly #usedBytes: () => number
  readonly #makeRoom: (neededBytes: number) => Promise<void>
  #reservedBytes = 0

  constructor(options: { quotaBytes: number; usedBytes: () => number; makeRoom: (neededBytes: number) => Promise<void> }) {
    this.quotaBytes = options.quotaBytes
    this.#usedBytes = options.usedBytes
    this.#makeRoom = options.makeRoom
  }

  freeBytes(): number {
    return this.quotaBytes - this.#usedBytes() - this.#reservedBytes
  }

  /** Sets room aside; what nothing pins is swept for it, oldest first. Throws StoreFull when that is not enough. */
  async reserve(bytes: number): Promise<void> {
    // Twice, because the first may have joined a sweep that was after less.
    for (let tries = 0; tries < 2 && bytes > this.freeBytes(); tries++) await this.#makeRoom(bytes - this.freeBytes())
    if (bytes > this.freeBytes()) {
      throw new MeshError(
        'StoreFull',
        `The blob store has ${Math.max(0, this.freeBytes())} of its ${this.quotaBytes} bytes left, ${bytes} are needed, and all else is pinned or in use: unpin blobs, delete ended jobs, or raise the quota.`,
      )
    }
    this.#reservedBytes += bytes
  }

  unreserve(bytes: number): void {
    this.#reservedBytes -= bytes
  }

  /**
   * What comes of a write that failed, after what was half written has been removed: when the disk is full (others fill
   * it too), room is made for the next try, and the error is StoreFull. Any other error is thrown as it is.
   */
  async failed(error: unknown, bytes: number): Promise<never> {
    const isKnown = error instanceof MeshError && error.code === 'StoreFull'
    if (!isKnown && !isDiskFull(error)) throw error
    await this.makeRoom(bytes)
    throw isKnown ? error : diskFull(error)
  }

  /** Sweeps what nothing pins until so much is freed, as far as there is any. */
  async makeRoom(bytes: number): Promise<void> {
    await this.#makeRoom(bytes).catch(() => undefined)
  }

  /** Room for so many bytes, during the work; which removes what it has half written when it fails. */
  async within<T>(bytes: number, work: () => Promise<T>): Promise<T> {
    await this.reserve(bytes)
    try {
      return await work().catch((error: unknown) => this.failed(error, bytes))
    } finally {
      this.unreserve(bytes)
    }
  }
}

/** By the message too: an error that comes from a thread has lost its code, and LevelDB has none for it. */
export function isDiskFull(error: unknown): boolean {
  if (!(error instanceof Error)) return false
  const { code = error.message } = error as NodeJS.ErrnoException
  return /^(ENOSPC|EDQUOT)\b/.test(code) || (/^LEVEL_/.test(code) && /No space left on device|Disk quota exceeded/.test(error.message))
}

export function diskFull(cause: unknown): MeshError {
  return new MeshError(
    'StoreFull',
    'The disk of the blob store is full, before its quota is used up. Free some of the disk, or lower the quota (--blob-quota).',
    { cause },
  )
}
