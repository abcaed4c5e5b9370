/** Conversations over unix sockets: the frames of the mesh without its encryption, for more workers than libp2p nodes fit on one machine. */
import { connect, createServer, type Socket } from 'node:net'
import { duplexOfSocket } from '../../node/socket-duplex.ts'
import { decode, encode } from '../../protocols/codec.ts'
import { MeshError } from '../../protocols/errors.ts'
import { checkVerdict, encodeAccepted } from '../../protocols/opening.ts'
import { StreamChannel } from '../../protocols/stream-channel.ts'
import type { Channel, Role, Service, Wire } from '../../protocols/wire.ts'

interface Opening {
  peer: string
  roles: Role[]
  protocol: string
}

const maxFrameBytes = 64 << 20

/** The serving side: takes whoever connects for whom it says it is. Gossip goes nowhere. */
export async function socketWire(path: string, peer: string): Promise<Wire> {
  const serving = new Map<string, (channel: Channel) => void>()
  const take = async (socket: Socket) => {
    const channel = new StreamChannel(duplexOfSocket(socket), { peer: '', roles: [] }, maxFrameBytes)
    const opening = decode(await channel.next()) as Opening
    channel.remote = { peer: opening.peer, roles: opening.roles }
    channel.send(encodeAccepted())
    serving.get(opening.protocol)!(channel)
  }
  const server = createServer((socket) => void take(socket).catch(() => socket.destroy()))
  await new Promise<void>((resolve) => server.listen({ path, backlog: 16_384 }, resolve))
  return {
    peer,
    open: () => Promise.reject(new MeshError('Unreachable')),
    serve: ({ protocol }, accept) => {
      serving.set(protocol, accept)
      return () => serving.delete(protocol)
    },
    learn: () => {},
    addresses: () => [],
    probe: async () => 'unknown',
    publish: () => {},
    subscribe: () => () => {},
  }
}

/** The calling side. */
export async function dialSocket(path: string, who: { peer: string; roles: Role[] }, service: Service): Promise<Channel> {
  const socket = connect(path)
  await new Promise<void>((resolve, reject) => socket.once('connect', resolve).once('error', reject))
  const channel = new StreamChannel(duplexOfSocket(socket), who, maxFrameBytes)
  const opening: Opening = { ...who, protocol: service.protocol }
  channel.send(encode(opening))
  checkVerdict(await channel.next())
  return channel
}
