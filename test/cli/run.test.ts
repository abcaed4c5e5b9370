import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest'
import { MeshError } from '../../protocols/errors.ts'
import type { TaskArray } from '../../protocols/model/task-array.ts'
import { explainSilence } from '../../src/cli/run/silence.ts'
import type { Mesh } from '../../src/mesh/client.ts'
import { connect } from '../../src/mesh.ts'
import { Lab } from './lab.ts'

let lab: Lab
beforeEach(() => {
  lab = new Lab()
})
afterEach(() => lab.close())

describe('run', () => {
  it('brings the outputs of every input to --to and exits with 0', async () => {
    lab.files({ 'in/a.txt': 'one', "in/it's b.txt": 'two' })
    const ran = await lab.run('run', 'tr a-z A-Z < {input} > {name}.up', '--inputs', 'in/*.txt', '--outputs', '*.up', '--to', 'out')
    expect(ran).toMatchObject({ code: 0, stdout: '' })
    expect(ran.stderr).toMatch(/2 succeeded, 0 failed, 2 files written/)
    expect(lab.list('out')).toEqual(['a.up', "it's b.up"])
    expect(lab.read("out/it's b.up")).toBe('TWO')
    expect([...lab.mesh.jobs.values()].map(({ state }) => state)).toEqual(['completed'])
  })

  it('a command after -- runs without a shell', async () => {
    const ran = await lab.run('run', '--', 'printf', '%s', '$HOME {index}')
    expect(ran).toMatchObject({ code: 0, stdout: '$HOME 0' })
    expect([...lab.mesh.jobs.values()][0]!.tasks.get('0000')!.spec.commandLine).toBe("printf %s '$HOME 0'")
  })

  it('a single task’s standard output and error pass through', async () => {
    const ran = await lab.run('run', 'echo out; echo err >&2; exit 3')
    expect(ran.code).toBe(1)
    expect(ran.stdout).toBe('out\n')
    expect(ran.stderr).toMatch(/^err$/m)
    expect(ran.stderr).toMatch(/1 task failed: exit code 3 \(0000\)/)
  })

  it('with --stdout each task’s output is printed whole', async () => {
    const ran = await lab.run('run', 'echo {index}; echo {index}', '--array', '3,1,2', '--stdout')
    expect(ran.stdout.split('\n').sort().join()).toBe(',1,1,2,2,3,3')
    expect(ran.stdout).toMatch(/^(\d)\n\1\n(\d)\n\2\n(\d)\n\3\n$/)
  })

  it('task ids are padded, so that lists sort', async () => {
    await lab.run('run', 'true {index}', '--array', '5,10000')
    expect([...[...lab.mesh.jobs.values()][0]!.tasks.keys()]).toEqual(['00005', '10000'])
  })

  it('failures that are alike are said once, and it exits with 1', async () => {
    const ran = await lab.run('run', 'if [ {index} -gt 1 ]; then echo "frame {index} is bad" >&2; exit 4; fi', '--array', '0-4')
    expect(ran.code).toBe(1)
    expect(ran.stderr).toMatch(/3 tasks failed: exit code 4 \(0002, 0003, 0004\)\n {4}frame \d is bad\n2 succeeded, 3 failed/)
  })

  it('outputs of failed tasks are not results', async () => {
    const ran = await lab.run('run', 'touch a.out; exit 1', '--outputs', '*.out', '--to', '.')
    expect(ran.code).toBe(1)
    expect(lab.list('.')).toEqual([])
  })

  it('without --to the outputs are listed with their blobs', async () => {
    const ran = await lab.run('run', 'printf x > {index}.out', '--array', '0-1', '--outputs', '*.out', '-o', 'tsv')
    expect(ran.stdout.split('\n').slice(0, 3)).toEqual([
      'task\tpath\tsize\tblob',
      expect.stringMatching(/^0000\t0\.out\t1 B\tbafy/),
      expect.stringMatching(/^0001\t1\.out\t/),
    ])
  })

  it('JSON holds outcome, outputs and failures and nothing else is on stdout', async () => {
    const ran = await lab.run('run', 'echo noise; echo bad >&2; exit {index}', '--array', '0-1', '--stdout', '-o', 'json')
    expect(JSON.parse(ran.stdout)).toMatchObject({
      succeeded: 1,
      failed: 1,
      notRun: 0,
      failures: [{ what: 'exit code 1', taskIds: ['0001'], stderr: ['bad'] }],
    })
  })

  it('the reduce step gets all outputs, and what it makes is a result', async () => {
    const ran = await lab.run(
      'run',
      'echo {index} > {index:02}.part',
      '--array',
      '0-11',
      '--outputs',
      '*.part',
      '--reduce',
      'cat *.part > all.txt; wc -l < all.txt',
      '--to',
      'out',
    )
    expect(ran).toMatchObject({ code: 0, stdout: '12\n' })
    expect(lab.read('out/all.txt').split('\n').length).toBe(13)
    expect(lab.list('out').length).toBe(13)
    const reduce = [...lab.mesh.jobs.values()][0]!.tasks.get('reduce')!.spec
    expect(reduce.dependsOn).toEqual({ taskIdRanges: [{ start: 0, end: 11 }] })
  })

  it('the reduce step does not run when a task failed, and the job ends', async () => {
    const ran = await lab.run('run', 'exit {index}', '--array', '0-1', '--reduce', 'echo never')
    expect(ran).toMatchObject({ code: 1, stdout: '' })
    expect(ran.stderr).toMatch(/The reduce step is not run: 1 of its tasks failed/)
    expect([...lab.mesh.jobs.values()][0]!.state).toBe('completed')
  })

  it('--with brings a directory along, and inputs inside it are not sent twice', async () => {
    lab.files({ 'kit/tool.sh': 'cat kit/data.txt', 'kit/data.txt': 'D', 'kit/in.a': 'A' })
    const ran = await lab.run('run', 'sh kit/tool.sh; cat {input}', '--with', 'kit', '--inputs', 'kit/*.a')
    expect(ran).toMatchObject({ code: 0, stdout: 'DA' })
    const { resourceFiles } = [...lab.mesh.jobs.values()][0]!.tasks.get('0000')!.spec
    expect(resourceFiles).toEqual([{ filePath: 'kit', blob: expect.any(String), shared: true }])
  })

  it('the same content is uploaded once', async () => {
    const [same, other] = ['same'.repeat(10_000), 'else'.repeat(10_000)]
    lab.files({ 'a.x': same, 'b.x': same, 'c.x': other })
    // They need not run: that would take as many processes.
    lab.mesh.gate = new Promise(() => {})
    await lab.run('run', 'cat {input}', '--inputs', '*.x', '--detach')
    expect(lab.mesh.asked.filter((name) => name === 'putEnd').length).toBe(2)
  })

  it('small files are uploaded together', async () => {
    lab.files(Object.fromEntries(Array.from({ length: 700 }, (_, at) => [`${at}.x`, `${at}`])))
    // They need not run: that would take as many processes.
    lab.mesh.gate = new Promise(() => {})
    await lab.run('run', 'cat {input}', '--inputs', '*.x', '--detach')
    expect(lab.mesh.asked.filter((name) => name.startsWith('put'))).toEqual(['putSmall', 'putSmall'])
  })

  it('an input that a task leaves as it was is no result', async () => {
    lab.files({ 'a.txt': 'a' })
    await lab.run('run', 'cp {input} copy.txt', '--inputs', '*.txt', '--outputs', '*.txt', '--to', 'out')
    expect(lab.list('out')).toEqual(['copy.txt'])
  })

  it('two results of the same name: the second is kept as a blob and the run fails', async () => {
    const ran = await lab.run('run', 'echo {index} > same.txt', '--array', '0-1', '--outputs', '*.txt', '--to', 'out')
    expect(ran.code).toBe(1)
    expect(ran.stderr).toMatch(
      /same\.txt is there already from task 0000; that of task 0001 is kept as blob bafy\w+\. Give --to a placeholder/,
    )
    expect(lab.read('out/same.txt')).toBe('0\n')
  })

  it('goes on when the coordinator restarts in the middle', async () => {
    const gate = Promise.withResolvers<void>()
    lab.mesh.gate = gate.promise
    const { onCall } = lab.mesh
    lab.mesh.onCall = (name) => {
      if (name !== 'watch') return
      lab.mesh.onCall = onCall
      setImmediate(() => {
        lab.mesh.crash()
        gate.resolve()
        setTimeout(() => lab.mesh.revive(), 50)
      })
    }
    const ran = await lab.run('run', 'echo {index} > {index}.out', '--array', '0-4', '--outputs', '*.out', '--to', 'out')
    expect(ran.code).toBe(0)
    expect(lab.list('out').length).toBe(5)
    expect(ran.stderr).toMatch(/connection to the coordinator broke. Trying again …\nbatchmesh: connected again\n/)
  })

  it('an answer that was lost while submitting does no harm', async () => {
    let broken = 0
    lab.mesh.onCall = (name) => {
      if ((name !== 'addJob' && name !== 'addTaskArray') || broken >= 4) return
      broken += 1
      // The request is carried out, its answer is not sent.
      setImmediate(() => {
        lab.mesh.crash()
        lab.mesh.revive()
      })
    }
    const ran = await lab.run('run', 'echo {index} > {index}.out', '--array', '0-4', '--outputs', '*.out', '--to', 'out')
    expect(ran.code).toBe(0)
    expect(lab.list('out').length).toBe(5)
  })

  it('an array whose answer was lost is there once', async () => {
    let isBroken = false
    lab.mesh.onCall = (name, request) => {
      if (name !== 'addTaskArray' || isBroken) return
      isBroken = true
      const { jobId, array } = request as { jobId: string; array: TaskArray }
      lab.mesh.addArray(jobId, array)
      throw new MeshError('Unreachable')
    }
    const ran = await lab.run('run', 'echo {index}', '--array', '0-4', '--stdout')
    expect(ran.code).toBe(0)
    expect(ran.stdout.split('\n').sort().join('')).toBe('01234')
  })

  it('a job that somebody else ends is reported with what did not run', async () => {
    lab.mesh.gate = new Promise(() => {})
    lab.mesh.onCall = (name) => {
      if (name === 'watch') setImmediate(() => lab.mesh.end([...lab.mesh.jobs.keys()][0]!))
    }
    const ran = await lab.run('run', 'true', '--array', '0-2')
    expect(ran.code).toBe(1)
    expect(ran.stderr).toMatch(/the job was ended before 3 of its tasks ran/)
  })

  it('--detach prints the job’s id, and job wait brings its results', async () => {
    const ran = await lab.run('run', 'echo x > {index}.out', '--array', '0-1', '--outputs', '*.out', '--detach')
    expect(ran.code).toBe(0)
    expect(ran.stdout).toMatch(/^run-\d{8}-\d{6}-[0-9a-f]{8}\n$/)
    const waited = await lab.run('job', 'wait', ran.stdout.trim(), '--to', 'out')
    expect(waited).toMatchObject({ code: 0, stdout: '' })
    expect(lab.list('out')).toEqual(['0.out', '1.out'])
  })
})

