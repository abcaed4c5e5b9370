/**
 * A TLS connection to another member, once it stands: frames out, frames in.
 *
 * A small message is copied behind its header, and what is sent in one turn of the loop leaves in one record. A large one
 * goes as it lies, in pieces that TLS encrypts from where they are; no more than two are on their way, so that memory is
 * bounded by the kernel's buffers. Reading never waits for writing, so two members that send each other more than all
 * buffers hold do not wait for ever.
 */
import type { TLSSocket } from 'node:tls'
import type { Envelope } from '../link.ts'
import { FrameReader, headerBytes, headerOf, type Kind, kinds } from './frames.ts'

/** Up to here a copy costs less than a record and a write of its own. */
const smallBytes = 32 << 10
/** One write of a large message: larger ones gained nothing (docs/performance.md). */
const pieceBytes = 256 << 10
/** Pieces on their way: one is encrypted while the other is written. */
const piecesAhead = 2
/** Small messages that wait for the socket; beyond it the sender is told to wait. */
const queuedBytes = 1 << 20

export interface ConnectionEvents {
  begin(envelope: Envelope): Uint8Array | undefined
  end(envelope: Envelope, data: Uint8Array): void
  control(kind: Kind, envelope: Envelope): void
  /** It has ended, for whatever reason, in a whole sentence. Called once. */
  closed(error: Error): void
}

interface Queued {
  frame: Uint8Array
  /** Of a large message, what is not written yet; `frame` is its header. */
  rest?: Uint8Array
  done?: PromiseWithResolvers<void>
}

export class Connection {
  /** When something came last (performance.now), and when something was sent. */
  heardAt = performance.now()
  spokeAt = performance.now()
  readonly #rank: number
  readonly #socket: TLSSocket
  readonly #events: ConnectionEvents
  readonly #reader: FrameReader
  /** Waits behind a large message. */
  readonly #queue: Queued[] = []
  #pieces = 0
  /** Bytes that came before somebody took messages. */
  #kept: Uint8Array | undefined
  #isCorked = false
  #ended: Error | undefined

  constructor(rank: number, socket: TLSSocket, events: ConnectionEvents) {
    this.#rank = rank
    this.#socket = socket
    this.#events = events
    this.#reader = new FrameReader(events)
    socket.setNoDelay(true)
    socket.on('error', (error) => this.#broke(error.message))
    socket.on('close', () => this.#broke('the connection broke'))
    socket.on('end', () => this.#broke('the connection was closed'))
  }

  /** Bytes from the socket; they are used when this returns. */
  readonly received = (bytes: Uint8Array): void => {
    if (this.#ended !== undefined) return
    this.heardAt = performance.now()
    try {
      const taken = this.#kept === undefined ? this.#reader.push(bytes) : 0
      if (taken === bytes.length) return
      this.#kept = Buffer.concat([this.#kept ?? new Uint8Array(), bytes.subarray(taken)])
      this.#socket.pause()
    } catch (error) {
      this.#broke(error instanceof Error ? error.message : String(error))
    }
  }

  /** Somebody takes messages now. */
  resume(): void {
    const kept = this.#kept
    if (kept === undefined) return
    this.#kept = undefined
    this.received(kept)
    if (this.#kept === undefined) this.#socket.resume()
  }

  /** Resolves when `data` may be changed, undefined if it may at once. */
  send(envelope: Envelope, data: Uint8Array): Promise<void> | undefined {
    if (this.#ended !== undefined) return Promise.reject(this.#ended)
    const header = headerOf(kinds.message, envelope)
    if (data.length > smallBytes) return this.#sendLarge(Uint8Array.from(header), data)
    const frame = Buffer.allocUnsafe(headerBytes + data.length)
    frame.set(header)
    frame.set(data, headerBytes)
    if (this.#queue.length > 0) {
      this.#queue.push({ frame })
      return this.whenWritten()
    }
    this.#write(frame)
    return this.#socket.writableLength > queuedBytes ? new Promise((resolve) => this.#socket.once('drain', resolve)) : undefined
  }

  /** A frame that is no message. */
  sendControl(frame: Uint8Array): void {
    if (this.#ended !== undefined) return
    if (this.#queue.length > 0) this.#queue.push({ frame })
    else this.#write(frame)
  }

  /** Resolves when all that was sent has been handed to the socket; rejects when the connection ends first. */
  whenWritten(): Promise<void> {
    if (this.#ended !== undefined) return Promise.reject(this.#ended)
    if (this.#queue.length === 0) return Promise.resolve()
    const done = Promise.withResolvers<void>()
    this.#queue.push({ frame: new Uint8Array(), done })
    return done.promise
  }

  /** Says that nothing more comes, after all that was sent, and ends; it is closed when the other side has ended too. */
  async finish(bye: Uint8Array): Promise<void> {
    await this.whenWritten().catch(() => undefined)
    if (this.#ended !== undefined) return
    this.sendControl(bye)
    this.#socket.end()
  }

  destroy(error: Error): void {
    if (this.#ended !== undefined) return
    this.#ended = error
    this.#socket.destroy()
    for (const { done } of this.#queue.splice(0)) done?.reject(error)
    this.#events.closed(error)
  }

  #broke(why: string): void {
    this.destroy(new Error(`Member ${this.#rank} is gone: ${why}.`))
  }

  #sendLarge(frame: Uint8Array, rest: Uint8Array): Promise<void> {
    const done = Promise.withResolvers<void>()
    this.#queue.push({ frame, rest, done })
    this.#pump()
    return done.promise
  }

  /** Writes what waits, as far as it may go. */
  #pump(): void {
    while (this.#ended === undefined && this.#pieces < piecesAhead) {
      const first = this.#queue[0]
      if (first === undefined) return
      if (first.frame.length > 0) this.#write(first.frame)
      first.frame = first.frame.subarray(first.frame.length)
      if (first.rest === undefined) {
        this.#queue.shift()
        first.done?.resolve()
        continue
      }
      const piece = first.rest.subarray(0, pieceBytes)
      const isLast = piece.length === first.rest.length
      first.rest = first.rest.subarray(piece.length)
      if (isLast) this.#queue.shift()
      this.#pieces += 1
      this.#uncork()
      this.spokeAt = performance.now()
      this.#socket.write(piece, (error) => {
        this.#pieces -= 1
        if (error !== undefined && error !== null) {
          this.#broke(error.message)
          return first.done?.reject(this.#ended)
        }
        if (isLast) first.done?.resolve()
        this.#pump()
      })
    }
  }

  #write(frame: Uint8Array): void {
    this.spokeAt = performance.now()
    if (!this.#isCorked) {
      this.#isCorked = true
      this.#socket.cork()
      process.nextTick(() => this.#uncork())
    }
    this.#socket.write(frame)
  }

  /** What was gathered leaves in one record. */
  #uncork(): void {
    if (!this.#isCorked) return
    this.#isCorked = false
    this.#socket.uncork()
  }
}
