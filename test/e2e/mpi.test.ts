/** Real MPI without ssh: gangs of nodes on one machine, and on hosts of their own. One mesh goes through all. */
import { existsSync } from 'node:fs'
import { readFile, writeFile } from 'node:fs/promises'
import { basename, join } from 'node:path'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { mpiRounds } from '../long/mpi-rounds.ts'
import { MeshLab } from './support/mesh-lab.ts'
import { compileRing, has, MpiMesh, noNetwork, whyNoMpi } from './support/mpi.ts'
import { sh, submit, succeed, taskOf } from './support/work.ts'

const noMpi = whyNoMpi()
if (noMpi !== undefined) console.warn(`tests with MPI are skipped: ${noMpi}`)
else if (noNetwork !== undefined) console.warn(`tests with MPI have all machines on this host: ${noNetwork}`)
const noHpcc = noMpi ?? (has('hpcc') && existsSync(hpccInput()) ? undefined : 'hpcc is not installed, or not its documentation')
const noMpich = noMpi ?? (has('mpicc.mpich') ? undefined : 'mpich and libmpich-dev are not installed')
if (noMpi === undefined && noHpcc !== undefined) console.warn(`the HPC Challenge benchmark is skipped: ${noHpcc}`)
if (noMpi === undefined && noMpich !== undefined) console.warn(`tests with MPICH are skipped: ${noMpich}`)

/** The package's own input. */
function hpccInput(): string {
  return '/usr/share/doc/hpcc/examples/_hpccinf.txt'
}

let lab: MeshLab
let mesh: MpiMesh
let ring: string
const cleaners: (() => Promise<void>)[] = []

beforeAll(async () => {
  if (noMpi !== undefined) return
  lab = await MeshLab.create()
  mesh = await MpiMesh.create(lab, { onTestFinished: (done) => void cleaners.push(done) })
  ring = await compileRing(lab)
  await mesh.pool('one', 4, 'a')
}, 120_000)
afterAll(async () => {
  await lab?.close()
  for (const clean of cleaners) await clean()
})

async function stdoutOf(ref: string): Promise<string> {
  const { code, stdout, stderr } = await lab.cli(mesh.founder, ['task', 'logs', ref])
  if (code !== 0) throw new Error(stderr)
  return stdout
}

async function blob(path: string): Promise<string> {
  const [{ id }] = (await lab.json(mesh.founder, ['blob', 'put', path])) as [{ id: string }]
  return id
}

/** A gang of four nodes on one machine runs a command line. */
async function gang(jobId: string, commandLine: string, files: { filePath: string; blob: string }[], instances = 4): Promise<void> {
  const multiInstanceSettings = {
    numberOfInstances: instances,
    commonResourceFiles: files.map((file) => ({ ...file, fileMode: '0755' })),
  }
  await submit(lab, mesh.founder, jobId, [{ id: 't', commandLine, multiInstanceSettings }], { poolId: 'one' })
  await succeed(lab, mesh.founder, jobId)
}

describe.skipIf(noMpi !== undefined)('MPI', () => {
  it('is told of each machine', async () => {
    const { mpi } = (await lab.json(mesh.founder, ['machine', 'show', 'b'])) as { mpi: { flavor: string; version: string }[] }
    expect(mpi.map(({ flavor }) => flavor)).toContain('openmpi')
  })

  it('runs on four nodes of one machine from a plain command line of Azure’s', async () => {
    await gang('plain', 'mpirun -n 4 ./ring', [{ filePath: 'wd/ring', blob: await blob(ring) }])
    expect(await stdoutOf('plain/t')).toBe('token 4 of 4 ranks, sum 6\n')
  })

  it('finds programs in the shared directory, and hosts of the list, whichever node they are on', async () => {
    const file = { filePath: 'ring', blob: await blob(ring) }
    await gang(
      'shared',
      sh('mpirun -n 4 $AZ_BATCH_TASK_SHARED_DIR/ring && mpirun -host $AZ_BATCH_HOST_LIST $AZ_BATCH_TASK_SHARED_DIR/ring'),
      [file],
    )
    expect(await stdoutOf('shared/t')).toBe('token 4 of 4 ranks, sum 6\n'.repeat(2))
  })

  it('runs on four machines, by one command', async () => {
    const { code, stdout, stderr } = await lab.cli(
      mesh.founder,
      ['mpi', 'run', '-n', '4', '--nodes', '4', '--cpus', '0.5', '--with', basename(ring), '-q', '--', `./${basename(ring)}`],
      {
        cwd: lab.root,
      },
    )
    expect({ code, stderr }).toEqual({ code: 0, stderr: '' })
    expect(stdout).toContain('token 4 of 4 ranks, sum 6')
  })

  it('takes what mpirun is told over what it is told by the environment', async () => {
    await gang('told', sh(`mpirun --mca btl_tcp_if_include lo,eth0 --oversubscribe -n 6 sh -c 'echo $OMPI_MCA_btl_tcp_if_include'`), [])
    expect(await stdoutOf('told/t')).toBe('lo,eth0\n'.repeat(6))
  })

  it.skipIf(noHpcc !== undefined)('runs the HPC Challenge benchmark with its own input, which checks its results', async () => {
    const input = join(lab.root, 'hpccinf.txt')
    // Its matrix, smaller than on a cluster.
    await writeFile(input, (await readFile(hpccInput(), 'utf8')).replace(/^1000(?= +Ns$)/m, '200 '))
    await gang('hpcc', sh('mpirun -n 4 hpcc && cat hpccoutf.txt'), [{ filePath: 'wd/hpccinf.txt', blob: await blob(input) }])
    const said = await stdoutOf('hpcc/t')
    expect(said).toMatch(/^Success=1$/m)
    expect(said).toMatch(/PASSED/)
    expect(said).not.toMatch(/FAILED/)
  })

  // The package of Debian 12 sometimes hangs at the end, also without us: only where it is asked for.
  it.skipIf(noMpich !== undefined || process.env.BATCHMESH_TEST_MPICH === undefined)('runs two ranks of MPICH on two nodes', async () => {
    const mpichRing = await compileRing(lab, 'mpicc.mpich')
    await gang(
      'mpich',
      sh('mpiexec.hydra -wdir $AZ_BATCH_TASK_SHARED_DIR -n 2 ./ring'),
      [{ filePath: 'ring', blob: await blob(mpichRing) }],
      2,
    )
    expect(await stdoutOf('mpich/t')).toBe('token 2 of 2 ranks, sum 1\n')
  })

  it('M1 C1: ends everywhere when a machine goes away, leaves nothing, and the task is tried again as one', async () => {
    await mpiRounds(mesh, { rounds: 2, seed: 3, say: (line) => console.log(line) })
  })

  it('leaves no process and no directory of a launch', async () => {
    await lab.until('nothing is left', async () => (await mesh.processes()).length === 0)
    expect(await taskOf(lab, mesh.founder, 'plain/t')).toMatchObject({ executionInfo: { result: 'success' } })
  })
})
