/** A member of a gang that runs here: its part in the rally, and what it hears of the others. */
import { maxCardBytes, type Presence, presenceSchema, type Unreached } from '../../protocols/groups.ts'
import type { Attempt } from '../../protocols/ids.ts'
import type { FailureInfo } from '../../protocols/model/task.ts'
import type { Limit } from '../attempt-limit.ts'
import { type Owner, TaskFailure, type TaskPaths } from '../ports.ts'
import { Chair, nameOf } from './chair.ts'
import { Guest } from './guest.ts'
import type { MemberProgram } from './member-program.ts'
import type { Gang, LaunchRequest, Membership, Rally } from './membership.ts'
import { toReach } from './muster.ts'
import { type Doorbell, listenForMembers, reach } from './reach.ts'
import type { Place, TableParts } from './table.ts'

export interface MemberSetup {
  attempt: Attempt
  gang: Gang
  paths: TaskPaths
  owner: Owner | undefined
}

export class Member implements Membership {
  readonly attempt: Attempt
  readonly gang: Gang
  readonly paths: TaskPaths
  readonly owner: Owner | undefined
  readonly ended: AbortSignal
  readonly #place: Place
  readonly #ended = new AbortController()
  readonly #handlers = new Set<(index: number, reason: string) => void>()
  readonly #lost = new Map<number, string>()
  readonly #presences = Promise.withResolvers<readonly Presence[]>()
  readonly #together = Promise.withResolvers<Uint8Array>()
  #program: MemberProgram | undefined

  constructor({ attempt, gang, paths, owner }: MemberSetup, parts: TableParts) {
    this.attempt = attempt
    this.gang = gang
    this.paths = paths
    this.owner = owner
    this.ended = this.#ended.signal
    for (const { promise } of [this.#presences, this.#together]) promise.catch(() => undefined)
    const heard = {
      presences: (presences: readonly Presence[]) => this.#presences.resolve(presences),
      together: (key: Uint8Array) => this.#together.resolve(key),
      failed: (message: string) => this.#fail({ category: 'usererror', code: 'Unknown', reason: 'MembersUnreachable', message }),
      lost: (index: number, reason: string) => this.#heardLost(index, reason),
    }
    this.#place = gang.index === 0 ? new Chair(gang, parts, heard) : new Guest(gang, attempt, parts, heard)
  }

  /** Where the others join, if this is the primary. */
  get chair(): Chair | undefined {
    return this.#place instanceof Chair ? this.#place : undefined
  }

  /** What runs launches from now on. */
  attach(program: MemberProgram): void {
    this.#program = program
  }

  async rally(card: Uint8Array, signal: AbortSignal): Promise<Rally> {
    // A function's card comes from a process that runs strangers' code; the others would break the channel that brings a wrong one.
    if (!presenceSchema.shape.card.safeParse(card).success)
      throw new TaskFailure({ category: 'usererror', code: 'Unknown', message: `A member's card is at most ${maxCardBytes} bytes.` })
    const { index, members } = this.gang
    const self = members[index]!
    const over = AbortSignal.any([signal, this.ended])
    const isAlone = members.every(({ peer }) => peer === self.peer)
    const bell: Doorbell | undefined = isAlone ? undefined : await listenForMembers(self.address)
    try {
      over.throwIfAborted()
      this.#place.bring({ card, port: bell?.port ?? 0, token: bell?.token ?? new Uint8Array() })
      const presences = await abortable(this.#presences.promise, over)
      this.#place.report(await this.#dial(presences, over))
      // The bell is kept until all have said that they heard it.
      const key = await abortable(this.#together.promise, over)
      return { cards: presences.map((presence) => presence.card), key }
    } finally {
      bell?.close()
    }
  }

  /** Members of this machine reach each other within it. */
  async #dial(presences: readonly Presence[], signal: AbortSignal): Promise<Unreached[]> {
    const { index, members } = this.gang
    const others = toReach(index, members.length).filter((other) => members[other]!.peer !== members[index]!.peer)
    const reached = await Promise.all(
      others.map(async (other) => ({ index: other, why: await reach(members[other]!.address, presences[other]!, signal) })),
    )
    return reached.flatMap(({ index: other, why }) => (why === undefined ? [] : [{ index: other, why: why.slice(0, 200) }]))
  }

  onLost(handler: (index: number, reason: string) => void): () => void {
    this.#handlers.add(handler)
    for (const [index, reason] of this.#lost) handler(index, reason)
    return () => void this.#handlers.delete(handler)
  }

  async launch(request: LaunchRequest, signal: AbortSignal): Promise<number> {
    if (this.#program === undefined) throw new Error('The member of the gang runs no programs, or none yet.')
    return await this.#program.launch(request, signal)
  }

  /** Nothing of it runs any more, or it is being ended. */
  end(): void {
    if (this.ended.aborted) return
    this.#ended.abort(new Error('The member of the gang has ended.'))
    this.#place.leave()
    this.#handlers.clear()
  }

  #heardLost(index: number, reason: string): void {
    if (this.#lost.has(index) || this.ended.aborted) return
    this.#lost.set(index, reason)
    this.#fail(lostFailure(this.gang, index, reason))
    for (const handler of this.#handlers) handler(index, reason)
  }

  /** Rejects the rally, unless it has come about. */
  #fail(info: FailureInfo): void {
    const failure = new TaskFailure(info)
    this.#presences.reject(failure)
    this.#together.reject(failure)
  }
}

/**
 * Ends a member with another that is lost. The primary goes with any of them and says so to the coordinator, which ends the
 * others; a subtask goes with the primary, which cannot say it.
 */
export function endWithLost(member: Member, limit: Pick<Limit, 'end'>): void {
  const { gang } = member
  member.onLost((index, reason) => {
    if (gang.index === 0 || index === 0) limit.end(lostFailure(gang, index, reason))
  })
}

/** M1: with one member the whole attempt ends. The coordinator counts it as a lost machine (C1). */
export function lostFailure(gang: Gang, index: number, reason: string): FailureInfo {
  const message = `${nameOf(gang, index)} of the group was lost: ${reason}.`
  return { category: 'servererror', code: 'MachineLost', reason: 'MemberLost', message }
}

async function abortable<T>(promise: Promise<T>, signal: AbortSignal): Promise<T> {
  const aborted = Promise.withResolvers<never>()
  const onAbort = () => aborted.reject(signal.reason as Error)
  if (signal.aborted) onAbort()
  signal.addEventListener('abort', onAbort, { once: true })
  try {
    return await Promise.race([promise, aborted.promise])
  } finally {
    signal.removeEventListener('abort', onAbort)
  }
}
