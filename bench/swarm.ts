/**
 * One blob from one seed to several processes that all fetch it at the same time: how often the seed sends it, and how long
 * that takes against sending it to one after the other.
 */
import { readFile } from 'node:fs/promises'
import { join } from 'node:path'
import { connect } from '../src/mesh.ts'
import { type Bench, numbers } from './bench.ts'
import { BenchLab, type BenchNode } from './lab.ts'
import { writeRandom } from './support/random-file.ts'

export const bench: Bench = {
  usage: '[--mib 128] [--peers 8]',
  async run(args) {
    const { mib, peers } = numbers(args, { mib: 128, peers: 8 })
    const { seconds, sent } = await swarm(mib, peers)
    const result = { mib, peers, seconds, sentMiB: sent / 2 ** 20, share: sent / 2 ** 20 / mib }
    return {
      result,
      lines: [
        `${mib} MiB from one seed to ${peers} processes at once: ${seconds.toFixed(1)} s, sent by the seed ${result.share.toFixed(2)} times its size`,
      ],
    }
  },
}

async function swarm(mib: number, peers: number): Promise<{ seconds: number; sent: number }> {
  const lab = await BenchLab.create()
  try {
    const seed = await lab.up('seed', ['--lend-cpus', '0'])
    const others: BenchNode[] = []
    for (let at = 0; at < peers; at += 1) others.push(await lab.up(`peer-${at}`, ['--lend-cpus', '0'], seed))
    const file = join(lab.dir, 'file')
    await writeRandom(file, mib)
    const [{ id }] = JSON.parse(await lab.cli(seed, ['blob', 'put', file, '-o', 'json'])) as [{ id: string }]
    const meshes = await Promise.all(others.map(({ dataDir }) => connect({ dataDir })))
    try {
      const before = await writtenBytes(seed.pid)
      const start = performance.now()
      await Promise.all(meshes.map((mesh) => mesh.local.call('fetch', { id }, { timeoutMs: 600_000 })))
      return { seconds: (performance.now() - start) / 1000, sent: (await writtenBytes(seed.pid)) - before }
    } finally {
      for (const mesh of meshes) await mesh.close()
    }
  } finally {
    await lab.close()
  }
}

/** Bytes that a process has written to files and sockets (proc_pid_io: wchar); a seed that serves writes hardly anything else. */
async function writtenBytes(pid: number): Promise<number> {
  return Number(/^wchar: (\d+)$/m.exec(await readFile(`/proc/${pid}/io`, 'utf8'))![1])
}
