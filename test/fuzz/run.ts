/** Feeds a target; a failing case is named by its seed, which repeats it alone. */
import { Dice } from './dice.ts'
import type { Target } from './target.ts'

export interface Failure {
  target: string
  seed: number
  error: unknown
}

/** The first failure of `cases` cases from `seed` on, if there is one. */
export async function fuzz(target: Target, seed: number, cases: number): Promise<Failure | undefined> {
  for (let at = seed; at < seed + cases; at += 1) {
    try {
      await target.feed(new Dice(at))
    } catch (error) {
      return { target: target.name, seed: at, error }
    }
  }
  return undefined
}
