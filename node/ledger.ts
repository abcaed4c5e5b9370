/**
 * The machine's own book of capacity (R1): what it lends, which compute nodes hold a part of it, and what runs on each.
 *
 * The default pool's node has whatever no reservation holds, with as many slots as whole cores; there a task that asks
 * for no cores takes as many cores as slots. A reservation that would fit if tasks of the default pool ended is a
 * *want*: its capacity is held back from new claims of the default pool until it is granted, or until nobody has asked
 * for it during {@link wantMs}.
 */
import { defaultPoolId } from '../protocols/model/pool.ts'
import { type Capacity, type Demand, fits, holds, type Room, roundingSlack, take } from '../protocols/model/resources.ts'
import type { Reservation } from '../protocols/pools.ts'

/** A want lapses after this unless it is asked again: a coordinator that still wants the node asks every few seconds. */
export const wantMs = 10_000

/** What a task takes on its node. */
export interface Need {
  slots: number
  demand: Demand
}

export interface ReserveResult {
  granted: boolean
  draining: boolean
  reason?: string
  /** The book has changed: write the reservation to disk before answering. */
  changed: boolean
}

interface Node {
  /** 0 for the default pool's node. */
  reservation: Reservation | undefined
  nodeId: string
  /** What runs there, by attempt. */
  used: Map<string, Need>
  /** Is claimed for no more and goes when its work has ended. */
  leaving: boolean
}

/** One compute node, as the worker sees it. */
export interface LedgerNode {
  nodeId: string
  poolId: string
  reservationId: number
  slots: number
  leaving: boolean
}

const none: Capacity = { cores: 0, memoryMiB: 0, gpus: 0 }

const plus = (a: Capacity, b: Capacity): Capacity => ({
  cores: a.cores + b.cores,
  memoryMiB: a.memoryMiB + b.memoryMiB,
  gpus: a.gpus + b.gpus,
})
const minus = (a: Capacity, b: Capacity): Capacity => ({
  cores: a.cores - b.cores,
  memoryMiB: a.memoryMiB - b.memoryMiB,
  gpus: a.gpus - b.gpus,
})
const floorAtZero = (a: Capacity): Capacity => ({
  cores: Math.max(0, a.cores),
  memoryMiB: Math.max(0, a.memoryMiB),
  gpus: Math.max(0, a.gpus),
})
const wholeCores = (cores: number): number => Math.max(0, Math.floor(cores + roundingSlack))
const say = (c: Capacity): string => `${c.cores} cores, ${Math.floor(c.memoryMiB)} MiB${c.gpus > 0 ? `, ${c.gpus} GPUs` : ''}`

/** What a task without a demand for cores takes on the default pool's node: a core a slot. */
function defaultDemand(need: Need): Demand {
  return need.demand.cores === undefined ? { ...need.demand, cores: need.slots } : need.demand
}

export class Ledger {
  readonly lent: Capacity
  readonly #reserved = new Map<number, Node>()
  readonly #default: Node = { reservation: undefined, nodeId: '', used: new Map(), leaving: false }
  readonly #byNodeId = new Map<string, Node>()
  /** In the order first asked; an earlier want goes before a later one. */
  readonly #wants = new Map<number, { size: Capacity; until: number }>()
  #held: Capacity = none
  #defaultUse: Capacity = none
  #ownerEpoch: number

  constructor(lent: Capacity, ownerEpoch = 0) {
    this.lent = lent
    this.#ownerEpoch = ownerEpoch
  }

  get ownerEpoch(): number {
    return this.#ownerEpoch
  }

