/**
 * A {@link Channel} over any two-way byte stream: the unix control socket, or a libp2p stream.
 *
 * Sending: frames of one turn of the loop go out together. What the stream does not take is queued here, and `send`
 * tells when that is more than the high-water mark. Receiving: frames wait until there is a receiver and nobody pauses. A
 * little is read on meanwhile, so that an end is noticed; then the stream is paused, so that a slow reader costs little
 * memory and slows its sender down.
 * A sender that closes says so with an end mark; a stream that ends without it counts as lost.
 */
import { endMarkBytes, FrameDecoder, FrameQueue } from './framing.ts'
import type { AbortOptions, Channel, CloseReason, Remote } from './wire.ts'

/** What a byte stream tells its channel. */
export interface DuplexEvents {
  data(chunk: Uint8Array): void
  /** After `write` returned false: write again. */
  drain(): void
  /** No more bytes come, in order or not; called at least once. */
  end(): void
}

/** The least that a two-way byte stream must do. */
export interface ByteDuplex {
  /** Called once, before anything else. */
  listen(events: DuplexEvents): void
  /** Takes all of the bytes; false asks to wait for `drain` before the next. May throw when the stream is gone. */
  write(bytes: Uint8Array): boolean
  /** No `data` after this (bytes on their way excepted) until {@link resume}. */
  pause(): void
  resume(): void
  /** Nothing more will be written; what was written is still sent. */
  end(): void
  /** Ends both ways at once. */
  destroy(): void
}

/** Queued bytes above which `send` asks to wait: about one stream window, so that a sender that obeys keeps the path full. */
const highWaterBytes = 1 << 20

/** Bytes given to the stream at once: encryption costs a third less in pieces of this size than in small ones. */
const writeBytes = 256 << 10

/** Bytes read while nobody takes frames. */
const heldLimitBytes = 256 << 10

/** A frame that has begun is whole within this, and a second more for each {@link slowBytes} that it may have; else its sender is gone, or holds memory here on purpose. */
const frameMs = 60_000
/** What the slowest line brings in a second. */
const slowBytes = 16 << 10

/** After a close what is queued has this long to leave; then the stream is cut. */
const lingerMs = 10_000

export class StreamChannel implements Channel {
  readonly closed: Promise<CloseReason>
  remote: Remote
  readonly #duplex: ByteDuplex
  readonly #decoder: FrameDecoder
  #maxFrameBytes: number
  readonly #queue = new FrameQueue()
  readonly #frames: Uint8Array[] = []
  readonly #drainWaiters = new Set<() => void>()
  #resolveClosed!: (reason: CloseReason) => void
  #handler: ((frame: Uint8Array) => void) | undefined
  #pauses = 0
  #streamPaused = false
  #heldBytes = 0
  #delivering = false
  #flushQueued = false
  #writable = true
  #reason: CloseReason | undefined
  #finished = false
  #linger: ReturnType<typeof setTimeout> | undefined
  #frameTimer: ReturnType<typeof setTimeout> | undefined

