import { chmodSync, copyFileSync, existsSync, mkdirSync, readdirSync, statSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { isRoot, TaskLab } from './task-lab.ts'
import { childrenIn, ThreadLab } from './thread-lab.ts'

async function untilChildren(root: string, count: number): Promise<void> {
  while (childrenIn(root).length !== count) await sleep(10)
}

const exports = (body: string) => `export default ${body}`

// What a process group needs no namespace for is the same everywhere; the tier of this machine is the other.
describe.each([undefined, 'process-group'] as const)('functions in threads, tier %s', (tier) => {
  let lab: ThreadLab
  beforeAll(async () => {
    lab = await ThreadLab.open(tier === undefined ? {} : { tier })
  })
  afterAll(() => lab.close())

  it('are given arguments, and return what the structured clone algorithm takes', async () => {
    const value = { a: new Map([[1n, new Date(0)]]), b: new Uint8Array([1, 2, 3]), c: [undefined, null], d: new Error('kept') }
    const ran = await lab.call(exports('async (one, two) => [two, one]'), { args: [value, 'x'] })
    expect(ran).toMatchObject({ exitCode: 0, killed: false, result: ['x', value] })
    expect(ran.failureInfo).toBeUndefined()
  })

  it('may return nothing', async () => {
    expect(await lab.call(exports('() => {}'))).toMatchObject({ exitCode: 0, result: undefined, value: { bytes: expect.anything() } })
  })

  it('write to stdout.txt and stderr.txt before they end, each to its own', async () => {
    const body = `async (n) => {
      for (let i = 0; i < 200; i++) { console.log(n, i); process.stderr.write(n + '\\n'); if (i % 50 === 0) await null }
      return new Promise((done) => process.stdout.write('é', () => done(n)))
    }`
    const all = await Promise.all([1, 2, 3].map((n) => lab.call(exports(body), { args: [n] })))
    for (const [at, { stdout, stderr, result }] of all.entries()) {
      expect(result).toBe(at + 1)
      expect(stdout).toBe(`${Array.from({ length: 200 }, (_, i) => `${at + 1} ${i}\n`).join('')}é`)
      expect(stderr).toBe(`${at + 1}\n`.repeat(200))
    }
  })

  it('see exactly the environment of their task, whatever the one before did to it', async () => {
    const body = '() => { const seen = { ...process.env }; process.env.LEFT = "1"; delete process.env.A; return seen }'
    for (const env of [{ A: '1', B: '2' }, { A: '3' }] as Record<string, string>[]) {
      const { result, paths } = await lab.call(exports(body), { env })
      expect(result).toEqual({ ...env, AZ_BATCH_TASK_DIR: paths.taskDir, AZ_BATCH_TASK_WORKING_DIR: paths.wd })
    }
  })

  it('fail with what they threw, with the lines of their module and no path of the machine', async () => {
    const module = `function inner() { throw new TypeError('not this') }\nexport default () => inner()\n`
    const ran = await lab.call(module, { name: 'simulate.ts' })
    expect(ran).toMatchObject({
      exitCode: 1,
      failureInfo: { category: 'usererror', code: 'ThreadFailed', message: 'TypeError: not this' },
      error: { name: 'TypeError', message: 'not this' },
    })
    expect(ran.error!.stack).toMatch(/^TypeError: not this\n\s+at inner \(simulate\.ts:1:\d+\)\n\s+at default \(simulate\.ts:2:\d+\)$/)
    expect(ran.stderr).toBe(`${ran.error!.stack}\n`)
  })

  it.each([
    ['() => { throw 7 }', 'Thrown: 7'],
    ['() => Promise.reject(null)', 'Thrown: null'],
    [
      'async () => { Promise.reject(new RangeError("nobody waits")); await new Promise(() => setInterval(() => {}, 9)) }',
      'RangeError: nobody waits',
    ],
    [
      'async () => { setTimeout(() => { throw new RangeError("stray") }); await new Promise(() => setInterval(() => {}, 9)) }',
      'RangeError: stray',
    ],
    ['() => () => 1', 'Error: The result cannot be sent: () => 1 could not be cloned.'],
    ['5', 'Error: The export "default" of work.mjs is no function but a number.'],
  ])('fail: %s', async (body, message) => {
    const { exitCode, failureInfo, stderr } = await lab.call(exports(body))
    expect({ exitCode, code: failureInfo?.code }).toEqual({ exitCode: 1, code: 'ThreadFailed' })
    expect(failureInfo!.message).toContain(message)
    expect(stderr).toContain(message.split(': ').at(-1))
  })

  it('say what the module exports when the one asked for is not there, and why it could not be imported', async () => {
    const missing = await lab.call('export const one = 1, two = () => 2', { export: 'three' })
    expect(missing.failureInfo!.message).toContain('The module work.mjs has no export "three"; it has one, two.')
    expect((await lab.call('export const one = 1, two = () => 2', { export: 'two' })).result).toBe(2)
    const broken = await lab.call('throw new Error("on import")', { name: 'bad.mjs' })
    expect(broken.failureInfo!.message).toContain('The module bad.mjs could not be imported: Error: on import')
    expect((await lab.call('import "nowhere"')).failureInfo!.message).toContain("Cannot find package 'nowhere'")
  })

  it.each([0, 3])('that call process.exit(%i) have that exit code and no result', async (code) => {
    const ran = await lab.call(exports(`() => process.exit(${code})`))
    expect(ran).toMatchObject({ exitCode: code, failureInfo: { category: 'usererror', code: 'ThreadEnded' } })
    expect(ran.value).toBeUndefined()
  })

  it.each([
    ['objects', 'const kept = []; for (;;) kept.push({ a: [1] })'],
    ['texts', 'const kept = []; for (let i = 0; ; i += 1) kept.push("x".repeat(1000) + i)'],
  ])('that fill their heap with %s fail alone', async (_, body) => {
    const other = await lab.waiting()
    const [child] = childrenIn(lab.tasks.root)
    const ran = await lab.call(exports(`() => { ${body} }`), { heapMiB: 32 })
    expect(ran).toMatchObject({ exitCode: 137, failureInfo: { code: 'ThreadOutOfMemory' } })
    expect(ran.failureInfo!.message).toContain('32 MiB')
    expect(childrenIn(lab.tasks.root)).toEqual([child])
    other.go()
    expect((await other.ended).result).toBe('done')
  })

  // V8 unrolls such a loop and then does not stop it; in smaller heaps it has no time to (host.ts).
  it('that fill their heap by built-in functions alone fail alone', async () => {
    const other = await lab.waiting()
    const body = 'const kept = []; for (;;) kept.push(new Array(1000).fill({}))'
    const ran = await lab.call(exports(`() => { ${body} }`), { heapMiB: 128 })
    expect(ran).toMatchObject({ exitCode: 137, failureInfo: { code: 'ThreadOutOfMemory' } })
    other.go()
    expect((await other.ended).result).toBe('done')
  })

  it('that never end are stopped, others go on', async () => {
    const other = await lab.waiting()
    const stop = new AbortController()
    const looping = lab.call(exports('() => { for (;;) console.log("on") }'), {
      signal: stop.signal,
      placed: ({ stdout }) => void watch(stdout),
    })
    const watch = async (stdout: string) => {
      while (!existsSync(stdout) || statSync(stdout).size === 0) await sleep(5)
      stop.abort()
    }
    const stopped = await looping
    expect(stopped).toMatchObject({ exitCode: 137, killed: true })
    const { size } = statSync(stopped.paths.stdout)
    other.go()
    expect((await other.ended).result).toBe('done')
    expect(statSync(stopped.paths.stdout).size).toBe(size)
  })

  it('keep what is large out of the messages, both ways', async () => {
    const numbers = new Float64Array(100_000).map((_, at) => at)
    const ran = await lab.call(exports('(numbers) => numbers.map((x) => x * 2)'), { args: [numbers], argsInFile: true })
    expect(ran.value).toEqual({ file: '.result' })
    expect(ran.result).toEqual(numbers.map((x) => x * 2))
    expect(readdirSync(ran.paths.taskDir).sort()).toEqual(['.result', 'stderr.txt', 'stdout.txt', 'wd'])
  })

  it('S1: read and write the files of their job, and nothing else; start no program and no thread', async () => {
    const secret = join(lab.tasks.root, 'shared-by-all')
    writeFileSync(secret, 'open to everybody', { mode: 0o644 })
    const shared = join(lab.tasks.root, 'shared')
    mkdirSync(shared, { mode: 0o755 })
    writeFileSync(join(shared, 'input'), 'shared input', { mode: 0o644 })
    const other = await lab.call(exports('() => console.log("of another job")'), { jobUid: 2 })
    const module = `import { execFileSync } from 'node:child_process'
      import { readFileSync, writeFileSync } from 'node:fs'
      import { Worker } from 'node:worker_threads'
      const says = (act) => { try { return String(act()) } catch (error) { return error.code } }
      export default (secret, other, shared) => [
        says(() => { writeFileSync(process.env.AZ_BATCH_TASK_WORKING_DIR + '/x', 'mine'); return readFileSync(process.env.AZ_BATCH_TASK_WORKING_DIR + '/x') }),
        says(() => readFileSync(shared)), says(() => writeFileSync(shared, '')),
        says(() => readFileSync(secret)), says(() => writeFileSync(secret, '')), says(() => readFileSync(other)),
        says(() => execFileSync('true')), says(() => new Worker('1', { eval: true, execArgv: [] })),
        says(() => process.dlopen({ exports: {} }, '/none.node')),
      ]`
    const { result } = await lab.call(module, { args: [secret, other.paths.stdout, join(shared, 'input')] })
    const denied = 'ERR_ACCESS_DENIED'
    expect(result).toEqual(['mine', 'shared input', denied, denied, denied, denied, denied, denied, 'ERR_DLOPEN_DISABLED'])
  })

  it('keep the variables of their module from call to call, and nothing that still runs', async () => {
    const module = `let calls = 0
      export const count = () => ++calls
      export const leave = () => { setInterval(() => process.stdout.write('stray'), 1); return ++calls }
      export const fail = () => { calls += 1; throw new Error('x') }`
    const call = async (name: string) => (await lab.call(module, { export: name, jobUid: 3 })).result
    expect([await call('count'), await call('count'), await call('leave'), await call('count'), await call('fail')]).toEqual([
      1,
      2,
      3,
      1,
      undefined,
    ])
    const { result, stdout } = await lab.call(module, { export: 'count', jobUid: 3 })
    expect({ result, stdout }).toEqual({ result: 1, stdout: '' })
  })

  it('have their module fetched once', async () => {
    const module = exports('() => "fetched once"')
    await Promise.all([1, 2, 3].map(() => lab.call(module, { name: 'once.mjs' })))
    expect(lab.fetched.filter((name) => name.endsWith('once.mjs'))).toHaveLength(1)
  })

  it('that crash their process fail when they are alone in it', async () => {
    const ran = await lab.call(exports('() => process.kill(process.pid, "SIGABRT")'))
    expect(ran).toMatchObject({ exitCode: 134, failureInfo: { category: 'usererror', code: 'ThreadEnded' } })
    expect((await lab.call(exports('() => 5'))).result).toBe(5)
  })

  it('of which one crashes the process are all lost, and then run in a process each', async () => {
    const jobUid = 4
    const [one, two] = [await lab.waiting({ jobUid }), await lab.waiting({ jobUid })]
    const crashing = exports('() => process.kill(process.pid, "SIGKILL")')
    const lost = { info: { category: 'servererror', code: 'ThreadHostLost' } }
    const all = await Promise.allSettled([lab.call(crashing, { jobUid }), one.ended, two.ended])
    for (const each of all) expect(each).toMatchObject({ status: 'rejected', reason: lost })
    const healthy = await lab.waiting({ jobUid })
    expect(await lab.call(crashing, { jobUid })).toMatchObject({ exitCode: 137, killed: false, failureInfo: { code: 'ThreadEnded' } })
    healthy.go()
    expect((await healthy.ended).result).toBe('done')
  })

  it('end with their job, and leave nothing of it', async () => {
    const jobUid = 5
    const before = childrenIn(lab.tasks.root).length
    const { ended } = await lab.waiting({ jobUid })
    const gone = expect(ended).rejects.toThrow(/ended by the node/)
    expect(childrenIn(lab.tasks.root)).toHaveLength(before + 1)
    await lab.threads.endJob(jobUid)
    await gone
    expect(childrenIn(lab.tasks.root)).toHaveLength(before)
    expect(readdirSync(lab.tasks.directories.ofJob(jobUid)).filter((name) => name.startsWith('+'))).toEqual([])
  })
})

describe('the process of a job', () => {
  it('ends when nothing was called for a while, and another starts', async () => {
    const lab = await ThreadLab.open({ idleMs: 1 })
    const pid = exports('() => 1')
    expect((await lab.call(pid)).result).toBe(1)
    await untilChildren(lab.tasks.root, 0)
    expect((await lab.call(pid)).result).toBe(1)
    await lab.close()
  })

  it('ends with the executor', async () => {
    const lab = await ThreadLab.open()
    const { ended } = await lab.waiting()
    const gone = expect(ended).rejects.toThrow()
    await lab.threads.close()
    await gone
    expect(childrenIn(lab.tasks.root)).toEqual([])
    await expect(lab.seat()).rejects.toThrow(/closed/)
    await lab.close()
  })

  it('runs a copy of Node where tasks cannot execute the one that runs the node', async () => {
    const tasks = await TaskLab.open()
    const closed = join(tasks.root, 'private', 'node')
    copyFileSync(process.execPath, closed)
    chmodSync(join(tasks.root, 'private'), 0o700)
    const lab = new ThreadLab(tasks, { node: closed })
    expect((await lab.call(exports('() => process.execPath'))).result).toBe(
      isRoot || tasks.executor.tier !== 'process-group' ? join(tasks.root, 'runtime/node/node') : closed,
    )
    await lab.close()
  })

  it('says what is wrong when it cannot start, and is tried again', async () => {
    const tasks = await TaskLab.open()
    const lab = new ThreadLab(tasks, { node: '/bin/false' })
    await expect(lab.seat()).rejects.toThrow('The process for the functions of a job did not start: exit code 1')
    await expect(lab.seat()).rejects.toThrow('did not start')
    expect(readdirSync(tasks.directories.ofJob(1))).toEqual([])
    await lab.close()
  })
})
