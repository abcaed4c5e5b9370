/**
 * A mesh of real processes: `bin/batchmesh` in a temporary directory, on loopback, without mDNS.
 *
 *     const lab = await MeshLab.create(t)                  // t: the test's context; everything is cleaned up after it
 *     const founder = await lab.up('founder')              // a node in the foreground, ready
 *     const worker = await lab.up('worker', { join: founder, args: ['--lend-cpus', '1'] })
 *     const ran = await lab.cli(founder, ['run', 'hostname'])   // { code, stdout, stderr }
 *     const machines = await lab.json(founder, ['machine', 'list'])
 *     await lab.until('both are connected', async () => (await lab.json(founder, ['status'])).mesh.machines.connected === 2)
 *     await worker.kill('SIGKILL')
 *     await lab.up('worker')                               // the same data directory and port again
 */
import { type ChildProcess, spawn } from 'node:child_process'
import { chmod, mkdtemp, readdir, readFile, realpath, rm } from 'node:fs/promises'
import { createServer } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { setTimeout as pause } from 'node:timers/promises'
import { fileURLToPath } from 'node:url'

export const batchmesh = fileURLToPath(new URL('../../../bin/batchmesh', import.meta.url))

export interface Ran {
  /** -1 when a signal ended it. */
  code: number
  stdout: string
  stderr: string
}

export interface UpOptions {
  /** The node to join (an invitation for worker and submitter is made there), or a token. */
  join?: NodeProcess | string
  /** More arguments of `up`. */
  args?: string[]
  /** Instead of the port of its own and `--listen 127.0.0.1 --no-mdns`. */
  network?: string[]
  env?: Record<string, string | undefined>
  /** Words in front of the command, such as `ip netns exec h1`. */
  within?: string[]
  /** How long it may take until it is ready. */
  deadlineMs?: number
}

export interface CliOptions {
  stdin?: string
  env?: Record<string, string | undefined>
  cwd?: string
  within?: string[]
  /** The command is killed after this. */
  deadlineMs?: number
}

/** What of vitest's test context the lab needs. */
interface TestHooks {
  onTestFinished(done: () => Promise<void>): void
  onTestFailed(done: () => void): void
}

export class NodeProcess {
  readonly name: string
  readonly dataDir: string
  readonly pid: number
  /** The invitation that a founder printed at its first start. */
  readonly token: string | undefined
  readonly exited: Promise<Ran>
  readonly #running: Running
  readonly #lab: MeshLab

  constructor(lab: MeshLab, name: string, dataDir: string, running: Running) {
    this.#lab = lab
    this.name = name
    this.dataDir = dataDir
    this.#running = running
    this.pid = running.child.pid!
    this.token = /--join (\S+)/.exec(running.stdout())?.[1]
    this.exited = running.exited
  }

  get stdout(): string {
    return this.#running.stdout()
  }

  /** What the node has logged so far: JSON lines. */
  get log(): string {
    return this.#running.stderr()
  }

  /** Sends the signal and, unless it only stops or continues the process, waits until it is gone. */
  async kill(signal: NodeJS.Signals = 'SIGKILL'): Promise<void> {
    this.#running.child.kill(signal)
    if (signal !== 'SIGSTOP' && signal !== 'SIGCONT') await this.exited
  }

  /** `batchmesh down` with these arguments; throws when it fails. */
  async down(...args: string[]): Promise<void> {
    const { code, stderr } = await this.#lab.cli(this, ['down', ...args])
    if (code !== 0) throw new Error(`batchmesh down of ${this.name} ended with ${code}: ${stderr}`)
    await this.exited
  }
}

export class MeshLab {
  /** A directory for this lab alone, which every user may pass through. */
  readonly root: string
  readonly #running = new Set<Running>()
  readonly #nodes: NodeProcess[] = []
  readonly #ports = new Map<string, number>()
  readonly #killAll = () => {
    for (const { child } of this.#running) child.kill('SIGKILL')
  }

