/** The mesh of a soak: a founder and workers as real processes, each life of one watched by the probe. */
import { existsSync } from 'node:fs'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { MeshLab, type NodeProcess } from '../e2e/support/mesh-lab.ts'
import { Network, whyNoNetwork } from '../e2e/support/netns.ts'

/** A node, over all its lives. */
export interface Machine {
  name: string
  dataDir: string
  /** Where its probe writes. */
  probe: string
  life: number
  process: NodeProcess | undefined
  /** Stopped by SIGSTOP or just continued: its lag says nothing. */
  stopped: boolean
}

const probe = fileURLToPath(new URL('./probe.ts', import.meta.url))
/** Ends a node with this program, even when that is killed. */
const dieWithUs = ['/usr/bin/setpriv', '/bin/setpriv'].find((path) => existsSync(path))
/** Slots of each worker, on however many cores: tasks of a soak mostly sleep. */
const slots = 2

export class Machines implements AsyncDisposable {
  readonly lab: MeshLab
  /** Absent where there can be no network of one's own. */
  readonly network: Network | undefined
  readonly founder: Machine
  readonly workers: readonly Machine[]
  readonly #cleanups: (() => Promise<void>)[]

  private constructor(lab: MeshLab, network: Network | undefined, names: readonly string[], cleanups: (() => Promise<void>)[]) {
    this.lab = lab
    this.network = network
    this.#cleanups = cleanups
    const [founder, ...workers] = names.map((name) => ({
      name,
      dataDir: lab.dataDir(name),
      probe: join(lab.root, `${name}.probe`),
      life: 0,
      process: undefined,
      stopped: false,
    }))
    this.founder = founder!
    this.workers = workers
  }

  /** Starts them all; the founder lends nothing. */
  static async create(workers: number): Promise<Machines> {
    const names = ['founder', ...Array.from({ length: workers }, (_, n) => `w${n + 1}`)]
    const lab = await MeshLab.create()
    const cleanups: (() => Promise<void>)[] = []
    const isolated = whyNoNetwork() === undefined
    const network = isolated ? await Network.create(names, { onTestFinished: (done) => cleanups.push(done) }) : undefined
    const machines = new Machines(lab, network, names, cleanups)
    try {
      await machines.start(machines.founder)
      for (const worker of machines.workers) await machines.start(worker)
    } catch (error) {
      await machines[Symbol.asyncDispose]()
      throw error
    }
    return machines
  }

  get all(): readonly Machine[] {
    return [this.founder, ...this.workers]
  }

  /** The next life of a node; it joins if it has not been a member. */
  async start(machine: Machine): Promise<void> {
    const isFounder = machine === this.founder
    const isMember = existsSync(join(machine.dataDir, 'identity'))
    const loopback = ['--port', String(await this.lab.port(machine.name)), '--listen', '127.0.0.1', '--no-mdns']
    const within = [
      ...(this.network?.within(machine.name) ?? []),
      ...(dieWithUs === undefined ? [] : [dieWithUs, '--pdeathsig', 'KILL', '--']),
    ]
    machine.process = await this.lab.up(machine.name, {
      network: this.network === undefined ? loopback : [],
      within,
      args: ['--lend-cpus', isFounder ? '0' : String(slots)],
      env: { NODE_OPTIONS: `--import=${probe}`, SOAK_PROBE: machine.probe },
      ...(isFounder || isMember ? {} : { join: this.founder.process! }),
    })
    machine.life += 1
    machine.stopped = false
  }

  async kill(machine: Machine): Promise<void> {
    const { process } = machine
    machine.process = undefined
    await process?.kill('SIGKILL')
  }

  /** Ends a node in order, its tasks first. */
  async drain(machine: Machine): Promise<void> {
    await machine.process?.down('--drain')
    machine.process = undefined
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.lab.close()
    for (const cleanup of this.#cleanups) await cleanup()
  }
}
