/** Machines with a store each on one net in memory, and ways for them to misbehave. */
import { createHash } from 'node:crypto'
import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { blobCalls } from '../../node/blobs/serve.ts'
import { Tracker } from '../../node/blobs/tracker.ts'
import { type BlobExchange, startBlobExchange } from '../../node/blobs.ts'
import { type BlobStore, openStore, type StoreOptions } from '../../node/store/store.ts'
import { fileRoot } from '../../node/store/unixfs.ts'
import { type BlobsProtocol, blobsProtocol } from '../../protocols/blobs.ts'
import { type CallHandlers, serverSession } from '../../protocols/rpc.ts'
import type { Role, Wire } from '../../protocols/wire.ts'
import { MemoryNet } from './memory-wire.ts'

export const MiB = 1 << 20

export interface BlobPeer {
  peer: string
  wire: Wire
  dir: string
  store: BlobStore
  exchange: BlobExchange
  tracker: Tracker
  /** Calls that others made here, by name; chunks as `chunk <index>`. */
  asked: string[]
}

export class BlobPeers {
  readonly net = new MemoryNet()
  readonly #peers: BlobPeer[] = []
  readonly #dirs: string[] = []

  async dir(): Promise<string> {
    const dir = await mkdtemp(join(tmpdir(), 'batchmesh-blobs-'))
    this.#dirs.push(dir)
    return dir
  }

  async start(name: string, options: { roles?: readonly Role[]; dir?: string } & StoreOptions = {}): Promise<BlobPeer> {
    const dir = options.dir ?? (await this.dir())
    const peer = `peer-${name}`.padEnd(12, '-')
    const wire = this.net.wire(peer, options.roles ?? ['worker'])
    const store = await openStore(join(dir, 'blobs'), options)
    const tracker = new Tracker()
    const started: BlobPeer = { peer, wire, dir, store, tracker, exchange: startBlobExchange({ wire, store, tracker }), asked: [] }
    this.serve(started, (calls) => calls)
    this.#peers.push(started)
    return started
  }

  /** Puts other handlers in front of a peer's own; calls are still noted. */
  serve(peer: BlobPeer, change: (calls: CallHandlers<BlobsProtocol['server']>) => Partial<CallHandlers<BlobsProtocol['server']>>): void {
    const own = blobCalls(peer.store, peer.tracker)
    const calls = { ...own, ...change(own) }
    const noted = Object.fromEntries(
      Object.entries(calls).map(([name, handler]) => [
        name,
        (request: { index?: number }, context: never) => {
          peer.asked.push(request.index === undefined ? name : `${name} ${request.index}`)
          return (handler as (request: unknown, context: never) => unknown)(request, context)
        },
      ]),
    ) as unknown as typeof own
    peer.wire.serve(blobsProtocol, (channel) => {
      serverSession(blobsProtocol, channel, { calls: noted, notes: {} })
    })
  }

  /** Ends a peer's process, as far as others can tell; its directory stays. */
  async stop(peer: BlobPeer): Promise<void> {
    this.#peers.splice(this.#peers.indexOf(peer), 1)
    this.net.cut(peer.peer)
    peer.exchange.close()
    await peer.store.close()
    this.net.heal(peer.peer)
  }

  async close(): Promise<void> {
    while (this.#peers.length > 0) await this.stop(this.#peers[0]!)
    for (const dir of this.#dirs) await rm(dir, { recursive: true, force: true })
  }
}

export function leavesOf(bytes: Uint8Array): Uint8Array {
  const digests: Uint8Array[] = []
  for (let at = 0; at < bytes.length || at === 0; at += MiB) {
    digests.push(
      createHash('sha256')
        .update(bytes.subarray(at, at + MiB))
        .digest(),
    )
  }
  return Buffer.concat(digests)
}

export function idOf(bytes: Uint8Array): string {
  return fileRoot(leavesOf(bytes), bytes.length).id
}

export async function put(store: BlobStore, bytes: Uint8Array, pin?: string): Promise<string> {
  const incoming = store.begin()
  await incoming.append(bytes)
  return (await incoming.end(pin === undefined ? {} : { pin })).id
}

export async function readAll(store: BlobStore, id: string): Promise<Uint8Array> {
  return await store.read(id, 0, (await store.stat(id)).size)
}

/** Flips one bit of a blob's file on disk. */
export async function corrupt(store: BlobStore, id: string, at: number): Promise<void> {
  const bytes = await readFile(store.filePath(id))
  bytes[at]! ^= 1
  await rm(store.filePath(id))
  await writeFile(store.filePath(id), bytes, { mode: 0o444 })
}
