/** A system that runs tasks, as the side-by-side benchmark sees it; one file each. */
import type { Place } from './place.ts'

/** `command`: starts /bin/true for each task. `function`: calls a function that does nothing, in a running process. */
export type Kind = 'command' | 'function'

export interface Peer {
  /** For `--only` and the table. */
  name: string
  kind: Kind
  /** Tasks of a round: 5 to 20 s on the machine of docs/performance.md. */
  tasks: number
  /** What a task that was accepted survives, and what is synced to disk when; a few words for the table. */
  durable: string
  /** What is lost when the server is killed with SIGKILL. */
  lostWithServer: string
  /** Makes ready what it needs below the place; throws {@link Missing} when it cannot be had. */
  install?(place: Place): Promise<void>
  /** Starts servers and workers, two slots in all, on loopback. They end with the place. */
  start(place: Place): Promise<Started>
}

export interface Started {
  /** Submits so many tasks and resolves when all have ended and the system knows it. */
  run(tasks: number): Promise<void>
  /** Ends what the place's end would not: before it. */
  stop?(): Promise<void>
}
