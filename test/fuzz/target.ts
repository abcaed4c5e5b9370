import type { Dice } from './dice.ts'

/** A reader under test. */
export interface Target {
  name: string
  /** One case; throws, or rejects, when the reader failed it. */
  feed(dice: Dice): void | Promise<void>
}
