/**
 * Loaded into a node under soak by `NODE_OPTIONS=--import`: writes what only the process itself knows, a JSON line every
 * {@link everyMs}, to the file that `SOAK_PROBE` names. The heap is measured after a full collection, so that what is left
 * is what is held. Neither variable is passed on to the node's own children.
 */
import { appendFileSync } from 'node:fs'
import { monitorEventLoopDelay } from 'node:perf_hooks'
import { setFlagsFromString } from 'node:v8'
import { runInNewContext } from 'node:vm'
import { isMainThread } from 'node:worker_threads'

/** What the process knows of itself; bytes and milliseconds. */
export interface Probe {
  pid: number
  /** Milliseconds since 1970. */
  time: number
  heap: number
  /** Outside of the heap, held by objects in it: buffers and what native modules tell of. */
  external: number
  /** Timers, sockets, pipes, requests: what keeps a loop busy. */
  handles: Record<string, number>
  /** Longest lateness of the event loop since the last line, without the collection that this probe asks for. */
  lagMs: number
}

const everyMs = 15_000
/** Fine enough for lags that a heartbeat feels, coarse enough not to keep an idle process awake. */
const lagResolutionMs = 100

const { SOAK_PROBE: file } = process.env
if (file !== undefined && isMainThread) {
  delete process.env.SOAK_PROBE
  delete process.env.NODE_OPTIONS
  setFlagsFromString('--expose-gc')
  const collect = runInNewContext('gc') as () => void
  const lag = monitorEventLoopDelay({ resolution: lagResolutionMs })
  lag.enable()
  const write = () => {
    const lagMs = Math.max(0, lag.max / 1e6 - lagResolutionMs)
    collect()
    const { heapUsed: heap, external } = process.memoryUsage()
    const handles: Record<string, number> = {}
    for (const kind of process.getActiveResourcesInfo()) handles[kind] = (handles[kind] ?? 0) + 1
    const line: Probe = { pid: process.pid, time: Date.now(), heap, external, handles, lagMs }
    appendFileSync(file, `${JSON.stringify(line)}\n`)
    lag.reset()
  }
  setInterval(write, everyMs).unref()
}
