/** The client's end of the control socket (node/control-socket.ts). */
import { connect, type Socket } from 'node:net'
import { duplexOfSocket } from '../../node/socket-duplex.ts'
import { MeshError } from '../../protocols/errors.ts'
import { checkVerdict, encodeOpening } from '../../protocols/opening.ts'
import { StreamChannel } from '../../protocols/stream-channel.ts'
import type { AbortOptions, Channel, Service } from '../../protocols/wire.ts'

const openTimeoutMs = 10_000

/** Opens a channel to the node of this machine. Rejects with Unreachable when none runs, InsufficientPermissions when it belongs to another user, and as the node refuses. */
export async function openSocketChannel(path: string, service: Service, options: AbortOptions = {}): Promise<Channel> {
  const deadline = AbortSignal.timeout(openTimeoutMs)
  const signal = options.signal === undefined ? deadline : AbortSignal.any([deadline, options.signal])
  const socket = await connected(path)
  // The remote is this machine's own node; what it may do is not asked of it.
  const channel = new StreamChannel(duplexOfSocket(socket), { peer: 'local-node', roles: [] }, service.maxFrameBytes)
  try {
    channel.send(encodeOpening(service.protocol))
    checkVerdict(await channel.next(signal))
    return channel
  } catch (error) {
    channel.close('lost')
    if (error instanceof MeshError) throw error
    if (options.signal?.aborted) throw new MeshError('Aborted', undefined, { cause: error })
    if (deadline.aborted)
      throw new MeshError('OperationTimedOut', `The node at ${path} does not answer. It may be overloaded or stopped.`, { cause: error })
    throw new MeshError('Unreachable', `The node at ${path} closed the connection.`, { cause: error })
  }
}

function connected(path: string): Promise<Socket> {
  return new Promise((resolve, reject) => {
    const socket = connect(path)
    socket.once('connect', () => {
      socket.removeAllListeners('error')
      resolve(socket)
    })
    socket.once('error', (error: NodeJS.ErrnoException) => {
      const denied = error.code === 'EACCES' || error.code === 'EPERM'
      const code = denied ? 'InsufficientPermissions' : 'Unreachable'
      const message = denied
        ? `The node at ${path} belongs to another user; run the command as that user.`
        : `No node runs here (nothing answers at ${path}). Start one with \`batchmesh up\`.`
      reject(new MeshError(code, message, { cause: error }))
    })
  })
}