it('without a coordinator a run exits with 3 and uploads nothing', async () => {
  lab.files({ 'a.x': '1' })
  lab.mesh.onCall = (name) => {
    if (name === 'meshStatus') throw new MeshError('NoCoordinator')
  }
  expect(await lab.run('run', 'cat {input}', '--inputs', '*.x')).toMatchObject({ code: 3, stdout: '' })
  expect(lab.mesh.asked).toEqual(['meshStatus'])
})

it('a job id that is taken is refused before the upload', async () => {
  lab.files({ 'a.x': '1' })
  await lab.run('job', 'create', 'mine')
  const ran = await lab.run('run', 'cat {input}', '--inputs', '*.x', '--job-id', 'mine')
  expect(ran).toMatchObject({ code: 1, stderr: expect.stringMatching(/There is a job mine already\. Choose another --job-id/) })
  expect(lab.mesh.blobs.size).toBe(0)
})

it('a pool that does not exist is refused before the upload', async () => {
  lab.mesh.onCall = (name) => {
    if (name === 'getPool') throw new MeshError('PoolNotFound', 'There is no pool p.')
  }
  expect(await lab.run('run', 'true', '--pool-id', 'p')).toMatchObject({ code: 1, stderr: 'batchmesh: There is no pool p.\n' })
  expect(lab.mesh.jobs.size).toBe(0)
})

