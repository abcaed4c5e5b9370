/** Waits that end by themselves: by an AbortSignal, by a deadline, or by hand. */
import { GroupError } from './group-error.ts'

export interface WaitOptions {
  /** Aborting it ends the wait with its reason. */
  signal?: AbortSignal | undefined
  /** Ends the wait with the code `TimedOut`. Milliseconds; without it the wait lasts until a member is lost. */
  timeoutMs?: number | undefined
}

/** An operation that goes on while the program does something else (MPI 4.1, 3.7). */
export interface Request<T> {
  /** How it ended. A rejection that nobody looks at is forgotten. */
  readonly done: Promise<T>
  /** True once `done` is settled (MPI_Test). */
  test(): boolean
  /**
   * Takes it back; `done` rejects with the code `Cancelled` then. False if it is too late: it has ended, or what was sent has
   * left (MPI_Cancel). A message that was on its way to a receive goes to the next one.
   */
  cancel(): boolean
}

/** Longest time of a timer of Node.js; who waits longer waits for ever. */
const maxTimerMs = 2 ** 31 - 1

/** Calls back once when the signal or the deadline ends a wait, perhaps before it returns; returns what ends the watch. */
export function watch({ signal, timeoutMs }: WaitOptions, what: () => string, end: (error: unknown) => void): () => void {
  if (timeoutMs !== undefined && !(timeoutMs >= 0)) {
    end(new GroupError('InvalidArgument', `timeoutMs is ${timeoutMs}: give milliseconds from 0 on.`))
    return () => {}
  }
  if (signal?.aborted) {
    end(signal.reason)
    return () => {}
  }
  if (signal === undefined && timeoutMs === undefined) return () => {}
  let timer: NodeJS.Timeout | undefined
  const stop = () => {
    clearTimeout(timer)
    signal?.removeEventListener('abort', onAbort)
  }
  const onAbort = () => {
    stop()
    end(signal?.reason)
  }
  signal?.addEventListener('abort', onAbort)
  if (timeoutMs !== undefined && timeoutMs <= maxTimerMs) {
    timer = setTimeout(() => {
      stop()
      end(new GroupError('TimedOut', `${what()}: nothing in ${timeoutMs} ms.`))
    }, timeoutMs)
  }
  return stop
}

/**
 * Starts an operation. `begin` gets how to settle it and returns what takes it back: true if nothing of it happens any more.
 * What ends the wait rejects it whether that works or not.
 */
export function startRequest<T>(
  options: WaitOptions,
  what: () => string,
  begin: (resolve: (value: T) => void, reject: (error: unknown) => void) => () => boolean,
): Request<T> {
  const { promise, resolve, reject } = Promise.withResolvers<T>()
  promise.catch(() => {})
  let isDone = false
  let stop = () => {}
  const settle = (act: () => void) => {
    if (isDone) return
    isDone = true
    stop()
    act()
  }
  const takeBack = begin(
    (value) => settle(() => resolve(value)),
    (error) => settle(() => reject(error)),
  )
  if (!isDone) {
    const unwatch = watch(options, what, (error) => {
      if (isDone) return
      // Before it is taken back, which may settle it otherwise.
      settle(() => reject(error))
      takeBack()
    })
    if (isDone) unwatch()
    else stop = unwatch
  }
  const cancel = () => {
    if (isDone || !takeBack()) return false
    settle(() => reject(new GroupError('Cancelled', `${what()} was cancelled.`)))
    return true
  }
  return { done: promise, test: () => isDone, cancel }
}
