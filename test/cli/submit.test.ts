import { chmodSync } from 'node:fs'
import { delimiter, join } from 'node:path'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import type { JobSpec } from '../../protocols/model/job.ts'
import { machineView } from './fake-status.ts'
import { Lab } from './lab.ts'

let lab: Lab
beforeEach(() => {
  lab = new Lab()
  lab.mesh.machines = [machineView('n1'), machineView('n2')]
  // As mpirun does it, on one machine.
  lab.files({
    'bin/mpirun': `#!/bin/sh
if [ "$1" = --version ]; then echo 'mpirun (Open MPI) 4.1.4'; exit; fi
[ "$1" = -n ] || exit 9
ranks=$2; shift 2
while :; do case $1 in --tag-output) tag=1 ;; --npernode) echo "per node $2"; shift ;; *) break ;; esac; shift; done
for rank in $(seq 0 $((ranks - 1))); do OMPI_COMM_WORLD_RANK=$rank "$@" | sed "\${tag:+s/^/[1,$rank]<stdout>:/}"; done
`,
  })
  chmodSync(join(lab.cwd, 'bin/mpirun'), 0o755)
  lab.mesh.path = `${join(lab.cwd, 'bin')}${delimiter}${process.env.PATH}`
})
afterEach(() => lab.close())

const job = () => [...lab.mesh.jobs.values()].at(-1)!
const spec = (id = 'batch') => job().tasks.get(id)!.spec
const script = (...lines: string[]) => lab.files({ 'job.sh': `${['#!/bin/sh', ...lines].join('\n')}\n` })
const variables = () => Object.fromEntries(spec().environmentSettings!.map(({ name, value }) => [name, value]))

