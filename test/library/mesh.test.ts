/** The library against real nodes: one small mesh of this process for all tests. */
import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { connect, createTestMesh, join as joinMesh, MeshError, remoteModule, TaskError, type TestMesh } from '../../src/index.ts'

let mesh: TestMesh
let files: string
beforeAll(async () => {
  files = mkdtempSync(join(tmpdir(), 'batchmesh-library-'))
  mesh = await createTestMesh({ machines: 2, slots: 2 })
})
afterAll(async () => {
  await mesh?.close()
  rmSync(files, { recursive: true, force: true })
})

function write(name: string, text: string): string {
  const path = join(files, name)
  mkdirSync(join(path, '..'), { recursive: true })
  writeFileSync(path, text)
  return path
}

describe('run', () => {
  it('gives each task as it ends, with its input, outputs and text', async () => {
    write('in/a.txt', 'one\ntwo\n')
    write('in/b b.txt', 'one\n')
    const seen: Record<string, string> = {}
    for await (const done of mesh.run({
      command: 'wc -l < {input} > {name}.count; echo "did {base}"; echo careful >&2',
      inputs: 'in/*.txt',
      outputs: '*.count',
      cwd: files,
    })) {
      done.check()
      expect([done.result, done.exitCode, await done.stderr()]).toEqual(['success', 0, 'careful\n'])
      expect(done.machine).toMatch(/^machine-/)
      const [saved] = await done.save(join(files, 'out'))
      seen[done.input!] = `${await done.stdout()}${readFileSync(saved!, 'utf8').trim()} ${(await done.outputs[0]!.text()).trim()}`
    }
    expect(seen).toEqual({ 'in/a.txt': 'did a.txt\n2 2', 'in/b b.txt': 'did b b.txt\n1 1' })
  })

  it('runs a program without a shell, numbers instead of files, and says the number in the environment', async () => {
    const texts: string[] = []
    for await (const done of mesh.run({ command: ['sh', '-c', 'echo $0 $BATCHMESH_ARRAY_INDEX', '{index:03};'], array: '1-9:4' }))
      texts.push(await done.stdout())
    expect(texts.sort()).toEqual(['001; 1\n', '005; 5\n', '009; 9\n'])
  })

  it('sends numbers as one array, in which braces stay what they are', async () => {
    const seen: Record<string, string> = {}
    const running = mesh.run({
      command: 'echo "$V" {{a} {index:02} > out{index}.txt',
      array: [7, 3, 11],
      env: { V: '{index}' },
      outputs: 'out{index}.txt',
      jobId: 'array',
    })
    for await (const done of running) seen[done.outputs[0]!.path] = await done.outputs[0]!.text()
    expect(seen).toEqual({ 'out3.txt': '{index} {a} 03\n', 'out7.txt': '{index} {a} 07\n', 'out11.txt': '{index} {a} 11\n' })
    expect((await mesh.tasks.get('array', '0007')).id).toBe('0007')
  })

  it('takes blobs as inputs, and what all tasks share', async () => {
    const { id } = await mesh.blobs.putBytes('abc')
    write('shared/table.txt', 'shared\n')
    const [done] = await Array.fromAsync(
      mesh.run({ command: 'cat shared/table.txt {input}', inputs: [{ blob: id, path: 'x.txt' }], with: 'shared', cwd: files }),
    )
    expect([done!.input, await done!.stdout()]).toEqual([id, 'shared\nabc'])
  })

  it('gives failed tasks as well, whose check throws', async () => {
    const [done] = await Array.fromAsync(mesh.run({ command: 'echo no >&2; exit 3' }))
    expect(done).toMatchObject({ result: 'failure', exitCode: 3, stderrTail: 'no\n', failureInfo: { code: 'FailureExitCode' } })
    expect(() => done!.check()).toThrow(TaskError)
  })

  it('stops its job when the loop is left, and ends it when all is done', async () => {
    for await (const done of mesh.run({ command: 'test {index} = 0 || sleep 600', array: 3, jobId: 'left' })) {
      expect(done.index).toBe(0)
      break
    }
    expect(await mesh.jobs.wait('left')).toMatchObject({
      state: expect.stringMatching(/terminating|completed/),
      terminateReason: 'RunEnded',
    })
    await Array.fromAsync(mesh.run({ command: 'true', jobId: 'done' }))
    expect(await mesh.jobs.get('done')).toMatchObject({ state: 'completed', counts: { succeeded: 1 } })
  })

  it('rejects with the reason of its signal', async () => {
    const abort = new AbortController()
    const running = Array.fromAsync(mesh.run({ command: 'sleep 600', jobId: 'aborted', signal: abort.signal }))
    running.catch(() => undefined)
    for (;;) {
      const job = await mesh.jobs.get('aborted').catch(() => undefined)
      if ((job?.counts.running ?? 0) > 0) break
    }
    const reason = new Error('enough')
    abort.abort(reason)
    await expect(running).rejects.toBe(reason)
    expect((await mesh.jobs.get('aborted')).terminateReason).toBe('RunEnded')
  })

  it.each([
    [{ command: '' }, /There is no command/],
    [{ command: 'cat {input}' }, /\{input\} needs inputs/],
    [{ command: 'true', inputs: 'nothing/*.x' }, /matches no file/],
    [{ command: 'true', inputs: '.' }, /is a directory/],
    [{ command: 'true', array: '1-' }, /not understood/],
    [{ command: 'true', array: [1, 1] }, /twice/],
    [{ command: 'true', array: 2, inputs: 'x' }, /either inputs or array/],
    [{ command: 'true', slots: 0 }, /requiredSlots/],
  ])('refuses %j', async (options, message) => {
    await expect(mesh.run({ cwd: files, ...options }).next()).rejects.toThrow(message)
  })
})

