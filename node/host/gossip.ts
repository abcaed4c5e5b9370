/**
 * Gossip among members only (G1, S1). Gossipsub and the other stock protocols get a registrar of their own: it holds
 * back incoming streams until their peer has proven its membership, and tells gossipsub of a peer only then. To gossipsub
 * a stranger does not exist, so it is neither grafted nor sent anything.
 */
import { type GossipSub, type GossipSubComponents, gossipsub } from '@libp2p/gossipsub'
import type { Connection, PeerId, StreamHandler, Topology } from '@libp2p/interface'
import type { PeerIdText } from '../../protocols/ids.ts'

type Registrar = GossipSubComponents['registrar']

/** Announcements are digests; what is larger belongs on a channel. */
export const maxGossipBytes = 64 * 1024

/** Rejects unless the other end of the connection is a member. */
export type Admit = (connection: Connection) => Promise<unknown>

/** A registrar whose handlers serve members only. */
function gated(registrar: Registrar, admit: Admit): Registrar {
  const guard =
    (handler: StreamHandler): StreamHandler =>
    async (stream, connection) => {
      try {
        await admit(connection)
      } catch (error) {
        return stream.abort(error as Error)
      }
      return handler(stream, connection)
    }
  return {
    getProtocols: () => registrar.getProtocols(),
    handle: (protocol, handler, options) => registrar.handle(protocol, guard(handler), options),
    unhandle: (protocol, options) => registrar.unhandle(protocol, options),
    getHandler: (protocol) => registrar.getHandler(protocol),
    register: (protocol, topology) => registrar.register(protocol, topology),
    unregister: (id) => registrar.unregister(id),
    getTopologies: (protocol) => registrar.getTopologies(protocol),
    use: (protocol, middleware) => registrar.use(protocol, middleware),
    unuse: (protocol) => registrar.unuse(protocol),
    getMiddleware: (protocol) => registrar.getMiddleware(protocol),
  }
}

function withRegistrar<C extends object>(components: C, registrar: Registrar): C {
  return new Proxy(components, { get: (target, key) => (key === 'registrar' ? registrar : Reflect.get(target, key)) })
}

/** A stock libp2p service (identify, ping) that answers members only. */
export function membersOnly<C extends { registrar: Registrar }, S>(create: (components: C) => S, admit: Admit): (components: C) => S {
  return (components) => create(withRegistrar(components, gated(components.registrar, admit)))
}

/** Gossipsub that knows members only: it is told of them by {@link MemberGossip.joined} and {@link MemberGossip.left}. */
export class MemberGossip {
  readonly #topologies = new Set<Topology>()
  readonly #admit: Admit
  #pubsub: GossipSub | undefined

  constructor(admit: Admit) {
    this.#admit = admit
  }

  /** The service to give to libp2p. */
  readonly service = (components: GossipSubComponents): GossipSub => {
    const registrar: Registrar = {
      ...gated(components.registrar, this.#admit),
      register: async (_protocol, topology) => {
        this.#topologies.add(topology)
        return 'members'
      },
      unregister: () => this.#topologies.clear(),
    }
    this.#pubsub = gossipsub({
      allowPublishToZeroTopicPeers: true,
      ignoreDuplicatePublishError: true,
      // Floodsub peers would be sent everything.
      fallbackToFloodsub: false,
      doPX: false,
      maxInboundDataLength: maxGossipBytes + 4096,
      // Many nodes behind one address (a laptop, a NAT) are normal here.
      scoreParams: { IPColocationFactorWeight: 0 },
    })(withRegistrar(components, registrar))
    return this.#pubsub
  }

  get pubsub(): GossipSub {
    return this.#pubsub!
  }

  joined(connection: Connection): void {
    for (const topology of this.#topologies) void topology.onConnect?.(connection.remotePeer, connection)
  }

  left(peer: PeerId): void {
    for (const topology of this.#topologies) void topology.onDisconnect?.(peer)
  }

  /** Whether gossip still has a way to this peer; streams can break while the connection stands. */
  reaches(peer: PeerIdText): boolean {
    return (this.pubsub as unknown as { streamsOutbound: ReadonlyMap<string, unknown> }).streamsOutbound.has(peer)
  }
}
