/**
 * Brings one larger file here, chunk by chunk, from several machines at once. Which chunk to ask whom for is decided in
 * chunk-plan.ts: of other fetchers what they have, of the home what nobody else has, each fetcher another part. Here are
 * the waiting and the asking: sources come and go, those that fetch say from time to time what they have, and one that
 * gives wrong bytes or breaks off is dropped; its chunks go to the others.
 */
import { setTimeout as sleep } from 'node:timers/promises'
import { MeshError, toMeshError } from '../../protocols/errors.ts'
import type { PeerIdText } from '../../protocols/ids.ts'
import { free } from '../store/chunk-io.ts'
import type { PartialFile } from '../store/partial.ts'
import { ChunkPlan, type Outcome as Ended } from './chunk-plan.ts'
import type { BlobSession } from './sessions.ts'

/** A chunk that takes longer is asked for elsewhere: 1 MiB at 300 kbit/s. */
const chunkTimeoutMs = 30_000
/** An answer of a few kilobytes that takes longer is not worth the wait. */
const askTimeoutMs = 10_000
/** Files from this on are worth a connection of their own: it costs two ways there and back, and a handshake. */
export const bulkChunks = 8
/** Pause before a busy source is asked again. */
const busyMs = 200
/** A fetcher is asked what it has after this, and later while it has something to give. */
const askMs = 100
const askLaterMs = 250
/** New sources are looked for after this; the pause doubles up to the other. */
const firstLookMs = 50
const lastLookMs = 1000
/** Waits are looked at again: how the plan judges sources changes with time. */
const tickMs = 100
/** Sources that may yet get what is missing are waited for while any chunk came within this. */
const stalledMs = 2000

export interface Source {
  peer: PeerIdText
  /** The machine that all turn to: spared where others can give. */
  isHome: boolean
  /** Said to have the whole file; else it says itself which chunks. */
  isWhole: boolean
  session(): Promise<BlobSession>
  /** For the chunks of large files. */
  bulk(): Promise<BlobSession>
}

export interface Swarm {
  self: PeerIdText
  /** Those to ask, as far as known now. */
  sources(): Promise<Source[]>
  /** A fetcher cannot be reached. */
  onAway: (peer: PeerIdText) => void
}

export interface Outcome {
  /** Sources that gave bytes that do not match. */
  liars: PeerIdText[]
  lastError: MeshError | undefined
}

/** Fetches what is missing as far as the sources go; check {@link PartialFile.missingCount} after it. */
export async function pullChunks(partial: PartialFile, swarm: Swarm, signal: AbortSignal): Promise<Outcome> {
  const pulling = new FilePull(partial, swarm, signal)
  await pulling.run()
  signal.throwIfAborted()
  return pulling.outcome
}

class FilePull {
  readonly outcome: Outcome = { liars: [], lastError: undefined }
  readonly #partial: PartialFile
  readonly #swarm: Swarm
  readonly #plan: ChunkPlan
  readonly #ending = new AbortController()
  readonly #signal: AbortSignal
  /** All that were ever taken up; the plan knows those that still count. */
  readonly #sources = new Map<PeerIdText, Source>()
  readonly #running = new Set<Promise<void>>()
  #lastCame = performance.now()
  #wake = Promise.withResolvers<void>()

  constructor(partial: PartialFile, swarm: Swarm, signal: AbortSignal) {
    this.#partial = partial
    this.#swarm = swarm
    this.#signal = AbortSignal.any([signal, this.#ending.signal])
    const isHere = (index: number) => partial.has(index)
    this.#plan = new ChunkPlan({ id: partial.id, chunks: partial.chunks, self: swarm.self, isHere, random: Math.random })
  }

