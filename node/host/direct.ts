/** Both ends of protocols/direct.ts: the port that takes tickets, and the dialling with one. */
import { randomBytes } from 'node:crypto'
import { once } from 'node:events'
import type { AddressInfo, Socket } from 'node:net'
import { connect, createServer, type Server, type TLSSocket } from 'node:tls'
import { type DirectProtocol, directProtocol, type Ticket, ticketKeyBytes, ticketMs } from '../../protocols/direct.ts'
import { MeshError } from '../../protocols/errors.ts'
import type { PeerIdText } from '../../protocols/ids.ts'
import { checkVerdict, encodeAccepted } from '../../protocols/opening.ts'
import { clientSession, type Session, serverSession } from '../../protocols/rpc.ts'
import { StreamChannel } from '../../protocols/stream-channel.ts'
import type { Channel, Remote, Role, Service } from '../../protocols/wire.ts'
import { duplexOfSocket } from '../socket-duplex.ts'
import { hostOf } from './addresses.ts'

/** The key is new for each connection and came over one with forward secrecy, so a plain PSK suite gives nothing away. PSK suites need TLS 1.2 in Node. */
const suite = { ciphers: 'PSK-AES128-GCM-SHA256', minVersion: 'TLSv1.2', maxVersion: 'TLSv1.2' } as const
/** A port that a firewall drops would hold up each transfer. */
const dialMs = 2000
/** How long a peer that could not be reached directly is not tried again. */
const givenUpMs = 600_000
/** Tickets that one peer may hold: the channels that it opens at once. */
const maxTickets = 64
/** Connections that have shown no ticket yet: a handshake takes milliseconds, so a mesh that starts at once stays far below. */
const maxStrangers = 256

export interface DirectOptions {
  /** Where to listen; undefined: this machine takes none. */
  host: string | undefined
  /** What is served under a protocol to a peer with these roles; throws the refusal. */
  served: (protocol: string, roles: readonly Role[]) => { service: Service; accept: (channel: Channel) => void }
  now?: () => number
  log: (message: string, details: object) => void
}

/** Where to take direct connections: at the one address of the machine's choice, or at all; nowhere else than where it listens. */
export function directHost(listen: readonly string[]): string | undefined {
  return listen.length === 1 ? hostOf(listen[0]!) : undefined
}

type DirectSession = Session<DirectProtocol['server'], DirectProtocol['client']>

interface Issued {
  key: Uint8Array
  remote: Remote
  protocol: string
  expiry: ReturnType<typeof setTimeout>
}

export class DirectConnections {
  readonly #options: DirectOptions
  readonly #now: () => number
  readonly #tickets = new Map<string, Issued>()
  /** Whose ticket a connection showed, until its handshake is over. */
  readonly #shown = new Map<TLSSocket, Issued>()
  readonly #channels = new Map<PeerIdText, Set<Channel>>()
  readonly #givenUp = new Map<PeerIdText, number>()
  /** Connections that have shown no ticket yet, by where they come from; the oldest first. */
  readonly #strangers = new Map<string, Socket>()
  #listening: Promise<Server> | undefined

  constructor(options: DirectOptions) {
    this.#options = options
    this.#now = options.now ?? Date.now
  }

  /** Gives tickets on a channel of {@link directProtocol}. */
  serve(channel: Channel): void {
    const ticket = ({ protocol }: { protocol: string }) => this.ticket(protocol, channel.remote)
    serverSession(directProtocol, channel, { calls: { ticket }, notes: {} })
  }

