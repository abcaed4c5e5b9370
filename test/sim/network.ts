/** Connections of workers with the coordinator: frames keep their order, but may be late, held back by a partition, or lost with their connection. */
import type { Process, World } from './world.ts'

interface Frame {
  due: number
  act: () => void
}

/** One direction of a connection. */
class Pipe {
  readonly #world: World
  readonly #to: Process
  readonly #isCut: () => boolean
  #frames: Frame[] = []
  #lastDue = 0

  constructor(world: World, to: Process, isCut: () => boolean) {
    this.#world = world
    this.#to = to
    this.#isCut = isCut
  }

  push(act: () => void): void {
    const world = this.#world
    const latencyMs = world.fault('delay', 0.01) ? world.between(200, 4000) : world.between(1, 20)
    const due = Math.max(world.now + latencyMs, this.#lastDue)
    this.#lastDue = due
    this.#frames.push({ due, act })
    world.after(due - world.now, () => this.pump())
  }

  pump(): void {
    while (!this.#isCut() && this.#frames.length > 0 && this.#frames[0]!.due <= this.#world.now) {
      const { act } = this.#frames.shift()!
      this.#to.reads(act)
    }
  }

  drop(): void {
    this.#frames = []
  }
}

export class Connection {
  readonly number: number
  readonly peer: string
  readonly up: Pipe
  readonly down: Pipe
  /** Whether each end still takes it for open. */
  workerOpen = true
  coordinatorOpen = true
  readonly #network: Network
  readonly #closed: { worker: () => void; coordinator: () => void }

  constructor(
    network: Network,
    number: number,
    peer: string,
    ends: { worker: Process; coordinator: Process },
    closed: { worker: () => void; coordinator: () => void },
  ) {
    this.#network = network
    this.number = number
    this.peer = peer
    this.#closed = closed
    const isCut = () => network.isPartitioned(peer)
    this.up = new Pipe(network.world, ends.coordinator, isCut)
    this.down = new Pipe(network.world, ends.worker, isCut)
  }

  send(direction: 'up' | 'down', act: () => void): void {
    if (!(direction === 'up' ? this.workerOpen : this.coordinatorOpen)) return
    this[direction].push(() => {
      if (direction === 'up' ? this.coordinatorOpen : this.workerOpen) act()
    })
  }

  /** One end closes; the other learns of it after what is on its way. */
  close(by: 'worker' | 'coordinator'): void {
    if (by === 'worker') {
      if (!this.workerOpen) return
      this.workerOpen = false
      this.up.push(() => this.#closeCoordinator())
    } else {
      if (!this.coordinatorOpen) return
      this.coordinatorOpen = false
      this.down.push(() => this.#closeWorker())
    }
    if (!this.workerOpen && !this.coordinatorOpen) this.#network.forget(this)
  }

  /** The connection breaks; what is on its way is lost, and each end notices in its own time. */
  cut(): void {
    this.up.drop()
    this.down.drop()
    this.up.push(() => this.#closeCoordinator())
    this.down.push(() => this.#closeWorker())
  }

  /** The process at one end has died; what it sent before may still arrive. */
  died(end: 'worker' | 'coordinator'): void {
    if (end === 'worker') {
      this.workerOpen = false
      this.down.drop()
      this.up.push(() => this.#closeCoordinator())
    } else {
      this.coordinatorOpen = false
      this.up.drop()
      this.down.push(() => this.#closeWorker())
    }
    if (!this.workerOpen && !this.coordinatorOpen) this.#network.forget(this)
  }

  #closeCoordinator(): void {
    if (!this.coordinatorOpen) return
    this.coordinatorOpen = false
    if (!this.workerOpen) this.#network.forget(this)
    this.#closed.coordinator()
  }

  #closeWorker(): void {
    if (!this.workerOpen) return
    this.workerOpen = false
    if (!this.coordinatorOpen) this.#network.forget(this)
    this.#closed.worker()
  }
}

export class Network {
  readonly world: World
  readonly #partitioned = new Map<string, number>()
  readonly #connections = new Set<Connection>()

  constructor(world: World) {
    this.world = world
  }

  add(connection: Connection): void {
    this.#connections.add(connection)
  }

  forget(connection: Connection): void {
    this.#connections.delete(connection)
  }

  of(peer: string): Connection[] {
    return [...this.#connections].filter((connection) => connection.peer === peer)
  }

  isPartitioned(peer: string): boolean {
    return (this.#partitioned.get(peer) ?? 0) > this.world.now
  }

  partition(peer: string, ms: number): void {
    this.#partitioned.set(peer, Math.max(this.#partitioned.get(peer) ?? 0, this.world.now + ms))
    this.world.after(ms, () => this.#pump(peer))
  }

  heal(): void {
    for (const peer of [...this.#partitioned.keys()]) {
      this.#partitioned.delete(peer)
      this.#pump(peer)
    }
  }

  #pump(peer: string): void {
    for (const connection of this.of(peer)) {
      connection.up.pump()
      connection.down.pump()
    }
  }
}
