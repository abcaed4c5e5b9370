/**
 * The program of a job's child process: threads that call functions, and two pipes to the node. It runs on a lane of
 * the job, under Node's permission model; started by child.ts, never by hand.
 *
 * One thread a call, as many as there are calls at once: the node's slots bound them. Threads of one heap limit form one
 * pool; an idle thread ends after a while.
 */
import { EventEmitter, once } from 'node:events'
import { appendFileSync } from 'node:fs'
import { Socket } from 'node:net'
import { setFlagsFromString } from 'node:v8'
import type { Worker } from 'node:worker_threads'
import { Piscina } from 'piscina'
import { Channel } from './channel.ts'
import { watchHeaps } from './heap-watch.ts'
import { type Answer, answersFd, type Call, callsFd, type FromChild, type PlacedCall, type ToChild } from './messages.ts'
import type { LastWord } from './thread.ts'
import { thrownOf } from './thrown.ts'

/** An idle thread ends after this: it holds some 10 MB. */
const idleThreadMs = 10_000
/** What a thread needs itself, on top of what its function may take. */
const ownHeapMiB = 8
/**
 * A full heap ends its thread only while V8 can finish the collection that it is at, for which Node leaves it 16 MiB more;
 * else it ends the process. What survives in the young generation moves over in such a collection: it must be smaller.
 */
const youngHeapMiB = 8
/** What a thread's code and stacks take beside its heap, for {@link watchHeaps}: generously. */
const besideHeapMiB = 64
/** Calls at once are far fewer. */
const placesCount = 4096
/** The program itself failed (sysexits.h: internal software error). */
const internalError = 70

interface Running {
  call: Call
  pool: Piscina
  /** `abort` takes the thread out of its pool and ends it. */
  stop: EventEmitter
}

// V8 leaves the checks whether it is to stop out of some loops that it unrolls: their heap grew past its limit, and nothing
// ended them (heap-watch.ts). A version that has no such option takes no notice.
setFlagsFromString('--no-turboshaft-loop-unrolling')

const pools = new Map<number, Piscina>()
const running = new Map<number, Running>()
/** Which thread has which call (PlacedCall). */
const places = new Int32Array(new SharedArrayBuffer(placesCount * Int32Array.BYTES_PER_ELEMENT))

const channel = new Channel(
  new Socket({ fd: callsFd, readable: true, writable: false }),
  new Socket({ fd: answersFd, readable: false, writable: true }),
  {
    message: (message) => {
      const told = message as ToChild
      if ('call' in told) begin(told.call)
      else void end(told.end, { how: 'ended' })
    },
    // The node is gone, and nobody waits for anything any more.
    gone: () => process.exit(),
  },
)
watchHeaps({ threads: allThreads, allowedMiB, stuck: giveUp })
say({ ready: true })

function allThreads(): Worker[] {
  return [...pools.values()].flatMap((pool) => pool.threads)
}

function allowedMiB(): number {
  let allowed = allThreads().length * (besideHeapMiB + ownHeapMiB + 3 * youngHeapMiB)
  for (const { call } of running.values()) allowed += call.heapMiB
  return allowed
}

/** Its heap is full, and it cannot be ended: the node ends the process. */
function giveUp(thread: Worker): void {
  for (const { call } of running.values()) {
    if (places[call.id % placesCount] !== thread.threadId) continue
    running.delete(call.id)
    say({ id: call.id, answer: { how: 'memory' }, stuck: true })
  }
}

function say(message: FromChild): void {
  channel.send(message)
}

function begin(call: Call): void {
  const pool = poolOf(call.heapMiB)
  const stop = new EventEmitter()
  running.set(call.id, { call, pool, stop })
  const placed: PlacedCall = { ...call, places }
  pool.run(placed, { signal: stop }).then(
    (answer: Answer) => {
      if (running.delete(call.id)) say({ id: call.id, answer })
    },
    (error: unknown) => {
      if (running.delete(call.id)) say({ id: call.id, answer: broken(call, error) })
    },
  )
}

/** The thread of a call ends, and only then the call. */
async function end(id: number, answer: Answer): Promise<void> {
  const one = running.get(id)
  if (one === undefined) return
  running.delete(id)
  const before: Worker[] = one.pool.threads
  one.stop.emit('abort')
  const after = new Set(one.pool.threads)
  await Promise.all(before.filter((thread) => !after.has(thread) && thread.threadId >= 0).map((thread) => once(thread, 'exit')))
  say({ id, answer })
}

/** A thread ended under its call: by process.exit, its heap limit, or something that nobody caught. */
function broken(call: Call, error: unknown): Answer {
  const { code, message } = error as { code?: unknown; message?: unknown }
  if (code === 'ERR_WORKER_OUT_OF_MEMORY') return { how: 'memory' }
  const exited = /^worker exited with code: (-?\d+)$/.exec(String(message))
  if (exited !== null) return { how: 'exited', code: Number(exited[1]) & 0xff }
  const thrown = thrownOf(error, call.module, call.file)
  try {
    appendFileSync(call.stderr, `Uncaught ${thrown.stack ?? `${thrown.name}: ${thrown.message}`}\n`)
  } catch {
    // The answer says it as well.
  }
  return { how: 'threw', error: thrown }
}

function poolOf(heapMiB: number): Piscina {
  const known = pools.get(heapMiB)
  if (known !== undefined) return known
  const pool = new Piscina({
    // Sources run as .ts, the package as .js.
    filename: new URL(`./thread${import.meta.url.endsWith('.ts') ? '.ts' : '.js'}`, import.meta.url).href,
    minThreads: 0,
    maxThreads: Number.MAX_SAFE_INTEGER,
    idleTimeout: idleThreadMs,
    resourceLimits: { maxOldGenerationSizeMb: heapMiB + ownHeapMiB, maxYoungGenerationSizeMb: youngHeapMiB },
    recordTiming: false,
  })
  pool.on('message', (word: Partial<LastWord> | null) => {
    // A function may post messages too, which are for nobody.
    if (word?.last !== undefined && word.answer !== undefined) void end(word.last, word.answer)
  })
  pool.on('error', (error: unknown) => {
    // A thread that broke between two calls is replaced. One that cannot start leaves its call waiting for ever.
    if (pool.queueSize === 0) return
    console.error(error)
    process.exit(internalError)
  })
  pools.set(heapMiB, pool)
  return pool
}
