/** Reductions of whatever members give: arrays, numbers (arrays of one element on their way), or values that a function combines. */
import { checkArray, checkInto } from '../arguments.ts'
import { bytesOf, isTypedArray, type TypedArray, typeOf } from '../datatypes.ts'
import type { Into, ReduceOptions } from '../group.ts'
import { type Combine, combineOf, type Operation, type Reduction, reductionOf } from '../operations.ts'
import { allreduceArray, allreduceTree } from './allreduce.ts'
import { offsetsOf } from './blocks.ts'
import type { Call } from './call.ts'
import { arrays, values } from './carrier.ts'
import { reduceArray, reduceTree } from './reduce.ts'
import { reduceScatter as scatterReduced } from './reduce-scatter.ts'
import { scan as scanned } from './scan.ts'

type AnyOperation = Operation | Combine<never> | ((lower: never, higher: never) => unknown)
type Options = ReduceOptions & Into<TypedArray>

interface Input {
  array: TypedArray
  reduction: Reduction
  into: TypedArray | undefined
  /** Of an array that is not that of a member. */
  result(array: TypedArray): unknown
}

/** Undefined for values. */
function inputOf(data: unknown, operation: AnyOperation, { into, commutative }: Options): Input | undefined {
  const isNumber = typeof data === 'number'
  if (!isNumber && !isTypedArray(data)) return undefined
  const array = isNumber ? Float64Array.of(data) : checkArray('data', data)
  const type = typeOf(array)
  const target = checkInto(into, type, array.length)
  return {
    array,
    reduction: reductionOf(operation as Combine<never>, array, type, commutative),
    into: target,
    result: (result) => {
      if (isNumber) return result[0]
      if (target === undefined) return result === array ? array.slice() : result
      if (target !== result) bytesOf(target).set(bytesOf(result))
      return target
    },
  }
}

function carrierOf(data: unknown, operation: AnyOperation) {
  return values(combineOf(operation as Combine<never>, data))
}

export async function reduce(call: Call, data: unknown, operation: AnyOperation, options: Options, root: number): Promise<unknown> {
  const isRoot = call.rank === root
  const input = inputOf(data, operation, isRoot ? options : { ...options, into: undefined })
  if (input === undefined) {
    const result = await reduceTree(call, carrierOf(data, operation), data, root)
    return isRoot ? result : undefined
  }
  const result = await reduceArray(call, input.array, input.reduction, root)
  return isRoot ? input.result(result!) : undefined
}

export async function allreduce(call: Call, data: unknown, operation: AnyOperation, options: Options): Promise<unknown> {
  const input = inputOf(data, operation, options)
  if (input === undefined) return allreduceTree(call, carrierOf(data, operation), data)
  return input.result(await allreduceArray(call, input.array, input.reduction, input.into))
}

export async function reduceScatter(
  call: Call,
  array: TypedArray,
  operation: AnyOperation,
  { into, commutative }: Options,
  counts: readonly number[],
): Promise<TypedArray> {
  const type = typeOf(array)
  const target = checkInto(into, type, counts[call.rank]!)
  const reduction = reductionOf(operation as Combine<never>, array, type, commutative)
  const own = await scatterReduced(call, array, reduction, offsetsOf(counts))
  if (target === undefined) return own
  bytesOf(target).set(bytesOf(own))
  return target
}

export async function scan(call: Call, data: unknown, operation: AnyOperation, options: Options, isInclusive: boolean): Promise<unknown> {
  const input = inputOf(data, operation, options)
  if (input === undefined) return scanned(call, carrierOf(data, operation), data, isInclusive)
  const result = await scanned(call, arrays(input.array, input.reduction), input.array, isInclusive)
  return result && input.result(result)
}
