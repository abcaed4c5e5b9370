/** What `mesh.map` takes and gives. */

import type { TaskOptions } from '../own-job.ts'
import type { MapError } from '../task-error.ts'

/** Inputs of a map: an array, a generator, an async generator, also an endless one. */
export type Inputs<I> = Iterable<I> | AsyncIterable<I>

/** How a map is done. */
export interface MapOptions extends TaskOptions {
  /** `input`: results come in the order of the inputs (default). `completed`: as they are done, each with its input. */
  order?: 'input' | 'completed'
  /** With `true` a failure is a result like others; else the first one ends the map. */
  settled?: boolean
  /**
   * Most inputs that are taken ahead of the results that have been used. A map over an endless generator holds so many.
   * Default 1,000: enough to keep a few hundred slots busy with short tasks.
   */
  ahead?: number
  /** Most that the heap of a call may grow to; default the task's share of its node's memory. */
  maxHeapMiB?: number
  /**
   * How long the ended job stays to be looked at, in milliseconds. By default one that succeeded is deleted at once,
   * because its results have been given out, and one that failed stays for a day.
   */
  retentionMs?: number
}

/** A result with its input, as `order: 'completed'` gives it. */
export interface Completed<I, R> {
  index: number
  input: I
  value: R
}

/** A result or a failure, as `settled: true` gives it (compare Promise.allSettled). */
export type Settled<R> = { status: 'fulfilled'; value: R } | { status: 'rejected'; reason: MapError }

/** Both. */
export type CompletedSettled<I, R> = Settled<R> & { index: number; input: I }

/** A function of a module, which is bundled with all that it imports when it is submitted. See {@link remoteModule}. */
export interface RemoteFunction<F = (...args: never[]) => unknown> {
  /** Path (relative to the current directory) or file URL of the module: `new URL('./work.ts', import.meta.url)`. */
  module: string | URL
  /** Which export; default `default`. */
  export?: string
  /** Carries the type of the function; never there. */
  readonly type?: F
}

/** The functions of a module, each to be given to {@link Mesh.map} or {@link Mesh.group}. */
export type RemoteModule<M> = {
  readonly [K in keyof M as M[K] extends (...args: never[]) => unknown ? K : never]: RemoteFunction<M[K]>
}

/**
 * Names the functions of a module that are to run on the mesh, with their types. The module is not loaded here.
 *
 *     const work = remoteModule<typeof import('./work.ts')>(new URL('./work.ts', import.meta.url))
 *     for await (const page of mesh.map(work.render, frames)) …
 */
export function remoteModule<M>(module: string | URL): RemoteModule<M> {
  return new Proxy({} as RemoteModule<M>, {
    // Whoever awaits it by mistake gets it as it is.
    get: (_, name) => (typeof name === 'string' && name !== 'then' ? { module, export: name } : undefined),
  })
}
