/** `npm run test:long`: see parts.ts. Runs the parts one after the other, each to its end, and says which failed. */
import { spawn } from 'node:child_process'
import { dirname, join } from 'node:path'
import { parseArgs } from 'node:util'
import { type LongOptions, type Part, partsOf, readLongOptions, usage } from './parts.ts'

function refuse(message: string): never {
  console.error(`test:long: ${message}\n\n${usage}`)
  process.exit(2)
}

function readArguments(): LongOptions {
  const text = { type: 'string' } as const
  try {
    const options = { only: text, seed: text, seeds: text, cases: text, rounds: text, help: { type: 'boolean' } } as const
    const { help, ...given } = parseArgs({ options }).values
    if (help === true) {
      console.log(usage)
      process.exit(0)
    }
    const read = readLongOptions(given)
    return typeof read === 'string' ? refuse(read) : read
  } catch (error) {
    return refuse((error as Error).message)
  }
}

function run({ words: [program, ...rest] }: Part): Promise<boolean> {
  const child = spawn(process.execPath, [join(dirname(import.meta.dirname), program!), ...rest], { stdio: 'inherit' })
  return new Promise((resolve, reject) => {
    child.once('error', reject)
    child.once('close', (code) => resolve(code === 0))
  })
}

const lines: string[] = []
for (const part of partsOf(readArguments())) {
  console.log(`\n=== ${part.name}: ${part.what}`)
  const start = Date.now()
  const passed = await run(part)
  lines.push(`${passed ? 'passed' : 'FAILED'}  ${part.name}: ${part.what}, ${Math.round((Date.now() - start) / 1000)} s`)
  if (!passed) process.exitCode = 1
}
console.log(`\n${lines.join('\n')}`)
