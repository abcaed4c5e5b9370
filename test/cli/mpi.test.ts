import { chmodSync } from 'node:fs'
import { delimiter, join } from 'node:path'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { machineView, nodeView } from './fake-status.ts'
import { Lab } from './lab.ts'

let lab: Lab
beforeEach(() => {
  lab = new Lab()
  lab.mesh.machines = [machineView('n1'), machineView('n2')]
  // As mpirun does it: each rank's lines behind its name.
  lab.files({
    'bin/mpirun': `#!/bin/sh
[ "$1" = -n ] || exit 9
ranks=$2; shift 2
while [ "$1" = --tag-output ] || [ "$1" = --mca ]; do
  if [ "$1" = --mca ]; then echo "mca $2=$3"; shift 2; else tagged=1; fi
  shift
done
for rank in $(seq 0 $((ranks - 1))); do
  OMPI_COMM_WORLD_RANK=$rank "$@" >out.$rank 2>err.$rank; code=$?
  [ $code -eq 0 ] || failed=$code
  if [ -n "$tagged" ]; then sed "s/^/[1,$rank]<stdout>:/" out.$rank; sed "s/^/[1,$rank]<stderr>:/" err.$rank >&2
  else cat out.$rank; cat err.$rank >&2; fi
  rm out.$rank err.$rank
done
exit \${failed:-0}
`,
    'a.out': '#!/bin/sh\necho "rank $OMPI_COMM_WORLD_RANK of $WORLD: $*"; echo "oops $OMPI_COMM_WORLD_RANK" >&2; exit ${CODE:-0}\n',
  })
  chmodSync(join(lab.cwd, 'bin/mpirun'), 0o755)
  lab.mesh.path = `${join(lab.cwd, 'bin')}${delimiter}${process.env.PATH}`
})
afterEach(() => lab.close())

const job = () => [...lab.mesh.jobs.values()][0]!
const spec = () => job().tasks.get('mpi')!.spec

