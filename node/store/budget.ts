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

  async within<T>(bytes: number, work: () => Promise<T>): Promise<T> {
    await this.reserve(bytes)
    try {
      return await work()
    } finally {
      this.unreserve(bytes)
    }
  }
}
