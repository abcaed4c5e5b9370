/** `npm run fuzz -- [--seed N] [--cases M] [--target NAME]`: M cases in all, spread over the targets (default 1,000,000). */
import { parseArgs } from 'node:util'
import { fuzz } from './run.ts'
import { targets } from './targets.ts'

function usage(message: string): never {
  console.error(
    `fuzz: ${message}\nUsage: npm run fuzz -- [--seed N] [--cases M] [--target NAME]\nTargets: ${targets.map(({ name }) => name).join(', ')}`,
  )
  process.exit(2)
}

function readOptions() {
  try {
    return parseArgs({
      options: {
        seed: { type: 'string', default: '1' },
        cases: { type: 'string', default: '1000000' },
        target: { type: 'string' },
      },
    }).values
  } catch (error) {
    return usage((error as Error).message)
  }
}

const values = readOptions()
const seed = Number(values.seed)
const cases = Number(values.cases)
if (!Number.isInteger(seed) || !Number.isInteger(cases) || cases < 1)
  usage(`--seed ${values.seed} and --cases ${values.cases} must be whole numbers, the cases at least 1.`)
const chosen = targets.filter(({ name }) => values.target === undefined || name === values.target)
if (chosen.length === 0) usage(`there is no target ${values.target}.`)
const each = Math.ceil(cases / chosen.length)
let failed = 0
for (const target of chosen) {
  const failure = await fuzz(target, seed, each)
  console.log(`${failure === undefined ? 'passed' : 'FAILED'}  ${target.name}`)
  if (failure === undefined) continue
  failed += 1
  console.log(`  seed ${failure.seed}: ${failure.error instanceof Error ? failure.error.stack : String(failure.error)}`)
  console.log(`  repeat it with: npm run fuzz -- --target '${target.name}' --seed ${failure.seed} --cases 1`)
}
console.log(`${each * chosen.length} cases, ${failed} of ${chosen.length} targets failed`)
if (failed > 0) process.exitCode = 1
