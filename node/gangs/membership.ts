/** What the rooms of a node know of a gang's member that runs here: the ports between rally, program, launch and groups. */
import type { Attempt } from '../../protocols/ids.ts'
import type { Grant } from '../../protocols/leases.ts'
import type { Owner, TaskPaths } from '../ports.ts'

export type Gang = NonNullable<Grant['gang']>

/** All members have come together: what each brought along, by index, and a key that only they know. */
export interface Rally {
  cards: readonly Uint8Array[]
  key: Uint8Array
}

export interface LaunchRequest {
  /** For `/bin/sh -c`. */
  text: string
  /** Set on top of the environment of the member's own programs. */
  env: Readonly<Record<string, string>>
  /** Files that get the standard output and error, in the member's task directory; made anew. */
  stdoutPath: string
  stderrPath: string
}

/** A member of a gang on this machine, from the start of its attempt to the end. */
export interface Membership {
  /** With `member` for all but the primary. */
  readonly attempt: Attempt
  readonly gang: Gang
  readonly paths: TaskPaths
  readonly owner: Owner | undefined
  /** Aborted when nothing of it runs any more, or it is being ended. */
  readonly ended: AbortSignal
  /**
   * Waits for the others, and brings a card for them (at most 4 KiB). Rejects with TaskFailure when a member is lost or does
   * not reach another.
   */
  rally(card: Uint8Array, signal: AbortSignal): Promise<Rally>
  /** Calls back when another member is lost, once each; the returned function ends it. */
  onLost(handler: (index: number, reason: string) => void): () => void
  /**
   * Runs a program in the member's place: its user, its directory, beside what its coordination command left running. Resolves
   * with the exit code when it has ended. Aborting `signal` kills it and what it started.
   */
  launch(request: LaunchRequest, signal: AbortSignal): Promise<number>
}

/** Finds the member that an attempt names, while it runs here. */
export type FindMembership = (attempt: Attempt) => Membership | undefined
