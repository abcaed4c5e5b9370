/**
 * A link between processes: TLS 1.2 with a key of its own for each pair (keys.ts), at most one connection a pair, straight
 * from member to member.
 *
 * A connection is made when it is first needed. Where both dial at once, the one of the lower rank stays. From the start each
 * member keeps one to the next member of the ring, so that everybody is watched by two; who loses one tells it on all
 * its connections, and who hears of it looks for itself (watch.ts). So a death is known to all without n² connections.
 */
import type { TLSSocket } from 'node:tls'
import type { Envelope, Link, Receiver } from '../link.ts'
import type { Card } from './card.ts'
import { Connection } from './connection.ts'
import { dial } from './dial.ts'
import { checkEnvelope, controlFrame, type Kind, kinds } from './frames.ts'
import { OwnMessages } from './own-messages.ts'
import type { TlsPort } from './tls-port.ts'
import { Watch } from './watch.ts'

export interface TlsLinkOptions {
  rank: number
  /** Of all members, by rank. */
  cards: readonly Card[]
  /** Known to the members only: 32 bytes. */
  key: Uint8Array
  port: TlsPort
  /** Whom another link reaches (shared memory): they are neither dialled nor watched. */
  others?: ReadonlySet<number>
}

/** Sends that wait for the connection. */
interface Waiting {
  envelope: Envelope
  data: Uint8Array
  done: PromiseWithResolvers<void>
}

interface Peer {
  connection?: Connection
  dialling?: AbortController
  /** What came in from it while this side dialled. */
  held?: TLSSocket
  waiting: Waiting[]
  /** When another member said that it is gone. */
  doubtedAt?: number
  lost?: Error
  hasLeft?: boolean
}

/** Sockets of the other side are closed within this at the end, if it answers at all. */
const partingMs = 2000
const ownLeave = 'This member has left the group.'
/** What several say of a member at the same time is looked into once. */
const doubtMs = 3000

export class TlsLink implements Link {
  readonly rank: number
  readonly size: number
  readonly #options: TlsLinkOptions
  readonly #peers: Peer[]
  readonly #own: OwnMessages
  readonly #watch: Watch
  #receiver: Receiver | undefined
  #lostEarly: [number, Error][] = []
  #closing: Promise<void> | undefined
  /** Set when all has left, and the goodbyes are said: until they are. */
  #parting: PromiseWithResolvers<void> | undefined

