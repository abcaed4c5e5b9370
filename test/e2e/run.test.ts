/** `batchmesh run`, with a founder and a worker that are processes of their own. */
import { existsSync } from 'node:fs'
import { chmod, mkdir, readdir, readFile, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, it, onTestFailed } from 'vitest'
import { batchmesh, MeshLab, type NodeProcess, type Ran } from './support/mesh-lab.ts'

let lab: MeshLab
let founder: NodeProcess
let worker: NodeProcess
let dirs = 0

beforeAll(async () => {
  lab = await MeshLab.create()
  founder = await lab.up('founder', { args: ['--lend-cpus', '2', '--label', 'where=founder'] })
  worker = await lab.up('worker', { join: founder, args: ['--lend-cpus', '1', '--label', 'where=worker'] })
})
afterAll(() => lab?.close())

function sayLogsOnFailure(): void {
  onTestFailed(() => console.error(lab.logs()))
}

/** A directory of its own for one test, which tasks may pass through. */
async function directory(files: Record<string, string> = {}): Promise<string> {
  sayLogsOnFailure()
  dirs += 1
  const path = join(lab.root, `dir-${dirs}`)
  await mkdir(path)
  await chmod(path, 0o755)
  for (const [name, text] of Object.entries(files)) {
    await mkdir(join(path, name, '..'), { recursive: true })
    await writeFile(join(path, name), text)
  }
  return path
}

function run(cwd: string, args: string[], options: { at?: NodeProcess; env?: Record<string, string> } = {}): Promise<Ran> {
  return lab.cli(options.at ?? founder, ['run', ...args], { cwd, ...(options.env === undefined ? {} : { env: options.env }) })
}

/** Shell text that waits until a test has opened the gate. */
const waitFor = (gate: string) => `until [ -e '${gate}' ]; do sleep 0.05; done`

async function jobIds(): Promise<string[]> {
  return ((await lab.json(founder, ['job', 'list'])) as { id: string }[]).map(({ id }) => id)
}

describe('the everyday command', () => {
  it('runs once an input, brings the outputs back and reduces them', async () => {
    const cwd = await directory({ 'frames/a.txt': 'one', 'frames/b.txt': 'two', 'frames/c.txt': 'three', 'frames/c.md': 'no' })
    const words = ['tr a-z A-Z < {input} > {name}.up', '--inputs', 'frames/*.txt', '--outputs', '*.up', '--to', 'out/']
    const ran = await run(cwd, [...words, '--reduce', 'cat *.up > all; echo joined', '--reduce-outputs', 'all'])
    expect(ran).toMatchObject({ code: 0, stdout: 'joined\n' })
    expect(ran.stderr).toMatch(/4 succeeded, 0 failed, 4 files written in .* \(job run-\S+\)/)
    expect((await readdir(join(cwd, 'out'))).toSorted()).toEqual(['a.up', 'all', 'b.up', 'c.up'])
    expect(await readFile(join(cwd, 'out/b.up'), 'utf8')).toBe('TWO')
    expect(await readFile(join(cwd, 'out/all'), 'utf8')).toBe('ONETWOTHREE')
  })

  it('takes numbers instead of files, and lists outputs with their blobs where no directory is given', async () => {
    const cwd = await directory()
    const ran = await run(cwd, ['echo {index:03} > {index}.txt', '--array', '1,5-9:2', '--outputs', '*.txt', '-o', 'json', '-q'])
    expect(ran).toMatchObject({ code: 0, stderr: '' })
    const { outputs, succeeded } = JSON.parse(ran.stdout)
    expect([succeeded, outputs.map((one: { path: string }) => one.path)]).toEqual([4, ['1.txt', '5.txt', '7.txt', '9.txt']])
    const got = await lab.cli(worker, ['blob', 'get', outputs[1].blob])
    expect(got).toMatchObject({ code: 0, stdout: '005\n' })
    expect(await readdir(cwd)).toEqual([])
  })

  it('gives words after -- to the program as they are, and strings to a shell', async () => {
    const cwd = await directory()
    expect(await run(cwd, ['-q', '--', 'printf', '%s|', 'a  b', '$HOME', '*'])).toMatchObject({ code: 0, stdout: 'a  b|$HOME|*|' })
    expect(await run(cwd, ['-q', 'echo $((6 * 7)) | tr 4 x; echo err >&2'])).toMatchObject({ code: 0, stdout: 'x2\n', stderr: 'err\n' })
  })

  it('passes environment, and runs a failed task again as often as it is told', async () => {
    const cwd = await directory()
    const gate = join(cwd, 'tried')
    await mkdir(gate)
    await chmod(gate, 0o777)
    const again = `n=$(ls '${gate}' | wc -l); touch "${gate}/$n"; [ $n -ge 2 ] && echo "$COLOUR after $n"`
    expect(await run(cwd, ['-q', again, '-e', 'COLOUR=deep blue', '--retries', '2'])).toMatchObject({
      code: 0,
      stdout: 'deep blue after 2\n',
    })
    expect(await readdir(gate)).toHaveLength(3)
  })

  it('prints tables for people, TSV and JSON for programs', async () => {
    const cwd = await directory()
    const words = ['-q', 'echo x > "a b.txt"', '--outputs', '*.txt']
    const id = /bafk\w+/
    expect((await run(cwd, words)).stdout).toMatch(new RegExp(`^TASK  PATH +SIZE  BLOB\n0000  a b\\.txt +2 B  ${id.source}\n$`))
    const tsv = (await run(cwd, [...words, '-o', 'tsv'])).stdout.split('\n').map((line) => line.split('\t'))
    expect(tsv).toEqual([['task', 'path', 'size', 'blob'], ['0000', 'a b.txt', '2 B', expect.stringMatching(id)], ['']])
    expect(JSON.parse((await run(cwd, [...words, '-o', 'json'])).stdout)).toMatchObject({
      succeeded: 1,
      failed: 0,
      notRun: 0,
      outputs: [{ taskId: '0000', path: 'a b.txt', size: 2 }],
      failures: [],
      problems: [],
    })
  })
})

