/**
 * The host: libp2p as a {@link Wire}. With node/host/ the only place that knows libp2p: listening and dialling, discovery,
 * the gate that lets members in, channels over streams, and gossip.
 */
import type { Connection, PeerId, Stream } from '@libp2p/interface'
import { peerIdFromString } from '@libp2p/peer-id'
import { multiaddr } from '@multiformats/multiaddr'
import type { Libp2p } from 'libp2p'
import { directProtocol } from '../protocols/direct.ts'
import { MeshError, toMeshError } from '../protocols/errors.ts'
import type { PeerIdText } from '../protocols/ids.ts'
import { helloProtocol, mayUse } from '../protocols/membership.ts'
import { checkVerdict, encodeAccepted, encodeRefused } from '../protocols/opening.ts'
import { StreamChannel } from '../protocols/stream-channel.ts'
import type { AbortOptions, Channel, OpenOptions, Remote, Role, Service, Wire } from '../protocols/wire.ts'
import { AddressBook, hostOf, peerOf } from './host/addresses.ts'
import { redialDelayMs } from './host/backoff.ts'
import { Dialer } from './host/dialer.ts'
import { DirectConnections, directHost } from './host/direct.ts'
import { Gate } from './host/gate.ts'
import { MemberGossip, maxGossipBytes } from './host/gossip.ts'
import { createNode, startNode } from './host/libp2p.ts'
import { knock } from './host/probe.ts'
import { checkAddress, forbidden, reasonOf, unserved } from './host/refusals.ts'
import { duplexOf } from './host/streams.ts'
import { loopbackPair } from './loopback.ts'
import type { Membership } from './membership.ts'

const openTimeoutMs = 10_000
const probeTimeoutMs = 3000

/** Streams of one protocol that one peer may have open: the launch of a gang opens one a rank. */
const maxStreams = 1024

/** The same where anyone is served: a newcomer asks for one. */
const maxStrangerStreams = 8

/** How often broken gossip streams are mended. */
const mendMs = 15_000

/** The little of a pino logger that the host uses. */
export interface HostLogger {
  debug(details: object, message: string): void
  info(details: object, message: string): void
}

export interface HostOptions {
  membership: Membership
  /** Absent: dial only. `addresses` are multiaddrs without port (`/ip4/127.0.0.1`), all interfaces by default. Port 0: any free one. */
  listen?: { port: number; addresses?: readonly string[] } | undefined
  /** Further multiaddrs at which this machine can be dialled (a forwarded port, a name). */
  announce?: readonly string[]
  /** Multiaddrs of machines to stay connected with; with or without `/p2p/<peer id>`. */
  bootstrap?: readonly string[]
  /** Finds machines of the same mesh on the local network. */
  mdns?: boolean
  /** Where addresses of peers are remembered; absent: nowhere. */
  dataDir?: string | undefined
  logger?: HostLogger | undefined
}

export type ConnectionHandler = (peer: PeerIdText, change: 'connected' | 'disconnected') => void

/** Starts a host. Rejects with InvalidPropertyValue for an address that is none, or a port that is taken. */
export async function createHost(options: HostOptions): Promise<Host> {
  const addresses = [...(options.announce ?? []), ...(options.bootstrap ?? []), ...(options.listen?.addresses ?? [])]
  for (const address of addresses) checkAddress(address)
  const host = new Host(options, await AddressBook.open(options.dataDir))
  await host.start()
  return host
}

export class Host implements Wire {
  readonly peer: PeerIdText
  readonly #options: HostOptions
  readonly #book: AddressBook
  readonly #gate: Gate
  readonly #gossip: MemberGossip
  readonly #dialer: Dialer
  readonly #direct: DirectConnections
  readonly #serving = new Map<string, { service: Service; accept: (channel: Channel) => void }>()
  readonly #topics = new Map<string, Set<(data: Uint8Array, from: PeerIdText) => void>>()
  readonly #members = new Set<PeerIdText>()
  readonly #handlers = new Set<ConnectionHandler>()
  readonly #timers = new Set<ReturnType<typeof setTimeout>>()
  #node!: Libp2p
  #mending: ReturnType<typeof setInterval> | undefined
  #stopped = false

