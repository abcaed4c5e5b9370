/**
 * What the node and a job's child process say to each other: frames of protocols/framing.ts with protocols/codec.ts,
 * through two pipes that only these two hold. The child runs a stranger's code: what it says is checked (replies.ts), and
 * believed only of the tasks of its own job. Pure; nothing here may need a package, because the child's program is small.
 *
 * Calls go on *lines*: a thread each, which calls one after the other in the order in which they came, so that no thread
 * idles for a way to the node and back. Each call is answered once, or returned: then it has not begun and never will.
 */
import type { EnvironmentSettings } from '../../../protocols/model/job.ts'

/** Descriptors of the pipes in the child: calls come in, answers go out. */
export const callsFd = 3
export const answersFd = 4

/** Names in a task's directory, beside `wd`, of values that are too large to be said. Task ids and outputs never meet them. */
export const argsFileName = '.args'
export const resultFileName = '.result'

/** One call: a spec of at most 1 MiB with its environment, and its arguments. */
export const maxFrameBytes = 4 << 20
/** What one side has to say waits so long for more, unless it has been silent: then it goes at once. */
export const gatherMs = 3
/** Calls that a child knows at once: more than its lines ever hold. */
export const maxCalls = 1 << 16
/** Numbers of calls start again after this: what fits a 32-bit integer. */
export const maxCallId = 2 ** 31 - 1

/** What all calls of a line have in common. Sent as it is to the thread that calls the function. */
export interface LineSetup {
  line: number
  /** The module's file, and its name in stack traces and messages. */
  file: string
  module: string
  export: string
  /** Most that the thread's heap may grow to. */
  heapMiB: number
  /** Where the directories of its tasks lie. */
  jobDir: string
  /** The part of the environment that its calls share, and the settings of the job that are in it (environment.ts). */
  env: Record<string, string>
  common?: EnvironmentSettings
}

/** The gang that a call is a member of: its function gets a group first (member.ts). */
export interface GangFacts {
  rank: number
  /** IP address where the others reach this machine; empty if it has said none. */
  address: string
}

/** All members of a gang have come together (gangs/membership.ts). */
export interface Rallied {
  /** What each brought along, by rank. */
  cards: readonly Uint8Array[]
  key: Uint8Array
}

/** What a member may bring along. */
export const maxCardBytes = 4096

/** One call of the line's function. */
export interface Call {
  /** From 1 to {@link maxCallId}, and among the last {@link maxCalls} no other's. */
  id: number
  /** The serialised arguments; absent when they are in `.args`, or there are none. */
  args?: Uint8Array
  argsInFile?: true
  /** Name of the task's directory. */
  dir: string
  /** The directory is there; else it is made when the function looks for it ({@link FromChild} `place`). */
  placed?: true
  /** Whose environment it has; absent when all of it is the line's. */
  own?: { taskId: string; settings?: EnvironmentSettings }
  gang?: GangFacts
}

export type ToChild =
  | { open: LineSetup }
  | { calls: Call[]; line: number }
  /** What has not begun of these is returned. */
  | { back: number[]; line: number }
  /** The call is ended, with its thread if it has begun. */
  | { end: number; line: number }
  /** The directory of the call is there, or could not be made. */
  | { placed: number; line: number; problem?: string }
  /** All members of the call's gang have come. */
  | { rallied: number; line: number; rally: Rallied }
  /** Another member of the call's gang is gone. */
  | { parted: number; line: number; rank: number; why: string }
  | { close: number }

/** What was thrown, as far as it can be said. */
export interface Thrown {
  name: string
  message: string
  stack?: string
}

/**
 * How a call went: it returned (its serialised value, or the size of the value in `.result`; what members of a gang
 * returned is with their primary), it threw, it ended its thread (process.exit), its heap was full, or it was ended as the
 * node asked. `after` says of a member that threw what had happened to another one before, which is the reason as a rule.
 */
export type Answer =
  | { how: 'returned'; value?: Uint8Array; size?: number }
  | { how: 'gathered' }
  | { how: 'threw'; error: Thrown; after?: 'loss' | 'failure' }
  | { how: 'exited'; code: number }
  | { how: 'memory' }
  | { how: 'ended' }

export type FromChild =
  | { ready: true }
  /** `stuck`: the thread of the call cannot be ended, so that the child has to be. Times are of the call, in ms since 1970. */
  | { id: number; answer: Answer; began?: number; ended?: number; stuck?: true }
  /** Said of calls that take longer than a moment. */
  | { began: number; at: number }
  | { returned: number[] }
  /** The function looks for its directory, and waits for it. */
  | { place: number }
  /** A member of a gang is ready to meet the others. */
  | { rally: number; card: Uint8Array }

/** What a thread says of its calls, and is told, through a port of its line's. */
export type ToThread =
  | { setup: LineSetup }
  /** `broker`: a MessagePort for a member of a gang, which then is the only call (groups/links/broker.ts). */
  | { calls: Call[]; broker?: unknown }
  | { close: true }
  | { rallied: number; rally: Rallied }
  | { parted: number; rank: number; why: string }
export type FromThread =
  /** `last`: something is left of it, so that the thread has to be ended. */
  { id: number; answer: Answer; began: number; ended: number; last: boolean } | { place: number } | { rally: number; card: Uint8Array }

/**
 * What a line and its thread share. In `states`, at a call's id modulo the length: the id until it begins, then its
 * negative; 0 once it was taken back. So who is first decides, and whether a call has begun is known exactly.
 */
export interface Shared {
  states: Int32Array
  /** Whether the directory that was asked for is there: 0 not yet, 1 yes, 2 it cannot be made. */
  placed: Int32Array
  /** When the last call began, and the number of the thread. */
  since: Float64Array
}

/** What a thread is given to serve lines, one after the other. `port` is a MessagePort. */
export interface Served extends Shared {
  port: unknown
}
