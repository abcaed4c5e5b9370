/**
 * `npm run bench -- NAME [options] [--json FILE]`: one benchmark, as a table, and with `--json` as figures in a file.
 * Each is a file of its own that exports a {@link Bench}; a new one is one line here.
 */
import { writeFile } from 'node:fs/promises'
import type { Bench } from './bench.ts'

const benches: Record<string, () => Promise<{ bench: Bench }>> = {
  array: () => import('./array.ts'),
  blobs: () => import('./blobs.ts'),
  coordinator: () => import('./coordinator.ts'),
  efficiency: () => import('./efficiency.ts'),
  groups: () => import('./groups.ts'),
  idle: () => import('./idle.ts'),
  latency: () => import('./latency.ts'),
  mpi: () => import('./mpi.ts'),
  peers: () => import('./peers.ts'),
  pending: () => import('./pending.ts'),
  swarm: () => import('./swarm.ts'),
  tasks: () => import('./tasks.ts'),
  threads: () => import('./threads.ts'),
  workers: () => import('./workers.ts'),
}

const [name = '', ...words] = process.argv.slice(2)
const load = Object.hasOwn(benches, name) ? benches[name] : undefined
if (load === undefined) {
  const usages = await Promise.all(Object.entries(benches).map(async ([each, of]) => `${each} ${(await of()).bench.usage} [--json FILE]`))
  console.error(`usage: npm run bench -- NAME [options]\n${usages.map((usage) => `  ${usage}`).join('\n')}`)
  process.exitCode = 2
} else {
  const at = words.indexOf('--json')
  const [, file] = at < 0 ? [] : words.splice(at, 2)
  if (at >= 0 && file === undefined) throw new Error('--json needs the name of a file')
  const { result, lines } = await (await load()).bench.run(words)
  console.log(lines.join('\n'))
  if (file !== undefined) await writeFile(file, `${JSON.stringify(result, undefined, 2)}\n`)
}
