import { copyFileSync, mkdirSync, readdirSync, readFileSync, readlinkSync, statSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import * as fc from 'fast-check'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { leftLanes } from '../../node/executors/executor.ts'
import { childrenOf, descendantsOf } from '../../node/executors/proc.ts'
import type { Lane } from '../../node/ports.ts'
import { isRoot, TaskLab } from './task-lab.ts'

/** Text without NUL, of any characters: quotes, newlines, dollars and backslashes more often than by chance. */
const text = fc
  .oneof(
    fc.string({ unit: 'binary', maxLength: 30 }),
    fc.string({ unit: fc.constantFrom(`'`, '"', '\n', '$', '\\', '`', ' ', '*', '-', '=', 'a', '#', ';', '\r', '!') }),
  )
  .map((value) => value.replaceAll('\0', ''))
const names = fc
  .oneof(
    fc.stringMatching(/^[A-Za-z_][A-Za-z0-9_]{0,10}$/),
    fc.constantFrom('a.b', 'x-y', '1A', 'OPTIND', 'IFS', 'LINENO', 'PPID', 'PS1', 'PWD', 'OLDPWD', 's', 'n', 'ns', 'UID', 'ENV'),
  )
  // A shell as /bin/sh may add this one itself.
  .filter((name) => name !== '_')

/** The shell that starts the lanes of a lab: the newest child of this process that is no other lab's. */
function spawnerOf(of: TaskLab): number {
  const others = of === lab ? [] : [spawnerOf(lab)]
  return childrenOf(process.pid).filter(
    (pid) => !others.includes(pid) && /^(setpriv|sh|\/bin\/sh)\0/.test(readFileSync(`/proc/${pid}/cmdline`, 'latin1')),
  )[0]!
}

let lab: TaskLab
let lane: Lane
beforeAll(async () => {
  lab = await TaskLab.open()
  lane = await lab.lane()
})
afterAll(() => lab.close())

describe('what a program gets', () => {
  it('is exactly the words of its command line', async () => {
    await fc.assert(
      fc.asyncProperty(fc.array(text, { maxLength: 8 }), async (words) => {
        const { stdout, exitCode } = await lab.run(lane, ['sh', '-c', 'printf "%s\\0" "$#" "$@"', 'sh', ...words])
        expect(exitCode).toBe(0)
        expect(stdout).toBe([String(words.length), ...words].map((word) => `${word}\0`).join(''))
      }),
      { numRuns: 100 },
    )
  })

  it('is exactly the environment it was given', async () => {
    await fc.assert(
      fc.asyncProperty(fc.dictionary(names, text, { maxKeys: 8 }), async (env) => {
        const { stdout, stderr } = await lab.run(lane, ['/usr/bin/env', '-0'], { env })
        expect(stderr).toBe('')
        const got = stdout.split('\0').filter((entry) => entry !== '' && !/^(_|BATCHMESH_LANE)=/.test(entry))
        expect(got.sort()).toEqual(
          Object.entries(env)
            .map(([name, value]) => `${name}=${value}`)
            .sort(),
        )
      }),
      { numRuns: 100 },
    )
  })

  it.each(['a=b', '-x', "it's", 'with space', '$HOME', '--'])('is run though its name is %s', async (name) => {
    const program = join(lab.directories.node.shared, name)
    copyFileSync('/bin/echo', program)
    for (const more of [{}, { 'a.b': 'c' }] as Record<string, string>[]) {
      const { stdout, stderr } = await lab.run(lane, [name, 'hello'], {
        env: { PATH: `${lab.directories.node.shared}:/usr/bin:/bin`, ...more },
      })
      expect(stdout + stderr).toBe('hello\n')
    }
  })

  it.each(['printf', 'true', 'exit', 'if', 'f', 'm', 'exec'])(
    'is the program %s, and nothing that the shell itself has by this name',
    async (name) => {
      const program = join(lab.directories.node.shared, name)
      writeFileSync(program, '#!/bin/sh\nprintf "the program %s" "$1"\n', { mode: 0o755 })
      const { stdout, exitCode } = await lab.run(lane, [name, 'x'], { env: { PATH: `${lab.directories.node.shared}:/usr/bin:/bin` } })
      expect({ stdout, exitCode }).toEqual({ stdout: 'the program x', exitCode: 0 })
    },
  )

  it('is the first of its name on its own PATH, whatever ran before', async () => {
    const paths = ['one', 'two'].map((name) => join(lab.directories.node.shared, name))
    for (const path of paths) {
      mkdirSync(path)
      writeFileSync(join(path, 'which-one'), `#!/bin/sh\necho ${path}\n`, { mode: 0o755 })
    }
    for (const path of [...paths, ...paths.toReversed()])
      expect((await lab.run(lane, ['which-one'], { env: { PATH: `${path}:/usr/bin:/bin` } })).stdout).toBe(`${path}\n`)
  })

  it('is no open end of the pipes of its lane', async () => {
    const { stdout } = await lab.run(lane, ['ls', '-l', '/proc/self/fd'])
    expect(stdout).toContain('stdout.txt')
    expect(stdout).not.toMatch(/lanes-|\.[cr] \(deleted\)/)
  })

  it('is told in stderr.txt when its working directory is gone', async () => {
    const cwd = join(lab.root, 'gone')
    const directory = lab.directories.makeOwn(1, 'job-of-1', 'out', lane.owner)
    const start = { argv: ['true'], env: {}, cwd, stdoutPath: join(directory, 'out'), stderrPath: join(directory, 'err') }
    expect((await lane.run(start, new AbortController().signal)).exitCode).toBe(126)
    expect(readFileSync(join(directory, 'err'), 'utf8')).toContain('a missing working directory')
  })

  it('is its working directory, an empty input and default signals', async () => {
    const { stdout, paths } = await lab.sh(lane, 'pwd; cat; grep -E "SigIgn|SigBlk" /proc/self/status; umask')
    expect(stdout).toBe(`${paths.wd}\nSigBlk:\t0000000000000000\nSigIgn:\t0000000000000000\n0022\n`)
  })

  it('takes a command line larger than a pipe', async () => {
    const words = Array.from({ length: 20 }, (_, at) => `${at}`.repeat(40_000).slice(0, 40_000))
    const { stdout } = await lab.run(lane, ['sh', '-c', 'printf %s "$*"', 'sh', ...words])
    expect(stdout).toBe(words.join(' '))
  })

  it('refuses a NUL, which no program could get', async () => {
    await expect(lab.run(lane, ['echo', 'a\0b'])).rejects.toThrow(/cannot hold a NUL/)
    await expect(lab.run(lane, ['env'], { env: { A: '\0' } })).rejects.toThrow(/cannot hold a NUL/)
    await expect(lab.run(lane, ['env'], { env: { 'A=B': '' } })).rejects.toThrow(/is empty or has a "="/)
  })
})

describe('how a task ends', () => {
  it.each([0, 1, 2, 99, 255])('its exit code %i is reported', async (code) => {
    expect(await lab.sh(lane, `exit ${code}`)).toMatchObject({ exitCode: code, killed: false })
  })

  it.each([1, 2, 3, 6, 9, 11, 13, 15])('a program ended by signal %i has 128 and that number', async (signal) => {
    expect(await lab.sh(lane, `ulimit -c 0; kill -${signal} $$`)).toMatchObject({ exitCode: 128 + signal, killed: false })
  })

  it('a program that is not found has 127, and stderr.txt says where it was looked for', async () => {
    const { exitCode, stderr } = await lab.run(lane, ['no-such-program', 'x'], { env: { PATH: '/usr/bin:/opt/none' } })
    expect(exitCode).toBe(127)
    expect(stderr).toMatch(/no-such-program: not found/)
    expect(stderr).toContain('PATH=/usr/bin:/opt/none')
  })

  it.each([
    ['a plain file', '/etc/passwd'],
    ['a directory', '/tmp'],
  ])('%s as a program has 126, and stderr.txt says why', async (_what, program) => {
    const { exitCode, stderr } = await lab.run(lane, [program])
    expect(exitCode).toBe(126)
    expect(stderr).toContain(program)
    expect(stderr).toContain('could not be started')
  })

  it('a program of its own with 126 or 127 has nothing added to its stderr.txt', async () => {
    for (const code of [126, 127]) {
      const program = join(lab.directories.node.shared, `exits-${code}`)
      writeFileSync(program, `#!/bin/sh\necho mine >&2\nexit ${code}\n`, { mode: 0o755 })
      expect(await lab.run(lane, [program])).toMatchObject({ exitCode: code, stderr: 'mine\n' })
    }
  })

  it('its output files hold all it wrote, apart', async () => {
    const { paths, exitCode } = await lab.sh(lane, 'head -c 20000000 /dev/zero; head -c 3000000 /dev/zero >&2')
    expect(exitCode).toBe(0)
    expect(statSync(paths.stdout).size).toBe(20_000_000)
    expect(statSync(paths.stderr).size).toBe(3_000_000)
  })

  it('its times enclose it, and its start is told at once', async () => {
    const before = Date.now()
    let told = 0
    const ran = await lab.sh(lane, 'sleep 0.05', {
      onStart: (time) => {
        told = time
      },
    })
    expect(told).toBe(ran.startTime)
    expect(ran.startTime).toBeGreaterThanOrEqual(before)
    expect(ran.endTime - ran.startTime).toBeGreaterThanOrEqual(45)
  })

  it('the lane rejects when the output files cannot be made, and serves the next task', async () => {
    const start = {
      argv: ['true'],
      env: {},
      cwd: '/',
      stdoutPath: join(lab.root, 'none/stdout.txt'),
      stderrPath: join(lab.root, 'none/stderr.txt'),
    }
    await expect(lane.run(start, new AbortController().signal)).rejects.toThrow(/output files of the task could not be made/)
    expect((await lab.run(lane, ['true'])).exitCode).toBe(0)
  })
})

describe('lanes', () => {
  it('run 200 tasks, two at a time, each with its own outcome', async () => {
    const lanes = [lane, await lab.lane()]
    let next = 0
    const outcomes = new Map<number, string>()
    await Promise.all(
      lanes.map(async (each) => {
        while (next < 200) {
          const number = next
          next += 1
          const { exitCode, stdout } = await lab.sh(each, `echo ${number}; exit ${number % 7}`)
          outcomes.set(number, `${exitCode} ${stdout}`)
        }
      }),
    )
    lanes[1]!.release()
    expect([...outcomes.keys()].sort((a, b) => a - b)).toEqual(Array.from({ length: 200 }, (_, at) => at))
    for (const [number, outcome] of outcomes) expect(outcome).toBe(`${number % 7} ${number}\n`)
  })

  it('take one task at a time, and none after they were given back', async () => {
    const own = await lab.lane(3)
    const running = lab.sh(own, 'sleep 0.1', { jobUid: 3 })
    await expect(lab.run(own, ['true'], { jobUid: 3 })).rejects.toThrow(/runs another task/)
    expect(() => own.release()).toThrow(/while its task runs/)
    await running
    own.release()
    await expect(lab.run(own, ['true'], { jobUid: 3 })).rejects.toThrow(/was given back/)
  })

  it('are used again for the same job', async () => {
    const pidOf = async (each: Lane) => (await lab.sh(each, 'readlink /proc/self/ns/pid; echo $PPID', { jobUid: 4 })).stdout
    const first = await lab.lane(4)
    const pid = await pidOf(first)
    first.release()
    const second = await lab.lane(4)
    expect(await pidOf(second)).toBe(pid)
    second.release()
  })

  it.skipIf(!isRoot)('S1: have another user for another job (skipped for ordinary users, whose tasks all run as themselves)', async () => {
    const [one, other] = [await lab.lane(5), await lab.lane(6)]
    expect(one.owner!.uid).toBeGreaterThan(0x5fff_ffff)
    expect(other.owner!.uid).toBeLessThan(2 ** 31)
    expect(one.owner).not.toEqual(other.owner)
    expect((await lab.sh(one, 'id -u; grep -E "^(CapPrm|CapBnd|NoNewPrivs)" /proc/self/status', { jobUid: 5 })).stdout).toBe(
      `${one.owner!.uid}\nCapPrm:\t0000000000000000\nCapBnd:\t0000000000000000\nNoNewPrivs:\t1\n`,
    )
    one.release()
    other.release()
  })

  it('end when idle for long, and with their executor', async () => {
    const idle = await TaskLab.open({ idleMs: 1 })
    const [first, second] = [await idle.lane(1), await idle.lane(2)]
    // Those that wait to be reaped have no command line any more.
    const count = () => childrenOf(spawnerOf(idle)).filter((pid) => readFileSync(`/proc/${pid}/cmdline`, 'latin1') !== '').length
    expect(count()).toBe(2)
    first.release()
    while (count() > 1) await new Promise((resolve) => setTimeout(resolve, 5))
    expect((await idle.sh(second, 'exit 3', { jobUid: 2 })).exitCode).toBe(3)
    const spawner = spawnerOf(idle)
    await idle.close()
    expect(childrenOf(process.pid)).not.toContain(spawner)
  })

  it.skipIf(!isRoot)(
    'wait for a job ahead, each for one job only (skipped for ordinary users, whose lanes depend on the job)',
    async () => {
      const ahead = await TaskLab.open({ spare: true, tier: 'user+pidns' })
      const pidNamespaces = () =>
        childrenOf(spawnerOf(ahead))
          .flatMap(childrenOf)
          .map((pid) => readlinkSync(`/proc/${pid}/ns/pid`))
          .filter((space) => space !== readlinkSync('/proc/self/ns/pid'))
      const namespaceOf = async (each: Lane, jobUid: number) =>
        (await ahead.sh(each, 'readlink /proc/self/ns/pid', { jobUid })).stdout.trim()
      while (pidNamespaces().length < 1) await new Promise((resolve) => setTimeout(resolve, 5))
      const [spare] = pidNamespaces()
      const first = await ahead.lane(1)
      expect(await namespaceOf(first, 1)).toBe(spare)
      const next = () => pidNamespaces().find((space) => space !== spare)
      while (next() === undefined) await new Promise((resolve) => setTimeout(resolve, 5))
      const second = await ahead.lane(2)
      expect(await namespaceOf(second, 2)).not.toBe(spare)
      expect(second.owner).not.toEqual(first.owner)
      await ahead.close()
    },
  )

  it('are new for another job: none of its processes is one of the job before', async () => {
    const namespaceOf = async (each: Lane, jobUid: number) =>
      (await lab.sh(each, 'readlink /proc/self/ns/pid; echo $PPID', { jobUid })).stdout
    const before = await lab.lane(10)
    const seen = await namespaceOf(before, 10)
    before.release()
    const after = await lab.lane(11)
    expect(await namespaceOf(after, 11)).not.toBe(seen)
    expect(after.owner?.uid ?? -1).not.toBe(before.owner?.uid ?? 0)
    after.release()
  })

  it.skipIf(!isRoot)(
    'give a task that kills all it can reach its own end, and go on (skipped for ordinary users, whose tasks all run as themselves)',
    async () => {
      expect(await lab.sh(lane, 'kill -9 -1')).toMatchObject({ exitCode: 137, killed: false })
      expect((await lab.sh(lane, 'exit 3')).exitCode).toBe(3)
    },
  )

  it('reject when something from outside ends them, and are made anew', async () => {
    const broken = await TaskLab.open()
    const each = await broken.lane()
    const started = Promise.withResolvers<void>()
    const running = broken.sh(each, 'sleep 1000', { onStart: () => started.resolve() })
    await started.promise
    process.kill(spawnerOf(broken), 'SIGKILL')
    if (broken.executor.tier === 'process-group') for (const pid of descendantsOf(process.pid)) process.kill(pid, 'SIGKILL')
    await expect(running).rejects.toThrow(/neither the task nor the node ended it/)
    expect((await broken.sh(each, 'exit 3')).exitCode).toBe(3)
    await broken.close()
  })

  it.skipIf(!isRoot)('outlive the end of a node of the same data directory that was there before (root)', async () => {
    const before = await TaskLab.open({ tier: 'process-group' })
    const after = await TaskLab.open({ tier: 'process-group', root: before.root })
    const each = await after.lane()
    const started = Promise.withResolvers<void>()
    let wd = ''
    const running = after.sh(each, 'until [ -e go ]; do sleep 0.01; done; exit 5', {
      placed: (paths) => {
        wd = paths.wd
      },
      onStart: () => started.resolve(),
    })
    running.catch(() => undefined)
    await started.promise
    await before.executor.close()
    writeFileSync(join(wd, 'go'), '')
    expect((await running).exitCode).toBe(5)
    await after.close()
  })

  it('are found by the node that comes after one that was killed', () => {
    const run = join(lab.root, 'run')
    const own = readdirSync(run)
    expect(leftLanes(run)).toEqual(own.map((name) => join(run, name)))
    expect(leftLanes(join(lab.root, 'none'))).toEqual([])
  })

  it('leave no pipe behind that a task could open', async () => {
    const [lanes] = readdirSync(join(lab.root, 'run'))
    expect(readdirSync(join(lab.root, 'run', lanes!)).filter((name) => /\.[cr]$/.test(name))).toEqual([])
    expect(statSync(join(lab.root, 'run')).mode & 0o777).toBe(0o700)
  })
})

describe('what a task cannot reach', () => {
  it.skipIf(!isRoot)(
    'S1: the identity of the node, whatever its permissions (skipped for ordinary users, whose tasks all run as themselves)',
    async () => {
      expect(readFileSync(lab.secret, 'utf8')).toBe('the secret key')
      const { stdout, exitCode } = await lab.sh(lane, `cat ${lab.secret}`)
      expect(stdout).toBe('')
      expect(exitCode).not.toBe(0)
    },
  )

  it.skipIf(!isRoot)(
    'S1: files of a running or ended task of another job, nor an ended one of its own (skipped for ordinary users, whose tasks all run as themselves)',
    async () => {
      const other = await lab.lane(8)
      const ended = await lab.sh(other, 'echo mine >kept; chmod 777 . .. kept', { jobUid: 8 })
      const own = await lab.sh(lane, 'echo mine >kept; chmod 777 . .. kept')
      const stop = new AbortController()
      const started = Promise.withResolvers<void>()
      const running = lab.sh(other, 'echo mine >kept; sleep 1000', { jobUid: 8, signal: stop.signal, onStart: () => started.resolve() })
      await started.promise
      const look = await lab.sh(
        lane,
        `cat ${ended.paths.wd}/kept ${own.paths.wd}/kept; ls ${lab.directories.node.workitems}; ls $(dirname ${ended.paths.taskDir})/*`,
      )
      expect(look.stdout).toBe('')
      expect(look.stderr.match(/denied|cannot access/gi)?.length).toBe(4)
      stop.abort()
      await running
      other.release()
    },
  )

  it.skipIf(!isRoot)(
    'S1: processes outside of its lane, the helper of another job among them (skipped for ordinary users, whose tasks all run as themselves)',
    async () => {
      const other = await lab.lane(9)
      const { stdout } = await lab.sh(lane, 'for each in /proc/[0-9]*; do read -r name <$each/comm; echo "$name"; done')
      // Pid 1, the helper and the task.
      expect(stdout).toBe('sh\nsh\nsh\n')
      other.release()
    },
  )
})
