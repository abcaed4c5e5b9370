/** What goes wrong between the members of a group. */

const sentences = {
  InvalidArgument: 'An argument is wrong; nothing was sent.',
  Closed: 'The group is closed on this member.',
  MemberLost: 'A member of the group is lost.',
  MemberClosed: 'A member has closed the group.',
  Broken: 'A collective operation failed on a member, and with it those of the group.',
  TimedOut: 'Nothing happened in time.',
  Cancelled: 'The request was cancelled.',
  Truncated: 'The message is longer than the array it should go into.',
  DatatypeMismatch: 'The message is of another type than the array it should go into.',
  CountMismatch: 'Members gave arrays of different lengths to a collective operation.',
} as const

export type GroupErrorCode = keyof typeof sentences

/**
 * An operation of a {@link Group} failed. `message` says what was wrong in a whole sentence. An aborted signal does not give
 * this error but its own reason.
 */
export class GroupError extends Error {
  override readonly name = 'GroupError'
  readonly code: GroupErrorCode
  /** The member that it is about, by its rank in the group: the one that is lost, that closed, that gave up, that sent. */
  readonly rank: number | undefined

  constructor(code: GroupErrorCode, message: string = sentences[code], options: ErrorOptions & { rank?: number | undefined } = {}) {
    super(message, options)
    this.code = code
    this.rank = options.rank
  }
}

/** The code, if it is one; what other members say is checked with it. */
export function groupErrorCode(text: unknown): GroupErrorCode | undefined {
  return typeof text === 'string' && Object.hasOwn(sentences, text) ? (text as GroupErrorCode) : undefined
}