describe('a run in which nothing starts', () => {
  const counts = { active: 1, running: 0, completed: 0, succeeded: 0, failed: 0 }
  it('says why', async () => {
    const mesh = await connect({ open: lab.mesh.open })
    const said = Promise.withResolvers<string>()
    explainSilence(mesh, { jobId: 'j', taskId: 't' }, said.resolve, 0).counts(counts)
    expect(await said.promise).toBe('Nothing runs yet. It waits for a machine with 64 cores.')
    await mesh.close()
  })

  it('says nothing once something runs', () => {
    vi.useFakeTimers()
    try {
      explainSilence({} as Mesh, { jobId: 'j', taskId: 't' }, () => expect.fail('nothing is to be said')).counts({ ...counts, running: 1 })
      expect(vi.getTimerCount()).toBe(0)
    } finally {
      vi.useRealTimers()
    }
  })
})

describe('dry run', () => {
  it('says count, commands, bytes and machines, and submits nothing', async () => {
    lab.files({ 'a.x': '123', 'b.x': '45', 'c.x': '6', 'd.x': '7' })
    const ran = await lab.run('run', 'cat {input}', '--inputs', '*.x', '--dry-run', '-o', 'json')
    expect(JSON.parse(ran.stdout)).toEqual({
      tasks: 4,
      commands: ["sh -c 'cat a.x'", "sh -c 'cat b.x'", "sh -c 'cat c.x'"],
      uploadBytes: 7,
      uploadFiles: 4,
      machines: [{ name: 'laptop', slots: 4 }],
      details: [],
    })
    expect(lab.mesh.asked).toEqual(['eligible'])
  })

  it('works without a node, but does not know the machines', async () => {
    lab.mesh.down = new MeshError('Unreachable')
    const ran = await lab.run('run', 'true', '--dry-run')
    expect(ran.code).toBe(0)
    expect(ran.stdout).toMatch(/machines: +not known/)
  })
})

