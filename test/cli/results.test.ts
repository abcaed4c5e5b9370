import { existsSync, readFileSync, statSync } from 'node:fs'
import { join } from 'node:path'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { MeshError } from '../../protocols/errors.ts'
import { type OutputEntry, outputEntrySchema } from '../../protocols/model/task.ts'
import { blobIdOf } from './fake-local.ts'
import { Lab } from './lab.ts'

let lab: Lab
beforeEach(() => {
  lab = new Lab()
})
afterEach(() => lab.close())

describe('what a dishonest machine reports is not written:', () => {
  const wrong = async (change: Partial<OutputEntry>) => {
    lab.mesh.reported = (outputs) => outputs.map((output) => ({ ...output, ...change }))
    const ran = await lab.run('run', 'echo x > a.out', '--outputs', '*.out', '--to', 'to')
    expect(ran.code).toBe(1)
    expect(existsSync(join(lab.cwd, 'to'))).toBe(false)
    return ran.stderr
  }
  it('a path that no pattern of the task names', async () => {
    expect(await wrong({ path: '.bashrc' })).toMatch(/task 0000 reported an output \.bashrc, which none of its patterns names \(\*\.out\)/)
  })
  it('a hidden path that a pattern would name without its dot', async () => {
    expect(await wrong({ path: '.x.out' })).toMatch(/none of its patterns names/)
  })
  it('a file as if it were shorter than it is', async () => {
    expect(await wrong({ size: 1 })).toMatch(/The blob has 2 bytes, but 1 were reported/)
  })
  it('a file as if it were longer than it is', async () => {
    expect(await wrong({ size: 3 })).toMatch(/The blob has 2 bytes, but 3 were reported/)
  })
  it('a directory in place of a file', async () => {
    const id = blobIdOf('a directory')
    lab.mesh.trees.set(id, [])
    expect(await wrong({ blob: id, size: 0 })).toMatch(/a directory, no file/)
  })
  it('also to those who wait for the job', async () => {
    lab.mesh.reported = (outputs) => outputs.map((output) => ({ ...output, path: 'b.sh' }))
    await lab.run('run', 'echo x > a.out', '--outputs', '*.out', '--detach', '--job-id', 'j')
    const ran = await lab.run('job', 'wait', 'j', '--to', 'to')
    expect(ran).toMatchObject({ code: 1, stderr: expect.stringMatching(/none of its patterns names/) })
    expect(existsSync(join(lab.cwd, 'to'))).toBe(false)
  })
})

it('small outputs come many in one request', async () => {
  const ran = await lab.run('run', 'for n in $(seq 1200); do echo $n > $n.out; done', '--outputs', '*.out', '--to', 'to')
  expect(ran.code).toBe(0)
  expect(lab.list('to')).toHaveLength(1200)
  expect(readFileSync(join(lab.cwd, 'to/1200.out'), 'utf8')).toBe('1200\n')
  const asked = lab.mesh.asked.filter((name) => ['fetch', 'read', 'readSmall'].includes(name))
  expect(asked).toEqual(['readSmall', 'readSmall', 'readSmall'])
})

it('of small outputs that come together one that is not to be had keeps no other away', async () => {
  lab.mesh.reported = (outputs) => outputs.map((output) => (output.path === '3.out' ? { ...output, blob: blobIdOf('lost') } : output))
  const ran = await lab.run('run', 'for n in $(seq 9); do echo $n > $n.out; done', '--outputs', '*.out', '--to', 'to')
  expect(ran.code).toBe(1)
  expect(ran.stderr).toMatch(/3\.out of task 0000 \(blob \w+\) could not be written to .*: No reachable machine has the blob/)
  expect(lab.list('to')).toHaveLength(8)
})

it('an executable file is so for whom it was, and for nobody more', async () => {
  lab.mesh.reported = (outputs) => outputs.map((output) => ({ ...output, mode: 0o755 }))
  await lab.run('run', 'echo x > a.out', '--outputs', '*.out', '--to', 'to')
  expect(statSync(join(lab.cwd, 'to/a.out')).mode & 0o7777).toBe(0o777 & ~process.umask())
  expect(outputEntrySchema.safeParse({ path: 'a', blob: blobIdOf('a'), size: 1, mode: 0o4755 }).success).toBe(false)
})

it('job wait writes no input that a task left as it was', async () => {
  lab.files({ 'a.txt': 'a' })
  await lab.run('run', 'cp {input} copy.txt', '--inputs', '*.txt', '--outputs', '*.txt', '--detach', '--job-id', 'j')
  expect(await lab.run('job', 'wait', 'j', '--to', 'out')).toMatchObject({ code: 0 })
  expect(lab.list('out')).toEqual(['copy.txt'])
})

describe('patterns', () => {
  it('that named nothing in any task are said at the end, those that named something once are not', async () => {
    const ran = await lab.run('run', 'touch {index}.a', '--array', '0-1', '--outputs', '0.a', '--outputs', '{index}.b', '--outputs', '*.c')
    expect(ran.code).toBe(0)
    expect(ran.stderr).toMatch(/--outputs \{index\}\.b named no file that was made\n.*--outputs \*\.c named no file that was made/)
    expect(ran.stderr).not.toMatch(/--outputs 0\.a named/)
  })

  it('of the reduce step as well', async () => {
    const ran = await lab.run('run', 'touch a', '--outputs', 'a', '--reduce', 'touch b', '--reduce-outputs', 'b', '--reduce-outputs', 'c')
    expect(ran.stderr).toMatch(/--reduce-outputs c named no file/)
    expect(ran.stderr).not.toMatch(/outputs (a|b) named/)
  })

  it.each([
    [['run', 'true', '--outputs', '../x'], /output pattern "\.\.\/x" must be relative/],
    [['run', 'true {index}', '--array', '0-1', '--outputs', '/tmp/{index}'], /output pattern "\/tmp\/0" must be relative/],
    [['run', 'true', '--reduce', 'true', '--reduce-outputs', 'a/../..'], /must be relative/],
    [['task', 'create', 'j/t', '--command-line', 'true', '--outputs', '/x'], /must be relative/],
    [['run', 'true', '--to', 'out'], /--to needs --outputs/],
  ])('%j is wrong usage', async (argv, message) => {
    expect(await lab.run(...argv)).toMatchObject({ code: 2, stdout: '', stderr: expect.stringMatching(message) })
    expect(lab.mesh.asked).toEqual([])
  })
})

it('a dry run on a pool that is not there fails as the run itself', async () => {
  lab.mesh.onCall = (name) => {
    if (name === 'getPool') throw new MeshError('PoolNotFound', 'There is no pool p.')
  }
  const dry = await lab.run('run', 'true', '--pool-id', 'p', '--dry-run')
  expect(dry).toMatchObject({ code: 1, stderr: 'batchmesh: There is no pool p.\n' })
  expect(await lab.run('run', 'true', '--pool-id', 'p')).toEqual(dry)
})

it('job wait fails when the job was ended before some of its tasks ran', async () => {
  await lab.run('job', 'create', 'j')
  await lab.run('task', 'create', 'j/done', '--command-line', 'true')
  expect((await lab.run('job', 'wait', 'j')).code).toBe(0)
  lab.mesh.gate = new Promise(() => {})
  await lab.run('task', 'create', 'j/never', '--command-line', 'true')
  lab.mesh.end('j')
  expect(await lab.run('job', 'wait', 'j')).toMatchObject({ code: 1, stderr: expect.stringMatching(/was ended before 1 of its tasks ran/) })
})
