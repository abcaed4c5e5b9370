import { existsSync } from 'node:fs'
import { join } from 'node:path'
import { describe, expect, it } from 'vitest'
import { partsOf, readLongOptions, usage } from './parts.ts'

const read = (given: Parameters<typeof readLongOptions>[0]) => {
  const options = readLongOptions(given)
  if (typeof options === 'string') throw new Error(options)
  return options
}

describe('the long run', () => {
  it('runs all its parts in full unless it is told otherwise, and the usage names each', () => {
    const parts = partsOf(read({}))
    expect(parts.map(({ name, what }) => `${name}: ${what}`)).toEqual([
      'sim: 10000 seeds',
      'fuzz: 1000000 cases',
      'kill: 1000 rounds',
      'mpi: 50 rounds',
    ])
    for (const { name, words } of parts) {
      expect(usage).toMatch(new RegExp(`^ {2}${name} `, 'm'))
      expect(existsSync(join(import.meta.dirname, '..', words[0]!))).toBe(true)
    }
  })

  it('runs the parts that are named, as long and from the seed that are given', () => {
    expect(partsOf(read({ only: 'kill,sim', rounds: '20', seeds: '5', seed: '9' })).map(({ words }) => words.slice(1).join(' '))).toEqual([
      '--seed 9 --count 5',
      '--seed 9 --rounds 20',
    ])
  })

  it.each([
    [{ only: 'kil' }, '--only kil: there is no part "kil"; the parts are sim, fuzz, kill, mpi.'],
    [{ rounds: 'many' }, '--rounds many: it must be a whole number, at least 1.'],
    [{ cases: '0' }, '--cases 0: it must be a whole number, at least 1.'],
    [{ seed: '' }, '--seed : it must be a whole number, at least 1.'],
  ])('says what is wrong with %o', (given, sentence) => {
    expect(readLongOptions(given)).toBe(sentence)
  })
})
