/**
 * Memory of a node's process. While it works V8 may let the heap grow to four times what is in use: otherwise 13 MiB of
 * buffers, which count as heap, are enough for it to look through everything, 80 times for each GiB of blobs. At rest it
 * keeps tens of MiB that it may never need again, since a process that does nothing gives it no reason to look: so a node
 * that has done nothing for a while has it look once.
 */
import { setFlagsFromString } from 'node:v8'
import { runInNewContext } from 'node:vm'

/** How far the heap may grow beyond what is in use before V8 looks through it, in percent. */
const growingPercent = 300
/** How long a node must have been at rest. */
export const restMs = 30_000
/** Of one processor: heartbeats and announcements are less. */
const restingShare = 0.03
/** Less than this is not worth a collection, which holds the process up for some 50 ms. */
const worthBytes = 12 << 20

export interface Spell {
  /** Processor time that the process used in it. */
  cpuMs: number
  lengthMs: number
  /** What V8 holds, and what of it is in use. */
  heapTotalBytes: number
  heapUsedBytes: number
}

/** Whether memory is to be given back after this spell. */
export function isWorthIt({ cpuMs, lengthMs, heapTotalBytes, heapUsedBytes }: Spell): boolean {
  return cpuMs <= lengthMs * restingShare && heapTotalBytes - heapUsedBytes >= worthBytes
}

/** Lets the heap grow while this process works, and gives memory back whenever it is at rest. Returns how to stop that. */
export function manageMemory(): () => void {
  setFlagsFromString(`--heap-growing-percent=${growingPercent}`)
  setFlagsFromString('--expose-gc')
  const collect = runInNewContext('gc') as (options: { type: 'major'; execution: 'sync'; flavor: 'last-resort' }) => void
  let at = performance.now()
  let cpu = process.cpuUsage()
  const timer = setInterval(() => {
    const now = performance.now()
    const { user, system } = process.cpuUsage(cpu)
    const { heapTotal, heapUsed } = process.memoryUsage()
    const spell = { cpuMs: (user + system) / 1000, lengthMs: now - at, heapTotalBytes: heapTotal, heapUsedBytes: heapUsed }
    if (isWorthIt(spell)) collect({ type: 'major', execution: 'sync', flavor: 'last-resort' })
    at = now
    cpu = process.cpuUsage()
  }, restMs)
  timer.unref()
  return () => clearInterval(timer)
}
