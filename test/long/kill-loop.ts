/**
 * A kill -9 loop on real processes: a founder and two workers with jobs of short tasks going on, one of the nodes killed at a
 * moment that the seed chooses (also while it starts, also all at once), started again, and so on. Throws at the first
 * promise that is broken: nothing acknowledged is lost (L5), no result is committed twice (L1), no process outlives its
 * node (L7), and in the end no reservation, directory or file is left over.
 */
import { setTimeout as pause } from 'node:timers/promises'
import { MeshError } from '../../protocols/errors.ts'
import type { Mesh } from '../../src/mesh/client.ts'
import { connect } from '../../src/mesh.ts'
import { batchmesh, type MeshLab, type NodeProcess } from '../e2e/support/mesh-lab.ts'
import { lendAll, lendNone, Traces } from '../e2e/support/work.ts'
import { Dice } from '../fuzz/dice.ts'
import { KillWork, poolId } from './kill-work.ts'
import { mountsBelow, processesOf, strayFiles, strayTasks } from './leftovers.ts'

export interface KillLoopOptions {
  rounds: number
  seed: number
  say?: (line: string) => void
}

export interface KillLoopResult {
  /** Kills by node; `starting`: of a node that was about to start. */
  kills: Record<NodeName | 'starting', number>
  tasks: number
  /** Runs of tasks that were lost with their machine. */
  lostRuns: number
}

const nodeNames = ['founder', 'w1', 'w2'] as const
type NodeName = (typeof nodeNames)[number]
/** Jobs that are not deleted, at most: the loop is about kills, not about load. */
const maxJobs = 8

export async function killLoop(lab: MeshLab, options: KillLoopOptions): Promise<KillLoopResult> {
  const loop = await KillLoop.start(lab, options)
  try {
    for (let round = 1; round <= options.rounds; round += 1) await loop.round(round)
    return await loop.settle()
  } finally {
    await loop.close()
  }
}

class KillLoop {
  readonly #lab: MeshLab
  readonly #dice: Dice
  readonly #say: (line: string) => void
  readonly #nodes: Map<NodeName, NodeProcess>
  readonly #mesh: Mesh
  readonly #work: KillWork
  readonly #submitting = new Set<Promise<void>>()
  readonly #kills = { founder: 0, w1: 0, w2: 0, starting: 0 }
  #failure: unknown

  static async start(lab: MeshLab, { seed, say = () => {} }: KillLoopOptions): Promise<KillLoop> {
    const founder = await lab.up('founder', { args: lendNone })
    const nodes = new Map<NodeName, NodeProcess>([['founder', founder]])
    for (const name of ['w1', 'w2'] as const) nodes.set(name, await lab.up(name, { join: founder, args: argsOf(name) }))
    const traces = await Traces.create(lab)
    const starts = await traces.file('starts')
    const mesh = await connect({ dataDir: founder.dataDir })
    const pool = { id: poolId, vmSize: 'cores=1,memory=64MiB', targetDedicatedNodes: 2, enableInterNodeCommunication: true }
    await mesh.control.call('addPool', pool)
    const dice = new Dice(seed)
    return new KillLoop(lab, dice, say, nodes, mesh, new KillWork(mesh, dice, traces, starts))
  }

  private constructor(
    lab: MeshLab,
    dice: Dice,
    say: (line: string) => void,
    nodes: Map<NodeName, NodeProcess>,
    mesh: Mesh,
    work: KillWork,
  ) {
    this.#lab = lab
    this.#dice = dice
    this.#say = say
    this.#nodes = nodes
    this.#mesh = mesh
    this.#work = work
  }