describe('jobs and tasks', () => {
  it('are made, added in one call, waited for, listed, read and deleted', async () => {
    await mesh.jobs.create({ id: 'made' })
    await mesh.tasks.add('made', { id: 'one', commandLine: 'echo one' })
    await mesh.tasks.add(
      'made',
      Array.from({ length: 3 }, (_, n) => ({ id: `n${n}`, commandLine: n === 2 ? 'false' : 'true' })),
    )
    const job = await mesh.jobs.wait('made')
    expect(job.counts).toMatchObject({ succeeded: 3, failed: 1 })
    expect((await Array.fromAsync(mesh.tasks.list('made', { result: 'failure' }))).map(({ id }) => id)).toEqual(['n2'])
    expect((await mesh.tasks.readFile('made', 'one', 'stdout.txt')).toString()).toBe('one\n')
    expect((await mesh.tasks.files('made', 'one')).map(({ name }) => name).sort()).toEqual(['stderr.txt', 'stdout.txt', 'wd'])
    expect((await mesh.tasks.explain('made', 'one')).summary).toMatch(/\w/)
    await mesh.jobs.update('made', { priority: 5 })
    expect((await mesh.jobs.get('made')).priority).toBe(5)
    await mesh.tasks.reactivate('made', 'n2')
    expect(await mesh.jobs.wait('made')).toMatchObject({ counts: { completed: 4, failed: 1 } })
    await mesh.jobs.delete('made')
    await expect(mesh.jobs.get('made')).rejects.toMatchObject({ code: 'JobNotFound' })
  })

  it('that are refused say which and why', async () => {
    await mesh.jobs.create({ id: 'refused' })
    await expect(mesh.tasks.add('refused', { id: 'a b', commandLine: 'true' })).rejects.toThrow(/Task a b cannot be added: .*id/)
    await mesh.tasks.add('refused', { id: 'x', commandLine: 'true' })
    await expect(mesh.tasks.add('refused', { id: 'x', commandLine: 'true' })).rejects.toMatchObject({ code: 'TaskExists' })
    await mesh.jobs.delete('refused')
  })
})

it('an error tells who asked', async () => {
  const ask = async () => await mesh.jobs.get('nowhere')
  const error = await ask().catch((thrown: unknown) => thrown)
  expect((error as Error).stack).toMatch(/MeshError: There is no job nowhere[\s\S]*at (?:async )?ask .*mesh\.test\.ts/)
})

it('pools are made, resized, and have nodes', async () => {
  const pool = await mesh.pools.create({ id: 'own', vmSize: 'cores=1,memory=64MiB', targetDedicatedNodes: 1 })
  expect(pool.targetDedicatedNodes).toBe(1)
  await mesh.pools.resize('own', { targetDedicatedNodes: 2 })
  while ((await mesh.pools.get('own')).allocationState !== 'steady') await new Promise((resolve) => setTimeout(resolve, 20))
  expect(await mesh.pools.nodes('own')).toHaveLength(2)
  expect((await mesh.pools.list()).map(({ id }) => id).sort()).toEqual(['default', 'own'])
  await mesh.pools.delete('own')
})

it('machines are listed and shown', async () => {
  const machines = await mesh.machines.list()
  expect(machines.map(({ name, capacity, connected }) => `${name} ${capacity.cores} ${connected}`).sort()).toEqual([
    'machine-1 2 true',
    'machine-2 2 true',
  ])
  expect(await mesh.machines.get('machine-2')).toMatchObject({ name: 'machine-2', isCoordinator: false })
})

