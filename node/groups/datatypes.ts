/**
 * What a message's bytes are. Typed arrays travel as they lie in memory, in the byte order of the machine, which is little
 * endian wherever Node.js runs today but on s390x; anything else is serialised (node:v8), as structuredClone would copy it.
 */
import { deserialize, serialize } from 'node:v8'
import { GroupError } from './group-error.ts'

/** Node.js has it from version 24 on. */
type Float16 = typeof globalThis extends { Float16Array: { prototype: infer T } } ? T : never

/** Arrays of numbers that travel without being serialised. Float16Array is one where Node.js has it (24 and later). */
export type TypedArray =
  | Int8Array
  | Uint8Array
  | Uint8ClampedArray
  | Int16Array
  | Uint16Array
  | Int32Array
  | Uint32Array
  | Float32Array
  | Float64Array
  | BigInt64Array
  | BigUint64Array
  | Float16

/** What makes such an array: `Float64Array` and the like. */
export interface TypedArrayConstructor<T extends TypedArray = TypedArray> {
  readonly name: string
  readonly BYTES_PER_ELEMENT: number
  new (length: number): T
  new (buffer: ArrayBufferLike, byteOffset?: number, length?: number): T
}

/** By the number that stands for it in an envelope. The order is part of what members of different versions agree on. */
const constructors: readonly (TypedArrayConstructor | undefined)[] = [
  undefined,
  Int8Array,
  Uint8Array,
  Uint8ClampedArray,
  Int16Array,
  Uint16Array,
  Int32Array,
  Uint32Array,
  Float32Array,
  Float64Array,
  BigInt64Array,
  BigUint64Array,
  (globalThis as { Float16Array?: TypedArrayConstructor }).Float16Array,
] as readonly (TypedArrayConstructor | undefined)[]

/** Type of a message that holds a serialised value. */
export const valueType = 0
/** Type of a message within a collective operation that says what is to come: numbers as a Float64Array. */
export const noteType = 127
/** Set in the type of a message that only announces one of this type. */
export const announced = 128

const names = constructors.map((maker) => maker?.name)
const indexes = new Map(constructors.flatMap((maker, index) => (maker === undefined ? [] : [[maker.name, index]])))

export function isTypedArray(data: unknown): data is TypedArray {
  return ArrayBuffer.isView(data) && !(data instanceof DataView)
}

/** The number of an array's type: a Buffer is a Uint8Array. */
export function typeOf(array: TypedArray): number {
  return indexes.get((array as unknown as Record<symbol, string>)[Symbol.toStringTag]!)!
}

/** For people: `Float64Array`. */
export function typeName(type: number): string {
  return type === valueType ? 'a value' : type === noteType ? 'a note' : (names[type] ?? `type ${type}, which this Node.js has not`)
}

export function constructorOf(type: number): TypedArrayConstructor {
  const maker = constructors[type]
  if (maker === undefined) throw new GroupError('DatatypeMismatch', `A member sent ${typeName(type)}.`)
  return maker
}

/** Bytes an element takes; 1 for what is no array. */
export function elementBytes(type: number): number {
  return constructors[type]?.BYTES_PER_ELEMENT ?? 1
}

/** The memory of an array, as bytes. */
export function bytesOf(array: TypedArray): Uint8Array {
  return new Uint8Array(array.buffer, array.byteOffset, array.byteLength)
}

/** An array of a type over these bytes; over a copy where they are not aligned for it. */
export function arrayOf(type: number, bytes: Uint8Array): TypedArray {
  const maker = constructorOf(type)
  const size = maker.BYTES_PER_ELEMENT
  const aligned = bytes.byteOffset % size === 0 ? bytes : bytes.slice()
  return new maker(aligned.buffer, aligned.byteOffset, aligned.byteLength / size)
}

/** A message as it goes into an envelope. */
export interface Encoded {
  type: number
  bytes: Uint8Array
}

/** An array's own memory, or a value serialised. */
export function encode(data: unknown): Encoded {
  if (isTypedArray(data)) return { type: typeOf(data), bytes: bytesOf(data) }
  try {
    return { type: valueType, bytes: serialize(data) }
  } catch (error) {
    const why = error instanceof Error ? error.message : String(error)
    throw new GroupError('InvalidArgument', `The data cannot be sent: ${why} Send typed arrays, or what structuredClone takes.`, {
      cause: error,
    })
  }
}

export function decode(type: number, bytes: Uint8Array): unknown {
  return type === valueType ? deserialize(bytes) : arrayOf(type, bytes)
}
