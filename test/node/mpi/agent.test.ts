/** The launch agent as mpirun calls it, against the node's end of its pipes. */
import { execFileSync, spawn } from 'node:child_process'
import {
  chmodSync,
  existsSync,
  linkSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readlinkSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { describe, expect, it } from 'vitest'
import { type AgentRequest, agentScript, maxRequestBytes, memberOf, readRequest } from '../../../node/mpi/agent-script.ts'
import { type AgentAnswer, AgentServer } from '../../../node/mpi/agent-server.ts'
import { maxLaunches } from '../../../protocols/launch.ts'
import { silentLog } from '../../support/worker/fake-parts.ts'

interface Hooks {
  onTestFinished(done: () => void): void
}

interface Asked extends AgentRequest {
  signal: AbortSignal
  answer: (answer: AgentAnswer) => void
  refuse(error: Error): void
}

class AgentLab {
  readonly root = mkdtempSync(join(tmpdir(), 'bm-agent-'))
  readonly dir = join(this.root, 'agents')
  readonly server: AgentServer
  readonly asked: Asked[] = []
  #wake: (() => void) | undefined

  constructor(t: Hooks, members = 4) {
    mkdirSync(this.dir)
    writeFileSync(join(this.root, 'agent'), agentScript)
    chmodSync(join(this.root, 'agent'), 0o755)
    this.server = new AgentServer({
      dir: this.dir,
      owner: undefined,
      members,
      log: silentLog,
      serve: (request, signal) =>
        new Promise((answer, refuse) => {
          this.asked.push({ ...request, signal, answer, refuse })
          this.#wake?.()
        }),
    })
    t.onTestFinished(() => {
      this.server.close()
      rmSync(this.root, { recursive: true, force: true })
    })
  }

  /** The next request. */
  async next(): Promise<Asked> {
    while (this.asked.length === 0)
      await new Promise<void>((resolve) => {
        this.#wake = resolve
      })
    return this.asked.shift()!
  }

  call(words: readonly string[], shell = 'sh') {
    const child = spawn(shell, [join(this.root, 'agent'), ...words], { env: { PATH: process.env.PATH, BATCHMESH_LAUNCH_DIR: this.root } })
    let [stdout, stderr] = ['', '']
    child.stdout.on('data', (data: Buffer) => {
      stdout += data.toString()
    })
    child.stderr.on('data', (data: Buffer) => {
      stderr += data.toString()
    })
    const ended = new Promise<{ code: number | null; stdout: string; stderr: string }>((resolve) =>
      child.once('close', (code) => resolve({ code, stdout, stderr })),
    )
    return { child, ended }
  }

  fifo(...names: string[]): void {
    execFileSync(
      'mkfifo',
      names.map((name) => join(this.dir, name)),
    )
  }
}

const shells = ['sh', 'bash', 'busybox'].filter((name) => ['/bin', '/usr/bin'].some((dir) => existsSync(join(dir, name))))

describe('the launch agent', () => {
  it.each(shells.filter((name) => name !== 'busybox'))(
    'in %s: asks its node for the host and the words, and ends with their exit code',
    async (shell) => {
      const lab = new AgentLab(shellHooks())
      const { ended } = lab.call(['h2', '', 'orted', '-mca', 'ess', '"env"'], shell)
      const asked = await lab.next()
      expect(asked).toMatchObject({ host: 'h2', text: ' orted -mca ess "env"' })
      asked.answer({ exitCode: 7, said: 'one\ntwo' })
      expect(await ended).toEqual({ code: 7, stdout: '', stderr: 'one\ntwo\n' })
      expect(readdirSync(lab.dir)).toEqual([])
      lab.server.close()
      rmSync(lab.root, { recursive: true })
    },
  )

  it('understands what launchers tell ssh: options, and a user', async (t) => {
    const lab = new AgentLab(t)
    const { ended } = lab.call(['-x', '-p', '22', '-oBatchMode=yes', 'me@h3', '"/usr/bin/hydra_pmi_proxy"', '--control-port', 'h1:4'])
    const asked = await lab.next()
    expect(asked).toMatchObject({ host: 'h3', text: '"/usr/bin/hydra_pmi_proxy" --control-port h1:4' })
    asked.answer({ exitCode: 0, said: '' })
    expect(await ended).toEqual({ code: 0, stdout: '', stderr: '' })
  })

  it('runs the words itself where the host is its own', async (t) => {
    const lab = new AgentLab(t)
    const { ended } = lab.call(['h1', 'echo "a  b"; exit 3'])
    ;(await lab.next()).answer('here')
    expect(await ended).toEqual({ code: 3, stdout: 'a  b\n', stderr: '' })
  })

  it('ends with 255, as ssh does, and says why, when the program cannot be run', async (t) => {
    const lab = new AgentLab(t)
    const { ended } = lab.call(['h9', 'true'])
    ;(await lab.next()).refuse(new Error('h9 was lost.'))
    expect(await ended).toEqual({ code: 255, stdout: '', stderr: 'batchmesh: h9 was lost.\n' })
  })

  it('ends with 255 when its node goes away', async (t) => {
    const lab = new AgentLab(t)
    const { ended } = lab.call(['h2', 'true'])
    await lab.next()
    lab.server.close()
    expect(await ended).toMatchObject({ code: 255, stderr: expect.stringContaining('node of this machine ended') })
  })

  it('ends what it asked for when it is killed', async (t) => {
    const lab = new AgentLab(t)
    const { child, ended } = lab.call(['h2', 'sleep 1000'])
    const { signal } = await lab.next()
    const aborted = new Promise((resolve) => signal.addEventListener('abort', resolve, { once: true }))
    child.kill('SIGKILL')
    await ended
    await aborted
  })

  it('says what it needs when it is called by hand', async (t) => {
    const lab = new AgentLab(t)
    expect(await lab.call(['h2']).ended).toMatchObject({ code: 255, stderr: expect.stringContaining('needs a host and a command') })
  })

  it('serves many at once', async (t) => {
    const lab = new AgentLab(t)
    const calls = Array.from({ length: 30 }, (_, n) => lab.call([`h${n}`, 'true']))
    for (let n = 0; n < calls.length; n += 1) {
      const { host, answer } = await lab.next()
      answer({ exitCode: Number(host.slice(1)), said: '' })
    }
    expect((await Promise.all(calls.map(({ ended }) => ended))).map(({ code }) => code)).toEqual(calls.map((_, n) => n))
  })
})

/** For tests that clean up themselves, because vitest runs their rows with one context. */
function shellHooks(): Hooks {
  return { onTestFinished: () => undefined }
}

describe('S1: what a task puts in the place of an agent', () => {
  it('is left alone if it is no pipe, a link, or has no second end, and others are served', async (t) => {
    const lab = new AgentLab(t)
    writeFileSync(join(lab.root, 'secret'), 'h1\ntext\0')
    symlinkSync(join(lab.root, 'secret'), join(lab.dir, '1.in'))
    linkSync(join(lab.root, 'secret'), join(lab.dir, '2.in'))
    lab.fifo('real', '1.out', '2.out', '3.in')
    symlinkSync(join(lab.dir, 'real'), join(lab.dir, '4.in'))
    lab.fifo('4.out')
    mkdirSync(join(lab.dir, '5.in'))
    const { ended } = lab.call(['h2', 'true'])
    const asked = await lab.next()
    expect(asked.host).toBe('h2')
    asked.answer({ exitCode: 0, said: '' })
    expect((await ended).code).toBe(0)
    expect(lab.asked).toEqual([])
  })

  it('is bounded: more agents than launches can be wait', async (t) => {
    const lab = new AgentLab(t, 1)
    const names = Array.from({ length: maxLaunches + 5 }, (_, n) => String(n + 1))
    lab.fifo(...names.map((name) => `${name}.out`), ...names.map((name) => `${name}.in`))
    const writers = names.map((name) => {
      const script = `exec 3>${name}.in 4<${name}.out; printf 'h${name}\\ntrue\\0' >&3; cat <&4`
      return new Promise((resolve) => spawn('sh', ['-c', script], { cwd: lab.dir, stdio: 'ignore' }).once('close', resolve))
    })
    const first: Asked[] = []
    while (first.length < maxLaunches) first.push(await lab.next())
    expect(lab.asked).toEqual([])
    for (const { answer } of first) answer({ exitCode: 0, said: '' })
    for (let n = 0; n < 5; n += 1) (await lab.next()).answer({ exitCode: 0, said: '' })
    await Promise.all(writers)
  })

  it('cannot hold the node by a pipe that is full already: with the attempt all is let go', async (t) => {
    const lab = new AgentLab(t)
    lab.fifo('1.out', '1.in')
    const script = 'exec 3>1.in 4<>1.out; head -c 65536 /dev/zero >&4; printf "h1\\ntrue\\0" >&3; exec sleep 1000'
    const task = spawn('sh', ['-c', script], { cwd: lab.dir, stdio: 'ignore' })
    t.onTestFinished(() => void task.kill('SIGKILL'))
    const held = () =>
      readdirSync('/proc/self/fd').flatMap((fd) => {
        try {
          const to = readlinkSync(`/proc/self/fd/${fd}`)
          return /\/1\.(in|out)\b/.test(to) && to.startsWith(lab.dir) ? [to] : []
        } catch {
          return []
        }
      })
    const until = async (count: number) => {
      while (held().length !== count) await new Promise((resolve) => setTimeout(resolve, 5))
    }
    const asked = await lab.next()
    await until(2)
    asked.answer({ exitCode: 0, said: '' })
    await until(1)
    lab.server.close()
    await until(0)
  })

  it('cannot make the node hold more than a request', async (t) => {
    const lab = new AgentLab(t)
    lab.fifo('1.out', '1.in')
    const writer = spawn('sh', ['-c', 'exec 3>1.in 4<1.out; (head -c 100000000 /dev/zero | tr "\\0" x >&3) & exec 3>&-; cat <&4'], {
      cwd: lab.dir,
    })
    let said = ''
    writer.stdout.on('data', (data: Buffer) => {
      said += data.toString()
    })
    await new Promise((resolve) => writer.once('close', resolve))
    expect(said).toMatch(/^255\nbatchmesh: .* at most 131072 bytes/)
    expect(lab.asked).toEqual([])
  })
})

describe('a request of an agent', () => {
  const bytes = (text: string) => new TextEncoder().encode(text)
  it('is whole at its NUL', () => {
    expect(readRequest(bytes('h1\nls -'))).toBeUndefined()
    expect(readRequest(bytes('h1\nls\n-l\0more'))).toEqual({ host: 'h1', text: 'ls\n-l' })
  })
  it.each([
    ['\nls\0'],
    ['h1\0'],
    ['h1\n \0'],
    [`${'h'.repeat(256)}\nls\0`],
    [`h\n${'x'.repeat(131_073)}\0`],
    ['x'.repeat(maxRequestBytes + 1)],
  ])('that is none (%#) is refused', (text) => {
    expect(() => readRequest(bytes(text))).toThrow(/\.$/)
  })
  it('that is no text is refused', () => {
    expect(() => readRequest(new Uint8Array([0x68, 10, 0xff, 0]))).toThrow('UTF-8')
  })
  it('keeps daemons of Open MPI with the launch', () => {
    const text = (whole: string) => readRequest(bytes(`h\n${whole}\0`))!.text
    expect(text('orted --daemonize -mca ess "env"')).toBe('orted  -mca ess "env"')
    expect(text('PATH=/x ; export PATH ; prted --prtemca plm ssh --daemonize')).toBe('PATH=/x ; export PATH ; prted --prtemca plm ssh ')
    expect(text('other --daemonize')).toBe('other --daemonize')
  })
})

describe('a host', () => {
  const members = [
    { nodeId: 'tvm-1-a', address: '10.0.0.1', name: 'one' },
    { nodeId: 'tvm-2-a', address: '10.0.0.1', name: 'one' },
    { nodeId: 'tvm-3-b', address: '10.0.0.2', name: 'Two' },
  ]
  it.each([
    ['tvm-2-a', 1],
    ['TVM-3-b', 2],
    ['10.0.0.1', 0],
    ['10.0.0.2', 2],
    ['two', 2],
    ['localhost', 0],
    ['three', undefined],
    ['', undefined],
  ])('%s is member %s', (host, index) => {
    expect(memberOf(host, members)).toBe(index)
  })
})
