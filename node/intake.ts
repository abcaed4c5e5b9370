/**
 * Intake: what the worker starts next and what it claims. Pure: the worker's shell gathers the state and carries out
 * what comes back.
 *
 * Unstarted grants of a node start in the order they came. One that does not fit yet may be passed by later ones that
 * do, but only {@link maxPasses} times: then the node takes nothing more until it fits, so it never starves.
 */
import type { Room } from '../protocols/model/resources.ts'
import { fitsIn, type Need } from './ledger.ts'

/** Work held ready a slot: covers a claim's round trip with the coordinator's fsync and a busy event loop in it. */
export const prefetchMs = 250
/**
 * Above this mean run time a gap between tasks is not felt, and a task held back could run elsewhere. Up to it one task a
 * slot is held ready: the tenth of a second that a busy coordinator may take is then at most a hundredth of the time.
 */
export const longTaskMs = 10_000
/** Unstarted slots' worth of tasks a slot: what ends with a session is granted anew elsewhere. Functions come to some thousands a second. */
export const maxPrefetchPerSlot = 1024
/** A node's whole prefetch; the most that a claim may say. */
export const maxPrefetch = 4096
/** How often a task that does not fit yet may be passed. */
export const maxPasses = 32
/** How far down the line a task that fits is looked for. */
export const lookAhead = 64
/** A node held for a gang is asked for again after this, told or not. */
export const heldRetryMs = 5000

/** A granted task that has not started. */
export interface Waiting extends Need {
  /** How often a later one went first. */
  passed: number
}

/** The index of the next task to start in this room, or -1. Tasks that it passes are counted as passed. */
export function pickNext(line: readonly Waiting[], room: Room, isDefault: boolean): number {
  if (room.slots < 1) return -1
  const end = Math.min(line.length, lookAhead)
  for (let at = 0; at < end; at += 1) {
    const next = line[at]!
    if (fitsIn(room, next, isDefault)) {
      for (let before = 0; before < at; before += 1) line[before]!.passed += 1
      return at
    }
    if (next.passed >= maxPasses) return -1
  }
  return -1
}

/** Slots' worth of unstarted tasks to hold for each slot, from the mean time that a task lately held its slot; undefined: not known yet. */
export function prefetchPerSlot(meanSlotMs: number | undefined): number {
  if (meanSlotMs === undefined || meanSlotMs > longTaskMs) return 0
  return Math.min(maxPrefetchPerSlot, Math.max(1, Math.floor(prefetchMs / Math.max(meanSlotMs, 0.001))))
}

/** A running mean that forgets: each new value counts a tenth. `count`: so many had this value. */
export function nextMean(mean: number | undefined, value: number, count = 1): number {
  return mean === undefined ? value : mean + (value - mean) * (1 - 0.9 ** count)
}

/** Work handed to a thread beyond the call that it is at: more than the node's loop is ever late, little enough to be soon done. */
const aheadMs = 20
/** Calls of a thread at most, and the shortest that is reckoned with: times are whole milliseconds. */
const maxAhead = 256

/** How many calls of a series may be with its thread, from how long they lately took; undefined: not known yet. */
export function callsAhead(meanCallMs: number | undefined): number {
  if (meanCallMs === undefined) return 1
  return Math.min(maxAhead, Math.max(1, Math.floor(aheadMs / Math.max(meanCallMs, aheadMs / maxAhead))))
}

export interface NodeState {
  nodeId: string
  /** Room for new claims. */
  room: Room
  /** Slots of the node, taken or not. */
  slots: number
  /** Held for a gang (M1). */
  held: boolean
  /** Gets no new work: leaving. */
  closed: boolean
  /** A reservation waits for a part of it: nothing is held ready. */
  draining?: boolean
  unstarted: readonly Waiting[]
  meanSlotMs: number | undefined
}

export interface Ask {
  nodeId: string
  room: Room
  prefetchSlots: number
}

const noRoom: Room = { slots: 0, cores: 0, memoryMiB: 0, gpus: 0 }

/** What to ask for on one node, or undefined for nothing. Assumes that what can start has been started. */
export function askFor(node: NodeState): Ask | undefined {
  if (node.held || node.closed) return undefined
  let unstartedSlots = 0
  for (const waiting of node.unstarted) unstartedSlots += waiting.slots
  // One that was passed too often gets the next room: nothing new may take it.
  const starved = node.unstarted.some((waiting) => waiting.passed >= maxPasses)
  const room = starved ? noRoom : node.room
  const target = starved || node.draining === true ? 0 : Math.min(maxPrefetch, prefetchPerSlot(node.meanSlotMs) * node.slots)
  const prefetchSlots = unstartedSlots * 2 < target || (target === 1 && unstartedSlots === 0) ? target - unstartedSlots : 0
  if (room.slots === 0 && prefetchSlots === 0) return undefined
  return { nodeId: node.nodeId, room, prefetchSlots }
}

/** The nodes of a claim; empty: sleep. */
export function planClaim(nodes: readonly NodeState[]): Ask[] {
  const asks: Ask[] = []
  for (const node of nodes) {
    const ask = askFor(node)
    if (ask !== undefined) asks.push(ask)
  }
  return asks
}

/**
 * Whether a claim that stands at the coordinator should be replaced: some node has room or prefetch now that the claim
 * does not say, or no longer has the room that it says.
 */
export function outdated(standing: readonly Ask[], wanted: readonly Ask[]): boolean {
  for (const ask of wanted) {
    const said = standing.find((other) => other.nodeId === ask.nodeId)
    if (said === undefined || larger(ask.room, said.room) || ask.prefetchSlots > said.prefetchSlots * 2) return true
  }
  for (const said of standing) {
    const ask = wanted.find((other) => other.nodeId === said.nodeId)
    if (larger(said.room, ask?.room ?? noRoom)) return true
    if (ask === undefined && said.prefetchSlots > 0) return true
  }
  return false
}

function larger(a: Room, b: Room): boolean {
  return a.slots > b.slots || a.cores > b.cores || a.memoryMiB > b.memoryMiB || a.gpus > b.gpus
}
