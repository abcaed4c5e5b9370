/**
 * Brings blobs here: files and whole directories, from whoever has them. Small files come with their descriptions, in
 * batches; larger ones chunk by chunk (pull-file.ts). What came stays, so a pull that broke off goes on where it was.
 */
import { setTimeout as sleep } from 'node:timers/promises'
import { maxChunkBytes, maxIds } from '../../protocols/blobs.ts'
import { MeshError, toMeshError } from '../../protocols/errors.ts'
import type { BlobId, PeerIdText } from '../../protocols/ids.ts'
import type { BlobStore } from '../store/store.ts'
import { maxTreeEntries, nodeBatch } from '../store/tree.ts'
import { parseBlobId, sha256 } from '../store/unixfs.ts'
import { Limit } from './limit.ts'
import { askManifests, type Verified } from './manifests.ts'
import { pullChunks, type Source, type Swarm } from './pull-file.ts'
import { takeSmall } from './serve.ts'
import type { BlobSessions } from './sessions.ts'

/** Files of a directory that come at once. */
const filesAtOnce = 8
/** Rounds over all sources before a pull is given up; whoever asked may try again, nothing that came is lost. */
const maxRounds = 4
/** Pause before the second round; doubles. */
const roundPauseMs = 250

export interface PullOptions {
  /** Machines that are said to have it. */
  providers?: readonly PeerIdText[]
  /** The job's home: asked itself, and asked who else has it. */
  home?: PeerIdText | undefined
  signal?: AbortSignal
}

export interface PullContext {
  store: BlobStore
  sessions: BlobSessions
  self: PeerIdText
  /** Tells that a peer gave wrong bytes. */
  onLiar(peer: PeerIdText, id: BlobId): void
  isLiar(peer: PeerIdText): boolean
  /** Tells that a peer, which others had named, could not be reached. */
  onAway: (peer: PeerIdText) => void
  isAway(peer: PeerIdText): boolean
  /** Where a peer is said to be. */
  learn(peer: PeerIdText, addresses: readonly string[]): void
  /** Those that fetched the blob from here. */
  seeds(id: BlobId): PeerIdText[]
}

/** Pulls one blob, with all below it. */
export async function pull(context: PullContext, id: BlobId, options: PullOptions, signal: AbortSignal): Promise<void> {
  parseBlobId(id)
  const releases: (() => void)[] = []
  try {
    await new TreePull(context, options, signal, async (one) => {
      releases.push(await context.store.hold(one))
    }).run(id)
  } finally {
    for (const release of releases) release()
  }
}

class TreePull {
  readonly #context: PullContext
  readonly #options: PullOptions
  readonly #signal: AbortSignal
  readonly #hold: (id: BlobId) => Promise<void>
  readonly #nodes = new Map<BlobId, { block: Uint8Array; children: BlobId[] }>()
  readonly #seen = new Set<BlobId>()
  readonly #files = new Limit(filesAtOnce)

  constructor(context: PullContext, options: PullOptions, signal: AbortSignal, hold: (id: BlobId) => Promise<void>) {
    this.#context = context
    this.#options = options
    this.#signal = signal
    this.#hold = hold
  }

