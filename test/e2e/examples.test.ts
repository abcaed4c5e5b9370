/** Each example runs as its own process against the built package, says what it should, and ends by itself. */
import { execFile } from 'node:child_process'
import { createHash } from 'node:crypto'
import { mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { gunzipSync } from 'node:zlib'
import { afterAll, beforeAll, expect, it, vi } from 'vitest'
import { MeshLab, type NodeProcess } from './support/mesh-lab.ts'

const examples = join(import.meta.dirname, '../../examples')

let lab: MeshLab
let node: NodeProcess
let cwd: string
beforeAll(async () => {
  lab = await MeshLab.create()
  cwd = mkdtempSync(join(tmpdir(), 'batchmesh-examples-'))
  node = await lab.up('founder')
})
afterAll(async () => {
  await lab?.close()
  rmSync(cwd, { recursive: true, force: true })
})

const ran = new Set<string>()

// A process that starts keeps one core busy.
vi.setConfig({ maxConcurrency: 2 })

function example(name: string, ...args: string[]): Promise<string> {
  ran.add(name)
  return outputOf(...(name.endsWith('.test.ts') ? ['--test'] : []), join(examples, name), ...args)
}

/** Standard output; whatever the library would write by itself would show on standard error. */
async function outputOf(...words: string[]): Promise<string> {
  const { code, stdout, stderr } = await new Promise<{ code: unknown; stdout: string; stderr: string }>((resolve) => {
    const env = { ...process.env, BATCHMESH_DATA: node.dataDir, NODE_OPTIONS: '' }
    execFile(process.execPath, words, { cwd, env, timeout: 120_000 }, (error, stdout, stderr) =>
      resolve({ code: error === null ? 0 : (error.signal ?? error.code), stdout, stderr }),
    )
  })
  expect({ code, stderr, stdout }).toMatchObject({ code: 0, stderr: '' })
  return stdout
}

it.concurrent('first.ts runs a command for each file', async () => {
  writeFileSync(join(cwd, 'a.txt'), 'some text')
  expect(await example('first.ts', 'a.txt')).toMatch(/^a\.txt is now .*zipped\/a\.txt\.gz \(\d+ bytes, made by founder\)\n$/)
  expect(gunzipSync(readFileSync(join(cwd, 'zipped/a.txt.gz'))).toString()).toBe('some text')
})

it.concurrent('map.ts calls a function over an endless source', async () => {
  expect(await example('map.ts')).toBe('pi is about 3.14\n')
})

it.concurrent('module.ts calls functions of a module, one map behind the other', async () => {
  const lines = (await example('module.ts', '0', '100')).trim().split('\n').toSorted()
  expect(lines.map((line) => line.replace(/, \w+$/, ''))).toEqual([9, 6, 6, 4].map((count, at) => `range ${at}: ${count} primes`))
})

it.concurrent('failures.ts hears of each failure', async () => {
  expect((await example('failures.ts')).trim().split('\n')).toEqual([
    expect.stringMatching(/^input 0: RangeError: 3 is odd/),
    '2',
    'Input 1 failed: RangeError: 5 is odd',
    'The function uses "factor"',
    'sleep 0: success',
  ])
})

it.concurrent('blobs.ts puts and reads content', async () => {
  writeFileSync(join(cwd, 'b.txt'), 'one\ntwo\nthree\n')
  expect((await example('blobs.ts', 'b.txt')).split('\n').slice(1)).toEqual(['it has 3 lines', 'begins with "one\\ntwo\\nt"', ''])
})

it.concurrent('array.ts adds many tasks at once', async () => {
  const lines = (await example('array.ts')).trim().split('\n')
  expect(lines).toEqual(['200 tasks, 0001 to 0200', '199 succeeded, 1 failed', '0066: test 66 -ne 66'])
})

it.concurrent('heat.ts computes on four nodes what one computes, bit for bit, and shows it', async () => {
  const lines = (await example('heat.ts', '300')).trimEnd().split('\n')
  expect(lines).toHaveLength(24 + 2)
  // Warm in the middle of the picture, cold to its right.
  expect(lines[9]).toMatch(/^[-=]+.*%.*[:.]+$/)
  expect(lines.at(-2)).toMatch(/^after 300 steps: the largest change of a cell in the last one is 0\.\d+ degrees$/)
  expect(lines.at(-1)).toBe('four nodes and one node: the same bits')
})

it.concurrent('training.ts has the loss fall, and the same weights on all nodes', async () => {
  const lines = (await example('training.ts', '200')).trimEnd().split('\n')
  expect(lines[0]).toBe('epoch    loss  right')
  const losses = lines.slice(1, 4).map((line) => Number(line.split(/\s+/)[2]))
  expect(losses).toEqual(losses.toSorted((a, b) => b - a))
  expect(losses[2]).toBeLessThan(losses[0]! / 2)
  expect(lines.at(-1)).toBe('weights on 4 ranks: all the same')
})

it.concurrent('submit.ts needs no node, only a token', async () => {
  const token = await lab.invite(node, '--role', 'submitter')
  expect(await example('submit.ts', token)).toMatch(/^founder lends \d+ cores?\nhello from \w+\n$/)
})

it.concurrent('join.ts is a mesh of its own', async () => {
  expect(await example('join.ts')).toBe('done by a helper: helper\nfounder and helper\n')
})

it.concurrent('render.test.ts tests code on a mesh', async () => {
  expect(await example('render.test.ts')).toMatch(/pass 2\n/)
})

it.concurrent('the example in the comment of the package runs as it stands', async () => {
  const text = readFileSync(join(import.meta.dirname, '../../src/index.ts'), 'utf8')
  const program = Array.from(text.matchAll(/^ \* {5}(\S.*)$/gm), ([, line]) => line).join('\n')
  const path = join(cwd, 'comment.ts')
  writeFileSync(path, program.replace("'batchmesh'", JSON.stringify(import.meta.resolve('../../dist/src/index.js'))))
  writeFileSync(join(cwd, 'x.iso'), '')
  expect(await outputOf(path)).toBe(`${createHash('sha256').digest('hex')}  x.iso\n\n1\n4\n9\n`)
})

it('no example is left out', () => {
  // What others send to the mesh.
  const modules = ['primes.ts', 'plate.ts', 'network.ts']
  const programs = readdirSync(examples).filter((name) => name.endsWith('.ts') && !modules.includes(name))
  expect([...ran].toSorted()).toEqual(programs.toSorted())
})
