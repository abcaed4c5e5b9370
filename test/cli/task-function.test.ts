/** `task create --module` and what `task show` says of a function. */
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { Lab } from './lab.ts'

let lab: Lab
beforeEach(async () => {
  lab = new Lab()
  lab.files({
    'work.ts': `export default function sum(numbers: number[], extra = 0): number { return numbers.reduce((a, b) => a + b, extra) }
export const fail = (): never => { throw new RangeError('too far') }
export const mapped = () => new Map([['a', 1n]])`,
    'args.json': '[[1, 2], 10]',
  })
  await lab.run('job', 'create', 'j')
})
afterEach(() => lab.close())

async function shown(task: string): Promise<string> {
  await lab.run('job', 'wait', 'j', '-q')
  return (await lab.run('task', 'show', task)).stdout
}

it('a function of a module is called with its arguments, and shown with what it returned', async () => {
  expect(await lab.run('task', 'create', 'j/sum', '--module', 'work.ts', '--args', '[[1, 2, 3]]')).toMatchObject({ code: 0, stderr: '' })
  expect(await lab.run('task', 'create', 'j/file', '--module', 'work.ts', '--args', '@args.json')).toMatchObject({ code: 0 })
  const text = await shown('j/sum')
  expect(text).toMatch(/^command:\s+work\.mjs#default\(\)$/m)
  expect(text).toMatch(/^returned:\s+6$/m)
  expect(await shown('j/file')).toMatch(/^returned:\s+13$/m)
  const { stdout } = await lab.run('task', 'show', 'j/sum', '-o', 'json')
  expect(JSON.parse(stdout).threadResult).toBe(6)
})

it('what JSON does not have is shown as Node shows it', async () => {
  await lab.run('task', 'create', 'j/map', '--module', 'work.ts', '--export', 'mapped')
  expect(await shown('j/map')).toMatch(/^returned:\s+Map\(1\) \{ 'a' => 1n \}$/m)
})

it('what a function threw is shown with its stack', async () => {
  await lab.run('task', 'create', 'j/fail', '--module', 'work.ts', '--export', 'fail')
  expect(await shown('j/fail')).toMatch(/^threw:\s+RangeError: too far\n(?:.*\n)*?.*at .*work\.mjs/m)
})

it('tasks of a JSON file call functions of local modules and of stored ones', async () => {
  lab.files({
    'tasks.json': JSON.stringify([
      { id: 'a', thread: { module: 'work.ts', args: [[1, 2]] } },
      { id: 'b', thread: { module: './work.ts', export: 'fail', maxHeapMiB: 64 } },
      { id: 'c', commandLine: 'true' },
    ]),
  })
  expect(await lab.run('task', 'create', 'j', '--json-file', 'tasks.json')).toMatchObject({ code: 0, stderr: '' })
  const { tasks } = lab.mesh.jobs.get('j')!
  const { module } = tasks.get('a')!.spec.thread!
  expect(tasks.get('b')!.spec.thread).toMatchObject({ module, name: 'work.mjs', export: 'fail', maxHeapMiB: 64 })
  lab.files({ 'stored.json': JSON.stringify({ id: 'd', thread: { module, args: [[4], 5] } }) })
  expect(await lab.run('task', 'create', 'j', '--json-file', 'stored.json')).toMatchObject({ code: 0, stderr: '' })
  expect(await shown('j/a')).toMatch(/^returned:\s+3$/m)
  expect(await shown('j/d')).toMatch(/^returned:\s+9$/m)
})

it.each([
  [{ module: 1 }, /task a: thread\.module must be a local file or a blob id/],
  [{ module: 'work.ts', args: 1 }, /task a: thread\.args must be an array/],
  [{ module: 'work.ts', export: 1 }, /task a: thread\.export must be the name/],
  [{ module: 'work.ts', export: 'no' }, /has no export "no"/],
  [{ module: 'work.ts', maxHeapMiB: 1 }, /task a: thread\.maxHeapMiB/],
  [{ module: 'work.ts', arguments: [1] }, /thread\.arguments is not supported/],
])('a JSON file with a wrong function adds and stores nothing: %j', async (thread, message) => {
  lab.files({
    'tasks.json': JSON.stringify([
      { id: 'ok', commandLine: 'true' },
      { id: 'a', thread },
    ]),
  })
  const { code, stderr } = await lab.run('task', 'create', 'j', '--json-file', 'tasks.json')
  expect([code, stderr]).toEqual([2, expect.stringMatching(message)])
  expect([lab.mesh.jobs.get('j')!.tasks.size, lab.mesh.blobs.size]).toEqual([0, 0])
})

describe('wrong usage adds nothing:', () => {
  it.each([
    [['j/x'], /a command with --command-line, or a module with --module|command with --command-line, or a module/],
    [['j/x', '--args', '[1]', '--command-line', 'true'], /--args belongs to --module/],
    [['j/x', '--module', 'work.ts', '--command-line', 'true'], /either --module or --command-line/],
    [['j/x', '--module', 'nowhere.ts'], /There is no module .*nowhere\.ts/],
    [['j/x', '--module', 'work.ts', '--export', 'no'], /has no export "no". It exports: default, fail, mapped/],
    [['j/x', '--module', 'work.ts', '--args', '1'], /--args 1 is no JSON array/],
    [['j/x', '--module', 'work.ts', '--args', '[1'], /--args \[1 is no JSON array .*\(/],
  ])('%j', async (words, message) => {
    const { code, stderr } = await lab.run('task', 'create', ...words)
    expect([code, stderr]).toEqual([2, expect.stringMatching(message)])
    expect(lab.mesh.jobs.get('j')!.tasks.size).toBe(0)
  })
})
