/** How the memory that all members of a group see is laid out. */
import { constructorOf, type TypedArray, typeOf } from '../datatypes.ts'

/** What each member has on the stage: some of it stays in the caches of processors between two steps. */
export const pieceBytes = 512 << 10
/** What a member says of its array: type and bytes. A cache line each. */
const factBytes = 64

/** Shared memory of a group: facts and a piece of each member, and a piece for results. */
export class Stage {
  readonly #memory: SharedArrayBuffer
  readonly #size: number

  constructor(memory: SharedArrayBuffer, size: number) {
    this.#memory = memory
    this.#size = size
  }

  static bytesFor(size: number): number {
    return size * factBytes + (size + 1) * pieceBytes
  }

  facts(rank: number): Float64Array {
    return new Float64Array(this.#memory, rank * factBytes, factBytes / 8)
  }

  /** Of a member; that of rank `size` is for results. */
  piece(like: TypedArray, rank: number, length: number): TypedArray {
    return new (constructorOf(typeOf(like)))(this.#memory, this.#size * factBytes + rank * pieceBytes, length)
  }
}
