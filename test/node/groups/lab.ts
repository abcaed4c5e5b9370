/** Groups in one thread: the same program runs as every member, and how it ends is known once nothing happens any more. */
import { expect } from 'vitest'
import type { TypedArray, TypedArrayConstructor } from '../../../node/groups/datatypes.ts'
import type { Group } from '../../../node/groups/group.ts'
import { openGroup } from '../../../node/groups/open.ts'
import { MemoryNetwork, type MemoryOptions } from '../../support/memory-link.ts'

export interface Lab {
  network: MemoryNetwork
  groups: Group[]
}

export function lab(size: number, options?: MemoryOptions): Lab {
  const network = new MemoryNetwork(size, options)
  return { network, groups: network.links.map(openGroup) }
}

export type Outcome<T> = { value: T } | { error: Error & { code?: string; rank?: number } } | 'hangs'

/** Turns of the event loop without a message, after which what is pending stays so: promises need none, timers at hand one or two. */
const quietTurns = 12

/** Until no message is on its way. */
export async function quiet(network: MemoryNetwork): Promise<void> {
  for (let turns = 0; turns < quietTurns; turns = network.isIdle ? turns + 1 : 0) await new Promise(setImmediate)
}

/** How promises end, or that they do not although no message is on its way. For programs that set no timers. */
export async function outcomes<T>(network: MemoryNetwork, promises: readonly Promise<T>[]): Promise<Outcome<T>[]> {
  const found: Outcome<T>[] = promises.map(() => 'hangs')
  let open = promises.length
  for (const [index, promise] of promises.entries()) {
    promise
      .then(
        (value) => {
          found[index] = { value }
        },
        (error) => {
          found[index] = { error }
        },
      )
      .finally(() => {
        open -= 1
      })
  }
  for (let quiet = 0; open > 0 && quiet < quietTurns; quiet = network.isIdle ? quiet + 1 : 0) await new Promise(setImmediate)
  return found
}

/** What the program gives on every member, by rank; throws what the first one throws, or that one hangs. */
export async function run<T>(size: number, program: (group: Group) => Promise<T>, options?: MemoryOptions): Promise<T[]> {
  const { network, groups } = lab(size, options)
  const found = await outcomes(network, groups.map(program))
  await Promise.all(groups.map((group) => group.close()))
  return found.map((outcome, rank) => {
    if (outcome === 'hangs') throw new Error(`Rank ${rank} hangs.`)
    if ('error' in outcome) throw outcome.error
    return outcome.value
  })
}

/** Every type of array, Float16Array where Node.js has it. */
export const types = [
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
  ...('Float16Array' in globalThis ? [(globalThis as unknown as { Float16Array: TypedArrayConstructor }).Float16Array] : []),
] as TypedArrayConstructor[]

export const isBig = (type: TypedArrayConstructor): boolean => type.name.startsWith('Big')
export const isFloat = (type: TypedArrayConstructor): boolean => type.name.startsWith('Float')

/** An array of small whole numbers, other ones for each salt: sums and products of nine of them are exact in every type. */
export function filled(type: TypedArrayConstructor, length: number, salt: number): TypedArray {
  const array = new type(length) as Record<number, number | bigint> & TypedArray
  const isUnsigned = type.name.includes('Uint')
  for (let index = 0; index < length; index += 1) {
    const number = (Math.imul(index + 1, 2654435761) ^ Math.imul(salt + 7, 40503)) >>> 13
    const small = (number % 5) - (isUnsigned ? 0 : 2)
    array[index] = isBig(type) ? BigInt(small) : small
  }
  return array
}

/** Of the same type and the same bits; expect() alone takes seconds for long arrays. */
export function expectSame(actual: unknown, expected: TypedArray | undefined): void {
  const isSame =
    ArrayBuffer.isView(actual) &&
    actual.constructor === expected?.constructor &&
    Buffer.from(actual.buffer, actual.byteOffset, actual.byteLength).equals(
      Buffer.from(expected.buffer, expected.byteOffset, expected.byteLength),
    )
  if (!isSame) expect(actual).toEqual(expected)
}
