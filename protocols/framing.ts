/**
 * Frames on a byte stream: a length of 4 bytes, big-endian, then that many bytes. The length `0xffffffff` stands for the
 * end: the sender closed on purpose. A stream that ends without it was cut.
 */

/** Bytes before each frame. */
export const frameHeaderBytes = 4

const endMark = 0xffffffff
const noBytes = new Uint8Array()
/** Pieces from this on are written as they are; smaller ones are put together. */
const largeBytes = 64 << 10

/** A frame that comes in pieces below this size is put together as it comes: each piece costs more memory than its bytes. */
const smallPieceBytes = 1024
/** Pieces of a frame that are not counted yet. */
const freePieces = 64

/** The header of a frame of this many bytes. */
export function writeFrameHeader(target: Uint8Array, offset: number, frameBytes: number): void {
  target[offset] = frameBytes >>> 24
  target[offset + 1] = frameBytes >>> 16
  target[offset + 2] = frameBytes >>> 8
  target[offset + 3] = frameBytes
}

/** The bytes that say: closed on purpose. */
export function endMarkBytes(): Uint8Array {
  return new Uint8Array([0xff, 0xff, 0xff, 0xff])
}

/** What is wrong with a stream of frames; nothing after it can be trusted. */
export class FramingError extends Error {
  override readonly name = 'FramingError'
}

/**
 * Cuts a byte stream into frames. Whole frames inside one chunk are views of it, not copies; a frame over several
 * chunks is put together once. Memory is held for bytes that came, never for bytes that a length announces.
 */
export class FrameDecoder {
  /** Set once the end mark came; later bytes are ignored. */
  ended = false
  #maxFrameBytes: number
  readonly #header = new Uint8Array(frameHeaderBytes)
  #headerBytes = 0
  #parts: Uint8Array[] = []
  #whole = 0
  #missing = 0
  #length = 0

  constructor(maxFrameBytes: number) {
    this.#maxFrameBytes = maxFrameBytes
  }

  /** From the next frame on. */
  limit(maxFrameBytes: number): void {
    this.#maxFrameBytes = maxFrameBytes
  }

  /** The number of the frame that has come in part, counted from 1; 0 between two frames. */
  get partial(): number {
    return this.#headerBytes === 0 || this.ended ? 0 : this.#whole + 1
  }

  /** Adds received bytes and appends the frames that they complete to `frames`. Throws {@link FramingError} for a frame over the limit. */
  push(received: Uint8Array, frames: Uint8Array[]): void {
    // Node's Buffer is handed on as the plain view that it is: its `slice` does something else.
    const chunk = new Uint8Array(received.buffer, received.byteOffset, received.byteLength)
    let at = 0
    while (at < chunk.length && !this.ended) {
      if (this.#headerBytes < frameHeaderBytes) {
        this.#header[this.#headerBytes] = chunk[at]!
        this.#headerBytes += 1
        at += 1
        if (this.#headerBytes === frameHeaderBytes) this.#begin(frames)
      } else {
        const taken = chunk.subarray(at, at + this.#missing)
        at += taken.length
        this.#missing -= taken.length
        this.#parts.push(taken)
        if (this.#missing === 0) this.#finish(frames)
        else if (this.#parts.length > freePieces + (this.#length - this.#missing) / smallPieceBytes)
          this.#parts = [join(this.#parts, this.#length - this.#missing)]
      }
    }
  }

  #begin(frames: Uint8Array[]): void {
    const [a, b, c, d] = this.#header as unknown as [number, number, number, number]
    this.#length = ((a << 24) | (b << 16) | (c << 8) | d) >>> 0
    if (this.#length === endMark) {
      this.ended = true
    } else if (this.#length > this.#maxFrameBytes) {
      throw new FramingError(`A frame of ${this.#length} bytes is larger than the ${this.#maxFrameBytes} that this protocol allows.`)
    } else if (this.#length === 0) {
      this.#finish(frames)
    } else {
      this.#missing = this.#length
    }
  }

  #finish(frames: Uint8Array[]): void {
    frames.push(this.#parts.length === 1 ? this.#parts[0]! : join(this.#parts, this.#length))
    this.#parts = []
    this.#whole += 1
    this.#headerBytes = 0
  }
}

function join(parts: readonly Uint8Array[], length: number): Uint8Array {
  const whole = new Uint8Array(length)
  let at = 0
  for (const part of parts) {
    whole.set(part, at)
    at += part.length
  }
  return whole
}

/**
 * Frames that wait to be written. `take` hands them out as few large pieces: small frames are put together, large ones
 * are passed on without a copy.
 */
export class FrameQueue {
  /** Bytes that wait, headers included. */
  bytes = 0
  #pieces: Uint8Array[] = []
  #next = 0

  /** `tail` is the end of the frame, where that lies elsewhere. */
  push(frame: Uint8Array, tail: Uint8Array = noBytes): void {
    const header = new Uint8Array(frameHeaderBytes)
    writeFrameHeader(header, 0, frame.length + tail.length)
    for (const piece of [header, frame, tail]) if (piece.length > 0) this.pushRaw(piece)
  }

  pushRaw(piece: Uint8Array): void {
    this.#pieces.push(piece)
    this.bytes += piece.length
  }

  /** Up to `maxBytes` of what waits, as one piece; undefined when nothing waits. */
  take(maxBytes: number): Uint8Array | undefined {
    const first = this.#pieces[this.#next]
    if (first === undefined) return undefined
    if (first.length >= Math.min(largeBytes, maxBytes)) {
      const piece = first.subarray(0, maxBytes)
      if (first.length <= maxBytes) this.#drop()
      else this.#pieces[this.#next] = first.subarray(maxBytes)
      this.bytes -= piece.length
      return piece
    }
    const whole = new Uint8Array(Math.min(maxBytes, this.#smallBytes()))
    let at = 0
    while (at < whole.length) {
      const piece = this.#pieces[this.#next]!
      const room = whole.length - at
      if (piece.length <= room) {
        whole.set(piece, at)
        at += piece.length
        this.#drop()
      } else {
        whole.set(piece.subarray(0, room), at)
        this.#pieces[this.#next] = piece.subarray(room)
        at = whole.length
      }
    }
    this.bytes -= whole.length
    return whole
  }

  /** Of the pieces before the next large one. */
  #smallBytes(): number {
    let bytes = 0
    for (let at = this.#next; at < this.#pieces.length && this.#pieces[at]!.length < largeBytes; at++) bytes += this.#pieces[at]!.length
    return bytes
  }

  clear(): void {
    this.#pieces = []
    this.#next = 0
    this.bytes = 0
  }

  #drop(): void {
    this.#next += 1
    // Shifting an array for each frame would be quadratic; the handed-out front is cut off now and then.
    if (this.#next === this.#pieces.length || this.#next > 1024) {
      this.#pieces = this.#pieces.slice(this.#next)
      this.#next = 0
    }
  }
}
