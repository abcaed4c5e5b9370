/**
 * Which chunk of a file to ask which machine for next, so that one machine that has it all (the home) sends each chunk
 * about once, however many machines fetch the file together. Three rules:
 *  1. What another fetcher has is asked of it, the rarest chunk first, from a random place on (both from BitTorrent: Cohen,
 *     "Incentives Build Robustness in BitTorrent", 2003), and not of the home, unless the others are much slower.
 *  2. What nobody else has is asked of the home by one fetcher: for each chunk, all who know each other put the fetchers in
 *     the same order without a word (rendezvous hashing: Thaler and Ravishankar, 1998).
 *  3. Who has fetched its own part helps with that of those next in the order, one chunk at a time.
 * Nothing here waits or knows the time but by its arguments. It holds a bit a chunk for each source.
 */
import type { BlobId, PeerIdText } from '../../protocols/ids.ts'

/** Chunks asked for ahead, of all sources together: of 1 MiB each. */
const maxInFlight = 16
/** Of one source that has others beside it: hides the way there and back. */
const leastWindow = 2
const mostWindow = 4
/** Candidates that one choice looks through: the largest file has 262,144 chunks. */
const maxCandidates = 1024
/** A fetcher that was named and has not answered counts as one for this long: a dial to a busy machine. */
const graceMs = 2000
/** The home sends what others have too when it would be so many times as fast. */
const muchSlower = 3
/** Others are helped with their parts when there was nothing else to ask for so long: what they have is heard of that late. */
const helpMs = 250
/** A chunk asked for longer ago is asked for again elsewhere, if there is nothing else to ask for. */
const lateMs = 2000
/** All these waits are longer, by so many chunks, where chunks take long: on a slow line, or a machine with too much to do. */
const patientChunks = 4
/** Weight of the newest time in the mean of a source. */
const newest = 0.3
/** Chunks that a source said it has, and had not, before it is believed no more. */
const maxRefusals = 8

export type Outcome = 'came' | 'lacks' | 'failed'

interface Known {
  readonly hash: number
  readonly isHome: boolean
  /** One bit a chunk, lowest bit first. */
  readonly have: Uint8Array
  count: number
  readonly joinedAt: number
  hasAnswered: boolean
  readonly asked: Map<number, number>
  chunkMs: number | undefined
  refusals: number
  cursor: number
}

export class ChunkPlan {
  readonly #self: number
  readonly #id: BlobId
  readonly #chunks: number
  readonly #random: () => number
  readonly #sources = new Map<PeerIdText, Known>()
  /** 1: not here yet. */
  readonly #missing: Uint8Array
  /** How many sources a chunk is asked of. */
  readonly #flights: Uint8Array
  #missingCount = 0
  /** How long chunks took lately, of any source. */
  #chunkMs = 0
  /** Since when neither the own part nor what others have is left to ask for. */
  #idleSince = 0
  #inFlight = 0

  constructor(of: { id: BlobId; chunks: number; self: PeerIdText; isHere: (index: number) => boolean; random: () => number }) {
    this.#id = of.id
    this.#self = hashOf(`${of.id} ${of.self}`)
    this.#chunks = of.chunks
    this.#random = of.random
    this.#missing = new Uint8Array(of.chunks)
    this.#flights = new Uint8Array(of.chunks)
    for (let index = 0; index < of.chunks; index++) {
      if (of.isHere(index)) continue
      this.#missing[index] = 1
      this.#missingCount += 1
    }
  }

  get inFlight(): number {
    return this.#inFlight
  }

