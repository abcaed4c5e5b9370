/**
 * A group: a fixed number of members that send each other messages and do things all together. Names and meanings are those
 * of MPI (the Message Passing Interface, version 4.1, whose sections are cited), as far as JavaScript has them.
 */
import type { TypedArray } from './datatypes.ts'
import type { Combine, Operation } from './operations.ts'
import type { Request, WaitOptions } from './wait.ts'

/** A message that was received. */
export interface Message<T> {
  /** What was sent; of `into` the part that the message filled. */
  data: T
  /** Rank of the sender. */
  from: number
  tag: number
}

/** What is known of a message before it is received (MPI 4.1, 3.8). */
export interface MessageStatus {
  from: number
  tag: number
  /** Elements of an array; bytes of a serialised value. */
  count: number
  /** Such as `Float64Array`, or `value`. */
  type: string
}

export interface SendOptions extends WaitOptions {
  /** Tells messages apart: a whole number from 0 to 2^31 - 1, default 0. */
  tag?: number | undefined
}

export interface Source extends WaitOptions {
  /** Rank of the sender; default `'any'` (MPI_ANY_SOURCE). */
  from?: number | 'any' | undefined
  /** Default `'any'` (MPI_ANY_TAG). */
  tag?: number | 'any' | undefined
}

export interface ReceiveOptions<T extends TypedArray = TypedArray> extends Source {
  /** The array that the message goes into: of its type, and as long as it or longer. Without it the message gets a new one. */
  into?: T | undefined
}

export interface SendReceiveOptions<T extends TypedArray = TypedArray> extends WaitOptions {
  from: number | 'any'
  into?: T | undefined
  /** Of the message that is sent; default 0. */
  tag?: number | undefined
  /** Of the message that is received; default `'any'`. */
  receiveTag?: number | 'any' | undefined
}

export interface RootOptions extends WaitOptions {
  /** Rank of the member that gives, or gets; default 0. The same on all. */
  root?: number | undefined
}

/** `into` is the array that the result goes into: of its type and length. It may be the one that is given. */
export interface Into<T extends TypedArray> {
  into?: T | undefined
}

export interface ReduceOptions extends WaitOptions {
  /** The function gives the same whatever the order of its two arguments: then faster ways may be taken. Default false. */
  commutative?: boolean | undefined
}

/** Blocks of different lengths, one after the other in the order of ranks. */
export interface Gathered<T extends TypedArray> {
  data: T
  /** Elements of each member. */
  counts: number[]
}

/**
 * One member's view of a group.
 *
 * **Data.** Typed arrays travel as they lie in memory, without being serialised, straight into the array that waits for them.
 * Anything else that `structuredClone` takes travels serialised. An array belongs to the operation until its promise is
 * settled, and, where that rejected because of a signal or a deadline, for as long as the group is open: do not change it.
 *
 * **Order.** Messages from one member to another are received in the order in which they were sent, among those that a
 * receive fits (3.5). A receive from any member takes the message that came first.
 *
 * **Collective operations** (chapter 6) are called by all members, in the same order, with the same root, operation, and
 * lengths of arrays; several may run at once. One that fails on a member, because it was aborted, ran out of time or got wrong
 * arguments, *breaks the group*: it fails on all members that have not finished it, and so does every later one, with an
 * error that names the member. Earlier ones end well. Messages, and groups that were split off before, go on.
 *
 * **Loss.** When a member is lost, collective operations reject on all, and so does what waits for that member, or for any,
 * now or later. A member that has closed the group is not lost: what it sent before can be received.
 *
 * All methods reject with {@link GroupError}, or with the reason of an aborted signal.
 */
export interface Group {
  /** Of this member, from 0. */
  readonly rank: number
  /** Number of members. */
  readonly size: number
  /** Aborted, with the error as its reason, when a member is lost, the group is broken or closed. */
  readonly signal: AbortSignal

  /** Sends; resolves when `data` may be changed again, which says nothing of the receiver (3.4: standard mode). */
  send(data: unknown, to: number, options?: SendOptions): Promise<void>
  /** Receives the first message that fits (3.2.4). */
  recv<T extends TypedArray>(options: ReceiveOptions<T> & { into: T }): Promise<Message<T>>
  recv<T = unknown>(options?: ReceiveOptions): Promise<Message<T>>
  /** As `send`, at once (3.7.2). */
  isend(data: unknown, to: number, options?: SendOptions): Request<void>
  /** As `recv`, at once (3.7.2). */
  irecv<T extends TypedArray>(options: ReceiveOptions<T> & { into: T }): Request<Message<T>>
  irecv<T = unknown>(options?: ReceiveOptions): Request<Message<T>>
  /** Waits until a message is there that `recv` with the same options would get (3.8.1). */
  probe(options?: Source): Promise<MessageStatus>
  /** What `probe` would give; undefined if nothing is there. */
  iprobe(options?: Source): MessageStatus | undefined
  /** Sends and receives at once, so that members may do it in a circle (3.11). */
  sendrecv<T extends TypedArray>(data: unknown, to: number, options: SendReceiveOptions<T> & { into: T }): Promise<Message<T>>
  sendrecv<T = unknown>(data: unknown, to: number, options: SendReceiveOptions): Promise<Message<T>>