describe('mpi run', () => {
  it('prints the ranks’ lines behind their numbers, streams apart, and exits with 0', async () => {
    const ran = await lab.run('mpi', 'run', '-n', '2', '--nodes', '2', '--with', './a.out', '-e', 'WORLD=all', '--', './a.out', '-n', 'x')
    expect(ran).toMatchObject({ code: 0, stdout: '[0] rank 0 of all: -n x\n[1] rank 1 of all: -n x\n' })
    expect(ran.stderr).toMatch(/^2 ranks on 2 nodes of 1 core, Open MPI 4\.1\.4\n/)
    expect(ran.stderr).toMatch(/^\[0\] oops 0\n\[1\] oops 1$/m)
    expect(ran.stderr).toMatch(/exit code 0 after .* \(job mpi-[\w-]+\)\n$/)
  })

  it('is a gang whose members all have the files of --with in their working directory', async () => {
    await lab.run('mpi', 'run', '-n', '3', '--nodes', '2', '--with', 'a.out', '--timeout', '5m', '--', './a.out')
    expect(spec()).toMatchObject({
      commandLine: 'mpirun -n 3 --tag-output ./a.out',
      environmentSettings: [{ name: 'BATCHMESH_MPI_RANKS_PER_NODE', value: '2' }],
      constraints: { maxTaskRetryCount: 0, maxWallClockTimeMs: 300_000 },
      multiInstanceSettings: {
        numberOfInstances: 2,
        mpi: 'openmpi',
        commonResourceFiles: [{ filePath: 'wd/a.out', blob: expect.any(String), shared: true }],
      },
    })
  })

  it('refuses a program that would not be on the nodes, before anything is sent', async () => {
    const ran = await lab.run('mpi', 'run', '-n', '2', '--', './a.out')
    expect(ran).toMatchObject({
      code: 2,
      stderr: expect.stringMatching(/^batchmesh: \.\/a\.out is not on the nodes: .* Add: --with \.\/a\.out\n$/),
    })
    expect(lab.mesh.asked).toEqual([])
    lab.files({ 'model/solve': '#!/bin/sh\n' })
    chmodSync(join(lab.cwd, 'model/solve'), 0o755)
    expect(await lab.run('mpi', 'run', '-n', '2', '--with', 'model', '--', './model/solve')).toMatchObject({ code: 0 })
  })

  it('makes a pool that goes with its job, after the job and before the task', async () => {
    await lab
      .run('mpi', 'run', '-n', '4', '--nodes', '2', '--memory', '1GiB', '--label', 'a=b', '--job-id', 'solve', '--', 'true')
      .catch(() => {})
    expect(lab.mesh.pools.size).toBe(0)
    lab.mesh.machines = lab.mesh.machines.map((machine) => ({ ...machine, labels: { a: 'b' } }))
    await lab.run('mpi', 'run', '-n', '4', '--nodes', '2', '--memory', '1GiB', '--label', 'a=b', '--job-id', 'solve', '--', 'true')
    expect(lab.mesh.pools.get('solve')).toMatchObject({
      vmSize: 'cores=2,memory=1024MiB',
      targetDedicatedNodes: 2,
      targetLowPriorityNodes: 0,
      enableInterNodeCommunication: true,
      taskSlotsPerNode: 1,
      poolLifetimeOption: 'job',
      mpi: { flavor: 'openmpi', version: '4.1.4' },
      labels: { a: 'b' },
    })
    expect(job().spec).toMatchObject({ id: 'solve', poolId: 'solve' })
    expect(job().state).toBe('completed')
    const order = lab.mesh.asked.filter((name) => /^(add|updateJob)/.test(name))
    expect(order).toEqual(['addJob', 'addPool', 'addTasks', 'updateJob'])
  })

  it('words behind the program are the program’s, also without --', async () => {
    const ran = await lab.run(
      'mpi',
      'run',
      '-np',
      '2',
      '--mca',
      'btl',
      'tcp,self',
      '--with',
      'a.out',
      './a.out',
      '--mca',
      '-o',
      'json',
      '-q',
    )
    expect(ran.code).toBe(0)
    expect(spec().commandLine).toBe('mpirun -n 2 --tag-output --mca btl tcp,self ./a.out --mca -o json -q')
    expect(ran.stdout).toContain('[1] rank 1 of : --mca -o json -q\n')
  })

  it('exits with the exit code of the program', async () => {
    const ran = await lab.run('mpi', 'run', '-n', '1', '--with', 'a.out', '-e', 'CODE=7', '--', './a.out')
    expect(ran.code).toBe(7)
    expect(ran.stderr).toMatch(/exit code 7 after/)
  })

  it('with --no-tag-output lines come as they are', async () => {
    const ran = await lab.run('mpi', 'run', '-n', '2', '--no-tag-output', '-q', '--', 'echo', 'x')
    expect(ran).toMatchObject({ code: 0, stdout: 'x\nx\n', stderr: '' })
    expect(spec().commandLine).toBe('mpirun -n 2 echo x')
  })

  it('--try starts another program in the place of the real one', async () => {
    const ran = await lab.run('mpi', 'run', '-n', '2', '--try', '--', './a.out')
    expect(ran.code).toBe(0)
    expect(spec().commandLine).toBe('mpirun -n 2 --tag-output uname -n')
    expect(ran.stderr).toContain('All 2 ranks started.')
  })

  it('with --mpi mpich it is MPICH’s own options', async () => {
    lab.mesh.machines = [machineView('n1', { mpi: [{ flavor: 'mpich', version: '4.0.2' }] })]
    const refused = await lab.run('mpi', 'run', '-n', '1', '--mca', 'a', 'b', '--', 'true')
    expect(refused).toMatchObject({ code: 2, stderr: expect.stringContaining('--mca is Open MPI’s') })
    await lab.run('mpi', 'run', '-n', '1', '--', 'true')
    expect(spec().commandLine).toMatch(/^mpiexec\.hydra -wdir \/ -genvlist UCX_TLS -n 1 -prepend-rank sh -c '.*' sh true$/)
    expect(spec().multiInstanceSettings!.mpi).toBe('mpich')
  })

  it('JSON is one object, and what the program prints is not mixed into it', async () => {
    const ran = await lab.run('mpi', 'run', '-n', '1', '--with', 'a.out', '-e', 'CODE=3', '-o', 'json', '--', './a.out')
    expect(ran.code).toBe(3)
    expect(JSON.parse(ran.stdout)).toMatchObject({
      taskId: 'mpi',
      ranks: 1,
      nodes: 1,
      mpi: { flavor: 'openmpi', version: '4.1.4' },
      result: 'failure',
      exitCode: 3,
      outputs: [],
      problems: [],
    })
  })

  it('writes outputs to --to', async () => {
    const ran = await lab.run('mpi', 'run', '-n', '1', '--outputs', '*.dat', '--to', 'out', '--', 'sh', '-c', 'echo 1 > one.dat')
    expect(ran.code).toBe(0)
    expect(ran.stderr).toContain(', 1 file written')
    expect(lab.read('out/one.dat')).toBe('1\n')
  })

  it('says in words what the mesh lacks, and adds nothing', async () => {
    const ran = await lab.run('mpi', 'run', '-n', '12', '--nodes', '3', '--with', './a.out', '--', './a.out')
    expect(ran).toMatchObject({ code: 2, stdout: '' })
    expect(ran.stderr).toMatch(/^batchmesh: 2 machines have Open MPI 4\.1\.4 .*with room for 2 nodes of 4 cores; 3 nodes are needed/)
    expect(lab.mesh.jobs.size).toBe(0)
  })

  it('runs in a pool that is there, and leaves it there', async () => {
    await lab.run(
      'pool',
      'create',
      'p',
      '--vm-size',
      'cores=2',
      '--target-dedicated-nodes',
      '2',
      '--enable-inter-node-communication',
      '--mpi',
      'openmpi',
    )
    lab.mesh.extra.listNodes = () => ({ items: lab.mesh.machines.map(({ peer }) => nodeView('p', peer)) })
    const ran = await lab.run('mpi', 'run', '--pool', 'p', '--', 'true')
    expect(ran).toMatchObject({ code: 0, stderr: expect.stringContaining('4 ranks on 2 nodes of 2 cores') })
    expect([...lab.mesh.pools.keys()]).toEqual(['p'])
    expect(job().spec.poolId).toBe('p')
  })

  it('Ctrl-C ends the job', async () => {
    let open = () => {}
    lab.mesh.gate = new Promise((resolve) => (open = resolve))
    lab.mesh.onCall = (name) => {
      if (name === 'watch') setImmediate(() => lab.interrupt())
    }
    const ran = await lab.run('mpi', 'run', '-n', '1', '--', 'true')
    open()
    expect(ran.code).toBe(130)
    expect(ran.stderr).toMatch(/interrupted; job mpi-\S+ is being stopped/)
    expect(job()).toMatchObject({ state: 'completed', reason: 'UserTerminate' })
  })

  it('--detach returns at once; the nodes go with the job', async () => {
    const ran = await lab.run('mpi', 'run', '-n', '1', '--detach', '--', 'true')
    expect(ran).toMatchObject({ code: 0, stdout: expect.stringMatching(/^mpi-[\w-]+\n$/) })
    expect(ran.stderr).toContain('batchmesh task logs')
    expect(job().spec.onAllTasksComplete).toBe('terminatejob')
  })

  it('a program that starts again is said, and its output is printed from its new beginning', async () => {
    let reads = 0
    lab.mesh.extra.readTaskFile = ({ name }) => {
      if (name !== 'stdout.txt') return { data: new Uint8Array(), size: 0, final: true }
      reads += 1
      const data = Buffer.from(`[1,0]<stdout>:attempt ${reads}\n`)
      return { data: new Uint8Array(data), size: data.length, final: true }
    }
    let watched = () => {}
    lab.mesh.gate = new Promise((resolve) => (watched = resolve))
    lab.mesh.onCall = (name) => {
      if (name === 'watch') setImmediate(watched)
    }
    lab.mesh.eventsOf = () => [
      { state: 'running', epoch: 1 },
      { state: 'active', epoch: 1, attemptEnd: 'lost', machineName: 'n2' },
      { state: 'running', epoch: 2 },
    ]
    const ran = await lab.run('mpi', 'run', '-n', '1', '--', 'true')
    expect(ran.code).toBe(0)
    expect(ran.stderr).toMatch(/a machine of the gang was lost \(rank 0 ran on n2\); the program starts again/)
    expect(ran.stdout).toMatch(/\[0\] attempt \d\n$/)
  })

  it.each([
    [['--', './a.out'], /Say how many/],
    [['-n', '2'], /Name the program/],
    [['-n', '0', '--', 'x'], /-n 0: it is a whole number/],
    [['-n', '2', '--nodes', '3', '--', 'x'], /more than the 2 ranks/],
    [['-n', '2', '--to', 'o', '--', 'x'], /--to needs --outputs/],
    [['-n', '2', '--try', '--detach', '--', 'x'], /cannot be detached/],
    [['-n', '2', '--pool', 'p', '--label', 'a=b', '--', 'x'], /temporary pool/],
    [['-n', '2', '--mpi', 'lam', '--', 'x'], /--mpi <flavor>' argument 'lam' is invalid\. Allowed choices are openmpi, mpich/],
    [['-n', '2', '--with', 'nowhere', '--', 'x'], /There is no file/],
    [['-n', '2', '--job-id', 'a/b', '--', 'x'], /--job-id a\/b/],
    [['-n', '2', '--cpus', '0', '--', 'x'], /--cpus 0/],
  ])('%j is refused', async (words, message) => {
    const ran = await lab.run('mpi', 'run', ...words)
    expect(ran.code).toBe(2)
    expect(ran.stderr).toMatch(message)
    expect(lab.mesh.jobs.size).toBe(0)
  })
})

describe('task logs of an MPI program', () => {
  beforeEach(async () => {
    await lab.run('mpi', 'run', '-n', '2', '--job-id', 'j', '-q', '--', 'sh', '-c', 'printf "a\\nb \\377\\n"; echo oops >&2')
  })

  it('shows the ranks before the lines, byte for byte', async () => {
    expect((await lab.run('task', 'logs', 'j/mpi')).stdout).toMatch(/^\[0\] a\n\[0\] b .\n\[1\] a\n\[1\] b .\n$/)
    expect((await lab.run('task', 'logs', 'j/mpi', '--stderr')).stdout).toBe('[0] oops\n[1] oops\n')
  })

  it('with --rank shows one', async () => {
    expect((await lab.run('task', 'logs', 'j/mpi', '--rank', '1')).stdout).toMatch(/^\[1\] a\n\[1\] b .\n$/)
  })

  it('says so where the rank has written nothing', async () => {
    const ran = await lab.run('task', 'logs', 'j/mpi', '--rank', '30')
    expect(ran).toMatchObject({
      code: 0,
      stdout: '',
      stderr: 'batchmesh: rank 30 has written no line to stdout.txt; the highest that has is 1\n',
    })
  })

  it('says so where no line has a rank', async () => {
    await lab.run('run', '--job-id', 'plain', '-q', 'echo x')
    const ran = await lab.run('task', 'logs', 'plain/0000', '--rank', '0')
    expect(ran).toMatchObject({ code: 0, stdout: '', stderr: expect.stringContaining('no line of stdout.txt names its rank') })
  })
})