  constructor(options: TlsLinkOptions) {
    const { rank, cards, key, port } = options
    this.#options = options
    this.rank = rank
    this.size = cards.length
    this.#peers = cards.map(() => ({ waiting: [] }))
    this.#own = new OwnMessages(rank)
    this.#watch = new Watch(cards, {
      connections: () => this.#connections(),
      ping: (to) => this.#peers[to]!.connection?.sendControl(controlFrame(kinds.ping)),
      gone: (to, why) => this.#lose(to, new Error(`Member ${to} is gone: ${why}.`)),
    })
    port.admit({ rank, size: this.size, key, accept: (from, socket) => this.#came(from, socket) })
    this.#watchNext()
  }

  receive(receiver: Receiver): void {
    this.#receiver = receiver
    this.#own.receive(receiver)
    for (const { connection } of this.#peers) connection?.resume()
    for (const [rank, error] of this.#lostEarly.splice(0)) receiver.lost(rank, error)
  }

  send(to: number, envelope: Envelope, data: Uint8Array): Promise<void> | undefined {
    checkEnvelope(envelope, data)
    if (to === this.rank) return this.#own.send(envelope, data)
    const peer = this.#peers[to]
    if (peer === undefined) throw new RangeError(`There is no member ${to} in a group of ${this.size}.`)
    if (peer.lost !== undefined) return Promise.reject(peer.lost)
    if (peer.connection !== undefined) return peer.connection.send(envelope, data)
    if (this.#closing !== undefined) return Promise.reject(new Error(ownLeave))
    const done = Promise.withResolvers<void>()
    peer.waiting.push({ envelope, data, done })
    this.#dial(to)
    return done.promise
  }

  /** Nothing that another process sees is shared memory. */
  async shared(): Promise<undefined> {}

  close(): Promise<void> {
    this.#closing ??= this.#close()
    return this.#closing
  }

  async #close(): Promise<void> {
    await Promise.allSettled(this.#peers.flatMap(({ waiting }) => waiting.map(({ done }) => done.promise)))
    const parting = Promise.withResolvers<void>()
    this.#parting = parting
    for (const [, connection] of this.#connections()) void connection.finish(controlFrame(kinds.bye))
    this.#checkParted()
    const timer = setTimeout(() => this.#destroyAll(), partingMs)
    await parting.promise
    clearTimeout(timer)
    this.#watch.close()
    this.#options.port.close()
  }

  /** Whether the goodbyes are said, also to those that are being dialled. */
  #checkParted(): void {
    if (this.#peers.every(({ connection, dialling, lost }) => lost !== undefined || (connection === undefined && dialling === undefined)))
      this.#parting?.resolve()
  }

  #destroyAll(): void {
    const left = new Error(ownLeave)
    for (const peer of this.#peers) {
      peer.lost ??= left
      peer.dialling?.abort(left)
      peer.held?.destroy()
      peer.connection?.destroy(left)
    }
    this.#checkParted()
  }

  *#connections(): Generator<[number, Connection]> {
    for (const [rank, { connection, lost }] of this.#peers.entries())
      if (connection !== undefined && lost === undefined) yield [rank, connection]
  }

  /** Has a connection to the next member that is there. */
  #watchNext(): void {
    for (let step = 1; step < this.size; step += 1) {
      const rank = (this.rank + step) % this.size
      if (this.#peers[rank]!.lost === undefined && this.#options.others?.has(rank) !== true) return this.#dial(rank)
    }
  }

  #dial(to: number): void {
    const peer = this.#peers[to]!
    if (peer.connection !== undefined || peer.dialling !== undefined || peer.lost !== undefined) return
    const dialling = new AbortController()
    peer.dialling = dialling
    const failed = (error: Error) => {
      if (peer.dialling !== dialling) return
      peer.dialling = undefined
      const { held } = peer
      if (held !== undefined) this.#accept(to, held)
      else this.#lose(to, error)
    }
    const { key, cards } = this.#options
    dial({ from: this.rank, to, key, card: cards[to]!, signal: dialling.signal }).then(
      ({ socket, read }) => {
        if (peer.dialling !== dialling) return void socket.destroy()
        const connection = this.#connection(to, socket, failed)
        dialling.signal.addEventListener('abort', () => {
          if (peer.connection !== connection) connection.destroy(new Error('another connection is used'))
        })
        read(connection.received)
      },
      (error: unknown) => failed(new Error(`Member ${to} cannot be reached: ${error instanceof Error ? error.message : String(error)}.`)),
    )
  }

  /** A member dialled, and has proven who it is. */
  #came(from: number, socket: TLSSocket): void {
    const peer = this.#peers[from]!
    socket.on('error', () => socket.destroy())
    if (peer.lost !== undefined || peer.connection !== undefined || peer.held !== undefined) return void socket.destroy()
    if (peer.dialling === undefined || from < this.rank) return this.#accept(from, socket)
    // It takes the connection that this side dials, or this one is used when that fails.
    peer.held = socket
    socket.on('close', () => {
      if (peer.held === socket) peer.held = undefined
    })
  }

  #accept(from: number, socket: TLSSocket): void {
    const connection = this.#connection(from, socket)
    connection.sendControl(controlFrame(kinds.hello))
    this.#take(from, connection)
    socket.on('data', (bytes) => {
      connection.received(bytes)
      release(bytes)
    })
  }

  /** `failed`: what to do when it ends before it is taken. */
  #connection(rank: number, socket: TLSSocket, failed?: (error: Error) => void): Connection {
    const connection = new Connection(rank, socket, {
      begin: (envelope) => this.#receiver?.begin(rank, envelope),
      end: (envelope, data) => this.#receiver!.end(rank, envelope, data),
      control: (kind, envelope) => this.#told(rank, connection, kind, envelope),
      closed: (error) => {
        if (this.#peers[rank]!.connection === connection) this.#lose(rank, error)
        else failed?.(error)
      },
    })
    return connection
  }

  #take(rank: number, connection: Connection): void {
    const peer = this.#peers[rank]!
    const { dialling, held } = peer
    peer.connection = connection
    peer.dialling = undefined
    peer.held = undefined
    if (held !== undefined) held.destroy()
    dialling?.abort()
    for (const [gone, { lost, hasLeft }] of this.#peers.entries()) if (lost !== undefined) connection.sendControl(goneFrame(gone, hasLeft))
    for (const { envelope, data, done } of peer.waiting.splice(0)) {
      const sent = connection.send(envelope, data)
      if (sent === undefined) done.resolve()
      else sent.then(done.resolve, done.reject)
    }
    if (this.#parting !== undefined) void connection.finish(controlFrame(kinds.bye))
  }

  #told(from: number, connection: Connection, kind: Kind, { tag, type }: Envelope): void {
    const isTaken = this.#peers[from]!.connection === connection
    if (kind === kinds.hello && !isTaken) this.#take(from, connection)
    else if (!isTaken) connection.destroy(new Error(`Member ${from} is gone: it says something before it has taken the connection.`))
    else if (kind === kinds.bye) this.#lose(from, new Error(`Member ${from} has left the group.`), true)
    else if (kind === kinds.gone) this.#heardGone(tag, type === 1)
  }

  /** Another member says that this one is gone: it is passed on, and looked for. */
  #heardGone(rank: number, hasLeft: boolean): void {
    const peer = this.#peers[rank]
    const now = performance.now()
    if (peer === undefined || rank === this.rank || peer.lost !== undefined || now - (peer.doubtedAt ?? -doubtMs) < doubtMs) return
    peer.doubtedAt = now
    this.#tell(rank, hasLeft)
    if (this.#options.others?.has(rank) === true) return
    // One that stands says goodbye itself, after what it has sent.
    if (!hasLeft) this.#watch.look(rank)
    else if (peer.connection === undefined && peer.dialling === undefined)
      this.#lose(rank, new Error(`Member ${rank} has left the group.`), true)
  }

  #tell(gone: number, hasLeft: boolean): void {
    for (const [, connection] of this.#connections()) connection.sendControl(goneFrame(gone, hasLeft))
  }

  #lose(rank: number, error: Error, hasLeft = false): void {
    const peer = this.#peers[rank]!
    if (peer.lost !== undefined) return
    peer.lost = error
    peer.hasLeft = hasLeft
    peer.dialling?.abort(error)
    peer.held?.destroy()
    peer.connection?.destroy(error)
    for (const { done } of peer.waiting.splice(0)) done.reject(error)
    if (this.#parting !== undefined) this.#checkParted()
    if (this.#closing !== undefined) return
    this.#tell(rank, hasLeft)
    if (this.#receiver === undefined) this.#lostEarly.push([rank, error])
    else this.#receiver.lost(rank, error)
    this.#watchNext()
  }
}

/** Below it a call costs more than the memory. */
const releasedBytes = 4 << 10

/**
 * Frees the memory of what was read, at once: an accepted socket has no `onread`, and makes a buffer for each record. The next
 * record then lands in memory that is there and in the cache, instead of new pages until garbage collection frees the old.
 */
function release({ buffer, byteLength }: Buffer): void {
  if (byteLength >= releasedBytes && buffer.byteLength === byteLength && buffer instanceof ArrayBuffer) buffer.transfer(0)
}

function goneFrame(rank: number, hasLeft = false): Uint8Array {
  return controlFrame(kinds.gone, { tag: rank, type: hasLeft ? 1 : 0 })
}
