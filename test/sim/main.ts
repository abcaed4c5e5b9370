/** `npm run sim -- [--seed N] [--count M] [--verbose]`: runs seeds of the simulation, prints the failing ones and how often each fault happened. */
import { parseArgs } from 'node:util'
import { simulate } from './simulation.ts'
import { faultNames, noFaults } from './world.ts'

function usage(message: string): never {
  console.error(`sim: ${message}\nUsage: npm run sim -- [--seed N] [--count M] [--verbose]`)
  process.exit(2)
}

function readOptions() {
  try {
    return parseArgs({
      options: {
        seed: { type: 'string', default: '1' },
        count: { type: 'string', default: '200' },
        verbose: { type: 'boolean', default: false },
      },
    }).values
  } catch (error) {
    return usage((error as Error).message)
  }
}

const values = readOptions()
const first = Number(values.seed)
const count = Number(values.count)
if (!Number.isInteger(first) || !Number.isInteger(count) || count < 1)
  usage(`--seed ${values.seed} and --count ${values.count} must be whole numbers, the count at least 1.`)
const total = noFaults()
let failed = 0
for (let seed = first; seed < first + count; seed += 1) {
  const result = simulate(seed, { say: values.verbose ? (line) => console.log(line) : undefined })
  for (const name of faultNames) total[name] += result.faults[name]
  if (result.failure === undefined) continue
  failed += 1
  console.log(`seed ${seed}: ${result.failure}`)
  console.log(`  repeat it with: npm run sim -- --seed ${seed} --count 1 --verbose`)
}
console.log(`${count} seeds, ${failed} failed; ${faultNames.map((name) => `${name} ${total[name]}`).join(', ')}`)
if (failed > 0) process.exitCode = 1
