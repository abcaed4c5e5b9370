/** A founder with everything that a node serves, a member who goes on working with it, and peers that mean no good. */
import { rm } from 'node:fs/promises'
import { join } from 'node:path'
import { generateKeyPair } from '@libp2p/crypto/keys'
import { type GossipSub, gossipsub } from '@libp2p/gossipsub'
import { identify } from '@libp2p/identify'
import type { Stream } from '@libp2p/interface'
import { noise } from '@libp2p/noise'
import { tcp } from '@libp2p/tcp'
import { yamux } from '@libp2p/yamux'
import { multiaddr } from '@multiformats/multiaddr'
import { createLibp2p, type Libp2p } from 'libp2p'
import { startCoordinator } from '../../coordinator/coordinator.ts'
import { createMemoryStore } from '../../coordinator/store.ts'
import { startBlobExchange } from '../../node/blobs.ts'
import { filesHandlers } from '../../node/files.ts'
import { Gangs } from '../../node/gangs/gangs.ts'
import { duplexOf } from '../../node/host/streams.ts'
import { load, signCertificate } from '../../node/identity.ts'
import { type BlobStore, openStore } from '../../node/store/store.ts'
import { blobsProtocol } from '../../protocols/blobs.ts'
import { decode, encode } from '../../protocols/codec.ts'
import { controlProtocol } from '../../protocols/control.ts'
import { directProtocol } from '../../protocols/direct.ts'
import { filesProtocol } from '../../protocols/files.ts'
import { FrameDecoder, FrameQueue } from '../../protocols/framing.ts'
import { groupsProtocol } from '../../protocols/groups.ts'
import { leasesProtocol } from '../../protocols/leases.ts'
import { silentLogger } from '../../protocols/logger.ts'
import { enrolProtocol, helloProtocol, membershipProtocol } from '../../protocols/membership.ts'
import { clientSession, type Protocol, serverSession } from '../../protocols/rpc.ts'
import { StreamChannel } from '../../protocols/stream-channel.ts'
import { type Role, roles } from '../../protocols/wire.ts'
import { TestMesh, temporaryDir } from '../contracts/mesh-fixture.ts'

/** Every conversation that another machine can open. */
export const remoteProtocols: readonly Protocol[] = [
  helloProtocol,
  enrolProtocol,
  membershipProtocol,
  leasesProtocol,
  controlProtocol,
  blobsProtocol,
  directProtocol,
  filesProtocol,
  groupsProtocol,
]

/** As the host has it, so that a stream that is not read holds its sender back instead of breaking. */
const windowBytes = 1 << 20

export interface HostileLab {
  mesh: TestMesh
  /** Of the founder. */
  address: string
  store: BlobStore
  /** Chunks that the founder has read from its store for others. */
  chunksRead: () => number
  /** A call of the honest member, answered. */
  witness: () => Promise<void>
  intruder: (kind: 'member' | 'stranger') => Promise<Intruder>
  stop: () => Promise<void>
}

export async function startHostileLab(): Promise<HostileLab> {
  const mesh = await TestMesh.start()
  const { host } = mesh.founder
  const dir = await temporaryDir()
  const store = await openStore(join(dir, 'blobs'))
  let chunks = 0
  const counted = new Proxy(store, {
    get: (target, key) => {
      const value: unknown = Reflect.get(target, key)
      if (typeof value !== 'function') return value
      if (key === 'chunk') chunks += 1
      return value.bind(target) as unknown
    },
  })
  const exchange = startBlobExchange({ wire: host, store: counted })
  const unserve = host.serve(
    filesProtocol,
    (channel) =>
      void serverSession(
        filesProtocol,
        channel,
        filesHandlers(() => undefined),
      ),
  )
  const gangs = new Gangs({ wire: host, log: silentLogger })
  const fatal = (error: unknown) => {
    throw error
  }
  const parts = { wire: host, store: createMemoryStore(), meshId: mesh.founder.membership.mesh, name: 'founder', version: '0' }
  const coordinator = await startCoordinator({ ...parts, logger: silentLogger, fatal })
  const member = await mesh.join({ roles: ['submitter'] })
  const control = clientSession(controlProtocol, await member.host.open(host.peer, controlProtocol), {
    calls: {},
    notes: { jobEvents: () => undefined },
  })
  const { rootKey } = (await load(mesh.founder.dataDir))!.founder!
  const address = host.addresses()[0]!
  const intruders: Intruder[] = []
  return {
    mesh,
    address,
    store,
    chunksRead: () => chunks,
    witness: async () => void (await control.call('status', {})),
    async intruder(kind) {
      const intruder = await Intruder.start(address)
      intruders.push(intruder)
      if (kind === 'member') await intruder.greet(rootKey, mesh.founder.membership.mesh, roles)
      return intruder
    },
    async stop() {
      for (const intruder of intruders) await intruder.node.stop()
      await coordinator.stop()
      unserve()
      gangs.close()
      exchange.close()
      await mesh.stop()
      await store.close()
      await rm(dir, { recursive: true, force: true })
    },
  }
}

type RootKey = Parameters<typeof signCertificate>[0]