describe('file names', () => {
  const odd = [
    'a b.txt',
    `it's "odd".txt`,
    'ünï 界 🎬.txt',
    '-rf.txt',
    '$(touch hacked).txt',
    '`touch hacked`.txt',
    'back\\slash.txt',
    'star*[x]?.txt',
    'semi; echo hacked.txt',
    'new\nline.txt',
    '~.txt',
    '{name}.txt',
  ]

  it('of every kind stay one word, inside quotes and outside', async () => {
    const cwd = await directory(Object.fromEntries(odd.map((name) => [name, name])))
    const words = [`cat < {input} > "{name}.out"; printf %s '{input}' >> {name}.out`, '--inputs', '*.txt', '--outputs', '{name}.out']
    const ran = await run(cwd, [...words, '--to', 'out'])
    expect(ran).toMatchObject({ code: 0 })
    const outs = odd.map((name) => name.replace(/\.txt$/, '.out'))
    expect((await readdir(join(cwd, 'out'))).toSorted()).toEqual(outs.toSorted())
    for (const name of odd) expect(await readFile(join(cwd, 'out', name.replace(/\.txt$/, '.out')), 'utf8')).toBe(name + name)
    expect((await readdir(cwd)).filter((name) => name.includes('hacked'))).toEqual(odd.filter((name) => name.includes('hacked')))
  })

  it('reach a program without a shell unchanged', async () => {
    const cwd = await directory(Object.fromEntries(odd.map((name) => [`in/${name}`, 'x'])))
    const ran = await run(cwd, ['-q', '--stdout', '--inputs', 'in/*', '--', 'printf', '%s\\0', '{base}'])
    expect(ran.code).toBe(0)
    expect(ran.stdout.split('\0').slice(0, -1).toSorted()).toEqual(odd.toSorted())
  })
})

