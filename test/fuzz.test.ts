/** Everything that reads from outside, fed with spoilt things: a short run of what `npm run fuzz` does at length. */
import { describe, expect, it } from 'vitest'
import { fuzz } from './fuzz/run.ts'
import type { Target } from './fuzz/target.ts'
import { targets } from './fuzz/targets.ts'

const cases = 1000
const seed = 1

describe('spoilt input', () => {
  it.each(targets.map((target) => [target.name, target] as const))('is refused or read by the rules: %s', async (_, target) => {
    const failure = await fuzz(target, seed, cases)
    expect(failure?.error, `seed ${failure?.seed}`).toBeUndefined()
  })

  it('is found out where a reader fails, by a seed that repeats it', async () => {
    const broken: Target = {
      name: 'broken',
      feed(dice) {
        if (dice.text(30).includes('{{')) throw new TypeError('it fails at two braces')
      },
    }
    const failure = await fuzz(broken, 1, cases)
    expect(failure?.error).toBeInstanceOf(TypeError)
    expect(await fuzz(broken, failure!.seed, 1)).toMatchObject({ seed: failure!.seed })
  })
})
