/**
 * A large blob between machines: one file from a cold store to a cold store of another process, hashed on both
 * sides, synced on the disk; as a share of a bare libp2p stream (support/bare-stream.ts), in turn with it in the same run.
 */
import { type ChildProcess, spawn } from 'node:child_process'
import { once } from 'node:events'
import { rm, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { createInterface } from 'node:readline'
import { fileURLToPath } from 'node:url'
import { connect } from '../src/mesh.ts'
import { type Bench, numbers } from './bench.ts'
import { cpuOfTree } from './cpu.ts'
import { BenchLab, type BenchNode, median } from './lab.ts'
import { writeRandom } from './support/random-file.ts'

const bareStream = fileURLToPath(new URL('support/bare-stream.ts', import.meta.url))
const MiB = 1 << 20

export const bench: Bench = {
  usage: '[--mib 1024] [--rounds 3]',
  async run(args) {
    const { mib, rounds } = numbers(args, { mib: 1024, rounds: 3 })
    const result = await benchTransfer({ MiB: mib, rounds })
    const lines = [
      ...result.rounds.map(
        (round) =>
          `mesh ${round.meshMiBPerSecond.toFixed(0)} MiB/s   bare stream ${round.bareMiBPerSecond.toFixed(0)} MiB/s   share ${round.share.toFixed(2)}   CPU s/GiB ${round.meshCpu.toFixed(1)} against ${round.bareCpu.toFixed(1)}`,
      ),
      `\none blob of ${result.MiB} MiB from a cold store to another, median of ${result.rounds.length}: ${result.share.toFixed(2)} of a bare libp2p stream, ${result.cpuShare.toFixed(2)} by CPU time`,
    ]
    return { result, lines }
  },
}

export interface TransferRound {
  meshMiBPerSecond: number
  bareMiBPerSecond: number
  share: number
  /** CPU seconds a GiB of both processes together. */
  meshCpu: number
  bareCpu: number
}

export interface TransferResult {
  MiB: number
  rounds: TransferRound[]
  share: number
  cpuShare: number
}

export async function benchTransfer(options: { MiB: number; rounds: number }): Promise<TransferResult> {
  const lab = await BenchLab.create()
  const bare = await BareStream.start()
  try {
    const from = await lab.up('from', ['--lend-cpus', '0'])
    const to = await lab.up('to', ['--lend-cpus', '0'], from)
    const rounds: TransferRound[] = []
    for (let round = 0; round < options.rounds; round += 1) {
      const { seconds, cpuSeconds: spent } = await bare.send(options.MiB * MiB)
      const bareCpu = (spent * 1024) / options.MiB
      const mesh = await oneTransfer(lab, from, to, options.MiB)
      const bareMiBPerSecond = options.MiB / seconds
      const meshMiBPerSecond = options.MiB / mesh.seconds
      rounds.push({ meshMiBPerSecond, bareMiBPerSecond, share: meshMiBPerSecond / bareMiBPerSecond, meshCpu: mesh.cpu, bareCpu })
    }
    return {
      MiB: options.MiB,
      rounds,
      share: median(rounds.map(({ share }) => share)),
      cpuShare: median(rounds.map(({ meshCpu, bareCpu }) => bareCpu / meshCpu)),
    }
  } finally {
    bare.stop()
    await lab.close()
  }
}

async function oneTransfer(lab: BenchLab, from: BenchNode, to: BenchNode, size: number) {
  const file = join(lab.dir, 'file')
  await writeRandom(file, size)
  const [{ id }] = JSON.parse(await lab.cli(from, ['blob', 'put', file, '-o', 'json'])) as [{ id: string }]
  await dropCaches()
  const mesh = await connect({ dataDir: to.dataDir })
  try {
    const before = cpuSeconds(from.pid) + cpuSeconds(to.pid)
    const start = performance.now()
    await mesh.local.call('fetch', { id }, { timeoutMs: 600_000 })
    const seconds = (performance.now() - start) / 1000
    const cpu = (cpuSeconds(from.pid) + cpuSeconds(to.pid) - before) * (1024 / size)
    return { seconds, cpu }
  } finally {
    await mesh.close()
    await rm(file)
  }
}

/** CPU seconds that a process has used. */
function cpuSeconds(pid: number): number {
  const { user, system } = cpuOfTree(pid).own
  return (user + system) / 1000
}

/** So that the sender reads from its disk. Where that is not allowed it reads from memory, and so the result says. */
async function dropCaches(): Promise<boolean> {
  return await writeFile('/proc/sys/vm/drop_caches', '1').then(
    () => true,
    () => false,
  )
}

/** The other end of support/bare-stream.ts, in a process that stays. */
class BareStream {
  readonly #receiver: ChildProcess
  readonly #address: string

  private constructor(receiver: ChildProcess, address: string) {
    this.#receiver = receiver
    this.#address = address
  }

  static async start(): Promise<BareStream> {
    const receiver = spawn(process.execPath, [bareStream, 'receive'], { stdio: ['ignore', 'pipe', 'inherit'] })
    const [address] = (await once(createInterface(receiver.stdout), 'line')) as [string]
    return new BareStream(receiver, address)
  }

  /** Seconds that sending took, and CPU seconds of both sides. */
  async send(bytes: number): Promise<{ seconds: number; cpuSeconds: number }> {
    const before = cpuSeconds(this.#receiver.pid!)
    const sender = spawn(process.execPath, [bareStream, 'send', this.#address, String(bytes)], { stdio: ['ignore', 'pipe', 'inherit'] })
    const [line] = (await once(createInterface(sender.stdout), 'line')) as [string]
    const { seconds, cpuSeconds: spent } = JSON.parse(line) as { seconds: number; cpuSeconds: number }
    return { seconds, cpuSeconds: spent + cpuSeconds(this.#receiver.pid!) - before }
  }

  stop(): void {
    this.#receiver.kill()
  }
}
