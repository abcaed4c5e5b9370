/** What reductions combine: arrays element by element, or values by a function. */
import { arrayOf, bytesOf, decode, encode, type TypedArray, typeOf, valueType } from '../datatypes.ts'
import type { Combine, Reduction } from '../operations.ts'
import type { Expected, Part } from './call.ts'

export interface Carrier<T> {
  encode(data: T): Part
  decode(part: Part): T
  /** What a member of the same operation sends. */
  readonly expected: Expected
  /** `lower` op `higher`; one of the two is `received`, which may be changed. */
  combine(lower: T, higher: T, received: T): T
  readonly isCommutative: boolean
}

/** Arrays of the type and length of this one. */
export function arrays<T extends TypedArray>(array: T, { kernel, isCommutative }: Reduction): Carrier<T> {
  const type = typeOf(array)
  return {
    encode: (data) => ({ type, bytes: bytesOf(data) }),
    decode: ({ bytes }) => arrayOf(type, bytes) as T,
    expected: { type, bytes: array.byteLength },
    combine: (lower, higher, received) => {
      kernel(received, lower, higher)
      return received
    },
    isCommutative,
  }
}

export function values(combine: Combine<unknown>): Carrier<unknown> {
  return {
    encode,
    decode: ({ type, bytes }) => decode(type, bytes),
    expected: { type: valueType },
    combine: (lower, higher) => combine(lower, higher),
    isCommutative: false,
  }
}
