/** The nodes of the demonstration: real processes on this machine, all of them gone when it ends. */
import { execFile, spawn } from 'node:child_process'
import { once } from 'node:events'
import { createWriteStream, existsSync, mkdirSync, readdirSync, readFileSync, rmSync } from 'node:fs'
import { chmod, copyFile, mkdtemp } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'

const root = join(import.meta.dirname, '..')
const batchmesh = join(root, 'bin', 'batchmesh')
/** A node that does not end by itself within this time is killed. */
const downMs = 10_000

export interface DemoNode {
  name: string
  dataDir: string
  pid: number
  peer: string
}

/** Runs one command to its end and answers its standard output. Rejects with its standard error. */
export function run(program: string, args: readonly string[], options: { cwd?: string } = {}): Promise<string> {
  return new Promise((resolve, reject) => {
    execFile(program, args, { cwd: root, maxBuffer: 64 << 20, ...options }, (error, stdout, stderr) => {
      if (error === null) resolve(stdout)
      else
        reject(
          new Error(`${[program, ...args].join(' ')} failed (${error.code ?? error.signal}):\n${stderr}${stdout}`.trim(), { cause: error }),
        )
    })
  })
}

function isAlive(pid: number): boolean {
  try {
    process.kill(pid, 0)
  } catch (error) {
    return (error as NodeJS.ErrnoException).code === 'EPERM'
  }
  // a process that has ended but that nobody has waited for is no process any more
  try {
    return !/^\d+ \(.*\) Z/s.test(readFileSync(`/proc/${pid}/stat`, 'utf8'))
  } catch {
    return existsSync('/proc/self') === false
  }
}

export class DemoMesh {
  readonly nodes: DemoNode[] = []
  readonly tmp: string
  /** Data directories of nodes that were asked to start, also of those that have not said their pid yet. */
  readonly #started = new Set<string>()

  private constructor(tmp: string) {
    this.tmp = tmp
  }

  static async create(): Promise<DemoMesh> {
    const tmp = await mkdtemp(join(tmpdir(), 'batchmesh-demo-'))
    // where the nodes run as root their tasks are users of their own, who must get through
    await chmod(tmp, 0o711)
    return new DemoMesh(tmp)
  }

  /** Starts a node in the background and waits until it is ready. */
  async up(name: string, args: readonly string[]): Promise<DemoNode> {
    const dataDir = join(this.tmp, name)
    mkdirSync(dataDir)
    this.#started.add(dataDir)
    // only this machine is meant: neither other networks nor meshes that are announced there
    const local = ['--port', '0', '--listen', '127.0.0.1', '--no-mdns']
    const said = await run(batchmesh, ['up', '--data', dataDir, '--detach', '--name', name, ...local, ...args, '-o', 'json'])
    const { pid, peer } = JSON.parse(said) as { pid: number; peer: string }
    const node = { name, dataDir, pid, peer }
    this.nodes.push(node)
    return node
  }

  async invite(founder: DemoNode, uses: number): Promise<string> {
    const said = await run(batchmesh, ['invite', '--data', founder.dataDir, '--uses', String(uses), '-o', 'json'])
    return (JSON.parse(said) as { token: string }).token
  }

  /** `batchmesh ARGS` at a node. */
  async command(node: DemoNode, args: readonly string[]): Promise<string> {
    return await run(batchmesh, [...args, '--data', node.dataDir])
  }

  /** `batchmesh ARGS` at a node, its output going to a file; the exit code. */
  async submit(node: DemoNode, args: readonly string[], logPath: string, cwd: string): Promise<number> {
    const child = spawn(batchmesh, [...args, '--data', node.dataDir], { cwd, stdio: ['ignore', 'pipe', 'pipe'] })
    const log = createWriteStream(logPath)
    child.stdout.pipe(log, { end: false })
    child.stderr.pipe(log, { end: false })
    const [code, signal] = (await once(child, 'close')) as [number | null, NodeJS.Signals | null]
    log.end()
    return code ?? (signal === null ? 1 : 130)
  }

  /** As a power cut does it. */
  kill(node: DemoNode): void {
    process.kill(node.pid, 'SIGKILL')
  }

  /** Copies the logs of the nodes to a directory as NAME.log. */
  async keepLogs(to: string): Promise<void> {
    for (const dataDir of this.#started) {
      const log = join(dataDir, 'log', 'node.log')
      if (existsSync(log)) await copyFile(log, join(to, `${dataDir.slice(this.tmp.length + 1)}.log`))
    }
  }

  /** Ends all nodes and removes their data; answers what could not be ended, as lines of pid and command. */
  async close(): Promise<string[]> {
    const pids = this.nodes.map(({ pid }) => pid)
    await Promise.all([...this.#started].map((dataDir) => run(batchmesh, ['down', '--data', dataDir]).catch(() => undefined)))
    const deadline = Date.now() + downMs
    while (pids.some(isAlive) && Date.now() < deadline) await sleep(50)
    for (const pid of pids.filter(isAlive)) process.kill(pid, 'SIGKILL')
    // a task's processes name the data directory by their working directory or their command
    let left = this.#leftovers()
    for (let tries = 0; left.length > 0 && tries < 20; tries++) {
      await sleep(100)
      left = this.#leftovers()
    }
    rmSync(this.tmp, { recursive: true, force: true, maxRetries: 3 })
    return left
  }

  #leftovers(): string[] {
    if (!existsSync('/proc/self')) return this.nodes.filter(({ pid }) => isAlive(pid)).map(({ pid, name }) => `${pid} ${name}`)
    const found: string[] = []
    for (const pid of readdirSync('/proc').filter((name) => /^\d+$/.test(name) && Number(name) !== process.pid)) {
      try {
        const command = readFileSync(`/proc/${pid}/cmdline`, 'utf8').replaceAll('\0', ' ')
        const environment = readFileSync(`/proc/${pid}/environ`, 'utf8')
        if ((command.includes(this.tmp) || environment.includes(this.tmp)) && isAlive(Number(pid))) found.push(`${pid} ${command}`)
      } catch {
        // it has ended meanwhile, or is another user's
      }
    }
    return found
  }
}
