/** What goes wrong, and how a program hears of it. */
import { connect, MapError, type MeshError } from 'batchmesh'

await using mesh = await connect()

const half = (n: number) => {
  if (n % 2 === 1) throw new RangeError(`${n} is odd`)
  return n / 2
}

// The first failure ends the map. Its cause is what the function threw, with its stack.
try {
  for await (const result of mesh.map(half, [3, 2], { retries: 1 })) console.log(result)
} catch (error) {
  if (!(error instanceof MapError)) throw error
  console.log(`input ${error.index}: ${String(error.cause)}`)
}

// Or failures are results like others.
for await (const outcome of mesh.map(half, [4, 5], { settled: true })) {
  console.log(outcome.status === 'fulfilled' ? outcome.value : outcome.reason.message.split(' (')[0])
}

// A function that would need what is not sent is refused, and the name is said.
const factor = 3
try {
  for await (const result of mesh.map((n: number) => n * factor, [1])) console.log(result)
} catch (error) {
  console.log((error as MeshError).message.split(',')[0])
}

// A task that takes too long, and a program that does not wait: leaving the loop stops the job.
for await (const done of mesh.run({ command: 'sleep {index}', array: [600, 0], timeoutMs: 60_000, signal: AbortSignal.timeout(120_000) })) {
  console.log(`sleep ${done.index}: ${done.result}`)
  break
}
