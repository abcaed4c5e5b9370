import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { MeshError } from '../../protocols/errors.ts'
import { blobIdOf } from './fake-local.ts'
import { Lab } from './lab.ts'

let lab: Lab
beforeEach(() => {
  lab = new Lab()
})
afterEach(() => lab.close())

describe('errors and exit codes', () => {
  it('without a node it exits with 3 and says how to start one', async () => {
    lab.mesh.down = new MeshError('Unreachable')
    expect(await lab.run('job', 'list')).toEqual({
      code: 3,
      stdout: '',
      stderr: 'batchmesh: No Batchmesh node answers in /nowhere/data. Start one with "batchmesh up", or name another with --data.\n',
    })
  })

  it('without a coordinator it exits with 3', async () => {
    lab.mesh.onCall = (name) => {
      if (name === 'listJobs') throw new MeshError('NoCoordinator')
    }
    expect(await lab.run('job', 'list')).toMatchObject({ code: 3, stderr: 'batchmesh: The coordinator of the mesh cannot be reached.\n' })
  })

  it('a refusal of the mesh exits with 1 and is one line', async () => {
    expect(await lab.run('job', 'show', 'nope')).toEqual({ code: 1, stdout: '', stderr: 'batchmesh: There is no job nope.\n' })
  })

  it('--debug shows where an error comes from', async () => {
    expect((await lab.run('--debug', 'job', 'show', 'nope')).stderr).toMatch(/There is no job nope\.\n.*\n +at /)
  })

  it.each([
    [['jbo'], /unknown command 'jbo'\n\(Did you mean job\?\)/],
    [['job', 'shwo'], /unknown command 'shwo'/],
    [['job', 'list', '-o', 'xml'], /argument 'xml' is invalid/],
    [['job', 'show'], /Name the job\./],
    [['task', 'show', 'j'], /Name the task as JOB\/TASK/],
    [['task', 'show', 'j/t/x'], /is not a task/],
    [['pool', 'create', 'p', '--vm-size', 'cores=1', '--target-dedicated-nodes', '-1'], /--target-dedicated-nodes/],
    [['pool', 'resize', 'p'], /Name the target/],
    [['task', 'create', 'j/t', '--command-line', 'x', '--resource-files', 'a'], /--resource-files a: write it as name=value/],
    [['task', 'create', 'j', '--json-file', 'none.json'], /--json-file none\.json cannot be read/],
    [['invite', '--role', 'king'], /--role king: it is one of worker/],
    [['blob', 'put', 'none'], /There is no file .*none/],
    [['up', '--port', '70000'], /--port 70000/],
    [['up', '--join', './no-token'], /token file \.\/no-token cannot be read/],
    [['up', '--join', '-'], /--join holds no token/],
    [[], /Usage: batchmesh/],
  ])('%j is wrong usage', async (argv, message) => {
    const ran = await lab.run(...argv)
    expect(ran.stderr).toMatch(message)
    expect(ran).toMatchObject({ code: 2, stdout: '' })
  })

  it('help and version exit with 0', async () => {
    expect(await lab.run('--help')).toMatchObject({ code: 0, stderr: '', stdout: expect.stringMatching(/First steps/) })
    expect(await lab.run('--version')).toMatchObject({ code: 0, stdout: expect.stringMatching(/^\d+\.\d+\.\d+\n$/) })
  })

  it.each([
    'up',
    'down',
    'leave',
    'status',
    'invite',
    'revoke',
    'run',
    'explain',
    'job create',
    'task create',
    'task file download',
    'pool create',
    'node list',
    'machine list',
    'blob put',
  ])('the help of %s shows an example', async (command) => {
    const ran = await lab.run(...command.split(' '), '--help')
    expect(ran.code).toBe(0)
    expect(ran.stdout).toMatch(new RegExp(`Examples?:\n[^]* {2}batchmesh ${command}`))
  })
})