  async run(): Promise<void> {
    const ticking = setInterval(() => this.#changed(), tickMs)
    this.#signal.addEventListener('abort', () => this.#changed())
    try {
      this.#take(await this.#swarm.sources())
      this.#start(this.#look())
      while (!this.#signal.aborted && this.#partial.missingCount > 0) {
        const { promise } = this.#wake
        this.#fill()
        if (this.#plan.inFlight === 0 && !this.#mayGetMore()) break
        await promise
      }
    } finally {
      clearInterval(ticking)
      this.#ending.abort()
      await Promise.all(this.#running)
    }
  }

  #changed(): void {
    this.#wake.resolve()
    this.#wake = Promise.withResolvers()
  }

  /** Awaited before the pull ends; never rejects. */
  #start(work: Promise<void>): void {
    const running = work.catch(() => undefined).finally(() => this.#running.delete(running))
    this.#running.add(running)
  }

  #take(sources: readonly Source[]): void {
    for (const source of sources) {
      if (this.#sources.has(source.peer)) continue
      this.#sources.set(source.peer, source)
      this.#plan.join(source.peer, source, performance.now())
      this.#start(this.#watch(source))
    }
  }

  #fill(): void {
    const homeLast = [...this.#sources.values()].sort((a, b) => Number(a.isHome) - Number(b.isHome))
    for (const source of homeLast) {
      for (let index = this.#next(source); index !== undefined; index = this.#next(source)) this.#start(this.#fetch(source, index))
    }
  }

  #next({ peer }: Source): number | undefined {
    return this.#plan.next(peer, performance.now())
  }

  /** Whether a source fetches itself, and not in vain. */
  #mayGetMore(): boolean {
    if (performance.now() - this.#lastCame > stalledMs) return false
    return [...this.#sources.keys()].some((peer) => this.#plan.isKnown(peer) && !this.#plan.isWhole(peer))
  }

  async #fetch(source: Source, index: number): Promise<void> {
    let ended: Ended = 'failed'
    try {
      const session = await this.#orEnd(this.#partial.chunks < bulkChunks ? source.session() : source.bulk())
      const request = { id: this.#partial.id, index }
      const { data } = await session.call('chunk', request, { signal: this.#signal, timeoutMs: chunkTimeoutMs })
      const isGood = await this.#partial.write(index, data)
      free(data)
      if (isGood) {
        ended = 'came'
        this.#lastCame = performance.now()
        return
      }
      this.#plan.leave(source.peer)
      this.outcome.liars.push(source.peer)
      this.outcome.lastError = new MeshError(
        'BlobCorrupt',
        `The machine ${source.peer} gave bytes that do not match the blob ${this.#partial.id}.`,
      )
    } catch (error) {
      if (this.#signal.aborted) return
      const failure = toMeshError(error)
      this.outcome.lastError = failure
      if (failure.code === 'BlobNotFound' || failure.code === 'BlobCorrupt') ended = 'lacks'
      else if (failure.code === 'ServerBusy') await sleep(busyMs, undefined, { signal: this.#signal }).catch(() => undefined)
      // Here is no room; no source can help that.
      else if (failure.code === 'StoreFull') this.#ending.abort()
      else this.#drop(source)
    } finally {
      if (!this.#plan.ended(source.peer, index, ended, performance.now())) this.#drop(source)
      this.#changed()
    }
  }

  #drop({ peer, isWhole }: Source): void {
    this.#plan.leave(peer)
    if (!isWhole) this.#swarm.onAway(peer)
  }

  /** Asks a source that is not whole what it has, again and again. */
  async #watch(source: Source): Promise<void> {
    const { peer } = source
    while (this.#plan.isKnown(peer)) {
      if (!this.#plan.isWhole(peer) && !(await this.#ask(source))) return
      this.#changed()
      await sleep(this.#plan.isUseful(peer) ? askLaterMs : askMs, undefined, { signal: this.#signal })
    }
  }

  /** False: it need not be asked again. */
  async #ask(source: Source): Promise<boolean> {
    try {
      const session = await this.#orEnd(source.session())
      const { have } = await session.call('chunks', { id: this.#partial.id }, { signal: this.#signal, timeoutMs: askTimeoutMs })
      this.#plan.says(source.peer, have)
      return true
    } catch (error) {
      if (this.#signal.aborted) return false
      const failure = toMeshError(error)
      if (failure.code === 'ServerBusy') return true
      // It is of an older version, and cannot say: it is tried, once for each chunk.
      if (failure.code === 'UnsupportedVersion') this.#plan.hasAll(source.peer)
      else {
        this.outcome.lastError ??= failure
        this.#drop(source)
      }
      return false
    }
  }

  /** Who cannot be reached answers late, and the end does not wait for that. */
  async #orEnd<T>(work: Promise<T>): Promise<T> {
    const ended = Promise.withResolvers<never>()
    const onAbort = () => ended.reject(this.#signal.reason)
    this.#signal.addEventListener('abort', onAbort)
    if (this.#signal.aborted) onAbort()
    try {
      return await Promise.race([work, ended.promise])
    } finally {
      this.#signal.removeEventListener('abort', onAbort)
    }
  }

  /** Looks for further sources. */
  async #look(): Promise<void> {
    for (let pauseMs = firstLookMs; ; pauseMs = Math.min(2 * pauseMs, lastLookMs)) {
      await sleep(pauseMs, undefined, { signal: this.#signal })
      this.#take(await this.#orEnd(this.#swarm.sources()))
      this.#changed()
    }
  }
}
