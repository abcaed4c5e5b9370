/**
 * The control socket: how programs of the node's owner speak with it. A unix socket (0600) in a directory (0700) that
 * only the owner can enter; who can open it counts as the owner, a submitter and admin. Each connection is one channel;
 * its first frame names the protocol (protocols/opening.ts). On Windows the path is that of a named pipe.
 */
import { chmod, mkdir, unlink } from 'node:fs/promises'
import { connect, createServer, type Server, type Socket } from 'node:net'
import { dirname } from 'node:path'
import { MeshError, toMeshError } from '../protocols/errors.ts'
import type { PeerIdText } from '../protocols/ids.ts'
import { decodeOpening, encodeAccepted, encodeRefused } from '../protocols/opening.ts'
import { StreamChannel } from '../protocols/stream-channel.ts'
import type { Channel, Remote, Service } from '../protocols/wire.ts'
import { duplexOfSocket, maxSocketPathBytes } from './socket-duplex.ts'

/** Who connects says what it wants within this time. */
const openingMs = 10_000

export interface LocalService {
  service: Service
  /** What takes the channel; a rejection refuses it with its code, before anything is said on it. */
  open: () => Promise<(channel: Channel) => void>
}

export interface ControlSocket {
  /** Stops accepting, ends what is connected, and removes the socket. */
  close(): Promise<void>
}

/**
 * Serves at `path`; a socket that a dead node left is replaced. `peer`: whom the owner's programs count as, this node by
 * its peer id. Rejects with InvalidPropertyValue when a node runs there already or the path is too long for a socket.
 */
export async function serveControlSocket(
  path: string,
  services: readonly LocalService[],
  options: { peer?: PeerIdText } = {},
): Promise<ControlSocket> {
  if (process.platform !== 'win32') await preparePath(path)
  const remote: Remote = { peer: options.peer ?? 'local-owner', roles: ['submitter', 'admin'] }
  const sockets = new Set<Socket>()
  const server = createServer((socket) => {
    sockets.add(socket)
    socket.once('close', () => sockets.delete(socket))
    void welcome(socket, services, remote)
  })
  await listen(server, path)
  if (process.platform !== 'win32') await chmod(path, 0o600)
  return {
    async close() {
      const closed = new Promise<void>((resolve) => server.close(() => resolve()))
      for (const socket of sockets) socket.destroy()
      await closed
    },
  }
}

async function welcome(socket: Socket, services: readonly LocalService[], remote: Remote): Promise<void> {
  // The largest limit until the protocol is known; the owner's own programs are not an attack.
  const maxFrameBytes = Math.max(...services.map(({ service }) => service.maxFrameBytes), 1024)
  const channel = new StreamChannel(duplexOfSocket(socket), remote, maxFrameBytes)
  try {
    const protocol = decodeOpening(await channel.next(AbortSignal.timeout(openingMs)))
    const served = services.find(({ service }) => service.protocol === protocol)
    if (served === undefined) {
      throw new MeshError(
        'UnsupportedVersion',
        `The node does not know ${protocol ?? 'this request'}: node and command are of different versions.`,
      )
    }
    const take = await served.open()
    channel.send(encodeAccepted())
    take(channel)
  } catch (error) {
    channel.send(encodeRefused(toMeshError(error)))
    channel.close()
  }
}

async function preparePath(path: string): Promise<void> {
  const bytes = Buffer.byteLength(path)
  if (bytes > maxSocketPathBytes) {
    throw new MeshError(
      'InvalidPropertyValue',
      `The path of the control socket has ${bytes} bytes, and the system allows ${maxSocketPathBytes}: ${path}. Choose a shorter data directory.`,
    )
  }
  const dir = dirname(path)
  await mkdir(dir, { recursive: true, mode: 0o700 })
  await chmod(dir, 0o700)
  await refuseSecondNode(path)
  await unlink(path).catch((error: NodeJS.ErrnoException) => {
    if (error.code !== 'ENOENT') throw error
  })
}

/** Rejects with InvalidPropertyValue when a live node has this control socket. */
export async function refuseSecondNode(path: string): Promise<void> {
  if (!(await answers(path))) return
  throw new MeshError(
    'InvalidPropertyValue',
    `A node runs here already: it answers at ${path}. Stop it first (\`batchmesh down\`), or give this one another data directory.`,
  )
}

/** Whether a live node listens there. */
function answers(path: string): Promise<boolean> {
  return new Promise((resolve) => {
    const socket = connect(path)
    socket.once('connect', () => {
      socket.destroy()
      resolve(true)
    })
    socket.once('error', () => resolve(false))
  })
}

function listen(server: Server, path: string): Promise<void> {
  return new Promise((resolve, reject) => {
    server.once('error', (error) => {
      reject(new MeshError('InvalidPropertyValue', `The control socket ${path} cannot be made: ${error.message}`, { cause: error }))
    })
    server.listen(path, () => resolve())
  })
}
