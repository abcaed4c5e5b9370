/** Direct connections between two ends in one process, and the conversation in which one asks the other for tickets. */
import { DirectConnections, type DirectOptions } from '../../node/host/direct.ts'
import { loopbackPair } from '../../node/loopback.ts'
import { directProtocol } from '../../protocols/direct.ts'
import { MeshError } from '../../protocols/errors.ts'
import type { Channel } from '../../protocols/wire.ts'

export function direct(options: Partial<DirectOptions>): DirectConnections {
  const served = () => {
    throw new MeshError('UnsupportedVersion')
  }
  return new DirectConnections({ host: '127.0.0.1', served, log: () => undefined, ...options })
}

/** Opens the conversation with `far`, as the peer `near`. */
export function controlOf(far: DirectConnections): () => Promise<Channel> {
  return () => {
    const [channel, other] = loopbackPair({ peer: 'near', roles: ['worker'] }, directProtocol.maxFrameBytes)
    far.serve(other)
    return Promise.resolve(channel)
  }
}
