/**
 * Direct connections: how two members agree on a TCP connection of their own for bulk, beside the one that all their
 * conversations share. Encryption there is the platform's own TLS and costs a third of what it costs in libp2p's streams.
 *
 * Participants: any two members. Who wants to open a channel asks the other, over the connection that they have, for a
 * ticket: a port, and a key that both know from then on and nobody else. The connection is TLS 1.2 with that key (PSK, RFC
 * 4279), so each side proves with the handshake that it took part in the ticket; no certificate is needed. Then the
 * channel opens as every other (opening.ts).
 *
 * Promised
 *   S1 a ticket is for the member that asked, for one protocol that its certificate allows, for one connection, and for
 *      {@link ticketMs}; the connection ends when the member is no longer connected otherwise, or no member any more.
 * Not promised: that there is such a connection. A firewall, or a machine that does not listen, has none; then the channel
 * goes over the connection that is there.
 */
import { z } from 'zod'
import { defineProtocol } from './rpc.ts'

/** How long a ticket holds: the way back, and a handshake. */
export const ticketMs = 10_000
/** Of the key, in bytes: as strong as the ciphers it is for. */
export const ticketKeyBytes = 32

export const ticketSchema = z.object({
  port: z.number().int().min(1).max(65_535),
  /** Names the ticket in the handshake. */
  id: z.string().regex(/^[0-9a-f]{32}$/),
  key: z.custom<Uint8Array>((value) => value instanceof Uint8Array && value.length === ticketKeyBytes, {
    error: `${ticketKeyBytes} bytes are expected`,
  }),
})
export type Ticket = z.infer<typeof ticketSchema>

export const directProtocol = defineProtocol({
  protocol: '/batchmesh/direct/1',
  // Empty: any member. The protocol that the ticket is for has its own.
  requires: [],
  maxFrameBytes: 4096,
  // Channels that one peer opens at once.
  maxInFlight: 16,
  timeoutMs: 5000,
  server: {
    calls: {
      /** Refused with Unreachable when this machine does not listen, with the refusal of the protocol when it would not open. */
      ticket: { request: z.object({ protocol: z.string().max(256) }), answer: ticketSchema },
    },
    notes: {},
  },
  client: { calls: {}, notes: {} },
})
export type DirectProtocol = typeof directProtocol
