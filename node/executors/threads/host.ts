/**
 * The program of a job's child process: threads that call functions, and two pipes to the node. It runs on a lane of
 * the job, under Node's permission model; started by child.ts, never by hand.
 *
 * One thread a line (line.ts), as many as there are lines at once: the node's slots bound them. Threads of one heap limit
 * form one pool; a thread without a line ends after a while.
 */
import { appendFileSync } from 'node:fs'
import { Socket } from 'node:net'
import { join } from 'node:path'
import { setFlagsFromString } from 'node:v8'
import type { Worker } from 'node:worker_threads'
import { Piscina } from 'piscina'
import { Broker } from '../../groups/links/broker.ts'
import { pathsIn } from '../../task-paths.ts'
import { Channel } from './channel.ts'
import { watchHeaps } from './heap-watch.ts'
import { Line } from './line.ts'
import { type Answer, answersFd, type Call, callsFd, type FromChild, type LineSetup, maxCalls, type ToChild } from './messages.ts'
import { blameOf, thrownOf } from './thrown.ts'

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
/** While calls run, the lines are looked after this often. */
const lookEveryMs = 5
/** The program itself failed (sysexits.h: internal software error). */
const internalError = 70

// V8 leaves the checks whether it is to stop out of some loops that it unrolls: their heap grew past its limit, and nothing
// ended them (heap-watch.ts). A version that has no such option takes no notice.
setFlagsFromString('--no-turboshaft-loop-unrolling')

interface Resting {
  line: Line
  timer: NodeJS.Timeout
}

const pools = new Map<number, Piscina>()
const lines = new Map<number, Line>()
/** Lines that were closed, with their threads. */
const resting: Resting[] = []
const states = new Int32Array(new SharedArrayBuffer(maxCalls * Int32Array.BYTES_PER_ELEMENT))
const broker = new Broker()
let looking: NodeJS.Timeout | undefined

const channel = new Channel(
  new Socket({ fd: callsFd, readable: true, writable: false }),
  new Socket({ fd: answersFd, readable: false, writable: true }),
  {
    message: (message) => told(message as ToChild),
    // The node is gone, and nobody waits for anything any more.
    gone: () => process.exit(),
  },
)
watchHeaps({ threads: allThreads, allowedMiB, stuck: giveUp })
say({ ready: true })

function say(message: FromChild, urgent = false): void {
  channel.send(message, urgent)
}

function told(message: ToChild): void {
  if ('open' in message) return open(message.open)
  if ('close' in message) return close(message.close)
  const line = lines.get(message.line)
  if (line === undefined) return
  if ('calls' in message) {
    line.add(message.calls)
    lookLater()
  } else if ('back' in message) line.giveBack(message.back)
  else if ('placed' in message) line.placed(message.placed, message.problem)
  else if ('rallied' in message) line.rallied(message.rallied, message.rally)
  else if ('parted' in message) line.parted(message.parted, message.rank, message.why)
  else void line.stop(message.end)
}

function open(setup: LineSetup): void {
  const rested = resting.find(({ line }) => line.setup.heapMiB === setup.heapMiB)
  if (rested !== undefined) {
    wake(rested)
    rested.line.reopen(setup)
    lines.set(setup.line, rested.line)
    return
  }
  const pool = poolOf(setup.heapMiB)
  const line: Line = new Line({ setup, pool, states, broker, say, broken: (call, error) => broken(line, call, error) })
  lines.set(setup.line, line)
}

/** Its thread waits a while for another line. */
function close(number: number): void {
  const line = lines.get(number)
  lines.delete(number)
  if (line === undefined) return
  if (!line.isIdle) return line.close()
  const rest: Resting = {
    line,
    timer: setTimeout(() => {
      wake(rest)
      line.close()
    }, idleThreadMs),
  }
  resting.push(rest)
}

function wake(rest: Resting): void {
  clearTimeout(rest.timer)
  resting.splice(resting.indexOf(rest), 1)
}

function lookLater(): void {
  if (looking !== undefined) return
  looking = setTimeout(() => {
    looking = undefined
    const now = Date.now()
    let more = false
    for (const line of lines.values()) if (line.look(now)) more = true
    if (more) lookLater()
  }, lookEveryMs)
}

function allThreads(): Worker[] {
  return [...pools.values()].flatMap((pool) => pool.threads)
}

function allowedMiB(): number {
  let allowed = allThreads().length * (besideHeapMiB + ownHeapMiB + 3 * youngHeapMiB)
  for (const { current, setup } of lines.values()) if (current !== undefined) allowed += setup.heapMiB
  return allowed
}

/** Its heap is full, and it cannot be ended: the node ends the process. */
function giveUp(thread: Worker): void {
  for (const line of lines.values()) if (line.threadId === thread.threadId) line.giveUp({ how: 'memory' })
}

/** A thread ended under its call: by process.exit, its heap limit, or something that nobody caught. */
async function broken(line: Line, call: Call, error: unknown): Promise<Answer> {
  const { code, message } = error as { code?: unknown; message?: unknown }
  if (code === 'ERR_WORKER_OUT_OF_MEMORY') return { how: 'memory' }
  const exited = /^worker exited with code: (-?\d+)$/.exec(String(message))
  if (exited !== null) return { how: 'exited', code: Number(exited[1]) & 0xff }
  const { jobDir, module, file } = line.setup
  const thrown = thrownOf(error, module, file)
  try {
    if (call.placed !== true) await line.place(call.id)
    appendFileSync(pathsIn(join(jobDir, call.dir)).stderr, `Uncaught ${thrown.stack ?? `${thrown.name}: ${thrown.message}`}\n`)
  } catch {
    // The answer says it as well.
  }
  const after = call.gang === undefined ? undefined : blameOf(error)
  return { how: 'threw', error: thrown, ...(after === undefined ? {} : { after }) }
}

function poolOf(heapMiB: number): Piscina {
  const known = pools.get(heapMiB)
  if (known !== undefined) return known
  const pool = new Piscina({
    // Sources run as .ts, the package as .js.
    filename: new URL(`./thread${import.meta.url.endsWith('.ts') ? '.ts' : '.js'}`, import.meta.url).href,
    minThreads: 0,
    maxThreads: Number.MAX_SAFE_INTEGER,
    resourceLimits: { maxOldGenerationSizeMb: heapMiB + ownHeapMiB, maxYoungGenerationSizeMb: youngHeapMiB },
    recordTiming: false,
  })
  pool.on('error', (error: unknown) => {
    // A thread that broke between two lines is replaced. One that cannot start leaves its line waiting for ever.
    if (pool.queueSize === 0) return
    console.error(error)
    process.exit(internalError)
  })
  pools.set(heapMiB, pool)
  return pool
}
