/**
 * Channels inside one process: what a peer opens to itself (libp2p refuses to dial its own peer id). Frames are handed
 * over uncopied, in order, in a later turn of the loop, so that no caller is called back before its call returns.
 */
import type { AbortOptions, Channel, CloseReason, Remote } from '../protocols/wire.ts'

/** As for a stream channel: queued bytes above which `send` asks to wait. */
const highWaterBytes = 1 << 20

/** Two ends of one channel; what one sends, the other receives. */
export function loopbackPair(remote: Remote, maxFrameBytes: number): [Channel, Channel] {
  const left = new LoopbackChannel(remote, maxFrameBytes)
  const right = new LoopbackChannel(remote, maxFrameBytes)
  left.other = right
  right.other = left
  return [left, right]
}

class LoopbackChannel implements Channel {
  readonly remote: Remote
  readonly closed: Promise<CloseReason>
  other!: LoopbackChannel
  readonly #maxFrameBytes: number
  readonly #drainWaiters = new Set<() => void>()
  #inbox: Uint8Array[] = []
  #inboxBytes = 0
  /** The other end has closed: once the inbox is read, this end is closed too. */
  #otherClosed = false
  #handler: ((frame: Uint8Array) => void) | undefined
  #pauses = 0
  #scheduled = false
  #reason: CloseReason | undefined
  #resolveClosed!: (reason: CloseReason) => void

  constructor(remote: Remote, maxFrameBytes: number) {
    this.remote = remote
    this.#maxFrameBytes = maxFrameBytes
    this.closed = new Promise((resolve) => {
      this.#resolveClosed = resolve
    })
  }

  send(start: Uint8Array, tail?: Uint8Array): boolean {
    if (this.#reason !== undefined) return false
    const frame = tail === undefined ? start : new Uint8Array(Buffer.concat([start, tail]))
    if (frame.length > this.#maxFrameBytes) {
      this.close('protocol-error')
      return false
    }
    this.other.#take(frame)
    return this.other.#inboxBytes < highWaterBytes
  }

  drained(options: AbortOptions = {}): Promise<void> {
    if (this.#reason !== undefined || this.other.#inboxBytes < highWaterBytes) return Promise.resolve()
    const { signal } = options
    return new Promise((resolve, reject) => {
      const onAbort = () => {
        this.#drainWaiters.delete(done)
        reject(signal!.reason as Error)
      }
      const done = () => {
        signal?.removeEventListener('abort', onAbort)
        resolve()
      }
      if (signal?.aborted) return reject(signal.reason as Error)
      signal?.addEventListener('abort', onAbort, { once: true })
      this.#drainWaiters.add(done)
    })
  }

  receive(handler: (frame: Uint8Array) => void): void {
    this.#handler = handler
    this.#schedule()
  }

  pause(): void {
    this.#pauses += 1
  }

  resume(): void {
    if (this.#pauses === 0) return
    this.#pauses -= 1
    this.#schedule()
  }

  close(reason: CloseReason = 'local'): void {
    if (this.#reason !== undefined) return
    this.#finish(reason)
    this.other.#otherClosed = true
    this.other.#schedule()
  }

  #take(frame: Uint8Array): void {
    if (this.#reason !== undefined) return
    this.#inbox.push(frame)
    this.#inboxBytes += frame.length
    this.#schedule()
  }

  #schedule(): void {
    if (this.#scheduled || this.#reason !== undefined) return
    this.#scheduled = true
    setImmediate(() => {
      this.#scheduled = false
      this.#deliver()
    })
  }

  #deliver(): void {
    let taken = 0
    try {
      while (taken < this.#inbox.length && this.#pauses === 0 && this.#handler !== undefined && this.#reason === undefined) {
        const frame = this.#inbox[taken]!
        taken += 1
        this.#inboxBytes -= frame.length
        this.#handler(frame)
      }
    } finally {
      this.#inbox.splice(0, taken)
    }
    if (this.#inboxBytes < highWaterBytes) this.other.#wake()
    if (this.#otherClosed && this.#inbox.length === 0 && this.#reason === undefined) this.#finish('remote')
  }

  #wake(): void {
    for (const done of this.#drainWaiters) done()
    this.#drainWaiters.clear()
  }

  #finish(reason: CloseReason): void {
    this.#reason = reason
    this.#inbox = []
    this.#inboxBytes = 0
    this.#wake()
    this.other.#wake()
    this.#resolveClosed(reason)
  }
}
