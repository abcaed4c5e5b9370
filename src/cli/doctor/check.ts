/** What a check of `batchmesh doctor` finds. */

/** `problem`: something does not work; `warning`: it works, but less well than it could, or may not work for others. */
export type CheckState = 'ok' | 'warning' | 'problem'

export interface Check {
  name: string
  state: CheckState
  /** What was found, as a sentence or a short list. */
  found: string
  /** What to do about it: a sentence, or lines to paste. */
  todo?: string
}

export const ok = (name: string, found: string, todo?: string): Check => ({ name, state: 'ok', found, todo })
export const warning = (name: string, found: string, todo?: string): Check => ({ name, state: 'warning', found, todo })
export const problem = (name: string, found: string, todo?: string): Check => ({ name, state: 'problem', found, todo })
