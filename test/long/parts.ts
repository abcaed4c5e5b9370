/** The parts of the long run: what is too long for the suite, which runs a little of each. Pure. */

export interface Part {
  name: string
  what: string
  /** The program in test/ and its arguments. */
  words: readonly string[]
}

export interface LongOptions {
  only: readonly string[] | undefined
  seed: number
  seeds: number
  cases: number
  rounds: number
  mpiRounds: number
}

export const usage = `Usage: npm run test:long -- [--only PART[,PART]] [--seed N] [--seeds N] [--cases N] [--rounds N]

  sim     the simulated mesh under faults: --seeds N, default 10000
  fuzz    everything that reads from outside, fed with spoilt things: --cases N, default 1000000
  kill    kill -9 on real processes: --rounds N, default 1000
  mpi     machines killed under MPI, where it is installed: --rounds N, default 50

  --seed N   the first seed of each part, default 1: the same one does the same again`

const defaults = { seed: '1', seeds: '10000', cases: '1000000', rounds: '1000' }
/** A round of MPI takes as long as a hundred of the others. */
const mpiRounds = '50'

/** What is asked for, or a sentence on what is wrong with it. `given`: options as they were typed. */
export function readLongOptions(given: Partial<Record<keyof typeof defaults | 'only', string>>): LongOptions | string {
  const numbers = { seed: 0, seeds: 0, cases: 0, rounds: 0 }
  for (const name of Object.keys(numbers) as (keyof typeof numbers)[]) {
    const text = given[name] ?? defaults[name]
    numbers[name] = Number(text)
    if (text.trim() === '' || !Number.isInteger(numbers[name]) || numbers[name] < 1)
      return `--${name} ${text}: it must be a whole number, at least 1.`
  }
  const only = given.only?.split(',')
  const known = partsOf({ ...numbers, mpiRounds: 1, only: undefined }).map(({ name }) => name)
  const unknown = only?.find((name) => !known.includes(name))
  if (unknown !== undefined) return `--only ${given.only}: there is no part ${JSON.stringify(unknown)}; the parts are ${known.join(', ')}.`
  return { ...numbers, mpiRounds: Number(given.rounds ?? mpiRounds), only }
}

export function partsOf({ only, seed, seeds, cases, rounds, mpiRounds }: LongOptions): Part[] {
  const parts: Part[] = [
    { name: 'sim', what: `${seeds} seeds`, words: ['sim/main.ts', '--seed', String(seed), '--count', String(seeds)] },
    { name: 'fuzz', what: `${cases} cases`, words: ['fuzz/main.ts', '--seed', String(seed), '--cases', String(cases)] },
    { name: 'kill', what: `${rounds} rounds`, words: ['long/kill-main.ts', '--seed', String(seed), '--rounds', String(rounds)] },
    { name: 'mpi', what: `${mpiRounds} rounds`, words: ['long/mpi-main.ts', '--seed', String(seed), '--rounds', String(mpiRounds)] },
  ]
  return only === undefined ? parts : parts.filter(({ name }) => only.includes(name))
}