  /** Resolves when all members have called it (6.3). */
  barrier(options?: WaitOptions): Promise<void>
  /** Gives every member what the root gives; the others give undefined (6.4). */
  bcast<T extends TypedArray>(data: T | undefined, options?: RootOptions & Into<T>): Promise<T>
  bcast<T>(data: T | undefined, options?: RootOptions): Promise<T>
  /**
   * Gives each member its part of what the root gives, a copy: the r-th of `size` equal blocks of an array, or the r-th of a
   * list of values or arrays, which may differ in length (6.6). The others give undefined.
   */
  scatter<T extends TypedArray>(data: T | undefined, options?: RootOptions & Into<T>): Promise<T>
  scatter<T>(data: readonly T[] | undefined, options?: RootOptions): Promise<T>
  /** As `scatter`, with blocks of these lengths, which only the root gives (6.6). */
  scatterv<T extends TypedArray>(data: T | undefined, counts: ArrayLike<number> | undefined, options?: RootOptions & Into<T>): Promise<T>
  /**
   * Gives the root what all give, in the order of ranks: one array of arrays of equal length, or a list of values. Undefined
   * elsewhere (6.5).
   */
  gather<T extends TypedArray>(data: T, options?: RootOptions & Into<T>): Promise<T | undefined>
  gather<T>(data: T, options?: RootOptions): Promise<T[] | undefined>
  /** As `gather`, of arrays that may differ in length (6.5). */
  gatherv<T extends TypedArray>(data: T, options?: RootOptions): Promise<Gathered<T> | undefined>
  /** As `gather`, for all members (6.7). */
  allgather<T extends TypedArray>(data: T, options?: WaitOptions & Into<T>): Promise<T>
  allgather<T>(data: T, options?: WaitOptions): Promise<T[]>
  allgatherv<T extends TypedArray>(data: T, options?: WaitOptions): Promise<Gathered<T>>
  /**
   * Sends the r-th of `size` equal blocks of an array to rank r, and gives what came, in the order of ranks; or the r-th of a
   * list of values or arrays, which may differ in length (6.8).
   */
  alltoall<T extends TypedArray>(data: T, options?: WaitOptions & Into<T>): Promise<T>
  alltoall<T>(data: readonly T[], options?: WaitOptions): Promise<T[]>

  /**
   * Combines what all give: arrays of equal length element by element, numbers, or with a function any values. The result is
   * the root's; undefined elsewhere (6.9.1).
   */
  reduce<T extends TypedArray>(
    data: T,
    operation: Operation | Combine<number> | Combine<bigint>,
    options?: ReduceOptions & RootOptions & Into<T>,
  ): Promise<T | undefined>
  reduce<T>(data: T, operation: Operation | Combine<T>, options?: ReduceOptions & RootOptions): Promise<T | undefined>
  /** As `reduce`, for all members, to the same bits on all (6.9.6). */
  allreduce<T extends TypedArray>(
    data: T,
    operation: Operation | Combine<number> | Combine<bigint>,
    options?: ReduceOptions & Into<T>,
  ): Promise<T>
  allreduce<T>(data: T, operation: Operation | Combine<T>, options?: ReduceOptions): Promise<T>
  /** Combines, and gives each member its block: one of `size` equal ones, or of `counts`, which all give (6.10). */
  reduceScatter<T extends TypedArray>(
    data: T,
    operation: Operation | Combine<number> | Combine<bigint>,
    options?: ReduceOptions & Into<T> & { counts?: ArrayLike<number> | undefined },
  ): Promise<T>
  /** Combines what the ranks up to this one give (6.11.1). */
  scan<T extends TypedArray>(
    data: T,
    operation: Operation | Combine<number> | Combine<bigint>,
    options?: ReduceOptions & Into<T>,
  ): Promise<T>
  scan<T>(data: T, operation: Operation | Combine<T>, options?: ReduceOptions): Promise<T>
  /** Combines what the ranks before this one give; undefined at rank 0 (6.11.2). */
  exscan<T extends TypedArray>(
    data: T,
    operation: Operation | Combine<number> | Combine<bigint>,
    options?: ReduceOptions & Into<T>,
  ): Promise<T | undefined>
  exscan<T>(data: T, operation: Operation | Combine<T>, options?: ReduceOptions): Promise<T | undefined>

  /**
   * Makes groups of the members that give the same color, a whole number; ranks follow the keys, then the ranks of this group.
   * Undefined for a member that gives no color (7.4.2: MPI_Comm_split). All members call it.
   */
  split(color: number | undefined, key?: number, options?: WaitOptions): Promise<Group | undefined>
  /** The same members once more: messages of the two groups never meet (7.4.2: MPI_Comm_dup). */
  dup(options?: WaitOptions): Promise<Group>
  /**
   * Leaves the group: what is pending rejects, and operations of others that need this member do. What was sent still arrives.
   * Closing the first group closes all that came of it, and ends the connections; others end for themselves.
   */
  close(): Promise<void>
  [Symbol.asyncDispose](): Promise<void>
}
