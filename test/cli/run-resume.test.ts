import { rmSync, statSync, utimesSync } from 'node:fs'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { MeshError } from '../../protocols/errors.ts'
import { Lab } from './lab.ts'

let lab: Lab
beforeEach(() => {
  lab = new Lab()
})
afterEach(() => lab.close())

const jobs = () => [...lab.mesh.jobs.values()]
const ran = (nth: number) => [...jobs()[nth]!.tasks.keys()]

describe('--try', () => {
  const words = ['run', 'echo {index} > {index}.out; echo text', '--array', '4-99', '--outputs', '*.out', '--to', 'out']

  it('runs the first task, shows how it went, and --resume runs the rest', async () => {
    const tried = await lab.run(...words, '--try')
    expect(tried).toMatchObject({ code: 0, stdout: 'text\n' })
    expect(tried.stderr).toMatch(/Task 0004 succeeded on laptop in 1\.2s\. Its standard output: batchmesh task logs run-\S+\/0004$/m)
    expect(tried.stderr).toMatch(/To run the rest \(95 tasks\), give the same command with --resume instead of --try\./)
    expect(lab.list('out')).toEqual(['4.out'])
    const rest = await lab.run(...words, '--resume')
    expect(rest).toMatchObject({ code: 0, stdout: '' })
    expect(rest.stderr).toMatch(/1 task had succeeded before; 95 tasks are run/)
    expect(ran(0)).toEqual(['0004'])
    expect(ran(1)).toHaveLength(95)
    expect(lab.list('out')).toHaveLength(96)
  })

  it('before the command leaves it the command, and runs the first task', async () => {
    for (const command of [['exit {index}'], ['--', 'sh', '-c', 'exit {index}', '--try']]) {
      const tried = await lab.run('run', '--array', '0-9', '--try', ...command)
      expect(tried).toMatchObject({ code: 0, stderr: expect.stringContaining('To run the rest (9 tasks)') })
    }
    expect(ran(0)).toEqual(['0000'])
    expect(ran(1)).toEqual(['0000'])
    expect(jobs()[1]!.tasks.get('0000')!.spec.commandLine).toBe("sh -c 'exit 0' --try")
  })

  it('uploads only what it runs, and leaves the reduce step out', async () => {
    lab.files({ 'a.x': 'A', 'b.x': 'B', 'c.x': 'C' })
    const tried = await lab.run(
      'run',
      'cat {input} > {name}.y',
      '--inputs',
      '*.x',
      '--outputs',
      '*.y',
      '--reduce',
      'cat *.y',
      '--try',
      '2',
      '-o',
      'json',
    )
    expect(JSON.parse(tried.stdout)).toMatchObject({
      succeeded: 2,
      left: 1,
      tried: [{ taskId: '0000', result: 'success', exitCode: 0 }, {}],
    })
    expect(ran(0)).toEqual(['0000', '0001'])
    expect([...lab.mesh.blobs.values()].map(String)).not.toContain('C')
    expect(tried.stderr).toMatch(/To run the rest \(1 task and the reduce step\)/)
  })

  it('that fails says what to mend, and exits with 1', async () => {
    const tried = await lab.run('run', 'exit 3', '--array', '0-9', '--try')
    expect(tried.code).toBe(1)
    expect(tried.stderr).toMatch(
      /Task 0000 failed with exit code 3 on laptop in .*\. Its standard error: batchmesh task logs \S+ --stderr$/m,
    )
    expect(tried.stderr).toMatch(
      /When that is mended, the same command with --resume instead of --try runs the 10 tasks that have not succeeded/,
    )
  })
})

describe('--max-fails', () => {
  it('ends the job when so many tasks have failed, and --resume goes on', async () => {
    lab.files({ 'a.x': '0', 'b.x': '1', 'c.x': '1', 'd.x': '1' })
    lab.mesh.gateOf = (taskId) => (taskId === '0003' ? new Promise(() => {}) : undefined)
    const words = ['run', '[ -e ok ] || exit $(cat {input})', '--inputs', '*.x']
    const first = await lab.run(...words, '--max-fails', '2')
    lab.mesh.gateOf = () => undefined
    expect(first.code).toBe(1)
    expect(first.stderr).toMatch(
      /2 tasks failed \(--max-fails 2\), so the job was ended before 1 of its tasks ran\. To go on, give the same command with --resume\./,
    )
    expect(first.stderr).toMatch(/1 succeeded, 2 failed/)
    expect(jobs()[0]).toMatchObject({ state: 'completed', reason: 'MaxFails' })
    const second = await lab.run(...words, '--resume')
    expect(second.stderr).toMatch(/1 task had succeeded before; 3 tasks are run/)
    expect(ran(1)).toEqual(['0001', '0002', '0003'])
  })

  it('does nothing to a run with fewer failures', async () => {
    const one = await lab.run('run', 'exit {index}', '--array', '0-1', '--max-fails', '2')
    expect(one.code).toBe(1)
    expect(jobs()[0]).toMatchObject({ state: 'completed', reason: 'AllTasksComplete' })
  })
})

