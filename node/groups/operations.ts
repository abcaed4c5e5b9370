/** What a reduction does with two elements (MPI 4.1, 6.9.2: predefined operations; 6.9.4: MINLOC and MAXLOC; 6.9.5: user's own). */
import { type TypedArray, typeName } from './datatypes.ts'
import { GroupError } from './group-error.ts'

/**
 * The operations that need no function: sum, product, minimum, maximum; logical and, or, exclusive or (1 or 0); bitwise and,
 * or, exclusive or; and the smallest or largest of pairs (value, place), stored one after the other, with the smaller place
 * where values are equal.
 */
export type Operation = 'sum' | 'prod' | 'min' | 'max' | 'land' | 'lor' | 'lxor' | 'band' | 'bor' | 'bxor' | 'minloc' | 'maxloc'

/**
 * Combines two elements of arrays, or two values: `lower` comes from lower ranks than `higher`. It must be associative. That
 * the order of its arguments does not matter is assumed only with the option `commutative`.
 */
export type Combine<T> = (lower: T, higher: T) => T

/** target[i] = lower[i] op higher[i]; target may be one of the two. */
export type Kernel = (target: TypedArray, lower: TypedArray, higher: TypedArray) => void

export interface Reduction {
  kernel: Kernel
  isCommutative: boolean
  /** Elements that belong together: 2 for pairs. */
  width: number
}

/** Elements of any array, as far as the compiler is concerned: loops see one type of array each time. */
type Numbers = Record<number, number> & { length: number }
type Loop = (t: Numbers, a: Numbers, b: Numbers) => void

const isInteger = (type: number): boolean => type <= 7 || isBigInt(type)
const isBigInt = (type: number): boolean => type === 10 || type === 11

const sum: Loop = (t, a, b) => {
  for (let i = 0; i < t.length; i += 1) t[i] = a[i]! + b[i]!
}
const prod: Loop = (t, a, b) => {
  for (let i = 0; i < t.length; i += 1) t[i] = a[i]! * b[i]!
}
// The product of two 32-bit numbers has more bits than a double keeps; this keeps the low ones.
const prodOfIntegers: Loop = (t, a, b) => {
  for (let i = 0; i < t.length; i += 1) t[i] = Math.imul(a[i]!, b[i]!)
}
// What is not a number stays so; of 0 and -0 the one of the higher rank is taken.
const min: Loop = (t, a, b) => {
  for (let i = 0; i < t.length; i += 1) {
    const x = a[i]!
    const y = b[i]!
    t[i] = x < y || Number.isNaN(x) ? x : y
  }
}
const max: Loop = (t, a, b) => {
  for (let i = 0; i < t.length; i += 1) {
    const x = a[i]!
    const y = b[i]!
    t[i] = x > y || Number.isNaN(x) ? x : y
  }
}
const band: Loop = (t, a, b) => {
  for (let i = 0; i < t.length; i += 1) t[i] = a[i]! & b[i]!
}
const bor: Loop = (t, a, b) => {
  for (let i = 0; i < t.length; i += 1) t[i] = a[i]! | b[i]!
}
const bxor: Loop = (t, a, b) => {
  for (let i = 0; i < t.length; i += 1) t[i] = a[i]! ^ b[i]!
}

const logical = {
  land: (a: unknown, b: unknown) => Boolean(a) && Boolean(b),
  lor: (a: unknown, b: unknown) => Boolean(a) || Boolean(b),
  lxor: (a: unknown, b: unknown) => Boolean(a) !== Boolean(b),
}

function logicalLoop(name: keyof typeof logical, type: number): Loop {
  const test = logical[name]
  const [yes, no] = (isBigInt(type) ? [1n, 0n] : [1, 0]) as [number, number]
  return (t, a, b) => {
    for (let i = 0; i < t.length; i += 1) t[i] = test(a[i], b[i]) ? yes : no
  }
}

/** Of pairs (value, place). */
function placeLoop(isBetter: (x: number, y: number) => boolean): Loop {
  return (t, a, b) => {
    for (let i = 0; i < t.length; i += 2) {
      const isLower = isBetter(a[i]!, b[i]!) || (a[i] === b[i] && a[i + 1]! <= b[i + 1]!)
      const from = isLower ? a : b
      const value = from[i]!
      const place = from[i + 1]!
      t[i] = value
      t[i + 1] = place
    }
  }
}

function loopOf(operation: Operation, type: number): Loop {
  const needs = (isAllowed: boolean, what: string) => {
    if (!isAllowed) throw new GroupError('InvalidArgument', `'${operation}' is for arrays of ${what}, not for a ${typeName(type)}.`)
  }
  switch (operation) {
    case 'sum':
      return sum
    case 'prod':
      return isInteger(type) && !isBigInt(type) ? prodOfIntegers : prod
    case 'min':
      return min
    case 'max':
      return max
    case 'land':
    case 'lor':
    case 'lxor':
      needs(isInteger(type), 'integers')
      return logicalLoop(operation, type)
    case 'band':
    case 'bor':
    case 'bxor':
      needs(isInteger(type), 'integers')
      return { band, bor, bxor }[operation]
    case 'minloc':
      return placeLoop((x, y) => x < y)
    case 'maxloc':
      return placeLoop((x, y) => x > y)
    default:
      throw unknown(operation)
  }
}

function unknown(operation: unknown): GroupError {
  return new GroupError(
    'InvalidArgument',
    `There is no operation ${JSON.stringify(operation)}: give sum, prod, min, max, land, lor, lxor, band, bor, bxor, minloc, maxloc, or a function.`,
  )
}

/** How arrays of this type are reduced. Throws GroupError if the operation is none for them. */
export function reductionOf(operation: Operation | Combine<never>, array: TypedArray, type: number, commutative?: boolean): Reduction {
  if (typeof operation === 'function') {
    const combine = operation as unknown as Combine<number>
    const loop: Loop = (t, a, b) => {
      for (let i = 0; i < t.length; i += 1) t[i] = combine(a[i]!, b[i]!)
    }
    return { kernel: loop as unknown as Kernel, isCommutative: commutative === true, width: 1 }
  }
  const loop = loopOf(operation, type)
  const width = operation === 'minloc' || operation === 'maxloc' ? 2 : 1
  if (array.length % width !== 0) {
    throw new GroupError(
      'InvalidArgument',
      `'${operation}' is for pairs of a value and a place, but the array has ${array.length} elements.`,
    )
  }
  return { kernel: loop as unknown as Kernel, isCommutative: true, width }
}

/** How values that are no arrays are combined: bigints and booleans by the operations that they have, all else by a function. */
export function combineOf(operation: Operation | Combine<never>, value: unknown): Combine<unknown> {
  if (typeof operation === 'function') return operation as unknown as Combine<unknown>
  if (typeof value === 'boolean' && Object.hasOwn(logical, operation)) return logical[operation as keyof typeof logical]
  if (typeof value === 'bigint') {
    const loop = loopOf(operation, 10)
    if (operation !== 'minloc' && operation !== 'maxloc') {
      return (lower, higher) => {
        const target = [0n]
        loop(target as never, [lower] as never, [higher] as never)
        return target[0]
      }
    }
  }
  const what = value === null ? 'null' : typeof value
  throw new GroupError(
    'InvalidArgument',
    `'${String(operation)}' cannot combine values of type ${what}: use a typed array, a number, or a function that combines two values.`,
  )
}