  private constructor(root: string) {
    this.root = root
    process.once('exit', this.#killAll)
  }

  /** Without a context (in `beforeAll`) the caller closes it. */
  static async create(t?: TestHooks): Promise<MeshLab> {
    const root = await mkdtemp(join(await realpath(tmpdir()), 'bm-e2e-'))
    await chmod(root, 0o711)
    const lab = new MeshLab(root)
    t?.onTestFinished(() => lab.close())
    t?.onTestFailed(() => console.error(lab.logs()))
    return lab
  }

  dataDir(name: string): string {
    return join(this.root, name)
  }

  /** Starts a node and waits until it is ready; throws with what it said when it ends before. */
  async up(name: string, options: UpOptions = {}): Promise<NodeProcess> {
    const dataDir = this.dataDir(name)
    const token = options.join instanceof NodeProcess ? await this.invite(options.join) : options.join
    const network = options.network ?? ['--port', String(await this.port(name)), '--listen', '127.0.0.1', '--no-mdns']
    const words = [batchmesh, 'up', '--data', dataDir, '--name', name, ...network, ...(options.args ?? [])]
    const env = token === undefined ? options.env : { BATCHMESH_JOIN: token, ...options.env }
    const running = this.#start([...(options.within ?? []), ...words], { env })
    const deadline = AbortSignal.timeout(options.deadlineMs ?? 60_000)
    await new Promise<void>((resolve, reject) => {
      const fail = (why: string) => reject(new Error(`${name} ${why}:\n${running.stdout()}\n${running.stderr()}`))
      const look = () => /^Node .* mesh \S+\.$/m.test(running.stdout()) && resolve()
      running.child.stdout!.on('data', look)
      void running.exited.then(({ code }) => fail(`ended with ${code} before it was ready`))
      deadline.addEventListener('abort', () => fail('did not become ready in time'))
    })
    const node = new NodeProcess(this, name, dataDir, running)
    this.#nodes.push(node)
    return node
  }

  /** A token of that node: `invite` with these arguments. */
  async invite(node: NodeProcess, ...args: string[]): Promise<string> {
    const { code, stdout, stderr } = await this.cli(node, ['invite', ...args])
    if (code !== 0) throw new Error(`batchmesh invite ended with ${code}: ${stderr}`)
    return stdout.trim()
  }

  /** Runs `batchmesh ARGS` against the node (or a data directory by its name); never throws for an exit code. */
  async cli(node: NodeProcess | string, args: readonly string[], options: CliOptions = {}): Promise<Ran> {
    const dataDir = typeof node === 'string' ? this.dataDir(node) : node.dataDir
    const env = { BATCHMESH_DATA: dataDir, ...options.env }
    const running = this.#start([...(options.within ?? []), batchmesh, ...args], { env, cwd: options.cwd })
    running.child.stdin!.end(options.stdin ?? '')
    const timer = setTimeout(() => running.child.kill('SIGKILL'), options.deadlineMs ?? 120_000)
    const ran = await running.exited
    clearTimeout(timer)
    return ran
  }

  /** What the command prints with `-o json`; throws when it fails. */
  // biome-ignore lint/suspicious/noExplicitAny: each command has its own answer, and a test that reads it wrongly fails
  async json(node: NodeProcess | string, args: readonly string[], options: CliOptions = {}): Promise<any> {
    const split = args.includes('--') ? args.indexOf('--') : args.length
    const { code, stdout, stderr } = await this.cli(node, [...args.slice(0, split), '-o', 'json', ...args.slice(split)], options)
    if (code !== 0) throw new Error(`batchmesh ${args.join(' ')} ended with ${code}: ${stderr}${stdout}`)
    return JSON.parse(stdout)
  }

  /** Starts a command of the lab's that a test speaks with itself; killed at the end. `BATCHMESH_*` of the outside is not passed on. */
  spawn(words: readonly string[], options: { env?: Record<string, string | undefined>; cwd?: string } = {}): Running {
    return this.#start(words, options)
  }

  /** Asks again and again until the answer is truthy, and returns it; what is thrown counts as not yet. */
  async until<T>(what: string, ask: () => T | Promise<T>, options: { deadlineMs?: number; everyMs?: number } = {}): Promise<T> {
    const deadline = Date.now() + (options.deadlineMs ?? 60_000)
    for (;;) {
      let last: unknown
      try {
        const answer = await ask()
        if (answer) return answer
        last = answer
      } catch (error) {
        last = error
      }
      if (Date.now() > deadline) throw new Error(`It did not come about that ${what}; last: ${String(last)}`)
      await pause(options.everyMs ?? 100)
    }
  }

  /** The end of every node's log, for a test that failed. */
  logs(): string {
    return this.#nodes.map(({ name, log }) => `--- ${name}\n${log.split('\n').slice(-40).join('\n')}`).join('\n')
  }

  /** Kills what is left and removes the directory. */
  async close(): Promise<void> {
    this.#killAll()
    for (const pid of await this.#strays()) kill(pid)
    await Promise.all([...this.#running].map(({ exited }) => exited))
    process.removeListener('exit', this.#killAll)
    // What a dying process still writes makes the first attempt fail.
    await rm(this.root, { recursive: true, force: true, maxRetries: 20, retryDelay: 100 })
  }

  #start(words: readonly string[], options: { env?: Record<string, string | undefined> | undefined; cwd?: string | undefined }): Running {
    const outside = Object.entries(process.env).filter(([name]) => !name.startsWith('BATCHMESH_') && !name.startsWith('VITEST'))
    const env = { ...Object.fromEntries(outside), NO_COLOR: '1', BATCHMESH_CONFIG: '', ...options.env }
    const child = spawn(words[0]!, words.slice(1), { env, cwd: options.cwd ?? this.root, stdio: 'pipe' })
    const running = new Running(child)
    this.#running.add(running)
    void running.exited.then(() => this.#running.delete(running))
    return running
  }

  /** Detached nodes of this lab: their data directory is among their arguments. */
  async #strays(): Promise<number[]> {
    if (process.platform !== 'linux') return []
    const found: number[] = []
    for (const entry of await readdir('/proc')) {
      if (!/^\d+$/.test(entry)) continue
      const words = await readFile(`/proc/${entry}/cmdline`, 'utf8').catch(() => '')
      if (words.split('\0').some((word) => word.startsWith(`${this.root}/`)) && Number(entry) !== process.pid) found.push(Number(entry))
    }
    return found
  }

  /** The same one at each start of a node, so that others find it again. Below the ephemeral ports, which dials take. */
  async port(name: string): Promise<number> {
    const known = this.#ports.get(name)
    if (known !== undefined) return known
    for (;;) {
      const port = 20_000 + Math.floor(Math.random() * 12_000)
      if (![...this.#ports.values()].includes(port) && (await isFree(port))) {
        this.#ports.set(name, port)
        return port
      }
    }
  }
}

/** A process whose output is kept. */
export class Running {
  readonly child: ChildProcess
  readonly exited: Promise<Ran>
  readonly #pieces: { stdout: Buffer[]; stderr: Buffer[] } = { stdout: [], stderr: [] }

  constructor(child: ChildProcess) {
    this.child = child
    child.stdout!.on('data', (piece: Buffer) => this.#pieces.stdout.push(piece))
    child.stderr!.on('data', (piece: Buffer) => this.#pieces.stderr.push(piece))
    // A command that ends before it has read all is no error of the test.
    child.stdin!.on('error', () => undefined)
    this.exited = new Promise((resolve, reject) => {
      child.once('error', reject)
      child.once('close', (code) => resolve({ code: code ?? -1, stdout: this.stdout(), stderr: this.stderr() }))
    })
  }

  stdout(): string {
    return Buffer.concat(this.#pieces.stdout).toString()
  }

  stderr(): string {
    return Buffer.concat(this.#pieces.stderr).toString()
  }
}

function kill(pid: number): void {
  try {
    process.kill(pid, 'SIGKILL')
  } catch {
    // It has ended meanwhile.
  }
}

function isFree(port: number): Promise<boolean> {
  return new Promise((resolve) => {
    const server = createServer()
    server.once('error', () => resolve(false))
    server.listen(port, '127.0.0.1', () => server.close(() => resolve(true)))
  })
}
