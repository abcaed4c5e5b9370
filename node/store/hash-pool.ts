/**
 * Hashing off the main thread, so that no heartbeat waits behind it. The one door to piscina of the store; the threads
 * are shared by every store of the process, start with the first large content and end when idle.
 */
import { availableParallelism } from 'node:os'
import { Piscina } from 'piscina'
import type * as Worker from './hash-worker.ts'

/** An idle thread ends after this. */
const idleMs = 5000
/** Hashing is bound by memory bandwidth and shares the machine with tasks. */
const maxThreads = 4

let pool: Piscina | undefined

type Task = Exclude<keyof typeof Worker, 'default'>

/** Runs one of the functions of hash-worker.ts in a thread. `transfer` names buffers that move there instead of being copied. */
export async function inThread<K extends Task>(
  name: K,
  task: Parameters<(typeof Worker)[K]>[0],
  transfer: ArrayBuffer[] = [],
): Promise<Awaited<ReturnType<(typeof Worker)[K]>>> {
  pool ??= new Piscina({
    // Sources run as .ts, the package as .js.
    filename: new URL(`./hash-worker${import.meta.url.endsWith('.ts') ? '.ts' : '.js'}`, import.meta.url).href,
    minThreads: 0,
    maxThreads: Math.max(1, Math.min(maxThreads, availableParallelism())),
    idleTimeout: idleMs,
    execArgv: [],
  })
  return (await pool.run(task, { name, transferList: transfer })) as Awaited<ReturnType<(typeof Worker)[K]>>
}

/** A copy in a buffer of its own, which can move to a thread; a view would take its whole frame along. */
export function detached(bytes: Uint8Array): Uint8Array<ArrayBuffer> {
  return new Uint8Array(bytes)
}

/** Nodes of this process that use the pool. */
let users = 0

/** Says that a node uses the pool; the threads end when the last one gives it back by calling the answer. */
export function useHashPool(): () => Promise<void> {
  users += 1
  return async () => {
    users -= 1
    if (users === 0) await closeHashPool()
  }
}

/** Ends the threads; a later use starts new ones. */
export async function closeHashPool(): Promise<void> {
  const ending = pool
  pool = undefined
  await ending?.destroy()
}
