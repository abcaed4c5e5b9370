/** Nodes for a benchmark: real processes of the built package, in a directory that is removed afterwards. */
import { execFile } from 'node:child_process'
import { chmod, mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { promisify } from 'node:util'
import type { CpuMs } from './cpu.ts'

const run = promisify(execFile)
const command = fileURLToPath(new URL('../bin/batchmesh', import.meta.url))

export interface BenchNode {
  dataDir: string
  pid: number
}

export class BenchLab {
  readonly dir: string
  readonly #nodes: BenchNode[] = []

  private constructor(dir: string) {
    this.dir = dir
  }

  static async create(): Promise<BenchLab> {
    const dir = await mkdtemp(join(tmpdir(), 'batchmesh-bench-'))
    // Tasks of a root node run as users of their own, which must get through.
    await chmod(dir, 0o711)
    return new BenchLab(dir)
  }

  /** Starts a node; `from` is one that invites it, `env` is added to its environment. */
  async up(name: string, args: readonly string[], from?: BenchNode, env: Record<string, string> = {}): Promise<BenchNode> {
    const dataDir = join(this.dir, name)
    const join_ = from === undefined ? [] : ['--join', JSON.parse(await this.cli(from, ['invite', '-o', 'json'])).token]
    const words = [
      'up',
      '--data',
      dataDir,
      '--name',
      name,
      '--port',
      '0',
      '--listen',
      '127.0.0.1',
      '--no-mdns',
      '--detach',
      '-o',
      'json',
      ...args,
      ...join_,
    ]
    const { stdout } = await run(command, words, { env: { ...process.env, ...env } })
    const node = { dataDir, pid: JSON.parse(stdout).pid as number }
    this.#nodes.push(node)
    return node
  }

  async cli(node: BenchNode, args: readonly string[]): Promise<string> {
    return (await run(command, [...args, '--data', node.dataDir], { maxBuffer: 64 << 20 })).stdout
  }

  async close(): Promise<void> {
    for (const node of this.#nodes.toReversed()) await this.cli(node, ['down']).catch(() => undefined)
    await rm(this.dir, { recursive: true, force: true })
  }
}

export interface ShellCost {
  seconds: number
  /** Of all processes that it started and waited for. */
  cpu: CpuMs
}

/** What a shell command takes. */
export async function costOfShell(script: string): Promise<ShellCost> {
  const start = performance.now()
  const { stdout } = await run('/bin/sh', ['-c', `{ ${script}; } >/dev/null || exit; times`])
  const seconds = (performance.now() - start) / 1000
  // The second line is of the shell's children (POSIX: times).
  const times = [...stdout.split('\n')[1]!.matchAll(/([0-9]+)m([0-9.]+)s/g)].map(([, m, s]) => (Number(m) * 60 + Number(s)) * 1000)
  return { seconds, cpu: { user: times[0]!, system: times[1]! } }
}

export function median(values: readonly number[]): number {
  const sorted = [...values].sort((a, b) => a - b)
  return sorted[Math.floor(sorted.length / 2)]!
}
