/**
 * What is said between two members of a group, on a TLS connection and in a ring of shared memory alike: a header of 24
 * bytes, and for a message its bytes after it, raw. Little-endian, as processors are.
 *
 *     0 kind   2 type (u16)   4 tag (i32)   8 context (f64)   16 bytes (f64)
 *
 * Kinds: `hello`, the first on a connection, from who was dialled: it is taken; `message`; `ping`; `gone`: member `tag` is
 * lost, or with `type` 1 has left; `bye`: nothing more comes, on purpose.
 */
import type { Envelope } from '../link.ts'

export const headerBytes = 24

export const kinds = { hello: 1, message: 2, ping: 3, gone: 4, bye: 5 } as const
export type Kind = (typeof kinds)[keyof typeof kinds]

/** No typed array is longer (V8), so no message is. */
export const maxMessageBytes = 2 ** 33

const scratch = new Uint8Array(headerBytes)
const view = new DataView(scratch.buffer)

/** The header of a frame; good until the next call. */
export function headerOf(kind: Kind, { context, tag, type, bytes }: Envelope): Uint8Array {
  view.setUint8(0, kind)
  view.setUint16(2, type, true)
  view.setInt32(4, tag, true)
  view.setFloat64(8, context, true)
  view.setFloat64(16, bytes, true)
  return scratch
}

/** A frame that is no message. */
export function controlFrame(kind: Kind, { tag = 0, type = 0 } = {}): Uint8Array {
  return Uint8Array.from(headerOf(kind, { context: 0, tag, type, bytes: 0 }))
}

/** Throws a RangeError for what a header cannot say. */
export function checkEnvelope({ context, tag, type, bytes }: Envelope, data: Uint8Array): void {
  if (tag !== (tag | 0) || type !== (type & 0xffff) || !Number.isSafeInteger(context))
    throw new RangeError(`No header says tag ${tag}, type ${type} and context ${context}: 32 bits, 16 bits, and a safe integer.`)
  if (bytes !== data.length) throw new RangeError(`The envelope says ${bytes} bytes, and there are ${data.length}.`)
}

export interface FrameEvents {
  /** Where the bytes of a message go; undefined: nobody takes messages yet. */
  begin(envelope: Envelope): Uint8Array | undefined
  end(envelope: Envelope, data: Uint8Array): void
  control(kind: Kind, envelope: Envelope): void
}

/** Takes frames out of bytes as they come. */
export class FrameReader {
  readonly #events: FrameEvents
  readonly #header = new Uint8Array(headerBytes)
  readonly #view = new DataView(this.#header.buffer)
  #headerFilled = 0
  #envelope: Envelope | undefined
  #data: Uint8Array = this.#header
  #filled = 0

  constructor(events: FrameEvents) {
    this.#events = events
  }

  /**
   * Takes bytes, and says how many: all, unless a message begins that nobody takes yet; that is asked again with the next
   * call. Throws for what is no frame.
   */
  push(bytes: Uint8Array): number {
    let at = 0
    for (;;) {
      if (this.#envelope !== undefined) {
        const count = Math.min(bytes.length - at, this.#data.length - this.#filled)
        this.#data.set(at === 0 && count === bytes.length ? bytes : bytes.subarray(at, at + count), this.#filled)
        at += count
        this.#filled += count
        if (this.#filled < this.#data.length) return at
        const envelope = this.#envelope
        const data = this.#data
        this.#envelope = undefined
        this.#data = this.#header
        this.#events.end(envelope, data)
        continue
      }
      if (this.#headerFilled < headerBytes) {
        const count = Math.min(bytes.length - at, headerBytes - this.#headerFilled)
        if (count === 0) return at
        this.#header.set(bytes.subarray(at, at + count), this.#headerFilled)
        at += count
        this.#headerFilled += count
        if (this.#headerFilled < headerBytes) return at
      }
      if (!this.#begin()) return at
    }
  }

  /** Whether a message was begun and is not whole. */
  get isWithin(): boolean {
    return this.#envelope !== undefined
  }

  #begin(): boolean {
    const view = this.#view
    const kind = view.getUint8(0) as Kind
    const envelope: Envelope = {
      context: view.getFloat64(8, true),
      tag: view.getInt32(4, true),
      type: view.getUint16(2, true),
      bytes: view.getFloat64(16, true),
    }
    const { bytes } = envelope
    if (kind < kinds.hello || kind > kinds.bye) throw new Error(`what it sends is no frame (kind ${kind})`)
    if (!Number.isInteger(bytes) || bytes < 0 || bytes > maxMessageBytes || !Number.isSafeInteger(envelope.context))
      throw new Error(`a frame of ${bytes} bytes is none`)
    if (kind !== kinds.message) {
      if (bytes !== 0) throw new Error(`a frame of kind ${kind} has no bytes`)
      this.#headerFilled = 0
      this.#events.control(kind, envelope)
      return true
    }
    const data = this.#events.begin(envelope)
    if (data === undefined) return false
    if (data.length !== bytes) throw new Error(`a message of ${bytes} bytes was to go into ${data.length}`)
    this.#headerFilled = 0
    this.#envelope = envelope
    this.#data = data
    this.#filled = 0
    return true
  }
}
