/**
 * A ring of bytes in shared memory, from one thread to another. The counters run on for ever, modulo 2^32; each side writes
 * only its own, after the bytes that it speaks of.
 */

/** Two pieces of what a processor's second cache holds: one thread fills while the other empties. */
const ringBytes = 256 << 10
/** Counters lie on cache lines of their own. */
const head = 0
const tail = 32
const blocked = 64
const dataOffset = 512

export function newRing(): SharedArrayBuffer {
  return new SharedArrayBuffer(dataOffset + ringBytes)
}

export class Ring {
  readonly #counters: Int32Array
  readonly #data: Uint8Array

  constructor(buffer: SharedArrayBuffer) {
    this.#counters = new Int32Array(buffer, 0, dataOffset / Int32Array.BYTES_PER_ELEMENT)
    this.#data = new Uint8Array(buffer, dataOffset, ringBytes)
  }

  /** Writes as much as there is room for, and says how much. */
  write(bytes: Uint8Array): number {
    const counters = this.#counters
    const at = counters[tail]!
    const count = Math.min(bytes.length, ringBytes - ((at - Atomics.load(counters, head)) >>> 0))
    if (count === 0) return 0
    const start = (at >>> 0) % ringBytes
    const first = Math.min(count, ringBytes - start)
    this.#data.set(first === bytes.length ? bytes : bytes.subarray(0, first), start)
    if (first < count) this.#data.set(bytes.subarray(first, count), 0)
    Atomics.store(counters, tail, (at + count) | 0)
    return count
  }

  /** Room for so many bytes at once. */
  hasRoom(bytes: number): boolean {
    return ringBytes - ((this.#counters[tail]! - Atomics.load(this.#counters, head)) >>> 0) >= bytes
  }

  /** What can be read in one piece; empty if there is nothing. */
  readable(): Uint8Array {
    const at = this.#counters[head]!
    const count = (Atomics.load(this.#counters, tail) - at) >>> 0
    const start = (at >>> 0) % ringBytes
    return this.#data.subarray(start, Math.min(start + count, ringBytes))
  }

  get isEmpty(): boolean {
    return Atomics.load(this.#counters, tail) === this.#counters[head]
  }

  /** So many of the readable bytes have been used. True if the writer waits for that. */
  consume(count: number): boolean {
    const counters = this.#counters
    Atomics.store(counters, head, (counters[head]! + count) | 0)
    return Atomics.load(counters, blocked) === 1 && Atomics.exchange(counters, blocked, 0) === 1
  }

  /** The writer waits for room; it must try once more after it has said so. */
  block(): void {
    Atomics.store(this.#counters, blocked, 1)
  }
}
