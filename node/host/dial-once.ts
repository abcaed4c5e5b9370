/** One channel to one peer, by a machine that is no member yet: only for enrolment. */
import type { PrivateKey } from '@libp2p/interface'
import { noise } from '@libp2p/noise'
import { tcp } from '@libp2p/tcp'
import { tls } from '@libp2p/tls'
import { yamux } from '@libp2p/yamux'
import { createLibp2p } from 'libp2p'
import { MeshError } from '../../protocols/errors.ts'
import type { PeerIdText } from '../../protocols/ids.ts'
import { checkVerdict } from '../../protocols/opening.ts'
import { StreamChannel } from '../../protocols/stream-channel.ts'
import type { Channel, Service } from '../../protocols/wire.ts'
import { AddressBook } from './addresses.ts'
import { duplexOf } from './streams.ts'

const timeoutMs = 15_000

/** Rejects with Unreachable when no address answers, or with the refusal of the other side. */
export async function dialOnce(options: {
  privateKey: PrivateKey
  remote: PeerIdText
  /** Multiaddrs, with or without the peer id. */
  addresses: readonly string[]
  service: Service
  signal?: AbortSignal | undefined
}): Promise<{ channel: Channel; close: () => Promise<void> }> {
  const { remote, service } = options
  const book = await AddressBook.open(undefined)
  book.learn(remote, options.addresses)
  const targets = book.of(remote)
  if (targets.length === 0) throw new MeshError('Unreachable', 'No address of the founder is known: the invitation holds none.')
  const deadline = AbortSignal.timeout(timeoutMs)
  const signal = options.signal === undefined ? deadline : AbortSignal.any([deadline, options.signal])
  const node = await createLibp2p({
    privateKey: options.privateKey,
    transports: [tcp()],
    connectionEncrypters: [tls(), noise()],
    streamMuxers: [yamux()],
    connectionMonitor: { enabled: false },
  })
  const close = () => Promise.resolve(node.stop())
  try {
    const stream = await node.dialProtocol(targets, [service.protocol], { signal })
    const channel = new StreamChannel(duplexOf(stream), { peer: remote, roles: [] }, service.maxFrameBytes)
    checkVerdict(await channel.next(signal))
    return { channel, close }
  } catch (error) {
    await close()
    if (error instanceof MeshError) throw error
    const tried = targets.map((target) => target.toString().replace(/\/p2p\/.*/, '')).join(', ')
    throw new MeshError(
      'Unreachable',
      `The founder of the mesh answers at none of its addresses (${tried}). Is it running, and does its firewall let this machine in?`,
      {
        cause: error,
      },
    )
  }
}
