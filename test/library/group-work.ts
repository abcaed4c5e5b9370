/** A module whose functions the tests send to the members of a group. */
import type { Group } from '../../src/index.ts'

export function nameOf({ rank, size }: Group, { prefix }: { prefix: string }, numbers: readonly number[]): string {
  return `${prefix} ${rank} of ${size}: ${numbers.reduce((sum, n) => sum + n, 0)}`
}

export function refuse({ rank }: Group): never {
  throw new RangeError(`not as rank ${rank}`)
}
