/**
 * Errors that cross the wire: a closed list. Each code says whether a repetition can help and which HTTP status the
 * gateway gives it. Codes that Azure Batch has keep Azure's name (Batch REST: status and error codes).
 */

interface ErrorKind {
  /** HTTP status of the code at the gateway. */
  status: number
  /** Whether the same request may succeed later without the caller changing anything. */
  retry: boolean
  sentence: string
}

const kinds = {
  InvalidRequestBody: { status: 400, retry: false, sentence: 'The request is not well formed.' },
  InvalidPropertyValue: { status: 400, retry: false, sentence: 'A value in the request is not allowed.' },
  TaskDependenciesNotSpecifiedOnJob: { status: 400, retry: false, sentence: 'The job does not use task dependencies.' },
  AuthenticationFailed: { status: 403, retry: false, sentence: 'The peer has no valid membership certificate.' },
  InsufficientPermissions: { status: 403, retry: false, sentence: 'The membership certificate does not allow this.' },
  PoolNotFound: { status: 404, retry: false, sentence: 'There is no such pool.' },
  NodeNotFound: { status: 404, retry: false, sentence: 'There is no such compute node.' },
  MachineNotFound: { status: 404, retry: false, sentence: 'There is no such machine.' },
  JobNotFound: { status: 404, retry: false, sentence: 'There is no such job.' },
  TaskNotFound: { status: 404, retry: false, sentence: 'There is no such task.' },
  FileNotFound: { status: 404, retry: false, sentence: 'There is no such file.' },
  BlobNotFound: { status: 404, retry: false, sentence: 'No reachable machine has this blob.' },
  PoolExists: { status: 409, retry: false, sentence: 'A pool with this id exists already.' },
  JobExists: { status: 409, retry: false, sentence: 'A job with this id exists already.' },
  TaskExists: { status: 409, retry: false, sentence: 'A task with this id exists already.' },
  PoolBeingResized: { status: 409, retry: true, sentence: 'The pool is being resized.' },
  PoolBeingDeleted: { status: 409, retry: false, sentence: 'The pool is being deleted.' },
  JobBeingTerminated: { status: 409, retry: false, sentence: 'The job is being terminated.' },
  JobBeingDeleted: { status: 409, retry: false, sentence: 'The job is being deleted.' },
  JobCompleted: { status: 409, retry: false, sentence: 'The job is completed.' },
  TaskCompleted: { status: 409, retry: false, sentence: 'The task is completed.' },
  TaskNotCompleted: { status: 409, retry: false, sentence: 'The task is not completed.' },
  TaskSucceeded: { status: 409, retry: false, sentence: 'The task succeeded; only a failed task can be run again.' },
  TaskFilesUnavailable: { status: 409, retry: true, sentence: 'The machine that has the task files cannot be reached.' },
  TaskFilesCleanedup: { status: 409, retry: false, sentence: 'The task files were cleaned up.' },
  OperationNotValidOnPool: { status: 409, retry: false, sentence: 'This cannot be done with this pool.' },
  CoordinatorExists: { status: 409, retry: false, sentence: 'The mesh has another coordinator.' },
  InvalidRange: { status: 416, retry: false, sentence: 'The range lies past the end of the file.' },
  FrameTooLarge: { status: 413, retry: false, sentence: 'The message is larger than the protocol allows.' },
  BlobCorrupt: { status: 422, retry: true, sentence: 'The bytes do not match the blob id.' },
  StoreFull: { status: 507, retry: true, sentence: 'The blob store has no room.' },
  NoCoordinator: { status: 503, retry: true, sentence: 'The coordinator of the mesh cannot be reached.' },
  Unreachable: { status: 503, retry: true, sentence: 'The peer cannot be reached.' },
  ServerBusy: { status: 503, retry: true, sentence: 'Too many requests at once.' },
  OperationTimedOut: { status: 504, retry: true, sentence: 'No answer in time.' },
  Aborted: { status: 499, retry: false, sentence: 'The request was cancelled.' },
  UnsupportedVersion: { status: 426, retry: false, sentence: 'The peers speak no common version; update the older one.' },
  InternalError: { status: 500, retry: true, sentence: 'An unexpected error.' },
} as const satisfies Record<string, ErrorKind>

export type ErrorCode = keyof typeof kinds

/** Every code there is, for docs and tests. */
export const errorCodes = Object.keys(kinds) as ErrorCode[]

export function isErrorCode(text: string): text is ErrorCode {
  return Object.hasOwn(kinds, text)
}

/** An error with a code of the closed list. `message` is a whole sentence that says what was wrong and what to do. */
export class MeshError extends Error {
  override readonly name = 'MeshError'
  readonly code: ErrorCode

  constructor(code: ErrorCode, message?: string, options?: ErrorOptions) {
    super(message ?? kinds[code].sentence, options)
    this.code = code
  }

  get status(): number {
    return kinds[this.code].status
  }

  get retryable(): boolean {
    return kinds[this.code].retry
  }
}

/** Any thrown value as a MeshError; what is unknown becomes InternalError with its message. */
export function toMeshError(error: unknown): MeshError {
  if (error instanceof MeshError) return error
  if (error instanceof Error && (error.name === 'AbortError' || error.name === 'TimeoutError')) {
    return new MeshError(error.name === 'TimeoutError' ? 'OperationTimedOut' : 'Aborted', undefined, { cause: error })
  }
  return new MeshError('InternalError', error instanceof Error ? error.message : String(error), { cause: error })
}