describe('--resume', () => {
  const words = ['run', 'cp {input} {name}.out', '--inputs', '*.x', '--outputs', '*.out', '--to', 'out']
  beforeEach(() => lab.files({ 'a.x': 'A', 'b.x': 'B' }))

  it('runs nothing when everything has succeeded, and says so', async () => {
    await lab.run(...words)
    const again = await lab.run(...words, '--resume')
    expect(again).toMatchObject({ code: 0, stdout: '', stderr: expect.stringMatching(/^All 2 tasks had succeeded before\.$/m) })
    expect(jobs()).toHaveLength(1)
  })

  it('runs a task again whose input has other content, and one that is new, whatever its number', async () => {
    await lab.run(...words)
    lab.files({ 'b.x': 'other', '_.x': 'new' })
    const again = await lab.run(...words, '--resume')
    expect(again.stderr).toMatch(/1 task had succeeded before; 2 tasks are run/)
    expect(ran(1)).toEqual(['0000', '0002'])
    expect(lab.read('out/b.out')).toBe('other')
    expect(lab.read('out/a.out')).toBe('A')
  })

  it.each([
    ['command', ['run', 'cp {input} {name}.out; true', ...words.slice(2)]],
    ['environment', [...words, '-e', 'X=1']],
    ['output patterns', [...words, '--outputs', '*.more']],
    ['shared files', [...words, '--with', 'kit']],
  ])('another %s runs everything again', async (_, other) => {
    lab.files({ 'kit/tool': 't' })
    await lab.run(...words)
    const again = await lab.run(...other, '--resume')
    expect(again.stderr).toMatch(/Nothing of it has succeeded before: 2 tasks are run/)
    expect(ran(1)).toHaveLength(2)
  })

  it('what a task asks of machines does not matter', async () => {
    await lab.run(...words)
    await lab.run(...words, '--resume', '--cpus', '2', '--retries', '3')
    expect(jobs()).toHaveLength(1)
  })

  it('brings outputs that are not here any more, or differ, and leaves the others alone', async () => {
    lab.files({ 'c.x': 'C' })
    await lab.run(...words)
    rmSync(`${lab.cwd}/out/a.out`)
    lab.files({ 'out/b.out': 'X' })
    utimesSync(`${lab.cwd}/out/c.out`, 1000, 1000)
    expect((await lab.run(...words, '--resume')).stderr).toMatch(/All 3 tasks had succeeded before, 2 files written\./)
    expect([lab.read('out/a.out'), lab.read('out/b.out')]).toEqual(['A', 'B'])
    expect(statSync(`${lab.cwd}/out/c.out`).mtimeMs).toBe(1_000_000)
  })

  it('runs a task again whose outputs are gone', async () => {
    await lab.run(...words)
    const { outputs } = jobs()[0]!.tasks.get('0001')!
    const gone = outputs[0]!.blob
    lab.mesh.onCall = (name, request) => {
      if (name === 'addJob') lab.mesh.onCall = () => {}
      else if (name === 'fetch' && (request as { id: string }).id === gone) throw new MeshError('BlobNotFound')
    }
    lab.files({ 'out/b.out': 'X' })
    const again = await lab.run(...words, '--resume')
    expect(again.code).toBe(0)
    expect(again.stderr).toMatch(/Outputs of 1 earlier task are not to be had any more; it is run again/)
    expect(ran(1)).toEqual(['0001'])
    expect(lab.read('out/b.out')).toBe('B')
  })

  it('does not run again what only cannot be written here', async () => {
    await lab.run(...words)
    rmSync(`${lab.cwd}/out`, { recursive: true })
    lab.files({ out: 'a file' })
    const again = await lab.run(...words, '--resume')
    expect(again).toMatchObject({ code: 1, stderr: expect.stringMatching(/a\.out of task 0000 .* could not be written/) })
    expect(jobs()).toHaveLength(1)
  })

  it('does not take the word of another submitter', async () => {
    await lab.run(...words)
    lab.mesh.submitter = 'somebody-else'
    await lab.run(...words, '--resume')
    expect(ran(1)).toHaveLength(2)
  })

  it('looks through all pages and all jobs', async () => {
    lab.mesh.pageSize = 1
    const array = ['run', 'exit $(( {index} % 3 ))', '--array', '0-8']
    await lab.run(...array)
    await lab.run(...array, '--resume')
    expect(ran(1)).toEqual(['0001', '0002', '0004', '0005', '0007', '0008'])
    await lab.run('run', 'exit $(( {index} % 3 ))', '--array', '0,3,6,7', '--resume')
    expect(ran(2)).toEqual(['0007'])
  })

  it('tasks of an array are told apart by their index alone', async () => {
    await lab.run('run', 'exit $BATCHMESH_ARRAY_INDEX', '--array', '0-2')
    const again = await lab.run('run', 'exit $BATCHMESH_ARRAY_INDEX', '--array', '1-2', '--resume')
    expect(again.stderr).toMatch(/Nothing of it has succeeded before: 2 tasks are run/)
  })

  it('one success does not stand for two equal rows', async () => {
    lab.files({ 't.csv': 'x\n1\n1\n' })
    await lab.run('run', 'echo {x}', '--table', 't.csv', '--try')
    await lab.run('run', 'echo {x}', '--table', 't.csv', '--resume')
    expect(ran(1)).toHaveLength(1)
  })

  it('prints with --stdout what the earlier tasks wrote, and says when it is gone', async () => {
    await lab.run('run', 'cat {input}', '--inputs', '*.x')
    expect((await lab.run('run', 'cat {input}', '--inputs', '*.x', '--stdout', '--resume')).stdout).toMatch(/^(AB|BA)$/)
    lab.mesh.textsAreGone = true
    const again = await lab.run('run', 'cat {input}', '--inputs', '*.x', '--stdout', '--resume')
    expect(again).toMatchObject({
      code: 0,
      stdout: '',
      stderr: expect.stringMatching(/standard output of 2 of the earlier tasks is not to be had any more/),
    })
  })

  it('of a run with a name of its own takes the next name, but not that of another job', async () => {
    await lab.run(...words, '--job-id', 'mine', '--try')
    const again = await lab.run(...words, '--job-id', 'mine', '--resume')
    expect(again.stderr).toMatch(/\(job mine-r2\)/)
    expect(ran(1)).toEqual(['0001'])
    await lab.run('job', 'create', 'other')
    expect((await lab.run(...words, '--job-id', 'other', '--resume')).stderr).toMatch(/There is a job other already/)
  })

  it('names a job of the same command that goes on still', async () => {
    lab.mesh.gate = new Promise(() => {})
    const { stdout } = await lab.run(...words, '--detach')
    lab.mesh.gate = Promise.resolve()
    const again = await lab.run(...words, '--resume')
    expect(again.stderr).toContain(`Job ${stdout.trim()} of the same command goes on still`)
    expect(again.code).toBe(0)
  })

  describe('with a reduce step', () => {
    const reduced = [...words, '--reduce', 'cat *.out > all', '--reduce-outputs', 'all']

    it('runs neither when both have succeeded', async () => {
      await lab.run(...reduced)
      const again = await lab.run(...reduced, '--resume')
      expect(again.code).toBe(0)
      expect(again.stderr).toMatch(/The reduce step had succeeded before, on the same files/)
      expect(jobs()).toHaveLength(1)
    })

    it('runs it again when one of its files has changed', async () => {
      await lab.run(...reduced)
      lab.files({ 'b.x': 'other' })
      await lab.run(...reduced, '--resume')
      expect(ran(1)).toEqual(['0001', 'reduce'])
      expect(lab.read('out/all')).toBe('Aother')
      expect(jobs()[1]!.tasks.get('reduce')!.spec.dependsOn).toEqual({ taskIdRanges: [{ start: 1, end: 1 }] })
    })

    it('runs it alone when it is another', async () => {
      await lab.run(...words)
      const again = await lab.run(...reduced, '--resume')
      expect(again.code).toBe(0)
      expect(ran(1)).toEqual(['reduce'])
      expect(jobs()[1]!.state).toBe('completed')
      expect(lab.read('out/all')).toBe('AB')
    })
  })
})

it.each([
  [['--try', '--resume'], /either --try or --resume/],
  [['--try', '--detach'], /cannot be detached/],
  [['--try=0'], /--try 0/],
  [['--try=x'], /--try x: it is a whole number/],
  [['--max-fails', '0'], /--max-fails 0/],
  [['--max-fails', '1', '--detach'], /cannot be detached/],
])('%j is wrong usage', async (more, message) => {
  expect(await lab.run('run', 'true', ...more)).toMatchObject({ code: 2, stderr: expect.stringMatching(message) })
  expect(lab.mesh.asked).toEqual([])
})
