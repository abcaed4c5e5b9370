/** A function for each input, in worker threads all over the mesh. It is sent as its source text: no variable from around it. */
import { connect } from 'batchmesh'

await using mesh = await connect()

/** How many of so many random points lie in the quarter circle. */
const throwDarts = ({ darts }: { darts: number }) => {
  let hits = 0
  for (let dart = 0; dart < darts; dart += 1) if (Math.hypot(Math.random(), Math.random()) < 1) hits += 1
  return hits
}

/** Endless: inputs are taken as results are used. */
function* rounds() {
  for (;;) yield { darts: 1_000_000 }
}

let thrown = 0
let hits = 0
for await (const result of mesh.map(throwDarts, rounds(), { ahead: 16 })) {
  thrown += 1_000_000
  hits += result
  if (thrown === 20_000_000) break
}
console.log(`pi is about ${((4 * hits) / thrown).toFixed(2)}`)