describe('exit codes and failures', () => {
  it('1: failures that are alike are one group, with the end of their stderr', async () => {
    const cwd = await directory()
    const ran = await run(cwd, [
      '[ {index} = 3 ] && exit 0; echo "line one" >&2; echo "no such scene: {index}.pov" >&2; exit 4',
      '--array',
      '0-6',
    ])
    expect(ran).toMatchObject({ code: 1, stdout: '' })
    expect(ran.stderr).toContain('6 tasks failed: exit code 4 (0000, 0001, 0002, 0004, 0005, 0006)')
    expect(ran.stderr.match(/no such scene/g)).toHaveLength(1)
    expect(ran.stderr).toContain('1 succeeded, 6 failed')
  })

  it('1: a failed task leaves the reduce step out, and what succeeded is there', async () => {
    const cwd = await directory()
    const words = ['echo {index} > {index}.txt; [ {index} != 1 ]', '--array', '0-2', '--outputs', '*.txt', '--to', 'out']
    const ran = await run(cwd, [...words, '--reduce', 'cat *.txt > all'])
    expect(ran.code).toBe(1)
    expect(ran.stderr).toMatch(/The reduce step is not run: 1 of its tasks failed/)
    expect((await readdir(join(cwd, 'out'))).toSorted()).toEqual(['0.txt', '2.txt'])
  })

  it('1: a task over its time is ended and named so', async () => {
    const ran = await run(await directory(), ['sleep 600', '--timeout', '1s'])
    expect(ran.code).toBe(1)
    expect(ran.stderr).toContain('1 task failed: MaxWallClockTimeExpiry: The task was ended after 1 s')
  })

  it('1: a program that is nowhere is named', async () => {
    const ran = await run(await directory(), ['--', 'no-such-program', 'x'])
    expect(ran.code).toBe(1)
    expect(ran.stderr).toContain('no-such-program')
  })

  it('2: wrong usage is refused before anything is made', async () => {
    const cwd = await directory({ 'a.txt': 'a' })
    const before = await jobIds()
    const wrong = [
      ['echo {inptu}', '--inputs', '*.txt'],
      ['echo {input}'],
      ['echo', '--inputs', 'nothing-*.txt'],
      ['echo', '--array', '9-1'],
      ['echo', '--timeout', 'soon'],
      ['echo', '--job-id', 'no/slashes'],
      [],
    ]
    for (const words of wrong) expect([words, (await run(cwd, words)).code]).toEqual([words, 2])
    expect(await jobIds()).toEqual(before)
  })

  it('3: without a node, and it says how to get one', async () => {
    const ran = await lab.cli('nobody', ['run', 'true'])
    expect(ran.code).toBe(3)
    expect(ran.stderr).toMatch(/batchmesh up/)
  })
})

describe('output names that collide', () => {
  it('are refused before the start where they are known', async () => {
    const cwd = await directory({ 'x/a.txt': '1', 'y/a.txt': '2' })
    const before = await jobIds()
    const ran = await run(cwd, ['cp {input} {name}.out', '--inputs', '*/a.txt', '--outputs', '{name}.out', '--to', 'out'])
    expect(ran.code).toBe(2)
    expect(ran.stderr).toMatch(/0000 and 0001 would both write out\/a\.out\. .*--to/)
    expect([await jobIds(), existsSync(join(cwd, 'out'))]).toEqual([before, false])
    const apart = await run(cwd, ['cp {input} {name}.out', '--inputs', '*/a.txt', '--outputs', '{name}.out', '--to', 'out/{dir}'])
    expect(apart.code).toBe(0)
    expect([await readFile(join(cwd, 'out/x/a.out'), 'utf8'), await readFile(join(cwd, 'out/y/a.out'), 'utf8')]).toEqual(['1', '2'])
  })

  it('that only show at the end leave the first file alone and keep the second as a blob', async () => {
    const cwd = await directory()
    const ran = await run(cwd, ['echo {index} > same.txt', '--array', '0-1', '--outputs', '*.txt', '--to', 'out', '-o', 'json'])
    expect(ran.code).toBe(1)
    const { problems, outputs } = JSON.parse(ran.stdout)
    expect(problems).toEqual([expect.stringContaining('same.txt is there already from task')])
    const kept = outputs.find((one: { file?: string }) => one.file === undefined)
    const got = await lab.cli(founder, ['blob', 'get', kept.blob])
    expect(new Set([got.stdout, await readFile(join(cwd, 'out/same.txt'), 'utf8')])).toEqual(new Set(['0\n', '1\n']))
  })
})

