/** The first hour of a TypeScript programmer: a mesh in a test, a map over values, a run over files, a job by hand. */
import assert from 'node:assert/strict'
import { mkdir, readdir, readFile, writeFile } from 'node:fs/promises'
import { join as path } from 'node:path'
import { connect, createTestMesh, join, MeshError } from 'batchmesh'

const scratch = process.cwd()

// a mesh of this program's own, for trying
{
  await using mesh = await createTestMesh({ machines: 2, slots: 1 })
  const machines = await mesh.machines.list()
  assert.equal(machines.length, 2)

  // a function over values: types go through, results come in order
  const squares: number[] = []
  for await (const square of mesh.map((n: number) => n * n, [1, 2, 3, 4, 5])) squares.push(square)
  assert.deepEqual(squares, [1, 4, 9, 16, 25])

  // values that JSON does not know
  for await (const size of mesh.map((map: Map<string, Uint8Array>) => map.get('a')!.length, [new Map([['a', new Uint8Array(100_000)]])]))
    assert.equal(size, 100_000)

  // a variable of this program is not there on another machine: said before anything is sent, and by its name
  const factor = 3
  await assert.rejects(async () => {
    for await (const _ of mesh.map((n: number) => n * factor, [1]));
  }, /factor/)

  // what throws there is told here, with the stack from there
  const settled = []
  for await (const one of mesh.map(
    (n: number) => {
      if (n === 2) throw new RangeError('two is too much')
      return n
    },
    [1, 2, 3],
    { settled: true },
  ))
    settled.push(one)
  assert.deepEqual(
    settled.map(({ status }) => status),
    ['fulfilled', 'rejected', 'fulfilled'],
  )
  const rejected = settled[1]
  assert(rejected?.status === 'rejected')
  assert.match(String(rejected.reason), /two is too much/)

  // a module with imports of its own; an endless source is read only as far as its results are used; they come as they are done
  await writeFile(path(scratch, 'gcd.ts'), 'export const gcd = (a: number, b: number): number => (b === 0 ? a : gcd(b, a % b))\n')
  await writeFile(
    path(scratch, 'work.ts'),
    "import { gcd } from './gcd.ts'\nexport const isPrime = (n: number) => n > 1 && Array.from({ length: n - 2 }, (_, i) => i + 2).every((m) => gcd(n, m) === 1)\n",
  )
  let taken = 0
  const numbers = function* () {
    for (;;) yield taken++
  }
  const primes: number[] = []
  for await (const { input, value } of mesh.map<number, boolean>({ module: path(scratch, 'work.ts'), export: 'isPrime' }, numbers(), {
    order: 'completed',
    ahead: 10,
  })) {
    if (value) primes.push(input)
    if (primes.length === 5) break
  }
  assert.deepEqual(
    primes.toSorted((a, b) => a - b).filter((n) => n < 8),
    [2, 3, 5, 7],
  )
  assert(taken < 60, `${taken} were taken for five results`)
  for await (const { id, state } of mesh.jobs.list()) assert.notEqual(state, 'active', `${id} was broken off, so it runs no more`)
}

// a peer that stays, with a directory of its own; programs of the same machine connect to it
{
  await using peer = await join({ dataDir: path(scratch, 'peer'), port: 0, listen: ['127.0.0.1'], mdns: false, lendCpus: 2 })
  await using mesh = await connect({ dataDir: path(scratch, 'peer') })

  await mkdir(path(scratch, 'texts'))
  for (const name of ['a', 'b', 'c']) await writeFile(path(scratch, 'texts', `${name}.txt`), `${name}\n`.repeat(10))
  const lines = new Map<string, string>()
  for await (const done of mesh.run({
    command: 'wc -l < {input} > {name}.lines',
    inputs: (await readdir(path(scratch, 'texts'))).map((name) => path(scratch, 'texts', name)),
    outputs: ['*.lines'],
  })) {
    assert.equal(done.result, 'success')
    for (const output of done.outputs) lines.set(output.path, new TextDecoder().decode(await output.read()).trim())
  }
  assert.deepEqual(Object.fromEntries(lines), { 'a.lines': '10', 'b.lines': '10', 'c.lines': '10' })

  // a job by hand, in Azure Batch's words
  await mesh.jobs.create({ id: 'byhand' })
  await mesh.tasks.add('byhand', { id: 'hello', commandLine: 'echo hello' })
  await mesh.jobs.wait('byhand')
  const hello = await mesh.tasks.get('byhand', 'hello')
  assert.equal(hello.executionInfo.result, 'success')
  await assert.rejects(mesh.jobs.get('nothere'), (error) => error instanceof MeshError && error.code === 'JobNotFound')

  // bytes in, bytes out
  const blob = await mesh.blobs.putBytes(new TextEncoder().encode('some bytes'))
  await mesh.blobs.get(blob.id, path(scratch, 'copy'))
  assert.equal(await readFile(path(scratch, 'copy'), 'utf8'), 'some bytes')
  assert.ok(peer)
}

console.log('done')
