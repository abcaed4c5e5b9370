/** Real MPI for tests: programs compiled here, and a mesh of hosts whose gangs run them. */
import { execFileSync } from 'node:child_process'
import { existsSync } from 'node:fs'
import { chmod, readdir, readFile } from 'node:fs/promises'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import type { PoolView } from '../../../protocols/model/pool.ts'
import type { MeshLab, NodeProcess } from './mesh-lab.ts'
import { Network, whyNoNetwork } from './netns.ts'
import { lendNone, Traces } from './work.ts'

export const hosts = ['a', 'b', 'c', 'd'] as const
/** Why hosts of their own cannot be made here; then all are on this one. */
export const noNetwork = whyNoNetwork()

/** Whether the system has a program. */
export function has(program: string): boolean {
  return (process.env.PATH ?? '').split(':').some((directory) => existsSync(join(directory, program)))
}

/** Why there can be no Open MPI here; undefined when there can. */
export function whyNoMpi(): string | undefined {
  if (process.platform !== 'linux') return 'MPI is started through Linux’s /proc'
  const missing = ['mpirun.openmpi', 'mpicc.openmpi'].filter((program) => !has(program))
  return missing.length === 0 ? undefined : `${missing.join(' and ')} are not installed (openmpi-bin, libopenmpi-dev)`
}

/** Compiles ring.c into the lab's directory. */
export async function compileRing(lab: MeshLab, compiler = 'mpicc.openmpi'): Promise<string> {
  const ring = join(lab.root, `ring-${compiler}`)
  execFileSync(compiler, ['-O2', '-o', ring, fileURLToPath(new URL('ring.c', import.meta.url))], { stdio: 'pipe' })
  await chmod(ring, 0o755)
  return ring
}

/** A founder and four machines, on hosts of their own where that can be. */
export class MpiMesh {
  readonly lab: MeshLab
  readonly net: Network | undefined
  readonly traces: Traces
  founder!: NodeProcess
  readonly workers = new Map<string, NodeProcess>()

  private constructor(lab: MeshLab, net: Network | undefined, traces: Traces) {
    this.lab = lab
    this.net = net
    this.traces = traces
  }

  static async create(lab: MeshLab, t: Parameters<typeof Network.create>[1]): Promise<MpiMesh> {
    const net = noNetwork === undefined ? await Network.create(['f', ...hosts], t) : undefined
    const mesh = new MpiMesh(lab, net, await Traces.create(lab))
    mesh.founder = await lab.up('f', { args: lendNone, ...mesh.#at('f') })
    await Promise.all(hosts.map((host) => mesh.up(host)))
    return mesh
  }

  #at(host: string) {
    return this.net === undefined ? {} : { within: this.net.within(host), network: ['--port', '0', '--no-mdns'] }
  }

  /** Starts a machine, or starts it again. */
  async up(host: string): Promise<void> {
    const isKnown = this.workers.has(host)
    const args = ['--lend-cpus', '1', '--label', `host=${host}`, '--log-level', 'warn']
    this.workers.set(host, await this.lab.up(host, { ...(isKnown ? {} : { join: this.founder }), args, ...this.#at(host) }))
  }

  /** A pool of so many nodes, all on that machine or each on one of its own. */
  async pool(id: string, nodes: number, host?: string): Promise<void> {
    const size = host === undefined ? 'cores=0.5,memory=64MiB' : 'cores=0.1,memory=32MiB'
    const words = ['--vm-size', size, '--target-dedicated-nodes', String(nodes), '--enable-inter-node-communication']
    await this.lab.json(this.founder, ['pool', 'create', id, ...words, ...(host === undefined ? [] : ['--label', `host=${host}`])])
    await this.lab.until(`${id} has its nodes`, async () => {
      const { currentDedicatedNodes } = (await this.lab.json(this.founder, ['pool', 'show', id])) as PoolView
      return currentDedicatedNodes === nodes
    })
  }

  /** As if the machine lost its power: its cable is pulled, where it has one, and all of its processes end. */
  async crash(host: string): Promise<void> {
    await this.net?.cut(host)
    await this.workers.get(host)!.kill('SIGKILL')
  }

  async heal(host: string): Promise<void> {
    await this.net?.heal(host)
    await this.up(host)
  }

  /** What of MPI runs for this mesh, as `pid name`: daemons, ranks, agents. */
  async processes(): Promise<string[]> {
    const found: string[] = []
    for (const entry of await readdir('/proc')) {
      if (!/^\d+$/.test(entry)) continue
      const [name, environment] = await Promise.all(
        ['comm', 'environ'].map((file) => readFile(`/proc/${entry}/${file}`, 'utf8').catch(() => '')),
      )
      if (/^(?:mpirun|mpiexec|orted|hydra|ring|launch-agent|hpcc)/.test(name!) && environment!.includes(this.lab.root))
        found.push(`${entry} ${name!.trim()}`)
    }
    return found
  }
}