describe('commands', () => {
  it('a job and a task are created, run, shown and read', async () => {
    await lab.run('job', 'create', '--id', 'j', '--pool-id', 'default', '--job-max-task-retry-count', '2')
    expect(lab.mesh.jobs.get('j')!.spec).toMatchObject({ poolId: 'default', constraints: { maxTaskRetryCount: 2 } })
    lab.files({ 'local.txt': 'hello' })
    const ran = await lab.run(
      'task',
      'create',
      '--job-id',
      'j',
      '--task-id',
      't',
      '--command-line',
      'cat in.txt',
      '--resource-files',
      'in.txt=local.txt',
      '--environment-settings',
      'A=1',
      'B=x=y',
    )
    expect(ran).toMatchObject({ code: 0, stdout: 'ID\nj/t\n' })
    expect(lab.mesh.jobs.get('j')!.tasks.get('t')!.spec).toMatchObject({
      resourceFiles: [{ filePath: 'in.txt', blob: blobIdOf('hello') }],
      environmentSettings: [
        { name: 'A', value: '1' },
        { name: 'B', value: 'x=y' },
      ],
    })
    expect(await lab.run('job', 'wait', 'j')).toMatchObject({ code: 0 })
    expect(await lab.run('task', 'logs', 'j/t')).toMatchObject({ code: 0, stdout: 'hello' })
    expect(await lab.run('task', 'file', 'download', 'j/t', 'stdout.txt', '--destination', 'copy.txt')).toMatchObject({ code: 0 })
    expect(lab.read('copy.txt')).toBe('hello')
    const listed = await lab.run('task', 'list', 'j', '-o', 'json')
    expect(JSON.parse(listed.stdout)).toMatchObject([
      { id: 't', jobId: 'j', state: 'completed', executionInfo: { exitCode: 0, result: 'success' } },
    ])
  })

  it('task logs -f waits for a task that has not started', async () => {
    const gate = Promise.withResolvers<void>()
    lab.mesh.gate = gate.promise
    await lab.run('job', 'create', 'j')
    await lab.run('task', 'create', 'j/t', '--command-line', 'echo late')
    lab.mesh.onCall = (name) => void (name === 'getTask' && gate.resolve())
    expect(await lab.run('task', 'logs', 'j/t', '-f')).toMatchObject({ code: 0, stdout: 'late\n' })
  })

  it('asks ahead for the pieces of a large file, and prints them in order', async () => {
    await lab.run('run', 'true', '--job-id', 'large')
    const text = Array.from({ length: 400_000 }, (_, at) => `${at + 1}\n`).join('')
    lab.mesh.jobs.get('large')!.tasks.get('0000')!.stdout = Buffer.from(text)
    let open = 0
    let most = 0
    lab.mesh.onCall = async (name) => {
      if (name !== 'readTaskFile') return
      open += 1
      most = Math.max(most, open)
      for (let turn = 0; turn < 10; turn += 1) await new Promise(setImmediate)
      open -= 1
    }
    const { stdout } = await lab.run('task', 'logs', 'large/0000')
    expect(stdout === text).toBe(true)
    expect(most).toBe(8)
  })

  it('says what became of the others when a task of several is refused', async () => {
    await lab.run('job', 'create', '--id', 'j')
    await lab.run('task', 'create', 'j/b', '--command-line', 'true')
    lab.files({ 'tasks.json': JSON.stringify(['a', 'b', 'c', 'b'].map((id) => ({ id, commandLine: 'true' }))) })
    const ran = await lab.run('task', 'create', 'j', '--json-file', 'tasks.json')
    expect(ran).toMatchObject({ code: 1, stderr: 'batchmesh: Task b: it exists already (1 more refused, 2 others were added)\n' })
  })

  it('tasks come from a JSON file with local files and dependencies', async () => {
    await lab.run('job', 'create', 'j', '--uses-task-dependencies')
    lab.files({
      data: 'x',
      'tasks.json': JSON.stringify([
        { id: '1', commandLine: 'true', resourceFiles: [{ filePath: 'd', localFile: 'data' }] },
        { id: '2', commandLine: 'true' },
      ]),
    })
    expect(await lab.run('task', 'create', 'j', '--json-file', 'tasks.json')).toMatchObject({ code: 0, stdout: 'ID\nj/1\nj/2\n' })
    await lab.run('task', 'create', 'j/3', '--command-line', 'true', '--depends-on', '1-2,prep')
    expect(lab.mesh.jobs.get('j')!.tasks.get('3')!.spec.dependsOn).toEqual({ taskIds: ['prep'], taskIdRanges: [{ start: 1, end: 2 }] })
  })

  it('local files for all members of a multi-instance task are uploaded too', async () => {
    await lab.run('job', 'create', 'j')
    const commonResourceFiles = [{ filePath: 'd', localFile: 'data' }]
    const task = {
      id: '1',
      commandLine: 'true',
      multiInstanceSettings: { numberOfInstances: 2, coordinationCommandLine: 'true', commonResourceFiles },
    }
    lab.files({ data: 'x', 'tasks.json': JSON.stringify(task) })
    expect(await lab.run('task', 'create', 'j', '--json-file', 'tasks.json')).toMatchObject({ code: 0 })
    const { blob } = lab.mesh.jobs.get('j')!.tasks.get('1')!.spec.multiInstanceSettings!.commonResourceFiles![0]!
    lab.files({ same: 'x' })
    expect((await lab.run('blob', 'put', 'same')).stdout).toContain(blob)
  })

  it('a command line that looks like a shell’s gets a hint', async () => {
    await lab.run('job', 'create', 'j')
    const ran = await lab.run('task', 'create', 'j/t', '--command-line', 'echo $HOME | wc')
    expect(ran.stderr).toMatch(/^hint: the command line holds "\$HOME" .* sh -c/)
  })

  it('nothing is uploaded for tasks that are wrong', async () => {
    lab.files({
      data: 'x',
      'tasks.json': JSON.stringify([
        { id: 'ok', commandLine: 'true', resourceFiles: [{ filePath: 'd', localFile: 'data' }] },
        { id: 'b d', commandLine: 'true' },
      ]),
    })
    const ran = await lab.run('task', 'create', 'j', '--json-file', 'tasks.json')
    expect(ran).toMatchObject({ code: 2, stderr: expect.stringMatching(/task b d: id: the id "b d" must be/) })
    expect(lab.mesh.asked).toEqual([])
  })

  it('job wait that is interrupted says that the job goes on, and how to end it', async () => {
    await lab.run('job', 'create', 'j')
    let open = () => {}
    lab.mesh.gate = new Promise((resolve) => (open = resolve))
    await lab.run('task', 'create', 'j/t', '--command-line', 'true')
    lab.mesh.onCall = (name) => {
      if (name === 'watch') setImmediate(() => lab.interrupt())
    }
    const ran = await lab.run('job', 'wait', 'j')
    open()
    expect(ran).toMatchObject({
      code: 130,
      stderr: expect.stringContaining('Job j goes on. Wait again: batchmesh job wait j; end it: batchmesh job stop j'),
    })
  })

  it('job wait exits with 1 when a task failed', async () => {
    await lab.run('job', 'create', 'j')
    await lab.run('task', 'create', 'j/t', '--command-line', 'false')
    expect(await lab.run('job', 'wait', 'j')).toMatchObject({ code: 1, stderr: expect.stringMatching(/1 task failed: exit code 1 \(t\)/) })
  })

  it('a file goes into the mesh and comes back whole', async () => {
    const text = 'abc'.repeat(1_000_000)
    lab.files({ big: text })
    const put = await lab.run('blob', 'put', 'big', '-o', 'json')
    const [{ id, size }] = JSON.parse(put.stdout) as [{ id: string; size: number }]
    expect([id, size]).toEqual([blobIdOf(text), text.length])
    expect((await lab.run('blob', 'get', id, '--destination', 'sub/copy')).code).toBe(0)
    expect(lab.read('sub/copy')).toBe(text)
    expect((await lab.run('blob', 'get', id)).stdout).toBe(text)
  })

  it('blob put says the ids of what it has stored when a later one fails', async () => {
    lab.files({ a: 'A' })
    const ran = await lab.run('blob', 'put', 'a', 'none', '-o', 'tsv')
    expect(ran).toMatchObject({ code: 2, stdout: `id\tsize\tpath\n${blobIdOf('A')}\t1 B\ta\n` })
    expect(ran.stderr).toMatch(/There is no file .*none/)
  })

  it('a directory goes into the mesh and comes back', async () => {
    lab.files({ 'dir/a': 'A', 'dir/sub/b': 'B' })
    const { stdout } = await lab.run('blob', 'put', 'dir', '-o', 'tsv')
    const id = stdout.split('\n')[1]!.split('\t')[0]!
    expect((await lab.run('blob', 'get', id, '--destination', 'back')).code).toBe(0)
    expect(lab.list('back')).toEqual(['a', 'sub', 'sub/b'])
  })

  it('a directory whose paths lead out of it is refused', async () => {
    const id = lab.mesh.addBlob(Buffer.from('x'))
    lab.mesh.trees.set(blobIdOf('tree'), [{ path: '../evil', id, size: 1 }])
    expect(await lab.run('blob', 'get', blobIdOf('tree'), '--destination', 'out')).toMatchObject({
      code: 1,
      stderr: expect.stringMatching(/leads out of it/),
    })
    expect(lab.list('.')).toEqual([])
  })

  it('a download that breaks leaves no file', async () => {
    const id = lab.mesh.addBlob(Buffer.alloc(3 << 20))
    lab.mesh.onCall = (name, request) => {
      if (name === 'read' && (request as { offset: number }).offset > 0) throw new MeshError('BlobCorrupt')
    }
    expect((await lab.run('blob', 'get', id, '--destination', 'x')).code).toBe(1)
    expect(lab.list('.')).toEqual([])
  })

  it('status shows the node alone while the coordinator is away, and exits with 3', async () => {
    expect((await lab.run('status')).stdout).toMatch(/^coordinator: +tower/m)
    lab.mesh.onCall = (name) => {
      if (name === 'meshStatus') throw new MeshError('NoCoordinator')
    }
    const ran = await lab.run('status')
    expect(ran.code).toBe(3)
    expect(ran.stdout).toMatch(/^node: +laptop/m)
    expect(ran.stdout).toMatch(/^coordinator: +out of reach/m)
  })

  it('invite prints the token alone on stdout', async () => {
    const ran = await lab.run('invite', '--role', 'worker', '--uses', '3', '--expires', '2h')
    expect(ran).toMatchObject({ code: 0, stdout: 'token-worker-3\n' })
    expect(ran.stderr).toMatch(/for 3 machines/)
  })

  it('explain says why and the details', async () => {
    expect((await lab.run('explain', 'j/t')).stdout).toBe('It waits for a machine with 64 cores.\n  laptop: 4 cores\n')
  })

  it('down ends well although the node closes the connection', async () => {
    lab.mesh.onCall = (name) => void (name === 'down' && lab.mesh.crash())
    expect(await lab.run('down')).toMatchObject({ code: 0, stdout: 'The node has stopped.\n' })
  })
})