  constructor(duplex: ByteDuplex, remote: Remote, maxFrameBytes: number) {
    this.#duplex = duplex
    this.remote = remote
    this.#maxFrameBytes = maxFrameBytes
    this.#decoder = new FrameDecoder(maxFrameBytes)
    this.closed = new Promise((resolve) => {
      this.#resolveClosed = resolve
    })
    duplex.listen({ data: (chunk) => this.#onData(chunk), drain: () => this.#onDrain(), end: () => this.#onEnd() })
  }

  send(frame: Uint8Array, tail?: Uint8Array): boolean {
    if (this.#reason !== undefined) return false
    if (frame.length + (tail?.length ?? 0) > this.#maxFrameBytes) {
      this.close('protocol-error')
      return false
    }
    this.#queue.push(frame, tail)
    if (!this.#flushQueued && this.#writable) {
      this.#flushQueued = true
      queueMicrotask(() => {
        this.#flushQueued = false
        this.#flush()
      })
    }
    return this.#queue.bytes < highWaterBytes
  }

  drained(options: AbortOptions = {}): Promise<void> {
    if (this.#reason !== undefined || this.#queue.bytes < highWaterBytes) return Promise.resolve()
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
    this.#deliver()
  }

  /** Takes one frame out of the order of {@link receive}: the opening exchange. Rejects when the channel ends first, or the signal aborts. */
  next(signal?: AbortSignal): Promise<Uint8Array> {
    return new Promise((resolve, reject) => {
      const onAbort = () => {
        this.#handler = undefined
        reject(signal!.reason as Error)
      }
      if (signal?.aborted) return onAbort()
      signal?.addEventListener('abort', onAbort, { once: true })
      void this.closed.then((reason) => {
        signal?.removeEventListener('abort', onAbort)
        reject(new Error(`The channel ended: ${reason}.`))
      })
      this.receive((frame) => {
        this.#handler = undefined
        signal?.removeEventListener('abort', onAbort)
        resolve(frame)
      })
    })
  }

  /** Larger frames may come, and be sent, from now on: a peer has shown who it is. */
  allow(maxFrameBytes: number): void {
    this.#maxFrameBytes = maxFrameBytes
    this.#decoder.limit(maxFrameBytes)
  }

  pause(): void {
    this.#pauses += 1
  }

  resume(): void {
    if (this.#pauses === 0) return
    this.#pauses -= 1
    if (this.#pauses === 0) this.#deliver()
  }

  close(reason: CloseReason = 'local'): void {
    if (this.#reason !== undefined) return
    this.#finish(reason)
    if (reason === 'protocol-error' || reason === 'lost') return this.#destroy()
    this.#sayGoodbye()
  }

  #finish(reason: CloseReason): void {
    this.#reason = reason
    clearTimeout(this.#frameTimer)
    this.#frames.length = 0
    for (const done of this.#drainWaiters) done()
    this.#drainWaiters.clear()
    this.#resolveClosed(reason)
  }

  /** Sends what is queued and the end mark, reads the other side's rest away, and cuts the stream if that takes too long. */
  #sayGoodbye(): void {
    this.#queue.pushRaw(endMarkBytes())
    this.#linger = setTimeout(() => this.#destroy(), lingerMs)
    this.#linger.unref?.()
    this.#readOn()
    this.#flush()
  }

  #flush(): void {
    try {
      while (this.#writable && !this.#finished) {
        const bytes = this.#queue.take(writeBytes)
        if (bytes === undefined) break
        this.#writable = this.#duplex.write(bytes)
      }
      if (this.#reason !== undefined && this.#queue.bytes === 0 && !this.#finished) this.#duplex.end()
    } catch {
      return this.#lose()
    }
    if (this.#queue.bytes < highWaterBytes && this.#drainWaiters.size > 0) {
      for (const done of this.#drainWaiters) done()
      this.#drainWaiters.clear()
    }
  }

  #onDrain(): void {
    this.#writable = true
    this.#flush()
  }

  #onData(chunk: Uint8Array): void {
    if (this.#reason !== undefined) return
    this.#heldBytes += chunk.length
    try {
      this.#decoder.push(chunk, this.#frames)
    } catch {
      // What came whole before the broken frame still counts.
      this.#deliver()
      return this.close('protocol-error')
    }
    if (this.#decoder.partial !== 0 && this.#frameTimer === undefined) this.#timeFrame(this.#decoder.partial)
    this.#deliver()
  }

  /** Looks again when this frame must be whole. No frame costs a timer of its own while others follow in time. */
  #timeFrame(frame: number): void {
    const allowedMs = frameMs + (this.#maxFrameBytes / slowBytes) * 1000
    this.#frameTimer = setTimeout(() => {
      this.#frameTimer = undefined
      const { partial } = this.#decoder
      // What this side does not read cannot come.
      if (partial === frame && !this.#streamPaused) this.close('protocol-error')
      else if (partial !== 0) this.#timeFrame(partial)
    }, allowedMs)
    this.#frameTimer.unref?.()
  }

  #onEnd(): void {
    if (this.#reason !== undefined) return this.#destroy()
    if (this.#decoder.ended) return
    this.#lose()
  }

  #lose(): void {
    if (this.#reason === undefined) this.#finish('lost')
    this.#destroy()
  }

  get #held(): boolean {
    return this.#handler === undefined || this.#pauses > 0
  }

  #deliver(): void {
    if (this.#delivering || this.#reason !== undefined) return
    this.#delivering = true
    let taken = 0
    try {
      while (taken < this.#frames.length && !this.#held && this.#reason === undefined) {
        taken += 1
        this.#handler!(this.#frames[taken - 1]!)
      }
    } finally {
      this.#frames.splice(0, taken)
      this.#delivering = false
    }
    if (this.#reason !== undefined) return
    if (this.#frames.length === 0 && this.#decoder.ended) {
      this.#finish('remote')
      return this.#sayGoodbye()
    }
    if (!this.#held) {
      this.#heldBytes = 0
      this.#readOn()
    } else if (this.#heldBytes >= heldLimitBytes && !this.#streamPaused) {
      this.#streamPaused = true
      this.#duplex.pause()
    }
  }

  #readOn(): void {
    if (!this.#streamPaused) return
    this.#streamPaused = false
    this.#duplex.resume()
  }

  #destroy(): void {
    if (this.#finished) return
    this.#finished = true
    clearTimeout(this.#linger)
    this.#queue.clear()
    this.#duplex.destroy()
  }
}
