import { describe, expect, it } from 'vitest'
import { bugs } from './planted.ts'
import { simulate } from './simulation.ts'

/** Seeds tried for each bug. */
const count = 200

/** What the simulation says when it finds each bug. */
const symptoms: Record<keyof typeof bugs, RegExp> = {
  'acknowledges before it has synced': /^L5/,
  'takes a report whatever its epoch': /^L2/,
  'grants a lease twice': /^L1/,
  'gives no fresh window after a restart': /^L3/,
  'requeues nothing that an inventory omits': /^liveness/,
  'accepts the report of a terminated task': /^L2/,
  'starts a part of a gang': /^M1/,
  'gives held nodes to others': /^M1/,
  'lets the members of an ended gang run on': /^M1/,
  'takes one version of MPI for another': /^M1/,
  'reserves beyond the capacity': /^R1/,
  'starts what was granted in a session before': /^L7/,
  'answers before its disk has synced': /^L5/,
  // What is lost, or what does not fit together any more.
  'finds a part of a batch after a crash': /^L5|contradicts itself|^TypeError/,
  'forgets a deleted job before its tasks are gone': /^leftover/,
  'forgets to write the row of an array': /^L5/,
  'forgets to write the roll of a request': /^L5|TaskNotFound/,
  'spends a retry on a lost machine': /^C1|retries/,
}

describe('a planted bug is found: the mesh', () => {
  it.each(Object.keys(bugs))('%s', (name) => {
    let failure: string | undefined
    for (let seed = 1; seed <= count && failure === undefined; seed += 1) failure = simulate(seed, { planted: bugs[name] }).failure
    expect(failure).toMatch(symptoms[name]!)
  })

  it('has a symptom written down for each', () => {
    expect(Object.keys(symptoms).sort()).toEqual(Object.keys(bugs).sort())
  })
})