describe('interruption', () => {
  const runs = (...more: string[]) => lab.run('run', 'true {index}', '--array', '0-1', ...more)
  const jobState = () => [...lab.mesh.jobs.values()][0]!.state

  it('without a terminal it detaches and says the job’s id', async () => {
    lab.mesh.gate = new Promise(() => {})
    lab.mesh.onCall = (name) => void (name === 'watch' && setImmediate(() => lab.interrupt()))
    const ran = await runs('--job-id', 'mine')
    expect(ran.code).toBe(130)
    expect(ran.stderr).toMatch(/detached; job mine goes on\. Wait for it: batchmesh job wait mine/)
    expect(jobState()).toBe('active')
  })

  it('says that a reduce step is lost by detaching', async () => {
    lab.mesh.gate = new Promise(() => {})
    lab.mesh.onCall = (name) => void (name === 'watch' && setImmediate(() => lab.interrupt()))
    const ran = await runs('--reduce', 'true')
    expect(ran.stderr).toMatch(/reduce step has not been submitted/)
  })

  it('on a terminal it asks, and stops the job', async () => {
    lab.interactive = true
    lab.answer = () => 's'
    lab.mesh.gate = new Promise(() => {})
    lab.mesh.onCall = (name) => void (name === 'watch' && setImmediate(() => lab.interrupt()))
    const ran = await runs()
    expect(ran.code).toBe(130)
    expect(lab.questions).toEqual([expect.stringMatching(/Stop the job, detach/)])
    expect(jobState()).toBe('completed')
  })

  it('on a terminal the answer "go on" goes on', async () => {
    lab.interactive = true
    const gate = Promise.withResolvers<void>()
    lab.mesh.gate = gate.promise
    lab.answer = () => {
      gate.resolve()
      return 'g'
    }
    lab.mesh.onCall = (name) => void (name === 'watch' && setImmediate(() => lab.interrupt()))
    expect((await runs()).code).toBe(0)
  })

  it('during the upload nothing half-written is left and nothing is submitted', async () => {
    lab.files({ 'big.x': 'x'.repeat(3 << 20), 'other.x': 'y' })
    lab.mesh.onCall = (name) => void (name === 'putPiece' && lab.interrupt())
    const ran = await lab.run('run', 'cat {input}', '--inputs', '*.x')
    expect(ran.code).toBe(130)
    expect(ran.stderr).toMatch(/interrupted; nothing was submitted/)
    expect(lab.mesh.openUploads.size).toBe(0)
    expect(lab.mesh.jobs.size).toBe(0)
  })

  it('while tasks are being added the job is stopped', async () => {
    lab.mesh.gate = new Promise(() => {})
    lab.mesh.onCall = (name) => void (name === 'addTaskArray' && lab.interrupt())
    const ran = await lab.run('run', 'true {index}', '--array', '0-2500')
    expect(ran.code).toBe(130)
    expect(jobState()).toBe('completed')
  })
})

