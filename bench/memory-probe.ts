/**
 * Loaded into a node by a benchmark (`--import`): on SIGUSR2 it collects garbage and writes what the process holds, and
 * the CPU time that it has used, to the file that BENCH_MEMORY names with the process id added.
 */
import { renameSync, writeFileSync } from 'node:fs'
import { setFlagsFromString } from 'node:v8'
import { runInNewContext } from 'node:vm'

export interface Probed {
  /** JavaScript objects and buffers outside of the heap. */
  heapBytes: number
  residentBytes: number
  cpuMs: number
}

const path = process.env.BENCH_MEMORY
if (path !== undefined) {
  setFlagsFromString('--expose-gc')
  const collect = runInNewContext('gc') as () => void
  process.on('SIGUSR2', () => {
    const { user, system } = process.cpuUsage()
    // Twice: what the first one finalises the second one frees.
    collect()
    collect()
    const { heapUsed, external, rss } = process.memoryUsage()
    const probed: Probed = { heapBytes: heapUsed + external, residentBytes: rss, cpuMs: (user + system) / 1000 }
    writeFileSync(`${path}.${process.pid}.new`, JSON.stringify(probed))
    renameSync(`${path}.${process.pid}.new`, `${path}.${process.pid}`)
  })
}
