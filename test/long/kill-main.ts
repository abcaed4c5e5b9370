/** `npm run test:long -- --only kill`: the kill -9 loop, by rounds and seed. */
import { parseArgs } from 'node:util'
import { MeshLab } from '../e2e/support/mesh-lab.ts'
import { killLoop } from './kill-loop.ts'

const { values } = parseArgs({ options: { rounds: { type: 'string', default: '1000' }, seed: { type: 'string', default: '1' } } })
const [rounds, seed] = [Number(values.rounds), Number(values.seed)]
const lab = await MeshLab.create()
try {
  const { kills, tasks, lostRuns } = await killLoop(lab, { rounds, seed, say: (line) => console.log(line) })
  const by = Object.entries(kills).map(([name, count]) => `${name} ${count}`)
  console.log(
    `${rounds} rounds, seed ${seed}: kills ${by.join(', ')}; ${tasks} tasks, each with one result; ${lostRuns} runs lost with their machine`,
  )
} catch (error) {
  console.error(error instanceof Error ? error.stack : error)
  console.error(lab.logs())
  process.exitCode = 1
} finally {
  await lab.close()
}