/** Plain libp2p that writes what it likes. */
export class Intruder {
  readonly node: Libp2p<{ pubsub: GossipSub }>
  readonly #address: string

  private constructor(node: Libp2p<{ pubsub: GossipSub }>, address: string) {
    this.node = node
    this.#address = address
  }

  static async start(address: string): Promise<Intruder> {
    const node = await createLibp2p({
      privateKey: await generateKeyPair('Ed25519'),
      transports: [tcp()],
      connectionEncrypters: [noise()],
      streamMuxers: [yamux({ streamOptions: { initialStreamWindowSize: windowBytes, maxStreamWindowSize: windowBytes } })],
      connectionManager: { reconnectRetries: 0 },
      services: { identify: identify(), pubsub: gossipsub({ allowPublishToZeroTopicPeers: true, floodPublish: true }) },
    })
    await node.dial(multiaddr(address))
    return new Intruder(node, address)
  }

  async greet(rootKey: RootKey, mesh: string, held: readonly Role[]): Promise<void> {
    const stream = await this.node.dialProtocol(multiaddr(this.#address), helloProtocol.protocol)
    const channel = new StreamChannel(duplexOf(stream), { peer: 'the-host', roles: [] }, helloProtocol.maxFrameBytes)
    const session = clientSession(helloProtocol, channel, { calls: {}, notes: { certificate() {}, revocations() {} } })
    const now = Date.now()
    const peer = this.node.peerId.toString()
    const certificate = await signCertificate(rootKey, { mesh, peer, roles: held, now, expires: now + 600_000, serial: 1000 })
    await session.call('hello', { certificate, revocationsNumber: 0 })
  }

  /** A stream of a protocol, past the verdict where there is one. */
  async open(protocol: Protocol): Promise<RawStream> {
    const raw = await this.openUnanswered(protocol)
    if (protocol !== helloProtocol) await raw.frame()
    return raw
  }

  /** A stream on which nothing has come yet. */
  async openUnanswered({ protocol, maxFrameBytes }: Protocol): Promise<RawStream> {
    const stream = await this.node.dialProtocol(multiaddr(this.#address), protocol, { maxOutboundStreams: 2000 })
    return new RawStream(stream, maxFrameBytes)
  }

  /** Opens one stream after the other and keeps them; how many of so many were taken. */
  async hoard(protocol: Protocol, tries: number): Promise<number> {
    let taken = 0
    for (let n = 0; n < tries; n += 1) {
      await this.open(protocol).then(
        () => {
          taken += 1
        },
        () => undefined,
      )
    }
    return taken
  }

  /** Whether the connection still stands. */
  get isConnected(): boolean {
    return this.node.getConnections().some(({ status }) => status === 'open')
  }
}

export class RawStream {
  readonly stream: Stream
  /** The other side is through with this stream, one way or another. */
  readonly over: Promise<void>
  readonly #frames: Uint8Array[] = []
  #wake: (() => void) | undefined
  #isOver = false

  constructor(stream: Stream, maxFrameBytes: number) {
    this.stream = stream
    const decoder = new FrameDecoder(maxFrameBytes)
    const { promise, resolve } = Promise.withResolvers<void>()
    this.over = promise
    void promise.then(() => {
      this.#isOver = true
      this.#wake?.()
    })
    stream.addEventListener('message', (event) => {
      decoder.push(event.data instanceof Uint8Array ? event.data : event.data.subarray(), this.#frames)
      this.#wake?.()
      if (decoder.ended) resolve()
    })
    for (const end of ['close', 'remoteCloseWrite'] as const) stream.addEventListener(end, () => resolve())
    if (stream.status !== 'open') resolve()
  }

  /** The next frame that came, decoded. Rejects when the other side is through before. */
  async frame(): Promise<unknown> {
    while (this.#frames.length === 0) {
      if (this.#isOver) throw new Error('the stream is over')
      await new Promise<void>((resolve) => {
        this.#wake = resolve
      })
    }
    return decode(this.#frames.shift()!)
  }

  send(bytes: Uint8Array): boolean {
    return this.stream.send(bytes)
  }

  /** Sends values as frames, each encoded as a conversation does. */
  say(...values: unknown[]): boolean {
    const queue = new FrameQueue()
    for (const value of values) queue.push(encode(value))
    return this.send(queue.take(Number.MAX_SAFE_INTEGER)!)
  }

  /**
   * Says the same again and again and reads nothing. Resolves with 'held back' once the other side has taken nothing for
   * as long as `meanwhile` takes twenty times, with 'taken' when it took all of the bytes.
   */
  async flood(value: unknown, bytes: number, meanwhile: () => Promise<void>): Promise<'held back' | 'taken'> {
    this.stream.pause()
    const values = new Array<unknown>(500).fill(value)
    const pieceBytes = (encode(value).length + 4) * values.length
    for (let sent = 0; sent < bytes; sent += pieceBytes) {
      if (this.say(...values)) continue
      let isDrained = false
      this.stream.addEventListener('drain', () => {
        isDrained = true
      })
      for (let turns = 0; !isDrained; turns += 1) {
        if (turns === 20) return 'held back'
        await meanwhile()
      }
    }
    return 'taken'
  }
}
