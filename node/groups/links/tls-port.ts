/**
 * Where a member is reached: a TCP port of the system's choice, open from before the members know of each other. Who connects
 * waits until this member knows the key of the group; then the handshake shows who it is, and strangers are parted with.
 */
import { once } from 'node:events'
import { type AddressInfo, createServer, type Server, type Socket } from 'node:net'
import { createServer as createTlsServer, type TLSSocket } from 'node:tls'
import { dialerOf, groupNameOf, pairKeyOf, suite } from './keys.ts'

/** Connections that have not shown who they are: all members of a large group at once. The oldest goes first. */
const maxStrangers = 1024
/** A handshake takes milliseconds; a member that is busy with a computation, its time. */
const handshakeMs = 30_000

export interface Admission {
  rank: number
  size: number
  key: Uint8Array
  /** A member that has proven its rank. */
  accept: (from: number, socket: TLSSocket) => void
}

export class TlsPort {
  readonly port: number
  readonly #server: Server
  /** By where they come from; the oldest first. */
  readonly #strangers = new Map<string, Socket>()
  #admit: ((socket: Socket) => void) | undefined

  private constructor(server: Server) {
    this.#server = server
    this.port = (server.address() as AddressInfo).port
    server.on('connection', (socket: Socket) => this.#came(socket))
  }

  /** `host`: where to listen; a machine without IPv6 listens on IPv4. */
  static async open(host: string): Promise<TlsPort> {
    const listen = async (at: string) => {
      // Nothing is read before the handshake may begin.
      const server = createServer({ pauseOnConnect: true, noDelay: true })
      server.listen({ host: at, port: 0, backlog: maxStrangers })
      await once(server, 'listening')
      return server
    }
    return new TlsPort(await listen(host).catch((error: unknown) => (host === '::' ? listen('0.0.0.0') : Promise.reject(error))))
  }

  /** Takes members of this group from now on. */
  admit({ rank, size, key, accept }: Admission): void {
    const group = groupNameOf(key)
    const dialers = new WeakMap<TLSSocket, number>()
    const server = createTlsServer({
      ...suite,
      handshakeTimeout: handshakeMs,
      pskCallback: (socket, identity) => {
        const from = dialerOf(identity, group, rank, size)
        if (from === undefined) return null
        dialers.set(socket, from)
        return pairKeyOf(key, { from, to: rank })
      },
    })
    server.on('tlsClientError', (_error, socket) => socket.destroy())
    server.on('secureConnection', (socket) => {
      this.#strangers.delete(originOf(socket))
      const from = dialers.get(socket)
      if (from === undefined) return void socket.destroy()
      accept(from, socket)
    })
    this.#admit = (socket) => server.emit('connection', socket)
    for (const socket of this.#strangers.values()) this.#admit(socket)
  }

  /** No more connections; those of members go on. */
  close(): void {
    this.#server.close()
    for (const socket of this.#strangers.values()) socket.destroy()
    this.#strangers.clear()
  }

  #came(socket: Socket): void {
    const from = originOf(socket)
    this.#strangers.set(from, socket)
    socket.on('error', () => socket.destroy())
    socket.once('close', () => {
      if (this.#strangers.get(from) === socket) this.#strangers.delete(from)
    })
    const [oldest] = this.#strangers
    if (this.#strangers.size > maxStrangers) {
      this.#strangers.delete(oldest![0])
      oldest![1].destroy()
    }
    this.#admit?.(socket)
  }
}

function originOf({ remoteAddress, remotePort }: Socket): string {
  return `${remoteAddress} ${remotePort}`
}
