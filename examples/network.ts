/** A small neural network that several nodes train together (training.ts): each sees its own part of the data, all have the same weights. */
import type { Group } from 'batchmesh'

export interface Training {
  /** Points that each node draws. */
  points: number
  hidden: number
  epochs: number
  /** How often what is reached is noted. */
  everyEpochs: number
}

export interface Trained {
  weights: Float64Array
  history: { epoch: number; loss: number; accuracy: number }[]
}

/** Gradient descent on all points of all nodes: what each finds for its own ones is added up, so that all take the same step. */
export async function train(group: Group, { points, hidden, epochs, everyEpochs }: Training): Promise<Trained> {
  const data = ringOf(points, randomOf(100 + group.rank))
  const random = randomOf(1)
  // Drawn by one, for all.
  const weights = await group.bcast(Float64Array.from({ length: 4 * hidden + 1 }, () => random() * 2 - 1))
  const history: Trained['history'] = []
  const everyPoints = points * group.size
  for (let epoch = 0; epoch <= epochs; epoch += 1) {
    const found = look(weights, data)
    const total = await group.allreduce(found.gradient, 'sum')
    if (epoch % everyEpochs === 0) {
      const [loss, right] = await group.allreduce(Float64Array.of(found.loss, found.right), 'sum')
      history.push({ epoch, loss: loss! / everyPoints, accuracy: right! / everyPoints })
    }
    for (let at = 0; at < weights.length; at += 1) weights[at]! -= (2 * total[at]!) / everyPoints
  }
  return { weights, history }
}

/** How sure the network is, from 0 to 1, that a point is in the ring. Weights: of x, of y, of 1, and of the sum, for each hidden unit; then one alone. */
export function guess(weights: Float64Array, x: number, y: number): number {
  const units = (weights.length - 1) / 4
  let sum = weights[4 * units]!
  for (let unit = 0; unit < units; unit += 1)
    sum += weights[4 * unit + 3]! * Math.tanh(weights[4 * unit]! * x + weights[4 * unit + 1]! * y + weights[4 * unit + 2]!)
  return 1 / (1 + Math.exp(-sum))
}

interface Point {
  x: number
  y: number
  isIn: boolean
}

/** The cross entropy over these points, its gradient (back propagation), and how many are guessed right. */
function look(weights: Float64Array, data: readonly Point[]): { loss: number; right: number; gradient: Float64Array } {
  const gradient = new Float64Array(weights.length)
  const units = (weights.length - 1) / 4
  let loss = 0
  let right = 0
  for (const { x, y, isIn } of data) {
    const sure = guess(weights, x, y)
    loss -= Math.log(Math.max(1e-12, isIn ? sure : 1 - sure))
    if (sure > 0.5 === isIn) right += 1
    const error = sure - (isIn ? 1 : 0)
    gradient[4 * units]! += error
    for (let unit = 0; unit < units; unit += 1) {
      const at = 4 * unit
      const lit = Math.tanh(weights[at]! * x + weights[at + 1]! * y + weights[at + 2]!)
      const back = error * weights[at + 3]! * (1 - lit * lit)
      gradient[at]! += back * x
      gradient[at + 1]! += back * y
      gradient[at + 2]! += back
      gradient[at + 3]! += error * lit
    }
  }
  return { loss, right, gradient }
}

/** Points of a square, and whether they are in a ring in its middle. */
function ringOf(points: number, random: () => number): Point[] {
  return Array.from({ length: points }, () => {
    const [x, y] = [random() * 4 - 2, random() * 4 - 2]
    const radius = Math.hypot(x, y)
    return { x, y, isIn: radius > 0.6 && radius < 1.5 }
  })
}

/** The same numbers from the same seed, from 0 to 1 (mulberry32). */
function randomOf(seed: number): () => number {
  let state = seed
  return () => {
    state = (state + 0x6d2b79f5) | 0
    let mixed = Math.imul(state ^ (state >>> 15), 1 | state)
    mixed = (mixed + Math.imul(mixed ^ (mixed >>> 7), 61 | mixed)) ^ mixed
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32
  }
}
