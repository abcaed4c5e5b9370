/**
 * Groups, beside what they are measured by, in turn with it: shared memory beside Open MPI's, TLS between two processes beside
 * bare node:tls in the same two processes. Medians of the rounds, with the lowest and the highest.
 */
import { execFile } from 'node:child_process'
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { promisify } from 'node:util'
import { type Bench, numbers, table } from './bench.ts'
import type { Figures, Plan } from './groups/figures.ts'

const run = promisify(execFile)
const programs = join(import.meta.dirname, 'groups')

interface Round {
  threads: Figures
  mpi: Figures | undefined
  processes: { group: Figures; bare: Figures; back: Figures; bareBack: Figures }
}

export const bench: Bench = {
  usage: '[--rounds 10] [--members 2] [--mib 8] [--reductions 20] [--messages 32] [--turns 20000]',
  async run(args) {
    const { rounds, members, mib, reductions, messages, turns } = numbers(args, {
      rounds: 10,
      members: 2,
      mib: 8,
      reductions: 20,
      messages: 32,
      turns: 20_000,
    })
    const plan: Plan = { bytes: mib << 20, reductions, messages, turns }
    const dir = await mkdtemp(join(tmpdir(), 'batchmesh-bench-'))
    try {
      const mpi = await compile(dir)
      const result: Round[] = []
      for (let round = 0; round < rounds; round += 1) {
        result.push({
          threads: await measure('threads.ts', [String(members), JSON.stringify(plan)]),
          mpi: mpi === undefined ? undefined : await openMpi(mpi, members, plan),
          processes: await measure('processes.ts', [JSON.stringify(plan)]),
        })
      }
      return { result: { members, plan, rounds: result }, lines: linesOf(result, members, mib) }
    } finally {
      await rm(dir, { recursive: true })
    }
  },
}

async function measure<T>(program: string, args: string[]): Promise<T> {
  const { stdout } = await run(process.execPath, [join(programs, program), ...args])
  return JSON.parse(stdout) as T
}

/** The program for Open MPI; undefined where that is not installed. */
async function compile(dir: string): Promise<string | undefined> {
  const program = join(dir, 'allreduce')
  try {
    await run('mpicc', ['-O2', '-o', program, join(programs, 'allreduce.c')])
    return program
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return undefined
    throw error
  }
}

async function openMpi(program: string, members: number, { bytes, reductions, turns }: Plan): Promise<Figures> {
  const words = [
    '-n',
    String(members),
    '--oversubscribe',
    '--bind-to',
    'none',
    program,
    String(bytes / 8),
    String(reductions),
    String(turns),
  ]
  const env = { ...process.env, OMPI_ALLOW_RUN_AS_ROOT: '1', OMPI_ALLOW_RUN_AS_ROOT_CONFIRM: '1' }
  const { stdout } = await run('mpirun', words, { env })
  return JSON.parse(stdout) as Figures
}

function linesOf(rounds: readonly Round[], members: number, mib: number): string[] {
  const row = (
    name: string,
    own: (round: Round) => number | undefined,
    other: (round: Round) => number | undefined,
    lessIsMore = false,
  ) => {
    const pairs = rounds.map((round) => [own(round), other(round)] as const)
    const shares = pairs.map(([mine, theirs]) =>
      mine === undefined || theirs === undefined ? undefined : lessIsMore ? theirs / mine : mine / theirs,
    )
    return [name, spread(pairs.map(([mine]) => mine)), spread(pairs.map(([, theirs]) => theirs)), spread(shares)]
  }
  const rate = (figures: Figures | undefined) => (figures?.streamed === undefined ? undefined : figures.streamed / 1e9)
  return [
    `${rounds.length} rounds, median (lowest to highest); the share is of what stands beside it, above 1 where the group is faster`,
    '',
    ...table(
      ['', 'group', 'beside it', 'share'],
      [
        row(
          `allreduce of ${mib} MiB, ${members} threads, ms (Open MPI)`,
          ({ threads }) => threads.allreduceMs,
          ({ mpi }) => mpi?.allreduceMs,
          true,
        ),
        row(
          '8 bytes between threads, us (Open MPI)',
          ({ threads }) => threads.latencyUs,
          ({ mpi }) => mpi?.latencyUs,
          true,
        ),
        row(
          `messages of ${mib} MiB between threads, GB/s`,
          ({ threads }) => rate(threads),
          () => undefined,
        ),
        row(
          'TLS on loopback, who dialled reads, GB/s (node:tls)',
          (r) => rate(r.processes.group),
          (r) => rate(r.processes.bare),
        ),
        row(
          'TLS on loopback, who listened reads, GB/s (node:tls)',
          (r) => rate(r.processes.back),
          (r) => rate(r.processes.bareBack),
        ),
        row(
          '8 bytes by TLS, us (node:tls)',
          (r) => r.processes.group.latencyUs,
          (r) => r.processes.bare.latencyUs,
          true,
        ),
      ],
    ),
    ...(rounds.some(({ mpi }) => mpi === undefined)
      ? ['', 'Open MPI is not installed here (openmpi-bin libopenmpi-dev): no share for shared memory.']
      : []),
  ]
}

function spread(values: readonly (number | undefined)[]): string {
  const known = values.filter((value) => value !== undefined).sort((a, b) => a - b)
  if (known.length === 0) return '-'
  const at = (part: number) => known[Math.floor((known.length - 1) * part)]!.toPrecision(3)
  return `${at(0.5)} (${at(0)} to ${at(1)})`
}
