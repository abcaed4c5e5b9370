/** One end of the two pipes between a node and a job's child process. What is said in one turn of the loop goes in one write. */
import type { Socket } from 'node:net'
import { decode, encode } from '../../../protocols/codec.ts'
import { FrameDecoder, FrameQueue } from '../../../protocols/framing.ts'
import { maxFrameBytes } from './messages.ts'

/** Bytes of one write. */
const maxWriteBytes = 1 << 20

export class Channel {
  readonly #output: Socket
  readonly #gone: (why: string) => void
  readonly #queue = new FrameQueue()
  #flushing = false

  /** `gone` comes once, when the other end is gone or says what nobody understands. */
  constructor(input: Socket, output: Socket, handlers: { message: (message: unknown) => void; gone: (why: string) => void }) {
    this.#output = output
    const decoder = new FrameDecoder(maxFrameBytes)
    let isGone = false
    const gone = (why: string) => {
      if (isGone) return
      isGone = true
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

  send(message: unknown): void {
    this.#queue.push(encode(message))
    if (this.#flushing) return
    this.#flushing = true
    setImmediate(() => {
      this.#flushing = false
      for (let piece = this.#queue.take(maxWriteBytes); piece !== undefined; piece = this.#queue.take(maxWriteBytes)) {
        if (!this.#output.destroyed) this.#output.write(piece)
      }
    })
  }
}
