/** Arguments of a group's operations, checked: what is wrong with them is said by their names. */
import { arrayOf, bytesOf, constructorOf, isTypedArray, type TypedArray, typeName, typeOf } from './datatypes.ts'
import { GroupError } from './group-error.ts'
import { any } from './matching.ts'

/** Tags go up to here (MPI 4.1, 3.2.3: at least 32767). */
const maxTag = 2 ** 31 - 1

function wrong(message: string): GroupError {
  return new GroupError('InvalidArgument', message)
}

export function checkRank(name: string, rank: unknown, size: number): number {
  if (Number.isInteger(rank) && (rank as number) >= 0 && (rank as number) < size) return rank as number
  throw wrong(`${name} is ${String(rank)}: give a rank from 0 to ${size - 1}.`)
}

export function checkTag(tag: unknown): number {
  if (Number.isInteger(tag) && (tag as number) >= 0 && (tag as number) <= maxTag) return tag as number
  throw wrong(`tag is ${String(tag)}: give a whole number from 0 to ${maxTag}.`)
}

export function checkSource(from: unknown, size: number): number {
  return from === undefined || from === 'any' ? any : checkRank('from', from, size)
}

export function checkAnyTag(tag: unknown): number {
  return tag === undefined || tag === 'any' ? any : checkTag(tag)
}

/** The array, as one of the types that travel: a Buffer as a Uint8Array. */
export function checkArray(name: string, data: unknown): TypedArray {
  if (!isTypedArray(data)) throw wrong(`${name} is no typed array, such as a Float64Array.`)
  const type = typeOf(data)
  return Object.getPrototypeOf(data) === constructorOf(type).prototype ? data : arrayOf(type, bytesOf(data))
}

/** Undefined if it is absent. */
export function checkInto(into: unknown, type?: number, length?: number): TypedArray | undefined {
  if (into === undefined) return undefined
  const array = checkArray('into', into)
  if (type !== undefined && typeOf(array) !== type) {
    throw new GroupError('DatatypeMismatch', `into is a ${typeName(typeOf(array))}, the result a ${typeName(type)}.`)
  }
  if (length !== undefined && array.length !== length) {
    throw new GroupError('CountMismatch', `into has ${array.length} elements, the result ${length}.`)
  }
  return array
}

/** Elements of each of `size` equal blocks. */
export function checkBlocks(data: TypedArray, size: number): number {
  if (data.length % size === 0) return data.length / size
  throw wrong(`The array has ${data.length} elements, which do not make ${size} equal blocks, one a member.`)
}

export function checkCounts(counts: ArrayLike<number> | undefined, size: number, data: TypedArray): number[] {
  const list = Array.from(counts ?? [])
  if (list.length !== size) throw wrong(`counts has ${list.length} numbers: give one for each of the ${size} members.`)
  const odd = list.find((count) => !Number.isInteger(count) || count < 0)
  if (odd !== undefined) throw wrong(`counts has ${odd}: give whole numbers from 0 on.`)
  const sum = list.reduce((total, count) => total + count, 0)
  if (sum !== data.length) throw wrong(`counts make ${sum} elements, but the array has ${data.length}.`)
  return list
}

export function checkList(data: unknown, size: number): readonly unknown[] {
  if (!Array.isArray(data)) throw wrong('Give a typed array, or a list with a part for each member.')
  if (data.length !== size) throw wrong(`The list has ${data.length} parts: give one for each of the ${size} members.`)
  return data
}

export function checkColor(color: unknown, key: unknown): void {
  if (color !== undefined && !Number.isInteger(color)) throw wrong(`color is ${JSON.stringify(color)}: give a whole number, or undefined.`)
  if (!Number.isFinite(key)) throw wrong(`key is ${String(key)}: give a number.`)
}
