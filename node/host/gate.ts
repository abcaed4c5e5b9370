/**
 * The gate: which peers have proven to be members. Each connection begins with the greeting of protocols/membership.ts;
 * a peer stays a member until its newest certificate expires or is revoked, or its last connection closes.
 */
import type { Connection, Stream } from '@libp2p/interface'
import { MeshError, toMeshError } from '../../protocols/errors.ts'
import type { PeerIdText } from '../../protocols/ids.ts'
import { type Certificate, helloProtocol, isExpiry } from '../../protocols/membership.ts'
import { clientSession, type Handlers, type Session, serverSession } from '../../protocols/rpc.ts'
import { StreamChannel } from '../../protocols/stream-channel.ts'
import type { Membership } from '../membership.ts'
import { duplexOf } from './streams.ts'

/** A peer that dials greets at once; what it asks for before that waits this long. */
const greetingMs = 8000

/** A connection without a member at its other end is for enrolment, which takes a second. */
const strangerMs = 30_000

/** Connections whose other end has not greeted yet: room for a mesh that starts at once. The oldest is parted with for the next. */
const maxStrangers = 1000

/** Streams that may wait for the greeting of their connection: what a node opens as soon as it is connected. */
const maxEarlyStreams = 64

/** Certificates that one connection may show in vain: each costs the check of a signature. */
const maxRefusals = 8

/** Of a greeting, until it has shown who it is: a certificate and addresses. A list of revocations is larger. */
const strangerFrameBytes = 64 * 1024

/** A clock that is set makes every timer wrong: whether certificates hold is looked at so often besides. */
const lookMs = 60_000

type Client = typeof helloProtocol.client
type Server = typeof helloProtocol.server
type Greeter = Session<Client, Server> | Session<Server, Client>

interface Greeting {
  readonly connection: Connection
  readonly peer: PeerIdText
  session: Greeter | undefined
  /** Resolves once the greeting has come to a result, or none came in time. */
  settled: Promise<void>
  settle: () => void
  /** Streams that wait for it. */
  waiting: number
  refusals: number
  timers: ReturnType<typeof setTimeout>[]
}

interface Peer {
  certificate: Certificate | undefined
  /** Why it is no member. */
  trouble: string | undefined
  expiry: ReturnType<typeof setTimeout> | undefined
  readonly greetings: Map<Connection, Greeting>
}

export interface GateOptions {
  membership: Membership
  /** Where this machine can be dialled. */
  addresses: () => string[]
  /** The peer is a member, with this connection; called again for further connections of it. */
  onMember: (peer: PeerIdText, connection: Connection, addresses: readonly string[]) => void
  /** The peer is a member no more. */
  onStranger: (peer: PeerIdText) => void
  log: (message: string, details: Record<string, unknown>) => void
}

export class Gate {
  readonly #options: GateOptions
  readonly #membership: Membership
  readonly #peers = new Map<PeerIdText, Peer>()
  readonly #forgetChanges: () => void
  /** In the order in which they came. */
  readonly #strangers = new Set<Connection>()
  readonly #looking: ReturnType<typeof setInterval>
  #stopped = false

