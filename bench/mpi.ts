/**
 * Real MPI on a gang of four nodes of one machine: a program's own time (computing, blocks of 1 MiB and of 8 B around a ring)
 * under our launcher, and under the same mpirun by hand, whose agent is a script that starts the daemons here. Interleaved,
 * with the same settings of MPI. And how long a gang takes from its submission to its end, with nothing to do, and with an
 * mpirun that starts four ranks of a program without MPI.
 */
import { execFile, execFileSync } from 'node:child_process'
import { chmod, mkdir, readFile, rm, writeFile } from 'node:fs/promises'
import { availableParallelism } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { promisify } from 'node:util'
import { joinCommandLine } from '../protocols/model/command-line.ts'
import { taskSpecSchema } from '../protocols/model/task.ts'
import type { Mesh } from '../src/mesh/client.ts'
import { connect } from '../src/mesh.ts'
import { type Bench, numbers, table } from './bench.ts'
import { BenchLab } from './lab.ts'
import { WatchedJob } from './pair.ts'

const run = promisify(execFile)
const nodes = 4
const phases = ['computing', '1 MiB around', '8 B around'] as const

interface Spread {
  median: number
  min: number
  max: number
}

interface MpiResult {
  runs: number
  /** Seconds by the program's own clock. */
  ours: Record<string, Spread>
  byHand: Record<string, Spread>
  /** Median of ours by that by hand, for the sum of the phases. */
  ratio: number
  /** Milliseconds from submission until it is seen completed. */
  gangMs: Spread
  gangWithMpirunMs: Spread
  /** Milliseconds of mpirun by hand, without a program of MPI. */
  mpirunByHandMs: Spread
}

export const bench: Bench = {
  usage: '[--runs 10]',
  async run(args) {
    const { runs } = numbers(args, { runs: 10 })
    const result = await measure(runs)
    return { result, lines: lines(result) }
  },
}

async function measure(runs: number): Promise<MpiResult> {
  const lab = await BenchLab.create()
  try {
    const founder = await lab.up('founder', ['--lend-cpus', '0'])
    await lab.up('worker', [], founder)
    const pool = ['--vm-size', 'cores=0.25,memory=64MiB', '--target-dedicated-nodes', String(nodes), '--enable-inter-node-communication']
    await lab.cli(founder, ['pool', 'create', 'gang', ...pool])
    const mesh = await connect({ dataDir: founder.dataDir })
    try {
      while ((await mesh.control.call('getPool', { poolId: 'gang' })).currentDedicatedNodes < nodes)
        await new Promise((done) => setTimeout(done, 50))
      return await compare(lab, mesh, runs)
    } finally {
      await mesh.close()
    }
  } finally {
    await lab.close()
  }
}

async function compare(lab: BenchLab, mesh: Mesh, runs: number): Promise<MpiResult> {
  const program = join(lab.dir, 'ring')
  execFileSync('mpicc.openmpi', ['-O2', '-o', program, fileURLToPath(new URL('mpi/ring.c', import.meta.url))])
  const out = join(lab.dir, 'out')
  await mkdir(out)
  await chmod(out, 0o777)
  const hand = await ByHand.create(join(lab.dir, 'hand'))
  const job = await WatchedJob.open(mesh, 'mpi', 'gang')
  let count = 0
  const gang = (commandLine: string) => {
    count += 1
    const multiInstanceSettings = { numberOfInstances: nodes }
    return job.run([taskSpecSchema.parse({ id: `t${count}`, commandLine, multiInstanceSettings })], count)
  }
  const seconds = async (start: (file: string) => Promise<unknown>) => {
    const file = join(out, 'seconds')
    await rm(file, { force: true })
    await start(file)
    return (await readFile(file, 'utf8')).trim().split(' ').map(Number)
  }
  const [ours, byHand, gangs, withMpirun, handStarts]: [number[][], number[][], number[], number[], number[]] = [[], [], [], [], []]
  for (let at = 0; at < runs + 1; at += 1) {
    const measured = [
      await seconds((file) => gang(joinCommandLine(['mpirun', '-n', String(nodes), program, file]))),
      await seconds((file) => hand.mpirun([program, file])),
    ] as const
    const took = [await gang('true'), await gang(`mpirun -n ${nodes} true`), await timed(() => hand.mpirun(['true']))] as const
    // The first pays for what is not in memory yet.
    if (at === 0) continue
    ours.push(measured[0])
    byHand.push(measured[1])
    for (const [index, list] of [gangs, withMpirun, handStarts].entries()) list.push(took[index]!)
  }
  await job.close()
  const sums = (list: readonly number[][]) => spread(list.map((times) => times.reduce((a, b) => a + b))).median
  const byPhase = (list: readonly number[][]) => Object.fromEntries(phases.map((name, n) => [name, spread(list.map((times) => times[n]!))]))
  return {
    runs,
    ours: byPhase(ours),
    byHand: byPhase(byHand),
    ratio: sums(ours) / sums(byHand),
    gangMs: spread(gangs),
    gangWithMpirunMs: spread(withMpirun),
    mpirunByHandMs: spread(handStarts),
  }
}