describe('submit', () => {
  it('prints what sbatch prints, and numbers rise', async () => {
    script('echo hello')
    const first = await lab.run('submit', 'job.sh')
    expect(first).toMatchObject({ code: 0, stdout: expect.stringMatching(/^Submitted batch job \d{8,10}\n$/) })
    const second = await lab.run('submit', '--parsable', 'job.sh')
    expect(second.stderr).toBe('')
    expect(Number(second.stdout)).toBeGreaterThan(Number(first.stdout.split(' ').at(-1)))
    expect(job().spec).toMatchObject({
      id: second.stdout.trim(),
      displayName: 'job.sh',
      poolId: 'default',
      onAllTasksComplete: 'terminatejob',
    })
  })

  it('runs the script by its interpreter, with its arguments and what Slurm sets', async () => {
    script(
      '#SBATCH --job-name=sweep -t 10',
      'echo "$SLURM_JOB_ID $SLURM_JOB_NAME $SLURM_NTASKS $SLURM_NNODES $SLURM_PROCID: $*"',
      'cd "$SLURM_SUBMIT_DIR" && cat data.txt; echo "on $SLURM_JOB_NODELIST" >/dev/null; echo bad >&2; exit 3',
    )
    lab.files({ 'data.txt': 'D\n' })
    const ran = await lab.run('submit', '--wait', '--with', 'data.txt', 'job.sh', 'a b', '--nodes', '9')
    expect(ran.code).toBe(3)
    const { id } = job().spec
    expect(lab.read(`slurm-${id}.out`)).toBe(`${id} sweep 1 1 0: a b --nodes 9\nD\nbad\n`)
    expect(spec()).toMatchObject({ constraints: { maxTaskRetryCount: 0, maxWallClockTimeMs: 600_000 } })
    expect(spec().multiInstanceSettings).toBeUndefined()
  })

  it('what the command line says goes before what the script says', async () => {
    script('#SBATCH --mem-per-cpu=1G --cpus-per-task=2', '#SBATCH --job-name one --no-requeue', 'true')
    await lab.run('submit', '--mem', '3G', '-J', 'two', '--requeue', 'job.sh')
    expect(job().spec).toMatchObject({ displayName: 'two', disconnect: { replace: true } })
    expect(spec().resources).toEqual({ cores: 2, memoryMiB: 3072 })
    await lab.run('submit', 'job.sh')
    expect(job().spec).toMatchObject({ displayName: 'one', disconnect: { replace: false } })
    expect(spec().resources).toEqual({ cores: 2, memoryMiB: 2048 })
  })

  it('an array is one request, its index in the environment, and as many at once as it says', async () => {
    script('#SBATCH --array=0-6:2%2', 'echo "$SLURM_ARRAY_TASK_ID of $SLURM_ARRAY_TASK_COUNT, {braces} $1"')
    const ran = await lab.run('submit', '--wait', 'job.sh', '{index}')
    expect(ran.code).toBe(0)
    const { id, maxParallelTasks } = job().spec
    expect(maxParallelTasks).toBe(2)
    expect([0, 2, 4, 6].map((index) => lab.read(`slurm-${id}_${index}.out`))).toEqual(
      [0, 2, 4, 6].map((at) => `${at} of 4, {braces} {index}\n`),
    )
    expect(lab.mesh.asked.filter((name) => name === 'addTaskArray').length).toBe(1)
  })

  it('files that it writes are kept, and come with --to; what it was given does not', async () => {
    script('#SBATCH --error=%x.err -o %x.out', 'mkdir out; echo r > out/r.txt; echo e >&2; echo o; exit 1')
    lab.files({ 'in.txt': 'i' })
    const ran = await lab.run('submit', '--wait', '--to', 'got', '--with', 'in.txt', 'job.sh')
    expect(ran.code).toBe(1)
    expect(lab.list('got').filter((path) => path !== 'out')).toEqual(['job.sh.err', 'job.sh.out', 'out/r.txt'])
    expect(lab.read('got/job.sh.err')).toBe('e\n')
    expect(lab.read('got/job.sh.out')).toBe('o\n')
  })

  it('job wait --to brings the same later', async () => {
    script('echo r > r.txt; echo o')
    const { stdout } = await lab.run('submit', '--parsable', 'job.sh')
    expect(lab.list('.').filter((path) => path.startsWith('slurm'))).toEqual([])
    expect((await lab.run('job', 'wait', stdout.trim(), '--to', 'later', '-q')).code).toBe(0)
    expect(lab.list('later')).toEqual(['r.txt', `slurm-${stdout.trim()}.out`])
  })

  it('several nodes are a gang on nodes of its own, whose ranks mpirun and srun start', async () => {
    script(
      '#SBATCH -N 2 --ntasks-per-node=2',
      'mpirun -n $SLURM_NTASKS ./a.out; srun ./a.out; srun -n 1 ./a.out; srun -l -n 2 ./a.out; srun --ntasks-per-node=1 -N 2 echo x',
      'echo "$SLURM_JOB_NODELIST $SLURM_TASKS_PER_NODE"',
    )
    lab.files({ 'a.out': '#!/bin/sh\nprintf "%s " "$SLURM_PROCID"\n' })
    chmodSync(join(lab.cwd, 'a.out'), 0o755)
    const ran = await lab.run('submit', '--wait', '--with', 'a.out', 'job.sh')
    expect(ran.code).toBe(0)
    const { id } = job().spec
    expect(lab.read(`slurm-${id}.out`).replaceAll('\n', '')).toBe(
      '0 0 0 0 0 1 2 3 0 [1,0]<stdout>:0 [1,1]<stdout>:1 per node 1xx10.0.0.1,10.0.0.2 2(x2)',
    )
    expect(spec().multiInstanceSettings).toMatchObject({
      numberOfInstances: 2,
      mpi: 'openmpi',
      commonResourceFiles: [{ filePath: 'wd/a.out', shared: true }],
    })
    expect(variables()).toMatchObject({
      BATCHMESH_MPI_RANKS_PER_NODE: '2',
      SLURM_NNODES: '2',
      SLURM_NTASKS: '4',
      SLURM_NTASKS_PER_NODE: '2',
    })
    expect(lab.mesh.pools.get(id)).toMatchObject({
      vmSize: 'cores=2',
      targetDedicatedNodes: 2,
      poolLifetimeOption: 'job',
      mpi: { version: '4.1.4' },
    })
  })

  it('tasks that no machine has cores for are spread, those that one has are not', async () => {
    script('true')
    await lab.run('submit', '-n', '4', 'job.sh')
    expect(spec()).toMatchObject({ resources: { cores: 4 } })
    await lab.run('submit', '-n', '6', 'job.sh')
    expect(spec().multiInstanceSettings).toMatchObject({ numberOfInstances: 2 })
    const ran = await lab.run('submit', '-n', '9', 'job.sh')
    expect(ran).toMatchObject({
      code: 2,
      stderr: expect.stringMatching(/2 machines have Open MPI 4\.1\.4 .*9 cores are needed for 9 ranks/),
    })
  })

  it('a mesh without MPI takes scripts of several nodes too', async () => {
    lab.mesh.machines = lab.mesh.machines.map((machine) => ({ ...machine, mpi: undefined }))
    script('true')
    await lab.run('submit', '-N', '2', 'job.sh')
    expect(spec().multiInstanceSettings).toEqual({ numberOfInstances: 2 })
    const ran = await lab.run('submit', '-N', '9', '-c', '4', 'job.sh')
    expect(ran).toMatchObject({ code: 2, stderr: expect.stringContaining('no room for 9 nodes of 4 cores') })
  })

  it('a partition is a pool', async () => {
    script('#SBATCH -p long', 'true')
    expect(await lab.run('submit', 'job.sh')).toMatchObject({ code: 1, stderr: 'batchmesh: There is no pool long.\n' })
    expect(lab.mesh.jobs.size).toBe(0)
    await lab.run('pool', 'create', 'long', '--vm-size', 'cores=2', '--target-dedicated-nodes', '2')
    await lab.run('submit', 'job.sh')
    expect(job().spec.poolId).toBe('long')
    expect(await lab.run('submit', '-N', '2', 'job.sh')).toMatchObject({
      code: 1,
      stderr: expect.stringContaining('not for scripts of several nodes'),
    })
  })

  it('depends on jobs that are there', async () => {
    script('true')
    const { stdout } = await lab.run('submit', '--parsable', 'job.sh')
    await lab.run('submit', '-d', `afterok:${stdout.trim()}`, 'job.sh')
    expect(job().spec.dependsOnJobs).toEqual([{ jobId: stdout.trim(), condition: 'afterok' }])
    const lost = await lab.run('submit', '--dependency=afterany:77', 'job.sh')
    expect(lost).toMatchObject({ code: 1, stderr: 'batchmesh: There is no job 77.\n' })
  })

  it('knows its own job again when the answer to its addition was lost, and takes no other for it', async () => {
    script('true')
    const added: string[] = []
    lab.mesh.onCall = (name, request) => {
      if (name !== 'addJob') return
      const spec = request as JobSpec
      // The first number is another job's, the second was added by the request whose answer was lost.
      const metadata = added.length === 0 ? [] : spec.metadata
      lab.mesh.jobs.set(spec.id, { spec: { ...spec, metadata }, uid: 90 + added.push(spec.id), state: 'active', tasks: new Map() })
    }
    const ran = await lab.run('submit', '--parsable', 'job.sh')
    expect(added).toEqual([String(Number(ran.stdout) - 1), ran.stdout.trim()])
    expect(job().tasks.size).toBe(1)
  })

  it('--wrap is a command', async () => {
    const ran = await lab.run('submit', '--wait', '--wrap', 'echo $SLURM_JOB_NAME | tr a-z A-Z', '--output-file', 'o.txt')
    expect(ran.code).toBe(0)
    expect(lab.read('o.txt')).toBe('WRAP\n')
  })

  it('starts in the directory of --chdir', async () => {
    script('pwd; echo x > made.txt')
    await lab.run('submit', '--wait', '-D', 'deep/down', '--to', 'got', '--output-file', 'o.txt', 'job.sh')
    expect(lab.read('got/o.txt')).toMatch(/\/deep\/down\n$/)
    expect(lab.list('got')).toContain('deep/down/made.txt')
  })

  it('takes variables along by name', async () => {
    lab.env.SEED = '42'
    script('echo $SEED $N')
    const ran = await lab.run('submit', '--wait', '--export=ALL,SEED,N=7', '--output-file', 'o', 'job.sh')
    expect(lab.read('o')).toBe('42 7\n')
    expect(ran.stderr).toContain('note: --export=ALL: the environment of this shell is not taken along')
  })

  it('passes over what has no meaning here, and says so once', async () => {
    script('#SBATCH --mail-type=END --mail-user=a@b -A acct --exclusive', '#SBATCH --mail-type=FAIL', 'true')
    const ran = await lab.run('submit', '--qos', 'high', 'job.sh')
    expect(ran.code).toBe(0)
    expect(ran.stderr).toContain('note: --mail-type, --mail-user, --account, --exclusive, --qos means nothing here')
  })

  it.each([
    [['#SBATCH --nodelist=n1'], /^batchmesh: job\.sh, line 2: #SBATCH --nodelist is not known here\. Take it out/],
    [['# x', '#SBATCH --time=tomorrow'], /job\.sh, line 3: --time=tomorrow: write minutes/],
    [['#SBATCH --mem'], /line 2: --mem has no value/],
    [['#SBATCH --requeue=yes'], /--requeue takes no value/],
    [['#SBATCH -J "open'], /a quote " is open/],
    [['#SBATCH nodes=3'], /"nodes=3" is no option/],
    [['#SBATCH -n 2 -N 3'], /2 tasks \(--ntasks\) cannot be on 3 nodes/],
    [['#SBATCH -D ../up'], /may not lead out/],
    [['#SBATCH -d singleton'], /singleton is not known here; write afterok:JOB/],
    [['#SBATCH --array=5-1'], /the range "5-1" ends before it starts/],
    [['#SBATCH --gres=shard:1'], /write gpu:N/],
    [['#SBATCH -p a,b'], /name one pool/],
  ])('%j is refused with its line', async (lines, message) => {
    script(...lines, 'true')
    const ran = await lab.run('submit', 'job.sh')
    expect(ran.code).toBe(2)
    expect(ran.stderr).toMatch(message)
    expect(lab.mesh.asked).toEqual([])
  })

  it.each([
    [[], /Name the script/],
    [['nowhere.sh'], /There is no script .*nowhere\.sh/],
    [['bin'], /is a directory, no script/],
    [['plain.txt'], /its first line must name an interpreter/],
    [['dos.sh'], /its lines end as on Windows/],
    [['--to', 'x', 'job.sh'], /--to belongs to --wait/],
    [['--wrap', 'true', 'job.sh'], /either a script or --wrap/],
    [['--time', 'x', 'job.sh'], /^batchmesh: --time x: write minutes/],
  ])('%j is refused', async (words, message) => {
    script('true')
    lab.files({ 'plain.txt': 'echo', 'dos.sh': '#!/bin/sh\r\ntrue\r\n' })
    const ran = await lab.run('submit', ...words)
    expect(ran.code).toBe(2)
    expect(ran.stderr).toMatch(message)
  })

  it('lines behind the first command are the script’s own', async () => {
    script('true', '#SBATCH --nonsense')
    expect((await lab.run('submit', 'job.sh')).code).toBe(0)
  })
})
