/**
 * What carries messages between the members of a group. What belongs to which receive, and the collective operations, are
 * above it (endpoint.ts, group.ts); encrypted streams, shared memory and the tests' queues are below.
 *
 * Promised: messages from one member to another arrive whole, once, in the order sent, until one of the two is lost. What a
 * member sent before it closed its link arrives before it is said to be lost.
 */

/** What a message says of itself, so that the other end knows which receive it belongs to (MPI 4.1, 3.2.3: message envelope). */
export interface Envelope {
  /**
   * Which group, and which kind of its traffic: messages of one context never meet receives of another (MPI 4.1, 6.1:
   * context). A whole number below 2^53.
   */
  context: number
  /** A whole number below 2^31. */
  tag: number
  /** What the bytes are: an index into the datatypes of the group (datatypes.ts), below 256. */
  type: number
  /** Of the message. 0 for one that says all by its envelope. */
  bytes: number
}

export interface Receiver {
  /**
   * A message begins: where its bytes go, exactly `envelope.bytes` of them. Called once a message, in the order sent; the
   * next one of this member begins after the end of this one.
   */
  begin(from: number, envelope: Envelope): Uint8Array
  /** All bytes of the message that began last with this member are there. */
  end(from: number, envelope: Envelope, data: Uint8Array): void
  /** The member is gone: nothing more comes from it and nothing reaches it. Called once a member, never for the own one. */
  lost(rank: number, error: Error): void
}

export interface Link {
  readonly rank: number
  readonly size: number
  /** Set once, before the first message is awaited; what came earlier is kept until then. */
  receive(receiver: Receiver): void
  /**
   * Sends a message; resolves when `data` may be changed again, undefined if it may at once. Rejects when the member is
   * lost. A member sends to itself like to others. Never calls the receiver before it returns.
   *
   * Messages up to 64 KiB come unasked, up to 1 MiB of them a pair; larger ones only when the other side waits for their
   * bytes, one announcement ahead (endpoint.ts). So a link need not bound what it holds, only slow down who sends.
   */
  send(to: number, envelope: Envelope, data: Uint8Array): Promise<void> | undefined
  /**
   * Memory that every member of `ranks` sees: the same on all that ask with the same `name`, zeroed. Undefined where not all
   * of them are in one process; who asks may count on the others getting the same answer. Rejects when one of them is lost.
   */
  shared(name: string, ranks: readonly number[], bytes: number): Promise<SharedArrayBuffer | undefined>
  /** Ends the connections, after what was sent has left. */
  close(): Promise<void>
}