  /** Obeys a coordinator; false when its owner epoch is lower than one obeyed before. */
  obey(ownerEpoch: number): boolean {
    if (ownerEpoch < this.#ownerEpoch) return false
    this.#ownerEpoch = ownerEpoch
    return true
  }

  /** The coordinator's name for the default pool's node. */
  nameDefault(nodeId: string): void {
    this.#byNodeId.delete(this.#default.nodeId)
    this.#default.nodeId = nodeId
    if (nodeId !== '') this.#byNodeId.set(nodeId, this.#default)
  }

  /** Takes back a reservation from disk; false when it does not fit what the machine lends now. */
  restore(reservation: Reservation): boolean {
    if (!holds(minus(this.lent, this.#held), reservation.size) || this.#byNodeId.has(reservation.nodeId)) return false
    this.#add(reservation)
    return true
  }

  /**
   * Answers a request for a compute node. `waiting` are the needs of granted but unstarted tasks of the default pool's
   * node: it is not made too small for any of them, so that none waits for ever.
   */
  reserve(request: Reservation, now: number, waiting: Iterable<Need> = []): ReserveResult {
    const refuse = (reason: string): ReserveResult => ({ granted: false, draining: false, changed: false, reason })
    if (request.ownerEpoch < this.#ownerEpoch)
      return refuse(`a coordinator of owner epoch ${this.#ownerEpoch} was obeyed; ${request.ownerEpoch} is deposed`)
    this.#ownerEpoch = request.ownerEpoch
    const same = this.#reserved.get(request.reservationId)
    if (same !== undefined) return this.#again(same, request)
    if (this.#byNodeId.has(request.nodeId)) return refuse(`the compute node ${request.nodeId} exists here under another reservation`)
    if (request.poolId === defaultPoolId) return refuse('the default pool has its node here already')
    if (!holds(this.lent, request.size)) return refuse(`the machine lends ${say(this.lent)}; ${say(request.size)} were asked`)
    this.#lapse(now)
    let earlier = none
    for (const [id, want] of this.#wants) {
      if (id === request.reservationId) break
      earlier = plus(earlier, want.size)
    }
    const unreserved = minus(minus(this.lent, this.#held), earlier)
    if (!holds(unreserved, request.size)) {
      this.#wants.delete(request.reservationId)
      return refuse(
        `other compute nodes hold the capacity: ${say(floorAtZero(unreserved))} are not reserved, ${say(request.size)} were asked`,
      )
    }
    const left = minus(minus(this.lent, this.#held), request.size)
    if (!holds(minus(unreserved, this.#defaultUse), request.size) || !allFit(left, waiting)) {
      this.#wants.set(request.reservationId, { size: request.size, until: now + wantMs })
      return { granted: false, draining: true, changed: false, reason: 'tasks of the default pool hold the capacity' }
    }
    this.#wants.delete(request.reservationId)
    this.#add(request)
    return { granted: true, draining: false, changed: true }
  }

  #again(node: Node, request: Reservation): ReserveResult {
    const old = node.reservation!
    if (node.leaving) return { granted: false, draining: false, changed: false, reason: 'the compute node is being given back' }
    if (
      old.nodeId !== request.nodeId ||
      old.poolId !== request.poolId ||
      old.taskSlots !== request.taskSlots ||
      !equal(old.size, request.size)
    )
      return {
        granted: false,
        draining: false,
        changed: false,
        reason: `reservation ${old.reservationId} is for ${old.nodeId}, ${say(old.size)}`,
      }
    const changed = old.ownerEpoch !== request.ownerEpoch
    node.reservation = request
    return { granted: true, draining: false, changed }
  }

  #add(reservation: Reservation): void {
    const node: Node = { reservation, nodeId: reservation.nodeId, used: new Map(), leaving: false }
    this.#reserved.set(reservation.reservationId, node)
    this.#byNodeId.set(reservation.nodeId, node)
    this.#held = plus(this.#held, reservation.size)
  }

  /** Gives a reservation back: it is claimed for no more, and goes with {@link reap} when its work has ended. */
  release(reservationId: number): void {
    this.#wants.delete(reservationId)
    const node = this.#reserved.get(reservationId)
    if (node !== undefined) node.leaving = true
  }

  /** Removes the reservations that are being given back and whose work has ended; `isWaitedFor`: granted tasks wait for that node. Returns their ids. */
  reap(isWaitedFor: (nodeId: string) => boolean): number[] {
    const gone: number[] = []
    for (const [id, node] of this.#reserved) {
      if (!node.leaving || node.used.size > 0 || isWaitedFor(node.nodeId)) continue
      this.#reserved.delete(id)
      this.#byNodeId.delete(node.nodeId)
      gone.push(id)
    }
    if (gone.length > 0) this.#held = [...this.#reserved.values()].reduce((sum, node) => plus(sum, node.reservation!.size), none)
    return gone
  }

  /** Forgets wants that nobody asked for lately. True when some capacity is open again. */
  lapse(now: number): boolean {
    return this.#lapse(now)
  }

  #lapse(now: number): boolean {
    let lapsed = false
    for (const [id, want] of this.#wants)
      if (want.until <= now) {
        this.#wants.delete(id)
        lapsed = true
      }
    return lapsed
  }

  /** When the next want lapses. */
  nextLapse(): number | undefined {
    let next: number | undefined
    for (const want of this.#wants.values()) if (next === undefined || want.until < next) next = want.until
    return next
  }

  /** Puts a task on its node. False when it does not fit now (nothing has changed then). */
  start(key: string, nodeId: string, need: Need): boolean {
    const node = this.#byNodeId.get(nodeId)
    if (node === undefined || node.used.has(key) || !this.#fitsNow(node, need)) return false
    this.#use(node, key, need)
    return true
  }

  #use(node: Node, key: string, need: Need): void {
    node.used.set(key, need)
    if (node === this.#default) this.#defaultUse = plus(this.#defaultUse, demandOf(defaultDemand(need)))
  }

  /** A task's program has ended: its room is free again. */
  end(key: string, nodeId: string): void {
    const node = this.#byNodeId.get(nodeId)
    const need = node?.used.get(key)
    if (node === undefined || need === undefined) return
    node.used.delete(key)
    if (node === this.#default) this.#defaultUse = node.used.size === 0 ? none : minus(this.#defaultUse, demandOf(defaultDemand(need)))
  }

  #total(node: Node): Room {
    if (node.reservation !== undefined) return { ...node.reservation.size, slots: node.reservation.taskSlots }
    const size = floorAtZero(minus(this.lent, this.#held))
    return { ...size, slots: wholeCores(size.cores) }
  }

  #free(node: Node): Room {
    let room = this.#total(node)
    if (node === this.#default) {
      let slots = 0
      for (const need of node.used.values()) slots += need.slots
      const left = floorAtZero(minus(room, this.#defaultUse))
      return { ...left, slots: Math.max(0, Math.min(room.slots - slots, wholeCores(left.cores))) }
    }
    for (const need of node.used.values()) room = take(room, need.slots, need.demand)
    return room
  }

  #fitsNow(node: Node, need: Need): boolean {
    return fitsIn(this.#free(node), need, node === this.#default)
  }

  /** Room for tasks that are here already: all that is free. */
  room(nodeId: string): Room | undefined {
    const node = this.#byNodeId.get(nodeId)
    return node === undefined ? undefined : this.#free(node)
  }

  /** Room for new claims: none on a node that is leaving, and on the default pool's node not what wants hold back. */
  claimable(nodeId: string, now: number): Room | undefined {
    const node = this.#byNodeId.get(nodeId)
    if (node === undefined || node.leaving) return undefined
    const room = this.#free(node)
    if (node !== this.#default) return room
    this.#lapse(now)
    let left: Capacity = room
    for (const want of this.#wants.values()) left = minus(left, want.size)
    left = floorAtZero(left)
    return { ...left, slots: Math.min(room.slots, wholeCores(left.cores)) }
  }

  /** Whether the task could ever run on that node as large as it is now. */
  couldFit(nodeId: string, need: Need): boolean {
    const node = this.#byNodeId.get(nodeId)
    return node !== undefined && fitsIn(this.#total(node), need, node === this.#default)
  }

  /** The memory that a task should be content with, in MiB: what it asked for, else its slots' part of its node's. */
  memoryShareMiB(nodeId: string, { slots, demand }: Need): number {
    const node = this.#byNodeId.get(nodeId)
    if (node === undefined || demand.memoryMiB !== undefined) return demand.memoryMiB ?? 0
    const total = this.#total(node)
    return (total.memoryMiB * slots) / Math.max(slots, total.slots)
  }

  /** What a task should be content with, and the most that it gets: what it asked for, else what its node has. */
  memoryOf(nodeId: string, need: Need): { memoryMiB: number; memory: { limitMiB: number; isAsked: boolean } } {
    const node = this.#byNodeId.get(nodeId)
    const limitMiB = need.demand.memoryMiB ?? (node === undefined ? 0 : this.#total(node).memoryMiB)
    return { memoryMiB: this.memoryShareMiB(nodeId, need), memory: { limitMiB, isAsked: need.demand.memoryMiB !== undefined } }
  }

  isDefault(nodeId: string): boolean {
    return nodeId !== '' && nodeId === this.#default.nodeId
  }

  nodes(): LedgerNode[] {
    return [...this.#byNodeId.values()].map((node) => this.#show(node))
  }

  node(nodeId: string): LedgerNode | undefined {
    const node = this.#byNodeId.get(nodeId)
    return node && this.#show(node)
  }

  #show(node: Node): LedgerNode {
    return {
      nodeId: node.nodeId,
      poolId: node.reservation?.poolId ?? defaultPoolId,
      reservationId: node.reservation?.reservationId ?? 0,
      slots: this.#total(node).slots,
      leaving: node.leaving,
    }
  }

  /** Reservations that stand, those being given back left out. */
  reservations(): Reservation[] {
    return [...this.#reserved.values()].filter((node) => !node.leaving).map((node) => node.reservation!)
  }
}

function demandOf(demand: Demand): Capacity {
  return { cores: demand.cores ?? 0, memoryMiB: demand.memoryMiB ?? 0, gpus: demand.gpus ?? 0 }
}

/** Whether a task fits in that room; `isDefault`: on the default pool's node. */
export function fitsIn(room: Room, need: Need, isDefault: boolean): boolean {
  const demand = isDefault ? defaultDemand(need) : need.demand
  return fits(room, need.slots, demand)
}

function allFit(left: Capacity, waiting: Iterable<Need>): boolean {
  const room: Room = { ...floorAtZero(left), slots: wholeCores(left.cores) }
  for (const need of waiting) if (!fitsIn(room, need, true)) return false
  return true
}

function equal(a: Capacity, b: Capacity): boolean {
  return a.cores === b.cores && a.memoryMiB === b.memoryMiB && a.gpus === b.gpus
}
