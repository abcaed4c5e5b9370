/** Reaching a member at one of its addresses. */
import { connect as connectTcp, type Socket } from 'node:net'
import { type ConnectionOptions, connect as connectTls, type TLSSocket } from 'node:tls'
import type { Card } from './card.ts'
import { groupNameOf, identityOf, pairKeyOf, suite } from './keys.ts'

/** The next address is tried beside the last one after this (RFC 8305 proposes 250 ms; members are near each other, and busy). */
const nextAddressMs = 500
/** A machine that is there answers at once; its kernel does, however busy the member is. */
export const connectMs = 3000
/** Reads of a connection that was dialled land here: four records of TLS. */
const readBytes = 64 << 10

/** Options of net.connect that tls.connect takes as well; the types of Node do not say so. */
interface OfNet {
  noDelay: boolean
  keepAlive: boolean
  keepAliveInitialDelay: number
  onread: { buffer: Uint8Array; callback(count: number, buffer: Uint8Array): boolean }
}

export interface Dialled {
  socket: TLSSocket
  /** Gives what the socket reads to `received`, from memory that is used again when that returns. */
  read: (received: (bytes: Uint8Array) => void) => void
}

interface DialOptions {
  from: number
  to: number
  key: Uint8Array
  card: Card
  signal: AbortSignal
}

/**
 * A TLS connection to a member, from the first of its addresses that proves to be it. Once a machine has taken the
 * connection it may take its time: it computes. Rejects with what went wrong at each address.
 */
export function dial({ from, to, key, card, signal }: DialOptions): Promise<Dialled> {
  return firstOf(card, signal, (host) => {
    const reading: { received?: (bytes: Uint8Array) => void } = {}
    const options: ConnectionOptions & OfNet = {
      ...suite,
      host,
      port: card.port,
      noDelay: true,
      keepAlive: true,
      keepAliveInitialDelay: 1000,
      pskCallback: () => ({ psk: pairKeyOf(key, { from, to }), identity: identityOf(groupNameOf(key), { from, to }) }),
      // The key is the proof of who is there; there is no certificate.
      checkServerIdentity: () => undefined,
      // No buffer is made for each record that comes in: a third less time for reading.
      onread: {
        buffer: new Uint8Array(readBytes),
        callback: (count, buffer) => {
          reading.received?.(buffer.subarray(0, count))
          return true
        },
      },
    }
    const socket = connectTls(options)
    return {
      socket,
      isReady: 'secureConnect',
      result: {
        socket,
        read: (received) => {
          reading.received = received
        },
      },
    }
  })
}

/** A plain connection that nothing is said on: whether the member's machine and process are there, however busy. Rejects like {@link dial}. */
export function knock(card: Card, signal: AbortSignal): Promise<Socket> {
  return firstOf(card, signal, (host) => {
    const socket = connectTcp({ host, port: card.port, keepAlive: true, keepAliveInitialDelay: 1000 })
    return { socket, isReady: 'connect', result: socket }
  })
}

interface Attempt<T> {
  socket: Socket
  isReady: 'connect' | 'secureConnect'
  result: T
}

/** Tries the addresses one after the other, the next one beside those that take their time; the others end with the first that is ready. */
function firstOf<T>(card: Card, signal: AbortSignal, open: (host: string) => Attempt<T>): Promise<T> {
  const { promise, resolve, reject } = Promise.withResolvers<T>()
  const waiting = new Set<Socket>()
  const failures: string[] = []
  let next = 0
  let timer: NodeJS.Timeout | undefined
  let isOver = false
  const over = () => {
    isOver = true
    clearTimeout(timer)
    signal.removeEventListener('abort', abort)
    for (const socket of waiting) socket.destroy()
  }
  const abort = () => {
    over()
    reject(signal.reason)
  }
  const tryNext = () => {
    clearTimeout(timer)
    if (isOver || next === card.addresses.length) return
    const host = card.addresses[next]!
    const { socket, isReady, result } = open(host)
    next += 1
    waiting.add(socket)
    const failed = (why: string) => {
      if (!waiting.delete(socket) || isOver) return
      socket.destroy()
      failures.push(`${host} port ${card.port}: ${why}`)
      if (waiting.size > 0 || next < card.addresses.length) return tryNext()
      over()
      reject(new Error(failures.join('; ')))
    }
    // A turn of the loop later: what came while this thread was busy is read before.
    const silent = setTimeout(() => setImmediate(() => socket.connecting && failed(`no answer within ${connectMs / 1000} s`)), connectMs)
    socket.once('connect', () => clearTimeout(silent))
    socket.once('close', () => {
      clearTimeout(silent)
      failed('it was closed')
    })
    socket.on('error', (error: NodeJS.ErrnoException) => failed(error.code === 'ECONNREFUSED' ? 'nobody listens there' : error.message))
    socket.once(isReady, () => {
      waiting.delete(socket)
      if (isOver) return void socket.destroy()
      over()
      resolve(result)
    })
    if (next < card.addresses.length) timer = setTimeout(tryNext, nextAddressMs)
  }
  if (signal.aborted) abort()
  else {
    signal.addEventListener('abort', abort)
    if (card.addresses.length === 0) {
      over()
      reject(new Error('it says no address of itself'))
    } else tryNext()
  }
  return promise
}