  constructor(options: HostOptions, book: AddressBook) {
    const { membership, logger } = options
    const log = (message: string, details: object) => logger?.info(details, message)
    this.#options = options
    this.#book = book
    this.peer = membership.peer
    this.#gate = new Gate({
      membership,
      addresses: () => this.addresses(),
      onMember: (peer, connection, addresses) => this.#onMember(peer, connection, addresses),
      onStranger: (peer) => this.#onStranger(peer),
      log,
    })
    this.#gossip = new MemberGossip((connection) => this.#gate.member(connection))
    this.#dialer = new Dialer({
      isConnected: (peer) => this.#connectionTo(peer) !== undefined,
      dial: (peer) => this.#dial(peer, AbortSignal.timeout(openTimeoutMs)),
      log,
    })
    this.#direct = new DirectConnections({
      host: directHost(options.listen?.addresses ?? (options.listen === undefined ? [] : ['/ip6/::'])),
      served: (protocol, roles) => this.#served(protocol, roles),
      log,
    })
  }

  /** Called once, by {@link createHost}. */
  async start(): Promise<void> {
    const { membership, listen, announce, mdns } = this.#options
    const node = await createNode({
      privateKey: membership.privateKey,
      mesh: membership.mesh,
      listen,
      announce: announce ?? [],
      mdns: mdns ?? false,
      gossip: this.#gossip,
      admit: (connection) => this.#gate.member(connection),
    })
    this.#node = node
    node.addEventListener('connection:open', (event) => this.#gate.opened(event.detail))
    node.addEventListener('connection:close', (event) => this.#onClosed(event.detail))
    node.addEventListener('peer:discovery', (event) => this.#onSighted(event.detail.id, event.detail.multiaddrs.map(String)))
    await node.handle(helloProtocol.protocol, (stream, connection) => this.#gate.accept(stream, connection), {
      maxInboundStreams: maxStrangerStreams,
    })
    await startNode(node, listen)
    this.#gossip.pubsub.addEventListener('gossipsub:message', (event) => {
      const { msg } = event.detail
      if (msg.type === 'signed') this.#onGossip(msg.topic, msg.data, msg.from.toString())
    })
    this.serve(directProtocol, (channel) => this.#direct.serve(channel))
    this.#mending = setInterval(() => this.#mendGossip(), mendMs)
    this.#mending.unref()
    for (const address of this.#options.bootstrap ?? []) this.#bootstrap(address, 0)
  }

  async stop(): Promise<void> {
    if (this.#stopped) return
    this.#stopped = true
    this.#dialer.stop()
    for (const timer of this.#timers) clearTimeout(timer)
    clearInterval(this.#mending)
    this.#gate.stop()
    await this.#direct.stop()
    await this.#book.close()
    await this.#node.stop()
  }

  /** Multiaddrs at which a machine can be dialled, with its peer id: this one (what was announced first), or another as far as known. */
  addresses(peer: PeerIdText = this.peer): string[] {
    if (peer !== this.peer) return this.#book.of(peer).map(String)
    const announced = this.#options.announce ?? []
    const all = this.#node.getMultiaddrs().map(String)
    const isAnnounced = (address: string) => announced.some((prefix) => address === prefix || address.startsWith(`${prefix}/p2p/`))
    return [...all.filter(isAnnounced), ...all.filter((address) => !isAnnounced(address))]
  }

  /** Members that are connected now. */
  connected(): PeerIdText[] {
    return [...this.#members]
  }

  /** Tells of members that can be spoken with (at once of those that can now) and of those that no longer can. */
  onConnection(handler: ConnectionHandler): () => void {
    this.#handlers.add(handler)
    for (const peer of this.#members) handler(peer, 'connected')
    return () => this.#handlers.delete(handler)
  }

  /** Stays connected with a peer: dials again for ever, in the end rarely if `patient`. Returns how to stop. */
  keepConnected(peer: PeerIdText, addresses: readonly string[] = [], options: { patient?: boolean } = {}): () => void {
    this.#book.learn(peer, addresses)
    return peer === this.peer ? () => {} : this.#dialer.keep(peer, options)
  }

  learn(peer: PeerIdText, addresses: readonly string[]): void {
    if (peer === this.peer) return
    this.#book.learn(peer, addresses)
    this.#dialer.sighted(peer)
  }

  async open(peer: PeerIdText, service: Service, options: OpenOptions = {}): Promise<Channel> {
    if (this.#stopped) throw new MeshError('Unreachable', 'This node is stopping.')
    if (peer === this.peer) return this.#openLoopback(service)
    const deadline = AbortSignal.timeout(openTimeoutMs)
    const signal = options.signal === undefined ? deadline : AbortSignal.any([deadline, options.signal])
    try {
      return await this.#openRemote(peer, service, signal, options.direct ?? false)
    } catch (error) {
      if (options.signal?.aborted) throw new MeshError('Aborted', undefined, { cause: error })
      if (error instanceof MeshError) throw error
      const reason = deadline.aborted ? `no answer within ${openTimeoutMs / 1000} s` : reasonOf(error)
      throw new MeshError('Unreachable', `The machine ${peer} cannot be reached: ${reason}.`, { cause: error })
    }
  }

  serve(service: Service, accept: (channel: Channel) => void): () => void {
    const { protocol } = service
    if (this.#serving.has(protocol)) throw new Error(`${protocol} is served already`)
    this.#serving.set(protocol, { service, accept })
    const unexpected = (error: unknown) => this.#options.logger?.info({ protocol, error: String(error) }, 'serving a protocol failed')
    const handler = (stream: Stream, connection: Connection) => this.#accept(stream, connection, service)
    const maxInboundStreams = service.requires === 'anyone' ? maxStrangerStreams : maxStreams
    this.#node.handle(protocol, handler, { maxInboundStreams, maxOutboundStreams: maxStreams }).catch(unexpected)
    return () => {
      this.#serving.delete(protocol)
      this.#node.unhandle(protocol).catch(unexpected)
    }
  }

  async probe(peer: PeerIdText, options: AbortOptions = {}): Promise<'alive' | 'refused' | 'unknown'> {
    if (peer === this.peer) return 'alive'
    const targets = this.#book.telling(peer)
    if (targets.length === 0) return 'unknown'
    const deadline = AbortSignal.timeout(probeTimeoutMs)
    const signal = options.signal === undefined ? deadline : AbortSignal.any([deadline, options.signal])
    const results = await Promise.all(targets.map(({ host, port }) => knock(host, port, signal)))
    if (results.every((result) => result === 'refused')) return 'refused'
    const open = targets.filter((_, at) => results[at] === 'open')
    if (open.length === 0) return 'unknown'
    // Somebody listens there; only the handshake tells whether it is this peer.
    const addresses = open.map(({ address }) => multiaddr(`${address}/p2p/${peer}`))
    const before = this.#connectionTo(peer)
    const connection = await this.#node.dial(addresses, { signal, force: true }).catch(() => undefined)
    if (connection === undefined) return 'unknown'
    if (before !== undefined) await connection.close().catch(() => {})
    return 'alive'
  }

  publish(topic: string, data: Uint8Array): void {
    const { logger } = this.#options
    if (this.#stopped) return
    if (data.length > maxGossipBytes) return logger?.info({ topic, bytes: data.length }, 'an announcement is too large and is not sent')
    setImmediate(() => this.#onGossip(topic, data, this.peer))
    this.#gossip.pubsub
      .publish(topic, data)
      .catch((error: unknown) => logger?.debug({ topic, error: String(error) }, 'an announcement was not sent'))
  }

  subscribe(topic: string, handler: (data: Uint8Array, from: PeerIdText) => void): () => void {
    const handlers = this.#topics.get(topic) ?? new Set()
    if (handlers.size === 0) {
      this.#topics.set(topic, handlers)
      this.#gossip.pubsub.subscribe(topic)
    }
    handlers.add(handler)
    return () => {
      if (!handlers.delete(handler) || handlers.size > 0 || this.#stopped) return
      this.#topics.delete(topic)
      this.#gossip.pubsub.unsubscribe(topic)
    }
  }

  #onGossip(topic: string, data: Uint8Array, from: PeerIdText): void {
    if (this.#options.membership.isRevoked(from)) return
    for (const handler of this.#topics.get(topic) ?? []) handler(data, from)
  }

  #openLoopback(service: Service): Channel {
    const remote: Remote = { peer: this.peer, roles: this.#options.membership.certificate.roles }
    const { accept } = this.#served(service.protocol, remote.roles)
    const [near, far] = loopbackPair(remote, service.maxFrameBytes)
    accept(far)
    return near
  }

  /** What is served under a protocol to a peer with these roles; throws the refusal. */
  #served(protocol: string, roles: readonly Role[]): { service: Service; accept: (channel: Channel) => void } {
    const served = this.#serving.get(protocol)
    if (served === undefined) throw unserved(protocol)
    const { requires } = served.service
    if (requires !== 'anyone' && !mayUse(roles, requires)) throw forbidden(served.service)
    return served
  }

  async #openRemote(peer: PeerIdText, service: Service, signal: AbortSignal, direct: boolean): Promise<Channel> {
    const connection = this.#connectionTo(peer) ?? (await this.#dial(peer, signal))
    const roles = service.requires === 'anyone' ? [] : (await this.#gate.member(connection)).roles
    signal.throwIfAborted()
    const host = direct ? hostOf(connection.remoteAddr.toString()) : undefined
    if (host !== undefined) {
      const to = { remote: { peer, roles }, host, service }
      const channel = await this.#direct.open(to, () => this.#openRemote(peer, directProtocol, signal, false), signal)
      if (channel !== undefined) return channel
    }
    const stream = await connection.newStream([service.protocol], { signal, maxOutboundStreams: maxStreams }).catch((error: Error) => {
      throw error.name === 'UnsupportedProtocolError' ? unserved(service.protocol) : error
    })
    const channel = new StreamChannel(duplexOf(stream), { peer, roles }, service.maxFrameBytes)
    try {
      checkVerdict(await channel.next(signal))
      return channel
    } catch (error) {
      channel.close('lost')
      throw error
    }
  }

  async #accept(stream: Stream, connection: Connection, service: Service): Promise<void> {
    const peer = connection.remotePeer.toString()
    const channel = new StreamChannel(duplexOf(stream), { peer, roles: [] }, service.maxFrameBytes)
    try {
      if (service.requires !== 'anyone') channel.remote = { peer, roles: (await this.#gate.member(connection)).roles }
      const { accept } = this.#served(service.protocol, channel.remote.roles)
      channel.send(encodeAccepted())
      accept(channel)
    } catch (error) {
      channel.send(encodeRefused(toMeshError(error)))
      channel.close()
    }
  }

  #connectionTo(peer: PeerIdText): Connection | undefined {
    return this.#node.getConnections(peerIdFromString(peer)).findLast((connection) => connection.status === 'open')
  }

  async #dial(peer: PeerIdText, signal: AbortSignal): Promise<Connection> {
    const addresses = this.#book.of(peer)
    if (addresses.length === 0) throw new Error('no address of it is known')
    return this.#node.dial(addresses, { signal })
  }

  #bootstrap(address: string, failures: number): void {
    const peer = peerOf(address)
    if (peer !== undefined) {
      this.keepConnected(peer, [address])
      return
    }
    this.#node.dial(multiaddr(address), { signal: AbortSignal.timeout(openTimeoutMs) }).then(
      (connection) => {
        this.keepConnected(connection.remotePeer.toString(), [address])
      },
      () => this.#later(redialDelayMs(failures, Math.random()), () => this.#bootstrap(address, failures + 1)),
    )
  }

  #later(delayMs: number, what: () => void): void {
    if (this.#stopped) return
    const timer = setTimeout(() => {
      this.#timers.delete(timer)
      what()
    }, delayMs)
    this.#timers.add(timer)
  }

  #onSighted(id: PeerId, addresses: readonly string[]): void {
    this.learn(id.toString(), addresses)
  }

  #onMember(peer: PeerIdText, connection: Connection, addresses: readonly string[]): void {
    this.#book.learn(peer, addresses)
    const from = connection.remoteAddr.toString()
    if (connection.direction === 'outbound') this.#book.answered(peer, from)
    else this.#book.cameFrom(peer, from)
    this.#gossip.joined(connection)
    if (this.#members.has(peer)) return
    this.#members.add(peer)
    for (const handler of this.#handlers) handler(peer, 'connected')
  }

  #onStranger(peer: PeerIdText): void {
    this.#direct.closeAll(peer)
    if (!this.#members.delete(peer)) return
    this.#gossip.left(peerIdFromString(peer))
    for (const handler of this.#handlers) handler(peer, 'disconnected')
  }

  #onClosed(connection: Connection): void {
    const peer = connection.remotePeer.toString()
    this.#gate.closed(connection)
    if (this.#stopped) return
    const other = this.#connectionTo(peer)
    if (other === undefined) return this.#dialer.lost(peer)
    // Gossip ran over the connection that closed.
    if (!this.#members.has(peer)) return
    this.#gossip.left(connection.remotePeer)
    this.#gossip.joined(other)
  }

  #mendGossip(): void {
    for (const peer of this.#members) {
      const connection = this.#connectionTo(peer)
      if (connection !== undefined && !this.#gossip.reaches(peer)) this.#gossip.joined(connection)
    }
  }
}
