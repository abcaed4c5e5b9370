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