/** The same mpirun, with daemons that a script starts here. */
class ByHand {
  readonly #env: Record<string, string>

  private constructor(env: Record<string, string>) {
    this.#env = env
  }

  static async create(dir: string): Promise<ByHand> {
    await mkdir(dir)
    const agent = join(dir, 'agent')
    // Daemons of one machine that share a directory can crash each other while they write what they know of its processors.
    await writeFile(agent, '#!/bin/sh\nTMPDIR=$TMPDIR/$1\nmkdir -p "$TMPDIR"\nexport TMPDIR\nshift\nexec /bin/sh -c "$*"\n')
    await chmod(agent, 0o755)
    const hosts = join(dir, 'hosts')
    await writeFile(hosts, ['localhost', 'n1', 'n2', 'n3'].map((host) => `${host} slots=1\n`).join(''))
    const settings = {
      ...{ plm_rsh_agent: agent, orte_default_hostfile: hosts, orte_leave_session_attached: '1', plm_rsh_no_tree_spawn: '1' },
      ...{ if_base_do_not_resolve: '1', hwloc_base_binding_policy: 'none', oob_tcp_if_include: '127.0.0.0/8' },
      // One rank a node: what is said in shared memory is said to oneself. As the mesh does where ranks are more than cores.
      ...{
        btl_tcp_if_include: '127.0.0.0/8',
        pml: 'ob1',
        btl: 'self,tcp',
        mpi_yield_when_idle: nodes > availableParallelism() ? '1' : '0',
      },
    }
    return new ByHand({
      PATH: '/usr/local/bin:/usr/bin:/bin',
      HOME: dir,
      TMPDIR: dir,
      OMPI_ALLOW_RUN_AS_ROOT: '1',
      OMPI_ALLOW_RUN_AS_ROOT_CONFIRM: '1',
      ...Object.fromEntries(Object.entries(settings).map(([name, value]) => [`OMPI_MCA_${name}`, value])),
    })
  }

  async mpirun(words: readonly string[]): Promise<void> {
    await run('mpirun.openmpi', ['-n', String(nodes), ...words], { env: this.#env, cwd: this.#env.HOME })
  }
}

async function timed(work: () => Promise<unknown>): Promise<number> {
  const start = performance.now()
  await work()
  return performance.now() - start
}

function spread(values: readonly number[]): Spread {
  const sorted = values.toSorted((a, b) => a - b)
  return { median: sorted[sorted.length >> 1]!, min: sorted[0]!, max: sorted.at(-1)! }
}

function lines({ runs, ours, byHand, ratio, gangMs, gangWithMpirunMs, mpirunByHandMs }: MpiResult): string[] {
  const of = ({ median, min, max }: Spread, digits: number) => `${median.toFixed(digits)} (${min.toFixed(digits)}–${max.toFixed(digits)})`
  return [
    ...table(
      [`${nodes} ranks, s, of ${runs} runs`, 'by our launcher', 'by hand', 'ratio'],
      phases.map((name) => [name, of(ours[name]!, 3), of(byHand[name]!, 3), (ours[name]!.median / byHand[name]!.median).toFixed(2)]),
    ),
    `all: ${ratio.toFixed(3)} of the time by hand`,
    '',
    ...table(
      [`${nodes} nodes, ms from submission to end`, 'median (least–most)'],
      [
        ['a gang, true', of(gangMs, 0)],
        ['a gang, mpirun true', of(gangWithMpirunMs, 0)],
        ['mpirun true by hand', of(mpirunByHandMs, 0)],
      ],
    ),
  ]
}
