/** What a member hears of the others, wherever the primary is: the port between a member and its place at the table. */
import type { Presence, Unreached } from '../../protocols/groups.ts'
import type { Logger } from '../../protocols/logger.ts'
import type { Wire } from '../../protocols/wire.ts'

export interface Heard {
  presences(presences: readonly Presence[]): void
  together(key: Uint8Array): void
  failed(message: string): void
  lost(index: number, reason: string): void
}

/** A member's place among the others: at the primary's machine ({@link Chair}), or with a channel to it ({@link Guest}). */
export interface Place {
  bring(presence: Presence): void
  report(unreached: readonly Unreached[]): void
  /** The member has ended. */
  leave(): void
}

export interface TableParts {
  wire: Pick<Wire, 'open' | 'learn' | 'probe' | 'peer'>
  log: Logger
  /** Ms, of a clock that nobody sets. */
  now: () => number
}
