/** A short run of the kill -9 loop; `npm run test:long -- --only kill` is the long one. */
import { expect, it } from 'vitest'
import { killLoop } from '../long/kill-loop.ts'
import { MeshLab } from './support/mesh-lab.ts'

const rounds = 20
/** Another one at each run of the suite; what it was is in the name of a failure. */
const seed = Math.floor(Math.random() * 1e6)

it(`L1 L5 L7: nodes killed and started again ${rounds} times lose nothing and leave nothing behind (seed ${seed})`, async (t) => {
  const lab = await MeshLab.create(t)
  const { kills, tasks } = await killLoop(lab, { rounds, seed })
  expect(kills.founder + kills.w1 + kills.w2).toBeGreaterThanOrEqual(rounds)
  expect(tasks).toBeGreaterThan(0)
}, 300_000)
