/** `npm run soak -- --hours N [--seed S] [--out DIR] [--workers W]`: a mesh under churn for hours, and what grew. */
import { mkdtemp } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join, resolve } from 'node:path'
import { parseArgs } from 'node:util'
import { soak } from './soak.ts'

const usage = `Usage: npm run soak -- --hours N [--seed S] [--out DIR] [--workers W]
  --hours N     how long, such as 2 or 0.05
  --seed S      of the jobs and faults (default: made up, and printed)
  --out DIR     where samples, picture and verdict are written (default: a new directory)
  --workers W   besides the founder; default 4
Exit code 0: every invariant held and nothing grew; 1: not so; 2: wrong usage. Ctrl-C ends it early, with a verdict.
Needs Linux and a built package (npm run build). As root it also cuts connections, in network namespaces of its own.`

function refuse(message: string): never {
  console.error(`soak: ${message}\n${usage}`)
  process.exit(2)
}

function readOptions() {
  try {
    const text = { type: 'string' } as const
    return parseArgs({ options: { hours: text, seed: text, out: text, workers: text, help: { type: 'boolean' } } }).values
  } catch (error) {
    return refuse((error as Error).message)
  }
}

const values = readOptions()
if (values.help === true) {
  console.log(usage)
  process.exit(0)
}
if (process.platform !== 'linux') refuse('processes are measured through /proc, which only Linux has.')
const hours = Number(values.hours)
const seed = Number(values.seed ?? Math.floor(Math.random() * 1e9))
const workers = Number(values.workers ?? 4)
if (!(hours > 0)) refuse(values.hours === undefined ? '--hours is missing.' : `--hours ${values.hours} is no number above 0.`)
if (!Number.isInteger(seed)) refuse(`--seed ${values.seed} is no whole number.`)
if (!Number.isInteger(workers) || workers < 2)
  refuse(`--workers ${values.workers} is no whole number from 2: one dies while another lives.`)

const stop = new AbortController()
for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const)
  process.on(signal, () => {
    // Asked a second time: the nodes are killed with the process.
    if (stop.signal.aborted) process.exit(1)
    stop.abort()
  })
const out = resolve(values.out ?? (await mkdtemp(join(tmpdir(), 'batchmesh-soak-'))))
const well = await soak({ hours, seed, workers, out, stop: stop.signal })
process.exit(well ? 0 : 1)
