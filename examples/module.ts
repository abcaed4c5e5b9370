/** Functions of a module, with their types: node examples/module.ts FROM TO */
import { connect, remoteModule } from 'batchmesh'

const remote = remoteModule<typeof import('./primes.ts')>(new URL('./primes.ts', import.meta.url))
const [from = 0, to = 1000] = process.argv.slice(2).map(Number)

await using mesh = await connect()

const ranges = Array.from({ length: 4 }, (_, at) => {
  const step = (to - from) / 4
  return { from: Math.round(from + at * step), to: Math.round(from + (at + 1) * step) }
})
// What one map gives another one takes: as results come, in order.
const primes = mesh.map(remote.primesIn, ranges)
for await (const { index, input, value } of mesh.map(remote.fingerprint, primes, { order: 'completed' })) {
  console.log(`range ${index}: ${input.length} primes, ${value}`)
}
