/** The node's port: free, or held by the node itself, and reachable by the machine's own addresses. */
import { connect, createServer, type Server } from 'node:net'
import { networkInterfaces } from 'node:os'
import { type Check, ok, problem, warning } from './check.ts'

const reachMs = 2000

/** IPv4 and global IPv6 addresses of this machine that others could use. */
export function outwardAddresses(interfaces = networkInterfaces()): string[] {
  return Object.values(interfaces).flatMap((list) =>
    (list ?? []).filter(({ internal, scopeid }) => !internal && (scopeid === undefined || scopeid === 0)).map(({ address }) => address),
  )
}

/** The TCP port in a multiaddr. */
export function portOf(address: string): number | undefined {
  const found = /\/tcp\/(\d+)/.exec(address)?.[1]
  return found === undefined ? undefined : Number(found)
}

/** `held`: the addresses on which the node that runs here listens; none where no node runs. */
export async function checkPort(port: number, held: readonly string[]): Promise<Check> {
  if (held.some((address) => portOf(address) === port)) {
    if (held.every((address) => /^\/ip4\/127\.|^\/ip6\/::1\//.test(address)))
      return warning(
        'port',
        `${port} is held by this node, on loopback only: no other machine can dial it`,
        'batchmesh up --defaults, or with another --listen',
      )
    return reach(port, 'held by this node')
  }
  if (port === 0) return ok('port', 'a free one is picked at each start (--port 0)')
  const listening = await listen(port)
  if (!(listening instanceof Error)) {
    const check = await reach(port, 'free')
    listening.close()
    return check
  }
  const code = (listening as NodeJS.ErrnoException).code
  if (code === 'EADDRINUSE')
    return problem(
      'port',
      `${port} is taken by another program`,
      `See which: ss -ltnp 'sport = :${port}'. Or choose another: batchmesh up --port N`,
    )
  return problem('port', `${port} cannot be listened on: ${listening.message}`, 'Choose another: batchmesh up --port N')
}

async function reach(port: number, state: string): Promise<Check> {
  const addresses = outwardAddresses()
  if (addresses.length === 0) return warning('port', `${port} is ${state}, but this machine has no address besides loopback`)
  const reached = await Promise.all(addresses.map((address) => reaches(address, port)))
  const missed = addresses.filter((_, at) => !reached[at])
  if (missed.length === 0) return ok('port', `${port} is ${state}, and answers at ${addresses.join(', ')}`)
  return warning('port', `${port} is ${state}, but does not answer at ${missed.join(', ')}`, 'Look at the firewall and at --listen.')
}

function listen(port: number): Promise<Server | Error> {
  return new Promise((resolve) => {
    const server = createServer((socket) => socket.destroy())
    server.once('error', resolve)
    server.listen(port, () => resolve(server))
  })
}

function reaches(host: string, port: number): Promise<boolean> {
  return new Promise((resolve) => {
    const socket = connect({ host, port, timeout: reachMs })
    const done = (reached: boolean) => {
      socket.destroy()
      resolve(reached)
    }
    socket.once('connect', () => done(true))
    socket.once('error', () => done(false))
    socket.once('timeout', () => done(false))
  })
}
