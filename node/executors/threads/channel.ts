/**
 * One end of the two pipes between a node and a job's child process. What is said within a few milliseconds goes in one
 * write, so that writes follow time and not calls; after a pause it goes at once, and so does what the other end waits for.
 */
import type { Socket } from 'node:net'
import { decode, encode } from '../../../protocols/codec.ts'
import { FrameDecoder, FrameQueue } from '../../../protocols/framing.ts'
import { gatherMs, maxFrameBytes } from './messages.ts'

/** Bytes of one write. */
const maxWriteBytes = 1 << 20

export class Channel {
  readonly #output: Socket
  readonly #gone: (why: string) => void
  readonly #queue = new FrameQueue()
  #lastFlush = Number.NEGATIVE_INFINITY
  #timer: NodeJS.Timeout | undefined
  #immediate: NodeJS.Immediate | undefined

  /**
   * `heard` comes after the messages of one read, `gone` once, when the other end is gone or says what nobody
   * understands.
   */
  constructor(
    input: Socket,
    output: Socket,
    handlers: { message: (message: unknown) => void; heard?: () => void; gone: (why: string) => void },
  ) {
    this.#output = output
    const decoder = new FrameDecoder(maxFrameBytes)
    let isGone = false
    const gone = (why: string) => {
      if (isGone) return
      isGone = true
      clearTimeout(this.#timer)
      input.destroy()
      output.destroy()
      handlers.gone(why)
    }
    this.#gone = gone
    input.on('data', (data: Buffer) => {
      const frames: Uint8Array[] = []
      try {
        decoder.push(data, frames)
        for (const frame of frames) if (!isGone) handlers.message(decode(frame))
        handlers.heard?.()
      } catch (error) {
        gone(error instanceof Error ? error.message : String(error))
      }
    })
    input.on('end', () => gone('it ended'))
    for (const socket of [input, output]) socket.on('error', (error) => gone(error.message))
  }

  close(): void {
    this.#gone('it was closed')
  }

  /** `urgent`: somebody waits for it. */
  send(message: unknown, urgent = false): void {
    this.#queue.push(encode(message))
    const waitMs = urgent ? 0 : this.#lastFlush + gatherMs - performance.now()
    if (waitMs <= 0) this.#immediate ??= setImmediate(() => this.#flush())
    else if (this.#immediate === undefined) this.#timer ??= setTimeout(() => this.#flush(), waitMs)
  }

  #flush(): void {
    clearTimeout(this.#timer)
    clearImmediate(this.#immediate)
    this.#timer = undefined
    this.#immediate = undefined
    this.#lastFlush = performance.now()
    for (let piece = this.#queue.take(maxWriteBytes); piece !== undefined; piece = this.#queue.take(maxWriteBytes)) {
      if (!this.#output.destroyed) this.#output.write(piece)
    }
  }
}
