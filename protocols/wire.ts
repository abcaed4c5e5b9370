/**
 * The `Wire` port: how rooms that never import each other speak, also inside one process.
 *
 * Participants: any two peers of a mesh, named by their libp2p peer ids. A `Channel` carries whole frames in order,
 * both ways, until either side closes it or the path between them breaks. `publish`/`subscribe` is gossip (G1): lost,
 * late, doubled frames are normal.
 *
 * Promised: frames of one channel arrive whole, in order, at most once; the remote peer is who the channel says it is
 * and holds a valid membership certificate with one of the roles asked for (S1). Not promised: delivery. A frame that
 * was sent and a channel that then closed says nothing about whether the frame arrived.
 *
 * Implementations: libp2p (node/host.ts), the loopback inside one process, the unix control socket, and the simulated
 * wire of the tests. One contract suite holds for all.
 */
import type { PeerIdText } from './ids.ts'

/** What a membership certificate allows (DESIGN: identity and trust). */
/** A peer that answers nothing for so long may find its connections closed: a busy one is not cut off sooner. */
export const silentConnectionMs = 15_000

export const roles = ['worker', 'coordinator', 'submitter', 'admin'] as const
export type Role = (typeof roles)[number]

/** Who is at the other end. */
export interface Remote {
  readonly peer: PeerIdText
  readonly roles: readonly Role[]
}

export interface AbortOptions {
  signal?: AbortSignal
}

export interface OpenOptions extends AbortOptions {
  /** For bulk: over a connection of its own where there can be one (protocols/direct.ts), else like any other. */
  direct?: boolean
}

/** Why a channel ended: closed by this side, by the other side, by a broken path, or for a frame that broke the protocol. */
export type CloseReason = 'local' | 'remote' | 'lost' | 'protocol-error'

export interface Channel {
  readonly remote: Remote
  /** Queues one frame. `tail` is its end, if that lies elsewhere: it is not copied, and must not change any more. False means that more than the high-water mark is queued: await {@link drained} before sending bulk. Never throws; after the close it does nothing. */
  send(frame: Uint8Array, tail?: Uint8Array): boolean
  /** Resolves when the queue is below the high-water mark, or the channel is closed. */
  drained(options?: AbortOptions): Promise<void>
  /** Sets the one receiver. Frames that came earlier are kept (bounded) and handed over first. */
  receive(handler: (frame: Uint8Array) => void): void
  /** Stops reading: the sender sees back-pressure. Nested calls count. */
  pause(): void
  resume(): void
  close(reason?: CloseReason): void
  /** Resolves, never rejects, when the channel has ended. */
  readonly closed: Promise<CloseReason>
}

/** What a peer serves under one protocol id. */
export interface Service {
  /** Protocol id with its version, such as `/batchmesh/leases/1`. */
  readonly protocol: string
  /** The remote must hold one of these roles; empty means any member. `anyone` (enrolment only) takes peers without a certificate. */
  readonly requires: readonly Role[] | 'anyone'
  /** Larger frames end the channel with `protocol-error`. */
  readonly maxFrameBytes: number
}

export interface Wire {
  /** This peer. */
  readonly peer: PeerIdText
  /** Opens a channel to a peer (itself included: loopback). Rejects with Unreachable, AuthenticationFailed, InsufficientPermissions or UnsupportedVersion. Default deadline 10 s. */
  open(peer: PeerIdText, service: Service, options?: OpenOptions): Promise<Channel>
  /** Accepts channels of a protocol until the returned function is called. */
  serve(service: Service, accept: (channel: Channel) => void): () => void
  /** Tells where a peer can be dialled (multiaddrs); later `open` calls use it. */
  learn(peer: PeerIdText, addresses: readonly string[]): void
  /** Where a peer can be dialled, as far as known: what {@link learn} was told, and what the peer said itself. */
  addresses(peer: PeerIdText): readonly string[]
  /** Whether the process of a peer is there, by dialling its known addresses: `refused` means that its machine answered that nobody listens (L7), `unknown` that nothing could be learnt. Never rejects. */
  probe(peer: PeerIdText, options?: AbortOptions): Promise<'alive' | 'refused' | 'unknown'>
  /** Gossip to every member that subscribes; fire and forget. */
  publish(topic: string, data: Uint8Array): void
  subscribe(topic: string, handler: (data: Uint8Array, from: PeerIdText) => void): () => void
}