describe('--dry-run', () => {
  it('says what would be run and runs nothing', async () => {
    const cwd = await directory({ 'a.txt': '12345', 'b.txt': '123', 'data/x': '12' })
    const before = await jobIds()
    const words = ['wc -c {input}', '--inputs', '*.txt', '--with', 'data', '--dry-run']
    expect(JSON.parse((await run(cwd, [...words, '-o', 'json'])).stdout)).toMatchObject({
      tasks: 2,
      commands: [expect.stringContaining('wc -c a.txt'), expect.stringContaining('wc -c b.txt')],
      uploadBytes: 10,
      uploadFiles: 3,
      machines: [
        { name: 'founder', slots: 2 },
        { name: 'worker', slots: 1 },
      ],
    })
    const named = await run(cwd, [...words, '--label', 'where=worker'])
    expect(named.stdout).toMatch(/machines: +worker \(1 slot\)\n/)
    expect(await jobIds()).toEqual(before)
  })
})

describe('--with', () => {
  it('is made once a machine, however many tasks share it, and no task can change it', async () => {
    const cwd = await directory({ 'data/model.bin': 'm'.repeat(100_000), 'data/sub/more.txt': 'more' })
    const task =
      'echo "$AZ_BATCH_NODE_ID $(stat -L -c %i data/model.bin) $(cat data/sub/more.txt)"; echo x 2>&- >> data/model.bin; sleep 0.2'
    const ran = await run(cwd, ['-q', '--stdout', task, '--array', '0-11', '--with', 'data'])
    expect(ran.code).toBe(0)
    const lines = ran.stdout.trim().split('\n')
    expect(lines).toHaveLength(12)
    expect(lines.every((line) => line.endsWith(' more'))).toBe(true)
    const nodes = new Set(lines.map((line) => line.split(' ')[0]))
    expect(nodes.size).toBe(2)
    expect(new Set(lines).size).toBe(nodes.size)
    for (const node of [founder, worker]) expect(await readdir(join(node.dataDir, 'shared'))).toHaveLength(1)
  })

  it('brings inputs along that lie in it', async () => {
    const cwd = await directory({ 'data/a.txt': 'one', 'data/b.txt': 'two', 'data/common': '+' })
    const ran = await run(cwd, ['-q', '--stdout', 'cat {input} data/common', '--inputs', 'data/*.txt', '--with', 'data'])
    expect(ran.code).toBe(0)
    expect(['one+two+', 'two+one+']).toContain(ran.stdout)
  })
})

describe('results', () => {
  it('come as tasks end, whole', async () => {
    const cwd = await directory()
    const gate = join(cwd, 'gate')
    const command = `[ {index} = 0 ] || { ${waitFor(gate)}; }; head -c 3000000 /dev/zero > {index}.bin`
    const running = lab.spawn([batchmesh, 'run', command, '--array', '0-1', '--outputs', '*.bin', '--to', 'out'], {
      cwd,
      env: { BATCHMESH_DATA: founder.dataDir },
    })
    await lab.until('the first result is there', () => existsSync(join(cwd, 'out/0.bin')))
    expect((await readFile(join(cwd, 'out/0.bin'))).length).toBe(3_000_000)
    expect(running.child.exitCode).toBe(null)
    await writeFile(gate, '')
    expect((await running.exited).code).toBe(0)
    expect((await readdir(join(cwd, 'out'))).toSorted()).toEqual(['0.bin', '1.bin'])
  })
})

describe('a worker that submits from its own machine', () => {
  it('has its inputs taken to the others and its outputs brought back', async () => {
    const cwd = await directory({ 'in/a.txt': 'from the worker', 'lib/tool.sh': 'tr a-z A-Z' })
    await chmod(join(cwd, 'lib/tool.sh'), 0o755)
    const words = ['sh lib/tool.sh < {input} > {name}.up; echo $AZ_BATCH_NODE_ID', '--inputs', 'in/*', '--with', 'lib', '--outputs', '*.up']
    const elsewhere = await run(cwd, ['-q', ...words, '--to', 'out', '--label', 'where=founder'], { at: worker })
    expect(elsewhere).toMatchObject({ code: 0, stderr: '' })
    expect(await readFile(join(cwd, 'out/a.up'), 'utf8')).toBe('FROM THE WORKER')
    const here = await run(cwd, ['-q', ...words, '--to', 'again', '--label', 'where=worker'], { at: worker })
    expect(here.code).toBe(0)
    expect(here.stdout).not.toBe(elsewhere.stdout)
    expect(await readFile(join(cwd, 'again/a.up'), 'utf8')).toBe('FROM THE WORKER')
  })
})