it('blobs go in and out, from any machine', async () => {
  const [other] = mesh.others
  const path = write('blob.txt', 'some text')
  const { id, size } = await mesh.blobs.putFile(path)
  expect([size, (await other!.blobs.read(id)).toString()]).toEqual([9, 'some text'])
  expect(await mesh.blobs.stat(id)).toMatchObject({ kind: 'file', pins: expect.arrayContaining(['user']) })
  write('tree/a', '1')
  write('tree/b/c', '2')
  const tree = await mesh.blobs.putDirectory(join(files, 'tree'), { pin: false })
  expect((await other!.blobs.entries(tree.id)).map((entry) => entry.path)).toEqual(['a', 'b/c'])
  await other!.blobs.get(tree.id, join(files, 'copy'), { only: ['b/c'] })
  expect(readFileSync(join(files, 'copy/b/c'), 'utf8')).toBe('2')
  expect(await other!.blobs.get(id, `${files}/into/`)).toBe(join(files, 'into', id))
  await expect(mesh.blobs.putFile(join(files, 'tree'))).rejects.toThrow(/is a directory; use putDirectory/)
  await expect(mesh.blobs.read(tree.id)).rejects.toThrow(/is a directory; write it/)
  await mesh.blobs.unpin(id)
  expect((await mesh.blobs.stat(id)).pins).not.toContain('user')
})

it('functions are called on the machines: values, failures, and what ends a thread', async () => {
  const work = remoteModule<typeof import('./work.ts')>(new URL('./work.ts', import.meta.url))
  expect(await Array.fromAsync(mesh.map(work.firstCell, ['a,b', 'c']))).toEqual(['a', 'c'])
  const large = 'x'.repeat(200_000)
  expect(await Array.fromAsync(mesh.map((text: string) => text + text, [large]))).toEqual([large + large])
  const odd = (n: number) => {
    if (n === 1) throw new RangeError('odd')
    if (n === 2) process.exit(4)
    return new Uint8Array([n])
  }
  const [fine, threw, left] = await Array.fromAsync(mesh.map(odd, [0, 1, 2], { settled: true, jobId: 'odd' }))
  expect(fine).toEqual({ status: 'fulfilled', value: new Uint8Array([0]) })
  expect(threw).toMatchObject({
    reason: { exitCode: 1, failureInfo: { code: 'ThreadFailed' }, cause: { name: 'RangeError', message: 'odd' } },
  })
  expect(left).toMatchObject({ reason: { exitCode: 4, failureInfo: { code: 'ThreadEnded' } } })
  expect(await mesh.tasks.result('odd', '00000000')).toEqual(new Uint8Array([0]))
  await expect(mesh.tasks.result('odd', '00000001')).rejects.toMatchObject({ name: 'TaskError', cause: { message: 'odd' } })
})

it('a token is enough to submit, and leaves no machine and no directory behind', async () => {
  const token = await mesh.invite({ roles: ['submitter'] })
  const peer = await connect({ token })
  const { dataDir } = peer
  const [done] = await Array.fromAsync(peer.run({ command: 'cat {input}', inputs: write('in.txt', 'from afar') }))
  expect([done!.input, await done!.stdout()]).toEqual([join(files, 'in.txt'), 'from afar'])
  expect(await peer.machines.list()).toHaveLength(2)
  await peer.close()
  await peer.close()
  expect(() => readFileSync(dataDir)).toThrow(/ENOENT/)
  await expect(peer.machines.list()).rejects.toMatchObject({ code: 'Aborted' })
  // used up
  await expect(connect({ token })).rejects.toMatchObject({ code: 'AuthenticationFailed' })
  await expect(connect({ token: 'nonsense' })).rejects.toBeInstanceOf(MeshError)
  await expect(connect({ dataDir: files })).rejects.toMatchObject({ code: 'Unreachable' })
})

it('a program joins with cores of its own, and is forgotten when it leaves', async () => {
  const token = await mesh.invite({ uses: 2 })
  const options = { token, name: 'guest', lendCpus: 1, labels: { kind: 'guest' }, listen: ['127.0.0.1'], mdns: false }
  {
    await using guest = await joinMesh(options)
    const [done] = await Array.fromAsync(guest.run({ command: 'true', labels: { kind: 'guest' } }))
    expect(done!.machine).toBe('guest')
  }
  while ((await mesh.machines.list()).some(({ name }) => name === 'guest')) await new Promise((resolve) => setTimeout(resolve, 20))
  await expect(joinMesh({ ...options, lendCpus: 100_000 })).rejects.toThrow(/^lendCpus 100000 is more than this machine has/)
})