  async run(root: BlobId): Promise<void> {
    const { store } = this.#context
    const files: Promise<void>[] = []
    let level = [root]
    while (level.length > 0) {
      const unseen = [...new Set(level)].filter((id) => !this.#seen.has(id))
      for (const id of unseen) this.#seen.add(id)
      if (this.#seen.size > maxTreeEntries)
        throw new MeshError('BlobCorrupt', `The directory ${root} has more than ${maxTreeEntries} entries.`)
      level = []
      for (let at = 0; at < unseen.length; at += maxIds) {
        const some = unseen.slice(at, at + maxIds)
        for (const id of some) await this.#hold(id)
        const rows = await store.rows(some)
        const missing: BlobId[] = []
        for (const [index, id] of some.entries()) {
          const row = rows[index]
          if (row === undefined) missing.push(id)
          // A directory that is here may have lost a part of it to a bad disk.
          else if (row.kind === 'directory') level.push(...(await store.children(id)).map((child) => child.id))
        }
        const small: Promise<void>[] = []
        for (const [id, what] of await this.#describe(missing)) {
          if (what.kind === 'directory') {
            const children = what.children.map((child) => child.id)
            this.#nodes.set(id, { block: what.block, children })
            level.push(...children)
          } else if (what.kind === 'content') small.push(takeSmall(store, id, what.content, undefined, true))
          else {
            const file = this.#files.run(() => this.#file(id, what))
            // Awaited below; should the pull fail before, that is what is passed on.
            file.catch(() => undefined)
            files.push(file)
          }
        }
        // All of a batch share a sync, and no more than a batch is in memory.
        await Promise.all(small)
      }
    }
    const results = await Promise.allSettled(files)
    const failed = results.find((result) => result.status === 'rejected')
    if (failed !== undefined) throw failed.reason
    await this.#addDirectories(root)
  }

  /** Directories go in from the bottom up, so that one that is in the store is whole. */
  async #addDirectories(root: BlobId): Promise<void> {
    const ordered: { id: BlobId; block: Uint8Array }[] = []
    const stack: { id: BlobId; open: boolean }[] = [{ id: root, open: true }]
    for (let item = stack.pop(); item !== undefined; item = stack.pop()) {
      const node = this.#nodes.get(item.id)
      if (node === undefined) continue
      if (item.open) {
        stack.push({ id: item.id, open: false })
        for (const child of node.children) stack.push({ id: child, open: true })
        continue
      }
      this.#nodes.delete(item.id)
      ordered.push({ id: item.id, block: node.block })
    }
    for (let at = 0; at < ordered.length; at += nodeBatch) {
      const batch = ordered.slice(at, at + nodeBatch)
      await Promise.all(batch.map(({ id, block }) => takeSmall(this.#context.store, id, block, undefined, true)))
    }
  }

  async #describe(ids: readonly BlobId[]): Promise<Map<BlobId, Verified>> {
    const found = new Map<BlobId, Verified>()
    let unknown = [...ids]
    for (let round = 0; unknown.length > 0; round++) {
      const asked = await askManifests(unknown, await this.#sources(unknown[0]!, round > 0), this.#signal)
      for (const [id, verified] of asked.found) found.set(id, verified)
      for (const peer of asked.liars) this.#context.onLiar(peer, unknown[0]!)
      unknown = unknown.filter((id) => !found.has(id))
      if (unknown.length === 0) break
      if (round + 1 >= maxRounds || (asked.lastError === undefined && round > 0)) throw notFound(unknown[0]!, asked.lastError)
      await this.#pause(round)
    }
    return found
  }

  async #file(id: BlobId, what: Verified): Promise<void> {
    const { store } = this.#context
    if (what.kind === 'chunk') return await this.#singleChunk(id)
    if (what.kind !== 'file') return
    const receiving = await store.receive(id, what.size, what.leaves)
    try {
      for (let round = 0; receiving.partial.missingCount > 0; round++) {
        const outcome = await pullChunks(receiving.partial, this.#swarm(id), this.#signal)
        for (const peer of outcome.liars) this.#context.onLiar(peer, id)
        if (receiving.partial.missingCount === 0) break
        if (round + 1 >= maxRounds) throw notFound(id, outcome.lastError)
        await this.#pause(round)
      }
      await receiving.finish({ cache: true })
    } finally {
      await receiving.release()
    }
  }

  async #singleChunk(id: BlobId): Promise<void> {
    const { digest } = parseBlobId(id)
    let lastError: MeshError | undefined
    for (let round = 0; round < maxRounds; round++) {
      if (round > 0) await this.#pause(round)
      for (const source of await this.#sources(id, round > 0)) {
        try {
          const { data } = await (await source.session()).call('chunk', { id, index: 0 }, { signal: this.#signal })
          if (data.length <= maxChunkBytes && Buffer.compare(sha256(data), digest) === 0) {
            const incoming = this.#context.store.begin()
            try {
              await incoming.append(data)
              await incoming.end({ cache: true })
            } finally {
              await incoming.abort()
            }
            return
          }
          this.#context.onLiar(source.peer, id)
          lastError = new MeshError('BlobCorrupt', `The machine ${source.peer} gave bytes that do not match the blob ${id}.`)
        } catch (error) {
          this.#signal.throwIfAborted()
          lastError = toMeshError(error)
          if (lastError.code === 'StoreFull') throw lastError
        }
      }
    }
    throw notFound(id, lastError)
  }

  /** Machines to ask: those named, then the home; with `seeds` also those that the home knows of. */
  async #sources(id: BlobId, seeds: boolean): Promise<Source[]> {
    const { self, sessions } = this.#context
    const { providers = [], home } = this.#options
    const asked = new Set<PeerIdText>(providers)
    if (home !== undefined) asked.add(home)
    const peers = new Set<PeerIdText>([...asked, ...this.#context.seeds(id)])
    if (home !== undefined && home !== self && seeds) {
      try {
        const answer = await (await sessions.to(home)).call('providers', { id, seed: true }, { signal: this.#signal })
        for (const peer of answer.peers) {
          peers.add(peer)
          this.#context.learn(peer, answer.addresses?.[peer] ?? [])
        }
      } catch {
        this.#signal.throwIfAborted()
      }
    }
    return [...peers]
      .filter((peer) => peer !== self && !this.#context.isLiar(peer) && (asked.has(peer) || !this.#context.isAway(peer)))
      .map((peer) => ({
        peer,
        isHome: peer === home,
        isWhole: asked.has(peer),
        session: () => sessions.to(peer),
        bulk: () => sessions.bulk(peer),
      }))
  }

  #swarm(id: BlobId): Swarm {
    const { self, onAway } = this.#context
    return { self, sources: () => this.#sources(id, true), onAway }
  }

  async #pause(round: number): Promise<void> {
    await sleep(roundPauseMs * 2 ** round, undefined, { signal: this.#signal })
  }
}

function notFound(id: BlobId, cause: MeshError | undefined): MeshError {
  if (cause === undefined)
    return new MeshError('BlobNotFound', `No reachable machine has the blob ${id}; put it again, or start a machine that has it.`)
  if (cause.code === 'BlobNotFound') return new MeshError('BlobNotFound', cause.message, { cause })
  return new MeshError(cause.code, `The blob ${id} could not be fetched: ${cause.message}`, { cause })
}
