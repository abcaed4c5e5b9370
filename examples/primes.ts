/** A module whose functions run on the mesh (module.ts). It is bundled with all that it imports. */
import { createHash } from 'node:crypto'

export interface Range {
  from: number
  to: number
}

export function primesIn({ from, to }: Range): number[] {
  if (from > to) throw new RangeError(`${from} is more than ${to}`)
  return Array.from({ length: to - from }, (_, at) => from + at).filter(isPrime)
}

export function fingerprint(numbers: number[]): string {
  return createHash('sha256').update(numbers.join()).digest('hex').slice(0, 8)
}

function isPrime(n: number): boolean {
  if (n < 2) return false
  for (let d = 2; d * d <= n; d += 1) if (n % d === 0) return false
  return true
}
