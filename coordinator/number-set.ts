/** A set of whole numbers, 32 to an entry: numbers that lie close together, as the indexes of an array do, take next to nothing. Pure. */

/** Bits of the numbers from 32 n on, by n. */
export type NumberSet = Map<number, number>

const width = 32

export function hasNumber(set: NumberSet, n: number): boolean {
  return (((set.get(Math.floor(n / width)) ?? 0) >>> (n % width)) & 1) === 1
}

/** False when it was in the set already. */
export function addNumber(set: NumberSet, n: number): boolean {
  if (hasNumber(set, n)) return false
  const page = Math.floor(n / width)
  set.set(page, (set.get(page) ?? 0) | (1 << (n % width)))
  return true
}

/** How many numbers from `start` to `end`, both included, are in the set. */
export function countNumbers(set: NumberSet, start: number, end: number): number {
  const [first, last] = [Math.floor(start / width), Math.floor(end / width)]
  let count = 0
  const within = (page: number, bits: number) => {
    let kept = bits
    if (page === first) kept &= -1 << (start % width)
    if (page === last) kept &= -1 >>> (width - 1 - (end % width))
    count += ones(kept)
  }
  // Whichever is shorter: the range, or what there is.
  if (last - first < set.size) {
    for (let page = first; page <= last; page += 1) within(page, set.get(page) ?? 0)
  } else for (const [page, bits] of set) if (page >= first && page <= last) within(page, bits)
  return count
}

function ones(bits: number): number {
  let count = 0
  for (let rest = bits; rest !== 0; rest &= rest - 1) count += 1
  return count
}
