/**
 * What the node and a job's child process say to each other: frames of protocols/framing.ts with protocols/codec.ts,
 * through two pipes that only these two hold. The node tells which functions to call and which to end; the child answers
 * each call once. The child runs a stranger's code: what it says is checked (replies.ts), and believed only of the
 * tasks of its own job. Pure; nothing here may need a package, because the child's program is small.
 */

/** Descriptors of the pipes in the child: calls come in, answers go out. */
export const callsFd = 3
export const answersFd = 4

/** Names in a task's directory, beside `wd`, of values that are too large to be said. Task ids and outputs never meet them. */
export const argsFileName = '.args'
export const resultFileName = '.result'

/** One call: a spec of at most 1 MiB with its environment, and its arguments. */
export const maxFrameBytes = 4 << 20

/** A function to call. Sent as it is to the thread that calls it. */
export interface Call {
  id: number
  /** The module's file, and its name in stack traces and messages. */
  file: string
  module: string
  export: string
  /** The serialised arguments; absent when they are in `.args`, or there are none. */
  args?: Uint8Array
  argsInFile: boolean
  /** Most that the thread's heap may grow to. */
  heapMiB: number
  taskDir: string
  stdout: string
  stderr: string
  /** Names and values as JSON: on its way to the thread it is only passed on. */
  env: string
}

/** A call on its way to its thread, which says in `places` where it is: at its id modulo the length, the number of the thread. */
export interface PlacedCall extends Call {
  places: Int32Array
}

export type ToChild = { call: Call } | { end: number }

/** What was thrown, as far as it can be said. */
export interface Thrown {
  name: string
  message: string
  stack?: string
}

/**
 * How a call went: it returned (its serialised value, or the size of the value in `.result`), it threw, it ended its
 * thread (process.exit), its heap was full, or its thread was ended as the node asked.
 */
export type Answer =
  | { how: 'returned'; value?: Uint8Array; size?: number }
  | { how: 'threw'; error: Thrown }
  | { how: 'exited'; code: number }
  | { how: 'memory' }
  | { how: 'ended' }

/** `stuck`: the thread of the call cannot be ended, so that the child has to be. */
export type FromChild = { ready: true } | { id: number; answer: Answer; stuck?: true }