describe('a run that is taken up again', () => {
  it('after a try runs only the other rows, from this machine only, and reduces all of them', async () => {
    const files = { 'in/a.txt': 'A', 'in/b.txt': 'B', 'in/c.txt': 'C' }
    const cwd = await directory({ ...files, 't.csv': 'id,file\n1,in/a.txt\n2,in/b.txt\n3,in/c.txt\n' })
    const words = ['cat {file} > {id}.out; echo "ran {id}"', '--table', 't.csv', '--inputs', '{file}', '--outputs', '*.out']
    const all = [...words, '--stdout', '--to', 'out', '--reduce', 'cat *.out', '-o', 'table']
    const tried = await run(cwd, [...all, '--try'], { at: worker })
    expect(tried).toMatchObject({ code: 0, stdout: 'ran 1\n' })
    expect(tried.stderr).toMatch(/Task 0000 succeeded on \w+ in .*\. Its standard output: batchmesh task logs (run-\S+)\/0000\n/)
    expect(tried.stderr).toContain('To run the rest (2 tasks and the reduce step)')
    const rest = await run(cwd, [...all, '--resume'], { at: worker })
    expect(rest.stderr).toContain('1 task had succeeded before; 2 tasks are run')
    expect(rest.stdout).toMatch(/^(ran [123]\n){3}ABC$/)
    const done = await run(cwd, [...all, '--resume'], { at: worker })
    expect(done).toMatchObject({
      code: 0,
      stderr: expect.stringMatching(/The reduce step had succeeded before.*\nAll 3 tasks had succeeded before\.\n$/s),
    })
    // Another machine takes nobody's word for it.
    expect((await run(cwd, [...words, '--resume', '--to', 'there'])).stderr).toContain('Nothing of it has succeeded before')
  })

  it('after too many failures goes on in a job of its own, or by job rerun', async () => {
    const cwd = await directory()
    const ok = join(cwd, 'ok')
    // How many of the first two are done by then is a matter of luck; the last two wait.
    const command = `[ {index} -lt 2 ] || [ -e '${ok}' ] || { [ {index} -lt 4 ] && exit 7; sleep 600; }; echo {index} > {index}.out`
    const words = [command, '--array', '0-5', '--outputs', '*.out', '--to', 'out']
    const ended = await run(cwd, [...words, '--max-fails', '2', '--job-id', 'fails'])
    expect(ended.code).toBe(1)
    expect(ended.stderr).toMatch(
      /2 tasks failed: exit code 7 \(0002, 0003\)\n.*\(--max-fails 2\), so the job was ended before [2-4] of its tasks ran/s,
    )
    await lab.until('the job has ended', async () => {
      const { state, counts } = (await lab.json(founder, ['job', 'show', 'fails'])) as { state: string; counts: { running: number } }
      return state === 'completed' && counts.running === 0
    })
    await writeFile(ok, '')
    const again = await lab.cli(founder, ['job', 'rerun', 'fails', '--failed'], { cwd })
    expect(again).toMatchObject({
      code: 0,
      stderr: expect.stringMatching(/[4-6] tasks run again, as job fails-r2\..*[4-6] succeeded, 0 failed \(job fails-r2\)/s),
    })
    const resumed = await run(cwd, [...words, '--resume'])
    expect(resumed).toMatchObject({ code: 0, stderr: expect.stringMatching(/All 6 tasks had succeeded before, [4-6] files written\./) })
    expect((await readdir(join(cwd, 'out'))).toSorted()).toEqual(['0.out', '1.out', '2.out', '3.out', '4.out', '5.out'])
  })
})
