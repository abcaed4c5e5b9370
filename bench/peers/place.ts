/** A directory and processes of one system under measurement: all of it goes when it is closed, or this process ends. */
import { type ChildProcess, execFile, execFileSync, type SpawnOptions, spawn } from 'node:child_process'
import { accessSync, constants, rmSync } from 'node:fs'
import { chmod, mkdtemp, open, readFile, rm } from 'node:fs/promises'
import { connect, createServer } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { setTimeout as pause } from 'node:timers/promises'
import { promisify } from 'node:util'
import { Missing } from './missing.ts'

const execute = promisify(execFile)
const readyMs = 60_000

export class Place implements AsyncDisposable {
  readonly dir: string
  readonly #children = new Set<ChildProcess>()
  /** For an end that nothing else can be awaited at. */
  readonly #endNow = () => {
    for (const child of this.#children) killGroup(child, 'SIGKILL')
    rmSync(this.dir, { recursive: true, force: true, maxRetries: 5, retryDelay: 50 })
  }

  private constructor(dir: string) {
    this.dir = dir
    process.once('exit', this.#endNow)
  }

  static async create(name: string): Promise<Place> {
    const dir = await mkdtemp(join(tmpdir(), `batchmesh-peer-${name}-`))
    // Servers that refuse to be root run as users of their own, which must get through.
    await chmod(dir, 0o711)
    return new Place(dir)
  }

  path(name: string): string {
    return join(this.dir, name)
  }

  /** Starts a server in a process group of its own; what it says goes to NAME.log. */
  async server(name: string, words: readonly string[], options: SpawnOptions = {}): Promise<ChildProcess> {
    const log = await open(this.path(`${name}.log`), 'a')
    const child = spawn(words[0]!, words.slice(1), { cwd: this.dir, stdio: ['ignore', log.fd, log.fd], ...options, detached: true })
    this.#children.add(child)
    child.once('error', () => undefined)
    child.once('exit', () => void log.close())
    return child
  }

  /** Runs a command to its end and answers its standard output; throws with what it said when it fails. */
  async run(words: readonly string[], options: { uid?: number; gid?: number; env?: NodeJS.ProcessEnv } = {}): Promise<string> {
    try {
      return (await execute(words[0]!, words.slice(1), { cwd: this.dir, maxBuffer: 64 << 20, ...options })).stdout
    } catch (error) {
      const { message, stderr = '' } = error as Error & { stderr?: string }
      throw new Error(`${message.split('\n')[0]}: ${stderr.slice(-500)}`)
    }
  }

  /** Waits until a server answers on its port; throws with the end of its log when it ends before. */
  async answers(name: string, server: ChildProcess, port: number): Promise<void> {
    await this.until(name, server, () => isOpen(port))
  }

  async until(name: string, server: ChildProcess, isReady: () => Promise<boolean>): Promise<void> {
    const deadline = Date.now() + readyMs
    for (;;) {
      if (await isReady()) return
      if (server.exitCode !== null || server.signalCode !== null || Date.now() > deadline) {
        const log = await readFile(this.path(`${name}.log`), 'utf8').catch(() => '')
        throw new Error(`${name} did not get ready: ${log.slice(-800)}`)
      }
      await pause(50)
    }
  }

  /** Ends all servers, the last one first, and removes the directory. */
  async [Symbol.asyncDispose](): Promise<void> {
    for (const child of [...this.#children].toReversed()) await end(child)
    process.removeListener('exit', this.#endNow)
    await rm(this.dir, { recursive: true, force: true, maxRetries: 20, retryDelay: 100 })
  }
}

async function end(child: ChildProcess): Promise<void> {
  const ended = child.exitCode !== null || child.signalCode !== null || child.pid === undefined
  if (!ended) {
    const exited = new Promise((resolve) => child.once('exit', resolve))
    child.kill('SIGTERM')
    await Promise.race([exited, pause(5000)])
  }
  killGroup(child, 'SIGKILL')
}

function killGroup({ pid }: ChildProcess, signal: NodeJS.Signals): void {
  if (pid === undefined) return
  try {
    process.kill(-pid, signal)
  } catch {
    // Nothing of the group is left.
  }
}

export async function freePort(): Promise<number> {
  return new Promise((resolve, reject) => {
    const server = createServer()
    server.once('error', reject)
    server.listen(0, '127.0.0.1', () => {
      const { port } = server.address() as { port: number }
      server.close(() => resolve(port))
    })
  })
}

function isOpen(port: number): Promise<boolean> {
  return new Promise((resolve) => {
    const socket = connect(port, '127.0.0.1')
    socket.once('connect', () => {
      socket.destroy()
      resolve(true)
    })
    socket.once('error', () => resolve(false))
  })
}

/** The first of these programs' full paths; throws Missing, naming Debian's package, when it is not installed. */
export function program(name: string, debianPackage: string, places: readonly string[] = ['/usr/bin', '/usr/sbin']): string {
  for (const place of places) {
    try {
      accessSync(join(place, name), constants.X_OK)
      return join(place, name)
    } catch {
      // In the next one, perhaps.
    }
  }
  throw new Missing(`${name} is not installed: apt-get install ${debianPackage} (--install does it)`)
}

/** The ids of a system user, for a server that does not run as root; nothing where this process is not root itself. */
export function asUser(name: string): { uid?: number; gid?: number } {
  if (process.getuid?.() !== 0) return {}
  const id = (flag: string) => Number(execFileSync('id', [flag, name], { encoding: 'utf8' }))
  return { uid: id('-u'), gid: id('-g') }
}