  constructor(options: GateOptions) {
    this.#options = options
    this.#membership = options.membership
    this.#forgetChanges = options.membership.onChange((change) => {
      if (change === 'certificate') this.#announceCertificate()
      if (change === 'revocations') this.#announceRevocations()
    })
    this.#looking = setInterval(() => {
      for (const peer of this.#peers.keys()) this.#recheck(peer)
    }, lookMs)
    this.#looking.unref()
  }

  stop(): void {
    this.#stopped = true
    this.#forgetChanges()
    clearInterval(this.#looking)
    for (const peer of this.#peers.values()) {
      clearTimeout(peer.expiry)
      for (const greeting of peer.greetings.values()) greeting.timers.forEach(clearTimeout)
    }
  }

  /** The certificate of a peer that is a member now and connected. */
  certificateOf(peer: PeerIdText): Certificate | undefined {
    const known = this.#peers.get(peer)
    if (known?.certificate === undefined) return undefined
    return this.#membership.trouble(known.certificate, peer) === undefined ? known.certificate : undefined
  }

  members(): PeerIdText[] {
    return [...this.#peers.keys()].filter((peer) => this.certificateOf(peer) !== undefined)
  }

  /** Waits for the greeting. Rejects with AuthenticationFailed when the other end is no member, ServerBusy when too much waits already. */
  async member(connection: Connection): Promise<Certificate> {
    const peer = connection.remotePeer.toString()
    const at = this.certificateOf(peer)
    if (at !== undefined) return at
    const greeting = this.#greetingOf(connection)
    if (greeting.waiting >= maxEarlyStreams) throw new MeshError('ServerBusy', 'Too many streams wait for the greeting; greet first.')
    greeting.waiting += 1
    await greeting.settled
    greeting.waiting -= 1
    const certificate = this.certificateOf(peer)
    if (certificate !== undefined) return certificate
    const trouble = this.#peers.get(peer)?.trouble
    throw new MeshError('AuthenticationFailed', trouble ?? 'The peer has not shown a membership certificate of this mesh.')
  }

  opened(connection: Connection): void {
    if (this.#stopped) return
    const greeting = this.#greetingOf(connection)
    if (connection.direction === 'outbound') void this.#greet(greeting)
    else if (this.certificateOf(greeting.peer) === undefined) this.#admitStranger(connection)
  }

  #admitStranger(connection: Connection): void {
    this.#strangers.add(connection)
    if (this.#strangers.size <= maxStrangers) return
    const [oldest] = this.#strangers
    this.#strangers.delete(oldest!)
    oldest!.abort(new Error('Too many peers have not greeted.'))
  }

  closed(connection: Connection): void {
    this.#strangers.delete(connection)
    const name = connection.remotePeer.toString()
    const peer = this.#peers.get(name)
    const greeting = peer?.greetings.get(connection)
    if (peer === undefined || greeting === undefined) return
    greeting.timers.forEach(clearTimeout)
    greeting.settle()
    peer.greetings.delete(connection)
    if (peer.greetings.size > 0) return
    this.#peers.delete(name)
    clearTimeout(peer.expiry)
    if (peer.certificate !== undefined) this.#options.onStranger(name)
  }

  /** The side that was dialled. */
  accept(stream: Stream, connection: Connection): void {
    const greeting = this.#greetingOf(connection)
    const channel = this.#channel(stream, greeting, strangerFrameBytes)
    const session = serverSession(helloProtocol, channel, {
      calls: {
        hello: async (request) => {
          try {
            const certificate = await this.#membership.judge(request.certificate, greeting.peer)
            this.#admit(greeting, certificate, request.addresses)
            channel.allow(helloProtocol.maxFrameBytes)
            if (request.time !== undefined && request.time >= this.#membership.certificate.expires) this.#membership.heardExpired()
          } catch (error) {
            this.#refuse(greeting, toMeshError(error).message)
            greeting.refusals += 1
            if (greeting.refusals >= maxRefusals) connection.abort(new Error('Too many certificates that do not hold.'))
            throw error
          } finally {
            greeting.settle()
          }
          const { signedCertificate: certificate, revocationsNumber, signedRevocations } = this.#membership
          const revocations = revocationsNumber > request.revocationsNumber ? signedRevocations : undefined
          return { certificate, revocationsNumber, revocations, addresses: this.#options.addresses() }
        },
      },
      notes: this.#notes(greeting),
    })
    greeting.session = session
  }

  /** The side that dialled; again after this machine's certificate was renewed. */
  async #greet(greeting: Greeting): Promise<void> {
    const { connection, peer } = greeting
    try {
      const stream = await connection.newStream([helloProtocol.protocol], { signal: AbortSignal.timeout(greetingMs) })
      const session = clientSession(helloProtocol, this.#channel(stream, greeting), { calls: {}, notes: this.#notes(greeting) })
      greeting.session?.close()
      greeting.session = session
      const { signedCertificate, revocationsNumber, signedRevocations } = this.#membership
      const addresses = this.#options.addresses()
      const hello = { certificate: signedCertificate, revocationsNumber, addresses, time: this.#membership.now() }
      const answer = await session.call('hello', hello, { timeoutMs: greetingMs }).catch((error: unknown) => {
        if (isExpiry(error)) this.#membership.heardExpired()
        throw error
      })
      const certificate = await this.#membership.judge(answer.certificate, peer)
      if (answer.revocations !== undefined) await this.#membership.takeRevocations(answer.revocations)
      this.#admit(greeting, certificate, answer.addresses)
      if (signedRevocations !== undefined && revocationsNumber > answer.revocationsNumber) {
        session.note('revocations', { revocations: signedRevocations })
      }
    } catch (error) {
      const trouble =
        (error as Error).name === 'UnsupportedProtocolError' ? 'The other side does not speak batchmesh.' : toMeshError(error).message
      this.#refuse(greeting, trouble)
    } finally {
      greeting.settle()
    }
  }

  #notes(greeting: Greeting): Handlers<Server>['notes'] {
    const whenMember = (take: () => Promise<void>, isRefusedOne = false) => {
      if (this.certificateOf(greeting.peer) === undefined && !isRefusedOne) return
      take().catch((error: unknown) => this.#options.log('a pushed certificate was refused', { peer: greeting.peer, error: String(error) }))
    }
    return {
      certificate: (note) => {
        // One that was dialled and refused may have renewed its certificate for that.
        const isRefusedOne =
          this.certificateOf(greeting.peer) === undefined &&
          greeting.connection.direction === 'outbound' &&
          ++greeting.refusals < maxRefusals
        whenMember(async () => this.#admit(greeting, await this.#membership.judge(note.certificate, greeting.peer), []), isRefusedOne)
      },
      revocations: (note) => whenMember(async () => void (await this.#membership.takeRevocations(note.revocations))),
    }
  }

  #channel(stream: Stream, greeting: Greeting, maxFrameBytes = helloProtocol.maxFrameBytes): StreamChannel {
    return new StreamChannel(duplexOf(stream), { peer: greeting.peer, roles: [] }, maxFrameBytes)
  }

  #greetingOf(connection: Connection): Greeting {
    const name = connection.remotePeer.toString()
    let peer = this.#peers.get(name)
    if (peer === undefined) {
      peer = { certificate: undefined, trouble: undefined, expiry: undefined, greetings: new Map() }
      this.#peers.set(name, peer)
    }
    const known = peer.greetings.get(connection)
    if (known !== undefined) return known
    const { promise: settled, resolve: settle } = Promise.withResolvers<void>()
    const giveUp = setTimeout(settle, greetingMs)
    const part = setTimeout(() => this.#partWithStranger(connection), strangerMs)
    giveUp.unref()
    part.unref()
    const greeting: Greeting = {
      connection,
      peer: name,
      session: undefined,
      settled,
      settle,
      waiting: 0,
      refusals: 0,
      timers: [giveUp, part],
    }
    peer.greetings.set(connection, greeting)
    // A connection that closed before it was heard of here says so no more.
    if (connection.status !== 'open') this.closed(connection)
    return greeting
  }

  #partWithStranger(connection: Connection): void {
    if (this.certificateOf(connection.remotePeer.toString()) !== undefined) return
    connection.close().catch((error: unknown) => connection.abort(error as Error))
  }

  #admit(greeting: Greeting, certificate: Certificate, addresses: readonly string[]): void {
    const peer = this.#peers.get(greeting.peer)
    if (this.#stopped || peer === undefined || !peer.greetings.has(greeting.connection)) return
    // What was true when the signature was checked may have been revoked since.
    const trouble = this.#membership.trouble(certificate, greeting.peer)
    if (trouble !== undefined) return this.#refuse(greeting, trouble)
    if (peer.certificate === undefined || certificate.serial >= peer.certificate.serial) peer.certificate = certificate
    peer.trouble = undefined
    this.#strangers.delete(greeting.connection)
    this.#recheck(greeting.peer)
    this.#options.onMember(greeting.peer, greeting.connection, addresses)
  }

  #refuse(greeting: Greeting, trouble: string): void {
    const peer = this.#peers.get(greeting.peer)
    if (peer === undefined) return
    peer.trouble = trouble
    this.#options.log('a peer is no member', { peer: greeting.peer, trouble })
    this.#recheck(greeting.peer)
  }

  /** Parts with a peer whose certificate does not hold any more, now or when it expires. */
  #recheck(name: PeerIdText): void {
    const peer = this.#peers.get(name)
    if (peer?.certificate === undefined) return
    clearTimeout(peer.expiry)
    const trouble = this.#membership.trouble(peer.certificate, name)
    const leftMs = peer.certificate.expires - this.#membership.now()
    if (trouble === undefined) {
      if (leftMs < lookMs) peer.expiry = setTimeout(() => this.#recheck(name), leftMs).unref()
      return
    }
    peer.certificate = undefined
    peer.trouble = trouble
    this.#options.log('a peer is a member no more', { peer: name, trouble })
    this.#options.onStranger(name)
    for (const { connection } of peer.greetings.values()) connection.abort(new Error(trouble))
  }

  #announceCertificate(): void {
    for (const [name, peer] of this.#peers) {
      for (const greeting of peer.greetings.values()) {
        if (this.certificateOf(name) !== undefined)
          greeting.session?.note('certificate', { certificate: this.#membership.signedCertificate })
        else if (greeting.connection.direction === 'outbound') void this.#greet(greeting)
      }
    }
  }

  #announceRevocations(): void {
    const revocations = this.#membership.signedRevocations
    for (const [name, peer] of this.#peers) {
      this.#recheck(name)
      if (revocations === undefined || this.certificateOf(name) === undefined) continue
      for (const greeting of peer.greetings.values()) greeting.session?.note('revocations', { revocations })
    }
  }
}
