import { describe, expect, it } from 'vitest'
import { simulate } from './simulation.ts'
import { faultNames, noFaults } from './world.ts'

const count = 200

describe('the simulated mesh', () => {
  it(`keeps every promise and ends every job under the faults of ${count} seeds`, () => {
    const total = noFaults()
    const failures: string[] = []
    for (let seed = 1; seed <= count; seed += 1) {
      const { faults, failure } = simulate(seed)
      for (const name of faultNames) total[name] += faults[name]
      if (failure !== undefined) failures.push(`${failure}; repeat it with: npm run sim -- --seed ${seed} --count 1 --verbose`)
    }
    console.log(`faults in seeds 1-${count}: ${faultNames.map((name) => `${name} ${total[name]}`).join(', ')}`)
    expect(failures).toEqual([])
    for (const name of faultNames) expect(total[name], `how often the fault ${name} happened`).toBeGreaterThan(0)
  }, 600_000)

  it('does the same again for the same seed', () => {
    const trace = () => {
      const lines: string[] = []
      const result = simulate(7, { say: (line) => lines.push(line) })
      return { lines, result }
    }
    expect(trace()).toEqual(trace())
  })
})