  async round(round: number): Promise<void> {
    const dice = this.#dice
    if (this.#submitting.size < 2 && this.#work.openJobs < maxJobs) this.#submit()
    if (dice.chance(0.3)) this.#resize(dice.below(3))
    const victims = dice.pick<NodeName[]>([['founder'], ['founder'], ['w1'], ['w2'], ['w1', 'w2'], [...nodeNames]])
    await pause(dice.below(500))
    this.#say(`round ${round}: ${victims.join(', ')}`)
    await Promise.all(victims.map((name) => this.#kill(name)))
    if (dice.chance(0.25)) await this.#killWhileStarting(dice.pick(victims))
    await Promise.all(victims.map(async (name) => this.#nodes.set(name, await this.#lab.up(name, { args: argsOf(name) }))))
    await this.#work.check()
    if (this.#failure !== undefined) throw this.#failure
  }

  #submit(): void {
    this.#background(this.#work.submit())
  }

  #resize(targetDedicatedNodes: number): void {
    this.#background(this.#resizeTo(targetDedicatedNodes))
  }

  async #resizeTo(targetDedicatedNodes: number): Promise<void> {
    try {
      await this.#mesh.control.call('resizePool', { poolId, targetDedicatedNodes }, { persist: true })
    } catch (error) {
      // The one before is still at work.
      if (!(error instanceof MeshError) || error.code !== 'PoolBeingResized') throw error
    }
  }

  /** What goes on while nodes die. */
  #background(work: Promise<void>): void {
    const done = work
      .catch((error: unknown) => {
        this.#failure ??= error
      })
      .finally(() => this.#submitting.delete(done))
    this.#submitting.add(done)
  }

  async #kill(name: NodeName): Promise<void> {
    const node = this.#nodes.get(name)!
    this.#kills[name] += 1
    await node.kill('SIGKILL')
    await this.#isGone(node.dataDir)
  }

  /** A process of a dead node would run a task that another machine runs as well. */
  async #isGone(dataDir: string): Promise<void> {
    let left: string[] = []
    const gone = async () => {
      left = await processesOf(dataDir)
      return left.length === 0
    }
    await this.#lab.until(`nothing of ${dataDir} runs`, gone, { deadlineMs: 10_000, everyMs: 20 }).catch(() => {
      throw new Error(`L7: these outlived their node: ${left.join('; ')}`)
    })
  }

  async #killWhileStarting(name: NodeName): Promise<void> {
    const dataDir = this.#lab.dataDir(name)
    const listen = ['--port', String(await this.#lab.port(name)), '--listen', '127.0.0.1', '--no-mdns']
    const starting = this.#lab.spawn([batchmesh, 'up', '--data', dataDir, '--name', name, ...listen, ...argsOf(name)])
    await pause(200 + this.#dice.below(800))
    this.#kills.starting += 1
    starting.child.kill('SIGKILL')
    await starting.exited
    await this.#isGone(dataDir)
  }

  /** The calm after: everything ends, and nothing is left over. */
  async settle(): Promise<KillLoopResult> {
    const lab = this.#lab
    const mesh = this.#mesh
    await Promise.all(this.#submitting)
    if (this.#failure !== undefined) throw this.#failure
    await lab.until('the pool can be resized', async () => {
      await mesh.control.call('resizePool', { poolId, targetDedicatedNodes: 2 }, { persist: true })
      return true
    })
    let open: string[] = []
    const ended = async () => {
      open = await this.#work.open()
      return open.length === 0
    }
    await lab.until('every job has ended', ended, { deadlineMs: 180_000 }).catch(() => {
      throw new Error(`these jobs do not end: ${open.join(', ')}`)
    })
    await this.#work.check()
    await this.#work.deleteAll()
    await mesh.control.call('deletePool', { poolId }, { persist: true })
    await lab.until('no reservation is left', async () => {
      const { items } = await mesh.control.call('listMachines', {})
      return items.length === 3 && items.every(({ reserved }) => reserved.cores === 0 && reserved.memoryMiB === 0)
    })
    const result = { kills: this.#kills, tasks: this.#work.tasks, lostRuns: this.#work.lostRuns }
    await this.#noStrays()
    return result
  }

  async #noStrays(): Promise<void> {
    let strays: string[] = []
    const none = async () => {
      strays = (await Promise.all(nodeNames.map((name) => strayFiles(this.#lab.dataDir(name))))).flat()
      return strays.length === 0
    }
    await this.#lab.until('no file is left over', none, { deadlineMs: 30_000 }).catch(() => {
      throw new Error(`these are left over: ${strays.join(', ')}`)
    })
    await this.#mesh.close()
    for (const node of this.#nodes.values()) await node.kill('SIGTERM')
    await this.#isGone(this.#lab.root)
    const tasks = (await Promise.all(nodeNames.map((name) => strayTasks(this.#lab.dataDir(name))))).flat()
    if (tasks.length > 0) throw new Error(`these would never expire: ${tasks.join(', ')}`)
    const mounts = await mountsBelow(this.#lab.root)
    if (mounts.length > 0) throw new Error(`these are still mounted: ${mounts.join(', ')}`)
  }

  async close(): Promise<void> {
    await this.#mesh.close()
  }
}

function argsOf(name: NodeName): string[] {
  return name === 'founder' ? lendNone : lendAll
}
