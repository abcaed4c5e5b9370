/**
 * Data-parallel training on four nodes: node examples/training.ts [EPOCHS]
 *
 * Each node draws points of its own and learns which of them lie in a ring. After each look at them the gradients are added up
 * (allreduce), so that all take the same step: the loss falls, and every rank ends with the same weights.
 */
import { connect, remoteModule } from 'batchmesh'
import { guess } from './network.ts'

const training = { points: 250, hidden: 16, epochs: Number(process.argv[2] ?? 600), everyEpochs: 100 }
const { train } = remoteModule<typeof import('./network.ts')>(new URL('./network.ts', import.meta.url))

await using mesh = await connect()
const ranks = await mesh.group(4, train, training)
const { weights, history } = ranks[0]!

console.log('epoch    loss  right')
for (const { epoch, loss, accuracy } of history)
  console.log(`${String(epoch).padStart(5)}  ${loss.toFixed(4)}  ${(100 * accuracy).toFixed(1).padStart(4)}%`)

// Where the network sees the ring, over the square from -2 to 2.
for (let y = -1.9; y < 2; y += 0.2) {
  const line = Array.from({ length: 40 }, (_, at) => (guess(weights, at / 10 - 1.95, y) > 0.5 ? '#' : '.'))
  console.log(line.join(''))
}

const text = JSON.stringify(Array.from(weights))
const isSame = ranks.every((rank) => JSON.stringify(Array.from(rank.weights)) === text)
console.log(`weights on ${ranks.length} ranks: ${isSame ? 'all the same' : 'NOT THE SAME'}`)
if (!isSame) process.exitCode = 1
