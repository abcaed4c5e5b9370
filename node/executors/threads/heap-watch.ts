/**
 * Threads whose heap is full and which do not end. V8 stops code where it enters a function or goes round a loop, and
 * leaves the second out of compiled loops that call functions, built-in ones too, which do not look. A loop that only
 * fills arrays never hears that it is to end: its heap grows past the limit and on through the machine's memory. host.ts
 * turns off the loop unrolling that is known to do so; this is for what is not known.
 *
 * Such a thread answers nothing any more. So when the process holds more than all its calls may have together, its
 * threads are asked how they are, and one that stays silent is named.
 */
import type { Worker } from 'node:worker_threads'

const lookEveryMs = 1000
/** A thread at a long built-in call is silent too, if it holds much memory outside its heap; few calls take so long. */
const answerWithinMs = 5000
const mib = 1 << 20

export interface HeapWatchParts {
  threads(): Iterable<Worker>
  /** What the heaps of all running calls may grow to together. */
  allowedMiB(): number
  /** A thread that will not end by itself, nor when it is told to. */
  stuck(thread: Worker): void
}

/** Watches from now on; keeps no process alive. */
export function watchHeaps(parts: HeapWatchParts): void {
  const ownBytes = process.memoryUsage.rss()
  const asked = new Map<Worker, number>()
  const look = () => {
    if (process.memoryUsage.rss() - ownBytes <= parts.allowedMiB() * mib) return asked.clear()
    const now = performance.now()
    for (const thread of parts.threads()) {
      const since = asked.get(thread)
      if (since === undefined) ask(thread, now)
      else if (now - since >= answerWithinMs) parts.stuck(thread)
    }
  }
  const ask = (thread: Worker, now: number) => {
    asked.set(thread, now)
    const answered = () => asked.delete(thread)
    thread.getHeapStatistics().then(answered, answered)
  }
  setInterval(look, lookEveryMs).unref()
}