  /** `isWhole`: taken to have all of it, until it says otherwise. */
  join(peer: PeerIdText, how: { isHome: boolean; isWhole: boolean }, nowMs: number): void {
    if (this.#sources.has(peer)) return
    this.#sources.set(peer, {
      hash: hashOf(`${this.#id} ${peer}`),
      isHome: how.isHome,
      have: new Uint8Array(Math.ceil(this.#chunks / 8)),
      count: 0,
      joinedAt: nowMs,
      hasAnswered: false,
      asked: new Map(),
      chunkMs: undefined,
      refusals: 0,
      cursor: Math.floor(this.#random() * this.#chunks),
    })
    if (how.isWhole) this.hasAll(peer)
  }

  /** A source that is gone, lies, or cannot be reached. What it was asked for counts until {@link ended}. */
  leave(peer: PeerIdText): void {
    this.#sources.delete(peer)
  }

  isKnown(peer: PeerIdText): boolean {
    return this.#sources.has(peer)
  }

  isWhole(peer: PeerIdText): boolean {
    return this.#sources.get(peer)?.count === this.#chunks
  }

  /** It cannot say what it has (an older version): it is tried. */
  hasAll(peer: PeerIdText): void {
    const source = this.#sources.get(peer)
    if (source === undefined) return
    source.have.fill(0xff)
    source.count = this.#chunks
  }

  /** What a source has, one bit a chunk. */
  says(peer: PeerIdText, have: Uint8Array): void {
    const source = this.#sources.get(peer)
    if (source === undefined) return
    source.hasAnswered = true
    source.count = 0
    for (let index = 0; index < this.#chunks; index++) {
      const bit = 1 << (index & 7)
      if (((have[index >> 3] ?? 0) & bit) === 0) source.have[index >> 3]! &= ~bit
      else {
        source.have[index >> 3]! |= bit
        source.count += 1
      }
    }
  }

  /** Whether anything is missing that the source has and that is not on its way: there is no need to ask it what it has. */
  isUseful(peer: PeerIdText): boolean {
    const source = this.#sources.get(peer)
    return source !== undefined && this.#pick(source, () => 0) !== undefined
  }

  /** The next chunk to ask a source for, noted as asked; undefined: nothing, for now. Others come before the home. */
  next(peer: PeerIdText, nowMs: number): number | undefined {
    const source = this.#sources.get(peer)
    if (source === undefined || this.#missingCount === 0 || this.#inFlight >= maxInFlight) return undefined
    if (source.asked.size >= this.#window(source, nowMs)) return undefined
    const index = (source.isHome ? this.#ofHome(source, nowMs) : this.#rarest(source)) ?? this.#late(source, nowMs)
    if (index === undefined) return undefined
    source.cursor = (index + 1) % this.#chunks
    source.asked.set(index, nowMs)
    this.#flights[index]! += 1
    this.#inFlight += 1
    return index
  }

  /** What came of a chunk that was asked for. False: the source says that it has what it has not, again and again. */
  ended(peer: PeerIdText, index: number, outcome: Outcome, nowMs: number): boolean {
    this.#flights[index]! -= 1
    this.#inFlight -= 1
    if (outcome === 'came' && this.#missing[index] === 1) {
      this.#missing[index] = 0
      this.#missingCount -= 1
    }
    const source = this.#sources.get(peer)
    if (source === undefined) return true
    const tookMs = nowMs - (source.asked.get(index) ?? nowMs)
    source.asked.delete(index)
    if (outcome === 'came') {
      source.chunkMs = source.chunkMs === undefined ? tookMs : source.chunkMs + newest * (tookMs - source.chunkMs)
      this.#chunkMs += newest * (tookMs - this.#chunkMs)
      source.refusals = 0
    } else if (outcome === 'lacks' && has(source, index)) {
      source.have[index >> 3]! &= ~(1 << (index & 7))
      source.count -= 1
      source.refusals += 1
    }
    return !source.hasAnswered || source.refusals < maxRefusals
  }

  #patient(ms: number): number {
    return Math.max(ms, patientChunks * this.#chunkMs)
  }

  #window(source: Known, nowMs: number): number {
    if (source.isHome && this.#fetchers(nowMs).length > 0) return leastWindow
    return Math.max(leastWindow, Math.min(mostWindow, Math.floor(maxInFlight / this.#sources.size)))
  }

  /** The others that fetch the file now. */
  #fetchers(nowMs: number): Known[] {
    return [...this.#sources.values()].filter(
      (source) => !source.isHome && source.count < this.#chunks && (source.hasAnswered || nowMs - source.joinedAt < this.#patient(graceMs)),
    )
  }

  #ofHome(home: Known, nowMs: number): number | undefined {
    const fetchers = this.#fetchers(nowMs)
    const others = [...this.#sources.values()].filter((source) => !source.isHome)
    let areOthersUseful = false
    let spared: number | undefined
    const choice = this.#pick(home, (index) => {
      const mine = score(this.#self, index)
      const before = fetchers.filter((source) => score(source.hash, index) > mine && !has(source, index)).length
      if (!others.some((source) => has(source, index))) return before
      areOthersUseful = true
      if (before === 0) spared ??= index
      return undefined
    })
    if (choice?.rank === 0 || areOthersUseful) this.#idleSince = nowMs
    if (choice?.rank === 0) return choice.index
    if (!areOthersUseful) return nowMs - this.#idleSince >= this.#patient(helpMs) && home.asked.size === 0 ? choice?.index : undefined
    const othersRate = others.reduce((sum, source) => sum + (source.asked.size === 0 ? 0 : rate(source, nowMs)), 0)
    return muchSlower * othersRate < rate(home, nowMs) ? spared : undefined
  }

  #rarest(source: Known): number | undefined {
    const others = [...this.#sources.values()].filter((other) => other !== source && !other.isHome)
    return this.#pick(source, (index) => others.filter((other) => has(other, index)).length)?.index
  }

  /** Of what the source has and nobody was asked for: the chunk of the least rank, the first of several from the cursor on. */
  #pick(source: Known, rankOf: (index: number) => number | undefined): { index: number; rank: number } | undefined {
    let best: { index: number; rank: number } | undefined
    let candidates = 0
    for (let step = 0; step < this.#chunks && candidates < maxCandidates; step++) {
      const index = (source.cursor + step) % this.#chunks
      if (this.#missing[index] === 0 || this.#flights[index]! > 0 || !has(source, index)) continue
      candidates += 1
      const rank = rankOf(index)
      if (rank !== undefined && rank < (best?.rank ?? Number.POSITIVE_INFINITY)) best = { index, rank }
      if (best?.rank === 0) break
    }
    // The next look goes on where this one found nothing.
    if (best === undefined && candidates === maxCandidates) source.cursor = (source.cursor + maxCandidates) % this.#chunks
    return best
  }

  /** A chunk that another source owes for long. */
  #late(source: Known, nowMs: number): number | undefined {
    if (source.asked.size > 0) return undefined
    for (const other of this.#sources.values())
      for (const [index, askedAt] of other.asked)
        if (nowMs - askedAt > this.#patient(lateMs) && this.#missing[index] === 1 && this.#flights[index] === 1 && has(source, index))
          return index
    return undefined
  }
}

function has(source: Known, index: number): boolean {
  return (source.have[index >> 3]! & (1 << (index & 7))) !== 0
}

/** Chunks in a millisecond, by what came and by how long it has been waited for the next. */
function rate(source: Known, nowMs: number): number {
  let waitedMs = source.chunkMs ?? 0
  for (const askedAt of source.asked.values()) waitedMs = Math.max(waitedMs, nowMs - askedAt)
  return leastWindow / Math.max(1, waitedMs)
}

/** FNV-1a. */
function hashOf(text: string): number {
  let hash = 0x811c9dc5
  for (let at = 0; at < text.length; at++) hash = Math.imul(hash ^ text.charCodeAt(at), 0x01000193)
  return hash >>> 0
}

/** As good as random, and the same on every machine (the finalizer of MurmurHash3). */
function score(hash: number, index: number): number {
  let mixed = hash ^ Math.imul(index + 1, 0x9e3779b1)
  mixed = Math.imul(mixed ^ (mixed >>> 16), 0x85ebca6b)
  mixed = Math.imul(mixed ^ (mixed >>> 13), 0xc2b2ae35)
  return (mixed ^ (mixed >>> 16)) >>> 0
}
