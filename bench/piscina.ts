/**
 * The baseline of threads.ts, a process of its own: `node bench/piscina.ts CALLS THREADS` calls a no-op in bare piscina,
 * all calls queued at once, and prints `{ seconds, cpuMicros }` (user and system, all threads).
 */
import { fileURLToPath } from 'node:url'
import { isMainThread } from 'node:worker_threads'
import { Piscina } from 'piscina'

export default function noop(): undefined {}

if (isMainThread) {
  const [calls, threads] = process.argv.slice(2).map(Number) as [number, number]
  const pool = new Piscina({ filename: fileURLToPath(import.meta.url), minThreads: threads, maxThreads: threads })
  const callAll = (count: number) => Promise.all(Array.from({ length: count }, (_, index) => pool.run(index)))
  await callAll(1000)
  const [start, before] = [performance.now(), process.cpuUsage()]
  await callAll(calls)
  const { user, system } = process.cpuUsage(before)
  console.log(JSON.stringify({ seconds: (performance.now() - start) / 1000, cpuMicros: user + system }))
  await pool.destroy()
}