  /** Gives a member a ticket. Throws Unreachable where this machine does not listen, ServerBusy, or the protocol's refusal. */
  async ticket(protocol: string, remote: Remote): Promise<Ticket> {
    if (this.#options.host === undefined) throw new MeshError('Unreachable', 'This machine takes no direct connections.')
    this.#listening ??= this.#listen(this.#options.host)
    const listening = this.#listening
    // A port that cannot be had now may be later.
    listening.catch(() => {
      if (this.#listening === listening) this.#listening = undefined
    })
    const { port } = (await listening).address() as AddressInfo
    // Nothing is waited for from here on: many ask at once.
    this.#options.served(protocol, remote.roles)
    if ([...this.#tickets.values()].filter((issued) => issued.remote.peer === remote.peer).length >= maxTickets)
      throw new MeshError('ServerBusy', `One peer holds at most ${maxTickets} tickets.`)
    const id = randomBytes(16).toString('hex')
    const key = new Uint8Array(randomBytes(ticketKeyBytes))
    const expiry = setTimeout(() => this.#tickets.delete(id), ticketMs).unref()
    this.#tickets.set(id, { key, remote, protocol, expiry })
    return { port, id, key }
  }

  /** A channel over a connection of its own, or undefined where there is none to be had. `control` is a channel of {@link directProtocol} to the peer. */
  async open(
    to: { remote: Remote; host: string; service: Service },
    control: () => Promise<Channel>,
    signal: AbortSignal,
  ): Promise<Channel | undefined> {
    const { remote, host, service } = to
    if ((this.#givenUp.get(remote.peer) ?? 0) > this.#now()) return undefined
    let session: DirectSession | undefined
    try {
      // A peer of an older version has no such conversation.
      session = clientSession(directProtocol, await control(), { calls: {}, notes: {} })
      const ticket = await session.call('ticket', { protocol: service.protocol }, { signal })
      const channel = await dial(host, ticket, service, remote, AbortSignal.any([signal, AbortSignal.timeout(dialMs)]))
      this.#keep(channel)
      return channel
    } catch (error) {
      signal.throwIfAborted()
      this.#givenUp.set(remote.peer, this.#now() + givenUpMs)
      this.#options.log('no direct connection to a machine; bulk goes over the common one', { peer: remote.peer, error: String(error) })
      return undefined
    } finally {
      session?.close()
    }
  }

  /** The peer is gone, or no member any more. */
  closeAll(peer: PeerIdText): void {
    for (const channel of this.#channels.get(peer) ?? []) channel.close('lost')
    for (const [socket, { remote }] of this.#shown) if (remote.peer === peer) socket.destroy()
    for (const [id, { remote, expiry }] of this.#tickets) {
      if (remote.peer !== peer) continue
      clearTimeout(expiry)
      this.#tickets.delete(id)
    }
  }

  async stop(): Promise<void> {
    for (const peer of [...this.#channels.keys()]) this.closeAll(peer)
    for (const { expiry } of this.#tickets.values()) clearTimeout(expiry)
    this.#tickets.clear()
    const server = await this.#listening?.catch(() => undefined)
    server?.close()
    for (const socket of this.#strangers.values()) socket.destroy()
  }

  async #listen(host: string): Promise<Server> {
    const server = createServer({
      ...suite,
      handshakeTimeout: ticketMs,
      pskCallback: (socket, id) => {
        const issued = this.#tickets.get(id)
        if (issued === undefined) return null
        this.#tickets.delete(id)
        clearTimeout(issued.expiry)
        this.#shown.set(socket, issued)
        socket.once('close', () => this.#shown.delete(socket))
        return issued.key
      },
    })
    server.on('connection', (socket: Socket) => this.#bound(socket))
    server.on('tlsClientError', (_error, socket) => socket.destroy())
    server.on('secureConnection', (socket) => this.#accept(socket))
    // A machine without IPv6 listens on IPv4.
    await listenAt(server, host).catch((error: unknown) => (host === '::' ? listenAt(server, '0.0.0.0') : Promise.reject(error)))
    server.unref()
    return server
  }

  /** Who shows no ticket is parted with after `handshakeTimeout`, and before that for the next when there are so many. */
  #bound(socket: Socket): void {
    const from = originOf(socket)
    this.#strangers.set(from, socket)
    socket.once('close', () => {
      if (this.#strangers.get(from) === socket) this.#strangers.delete(from)
    })
    if (this.#strangers.size <= maxStrangers) return
    const [oldest] = this.#strangers
    this.#strangers.delete(oldest![0])
    oldest![1].destroy()
  }

  #accept(socket: TLSSocket): void {
    this.#strangers.delete(originOf(socket))
    const issued = this.#shown.get(socket)
    this.#shown.delete(socket)
    if (issued === undefined) return void socket.destroy()
    try {
      const { service, accept } = this.#options.served(issued.protocol, issued.remote.roles)
      const channel = channelOf(socket, service, issued.remote)
      this.#keep(channel)
      channel.send(encodeAccepted())
      accept(channel)
    } catch {
      // What was served when the ticket was given no longer is: the other side goes the common way, and is told there.
      socket.destroy()
    }
  }

  #keep(channel: Channel): void {
    const { peer } = channel.remote
    const channels = this.#channels.get(peer) ?? new Set()
    this.#channels.set(peer, channels.add(channel))
    void channel.closed.then(() => {
      channels.delete(channel)
      if (channels.size === 0 && this.#channels.get(peer) === channels) this.#channels.delete(peer)
    })
  }
}

function originOf({ remoteAddress, remotePort }: Socket): string {
  return `${remoteAddress} ${remotePort}`
}

async function listenAt(server: Server, host: string): Promise<void> {
  server.listen({ host, port: 0 })
  await once(server, 'listening')
}

async function dial(host: string, ticket: Ticket, service: Service, remote: Remote, signal: AbortSignal): Promise<Channel> {
  const socket = connect({
    ...suite,
    host,
    port: ticket.port,
    pskCallback: () => ({ psk: ticket.key, identity: ticket.id }),
    // The key is the proof of who is there; there is no certificate.
    checkServerIdentity: () => undefined,
  })
  try {
    await once(socket, 'secureConnect', { signal })
    const channel = channelOf(socket, service, remote)
    checkVerdict(await channel.next(signal))
    return channel
  } catch (error) {
    socket.destroy()
    throw error
  }
}

function channelOf(socket: TLSSocket, service: Service, remote: Remote): StreamChannel {
  socket.setNoDelay(true)
  return new StreamChannel(duplexOfSocket(socket), remote, service.maxFrameBytes)
}
