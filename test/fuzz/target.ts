import { MeshError } from '../../protocols/errors.ts'
import type { Dice } from './dice.ts'

/** A reader under test. */
export interface Target {
  name: string
  /** One case; throws, or rejects, when the reader failed it. */
  feed(dice: Dice): void | Promise<void>
}

/** Calls a reader, which may refuse in its own words but not fail in another way. */
export function mayRefuse<T>(read: () => T): T | undefined {
  try {
    return read()
  } catch (error) {
    if (error instanceof MeshError && error.code !== 'InternalError') return undefined
    throw error
  }
}
