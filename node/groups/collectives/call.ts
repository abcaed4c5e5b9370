/**
 * What a collective operation sees of its group while it runs on one member. Its messages carry its place in the order of
 * the group's collective operations, so that several may run at once, and never meet those of another (MPI 4.1, 6.1).
 */
import type { Arrival } from '../channel.ts'
import { noteType, typeName } from '../datatypes.ts'
import { GroupError } from '../group-error.ts'
import type { Stage } from './stage-memory.ts'

/** A message within the operation. */
export interface Part {
  type: number
  bytes: Uint8Array
}

/** What a receive takes: another type or length rejects it. */
export interface Expected {
  type?: number
  /** Of the message. */
  bytes?: number
  /** Where the bytes go; it says how many there must be. */
  into?: Uint8Array | undefined
  /** A note may come in its place. */
  orNote?: boolean
}

export interface Call {
  readonly rank: number
  readonly size: number
  /** Resolves when the bytes may be changed; undefined if they may at once. */
  send(to: number, type: number, bytes: Uint8Array): Promise<void> | undefined
  /** The next message of that member within this operation. */
  recv(from: number, expected?: Expected): Promise<Part>
  /** Memory that all members see, where they have such; alone from now to the end of the operation. */
  stage(): Promise<Stage | undefined>
}

/** Sends and receives at once (MPI_Sendrecv). */
export async function exchange(call: Call, to: number, part: Part, from: number, expected: Expected): Promise<Part> {
  const sent = call.send(to, part.type, part.bytes)
  const received = await call.recv(from, expected)
  if (sent !== undefined) await sent
  return received
}

/** Why a message is not what a member of this operation awaits. */
export function refusal(
  arrival: Pick<Arrival, 'type' | 'bytes'>,
  from: number,
  { type, bytes, into, orNote }: Expected,
): GroupError | undefined {
  if (arrival.type === noteType && orNote === true) return undefined
  const length = into?.byteLength ?? bytes
  if (type !== undefined && arrival.type !== type) {
    return new GroupError('DatatypeMismatch', `Rank ${from} gave ${typeName(arrival.type)}, this member ${typeName(type)}.`, { rank: from })
  }
  if (length !== undefined && arrival.bytes !== length) {
    const text = `Rank ${from} sent ${arrival.bytes} bytes where this member awaits ${length}: do all give arrays of the same length?`
    return new GroupError('CountMismatch', text, { rank: from })
  }
  return undefined
}

/** Waits for what was sent. */
export async function allSent(sends: readonly (Promise<void> | undefined)[]): Promise<void> {
  for (const sent of sends) if (sent !== undefined) await sent
}

/** A message that says what is to come. */
export function note(...numbers: number[]): Part {
  return { type: noteType, bytes: new Uint8Array(new Float64Array(numbers).buffer) }
}

export function readNote({ bytes }: Part): Float64Array {
  return new Float64Array(bytes.buffer, bytes.byteOffset, bytes.byteLength / 8)
}

/** The same call with ranks counted from the root, which is 0 then. */
export function fromRoot(call: Call, root: number): Call {
  const { rank, size } = call
  if (root === 0) return call
  return {
    rank: (rank - root + size) % size,
    size,
    send: (to, type, bytes) => call.send((to + root) % size, type, bytes),
    recv: (from, expected) => call.recv((from + root) % size, expected),
    stage: () => call.stage(),
  }
}

/** The largest power of two that is not larger. */
export function powerBelow(size: number): number {
  return 2 ** Math.floor(Math.log2(size))
}

/**
 * In a binomial tree over ranks counted from its root: the parent (-1 for the root), and the children, the one with the
 * largest subtree first. `span` ranks from itself on are in the subtree of a rank.
 */
export function binomial(relative: number, size: number): { parent: number; children: number[]; span: number } {
  let bit = 1
  while (bit < size && (relative & bit) === 0) bit *= 2
  const children: number[] = []
  for (let below = bit / 2; below >= 1; below /= 2) if (relative + below < size) children.push(relative + below)
  return { parent: relative === 0 ? -1 : relative - bit, children, span: Math.min(bit, size - relative) }
}
