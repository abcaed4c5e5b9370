/** Whether members of a gang reach each other: plain TCP, as MPI will use it, to a port that each has for that moment. */
import { randomBytes, timingSafeEqual } from 'node:crypto'
import { once } from 'node:events'
import { type AddressInfo, connect, createServer, type Server } from 'node:net'
import { tokenBytes } from '../../protocols/groups.ts'

/** A dial that takes longer has met a firewall that says nothing. */
const dialMs = 5000
/** Connections at once: all other members of a gang in which all dial all, and some strangers. */
const maxConnections = 256

export interface Doorbell {
  port: number
  token: Uint8Array
  close(): void
}

/** Listens at the address that the others dial, or at all where the machine does not have it itself; tells whoever comes the token. */
export async function listenForMembers(address: string): Promise<Doorbell> {
  const token = new Uint8Array(randomBytes(tokenBytes))
  const server = createServer((socket) => {
    socket.on('error', () => undefined)
    socket.setTimeout(dialMs, () => socket.destroy())
    socket.resume()
    socket.end(token)
  })
  server.maxConnections = maxConnections
  await listen(server, address).catch(async (error: NodeJS.ErrnoException) => {
    if (error.code !== 'EADDRNOTAVAIL' && error.code !== 'ENOTFOUND' && error.code !== 'EINVAL') throw error
    await listen(server, undefined)
  })
  server.unref()
  return { port: (server.address() as AddressInfo).port, token, close: () => void server.close() }
}

async function listen(server: Server, host: string | undefined): Promise<void> {
  server.listen({ port: 0, host })
  await once(server, 'listening')
}

/** Dials a member; why it was not reached, or undefined. Never rejects but for `signal`. */
export async function reach(
  address: string,
  { port, token }: { port: number; token: Uint8Array },
  signal: AbortSignal,
): Promise<string | undefined> {
  signal.throwIfAborted()
  if (address === '') return 'its machine has no address'
  return await new Promise<string | undefined>((resolve, reject) => {
    const socket = connect({ host: address, port })
    const pieces: Buffer[] = []
    let bytes = 0
    const done = (why: string | undefined) => {
      signal.removeEventListener('abort', onAbort)
      clearTimeout(timer)
      socket.destroy()
      resolve(why)
    }
    const onAbort = () => {
      reject(signal.reason as Error)
      done(undefined)
    }
    const timer = setTimeout(() => done(`no answer at ${address}:${port} within ${dialMs / 1000} s`), dialMs)
    signal.addEventListener('abort', onAbort, { once: true })
    socket.on('error', (error: NodeJS.ErrnoException) => done(`${address}:${port}: ${error.code ?? error.message}`))
    socket.on('data', (piece) => {
      pieces.push(piece)
      bytes += piece.length
      if (bytes >= tokenBytes) done(isToken(Buffer.concat(pieces), token) ? undefined : `another machine answers at ${address}:${port}`)
    })
    socket.on('end', () => done(`another machine answers at ${address}:${port}`))
  })
}

function isToken(said: Buffer, token: Uint8Array): boolean {
  return said.length === token.length && timingSafeEqual(said, token)
}
