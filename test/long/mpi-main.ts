/** `npm run test:long -- --only mpi`: machines killed under MPI, by rounds and seed. */
import { parseArgs } from 'node:util'
import { MeshLab } from '../e2e/support/mesh-lab.ts'
import { MpiMesh, noNetwork, whyNoMpi } from '../e2e/support/mpi.ts'
import { mpiRounds } from './mpi-rounds.ts'

const { values } = parseArgs({ options: { rounds: { type: 'string', default: '50' }, seed: { type: 'string', default: '1' } } })
const [rounds, seed] = [Number(values.rounds), Number(values.seed)]
const why = whyNoMpi()
if (why !== undefined) {
  console.error(`skipped: ${why}`)
  process.exit(0)
}
if (noNetwork !== undefined) console.log(`all machines share this host: ${noNetwork}`)
const cleaners: (() => Promise<void>)[] = []
const lab = await MeshLab.create()
try {
  const mesh = await MpiMesh.create(lab, { onTestFinished: (done) => void cleaners.push(done) })
  const { kills, endedAfterMs } = await mpiRounds(mesh, { rounds, seed, say: (line) => console.log(line) })
  const sorted = endedAfterMs.toSorted((a, b) => a - b)
  console.log(
    `${rounds} rounds, seed ${seed}: primaries killed ${kills.primary}, others ${kills.subtask}; the rest ended after ${sorted[sorted.length >> 1]} ms, at most ${sorted.at(-1)} ms`,
  )
} catch (error) {
  console.error(error instanceof Error ? error.stack : error)
  console.error(lab.logs())
  process.exitCode = 1
} finally {
  await lab.close()
  for (const clean of cleaners) await clean()
}