describe('refused before anything is sent', () => {
  it.each([
    [['run', 'cat {inptu}', '--inputs', '*.x'], /\{inptu\} is not a placeholder/],
    [['run', 'cat {input}'], /\{input\} needs --inputs/],
    [['run', 'cat {input}', '--array', '0-2'], /\{input\} needs --inputs/],
    [['run', 'cat {input}', '--inputs', '*.nothing'], /--inputs \*\.nothing matches no file/],
    [['run', 'cat {input}', '--inputs', 'sub'], /is a directory/],
    [['run', 'true', '--inputs', '*.x', '--array', '1'], /either --inputs or --array/],
    [['run', 'true', '--array', '5-1'], /ends before it starts/],
    [['run', 'true', '--array', '1,1'], /names 1 twice/],
    [['run', 'true', '--array', 'a'], /not understood at "a"/],
    [['run'], /Give the command/],
    [['run', 'true', '--outputs', 'out.png', '--array', '0-1', '--to', 'out'], /Tasks 0000 and 0001 would both write out\/out\.png/],
    [['run', 'true', '--outputs', '{ext}.png', '--inputs', '*.x', '--to', 'out'], /would both write out\/x\.png/],
    [['run', 'true', '--outputs', 'o', '--array', '0-1', '--to', 'out/{index}', '--reduce', 'true'], /would both write o\./],
    [['run', 'true', '--outputs', '../x', '--to', 'out', '--retries', 'many'], /--retries many/],
    [['run', 'true', '--detach', '--reduce', 'true'], /--reduce cannot be detached/],
    [['run', 'true', '--reduce', 'cat {input}'], /--reduce takes no placeholders/],
    [['run', 'true', '--memory', '4 apples'], /amount of memory/],
    [['run', 'true', '--timeout', 'soon'], /--timeout soon is not a duration/],
    [['run', 'true', '--job-id', 'a/b'], /--job-id a\/b/],
    [['run', 'true', '--env', 'novalue'], /--env novalue: write it as name=value/],
    [['run', 'true', '--bogus'], /unknown option '--bogus'/],
  ])('%j', async (argv, message) => {
    lab.files({ 'a.x': '1', 'b.x': '2', 'sub/c': '3' })
    const ran = await lab.run(...argv)
    expect(ran.stderr).toMatch(message)
    expect(ran.stderr).toMatch(/^batchmesh: [^\n]*\n(\(Did you mean[^\n]*\n)?$/)
    expect(ran).toMatchObject({ code: 2, stdout: '' })
    expect(lab.mesh.asked).toEqual([])
  })

  it('a collision is none when --to tells the tasks apart', async () => {
    const ran = await lab.run('run', 'echo {index} > out.txt', '--outputs', 'out.txt', '--array', '0-1', '--to', 'out/{index}')
    expect(ran.code).toBe(0)
    expect(lab.list('out')).toEqual(['0', '0/out.txt', '1', '1/out.txt'])
  })
})
