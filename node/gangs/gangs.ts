/** The gangs of which this machine has members: where the rooms of the node find them, and where the members of others join. */
import { MeshError } from '../../protocols/errors.ts'
import { groupsProtocol } from '../../protocols/groups.ts'
import { attemptKey } from '../../protocols/ids.ts'
import type { Logger } from '../../protocols/logger.ts'
import { serverSession } from '../../protocols/rpc.ts'
import type { Channel, Wire } from '../../protocols/wire.ts'
import { steadyClock } from '../steady-clock.ts'
import type { Chair, GuestSession } from './chair.ts'
import { Member, type MemberSetup } from './member.ts'
import type { FindMembership, Membership } from './membership.ts'

/** Done for a member while its coordination command runs; the primary's command line waits for it. */
export type PrepareMember = (member: Membership, signal: AbortSignal) => Promise<void>

export interface GangsParts {
  wire: Pick<Wire, 'open' | 'learn' | 'probe' | 'peer' | 'serve'>
  log: Logger
  /** Ms, of a clock that nobody sets. */
  now?: () => number
}

export class Gangs {
  readonly #parts: GangsParts & { now: () => number }
  readonly #members = new Map<string, Member>()
  readonly #unserve: () => void
  /** Set by the assembly of the node. */
  prepare: PrepareMember = async () => undefined

  constructor(parts: GangsParts) {
    this.#parts = { ...parts, now: parts.now ?? steadyClock() }
    this.#unserve = parts.wire.serve(groupsProtocol, (channel) => this.#accept(channel))
  }

  readonly find: FindMembership = (attempt) => this.#members.get(attemptKey(attempt))

  /** A member begins here; its owner has it {@link leave}. */
  enter(setup: MemberSetup): Member {
    const key = attemptKey(setup.attempt)
    if (this.#members.has(key)) throw new Error(`The member ${key} of a gang is here already.`)
    const member = new Member(setup, this.#parts)
    this.#members.set(key, member)
    return member
  }

  leave(member: Member): void {
    member.end()
    const key = attemptKey(member.attempt)
    if (this.#members.get(key) === member) this.#members.delete(key)
  }

  close(): void {
    this.#unserve()
    for (const member of [...this.#members.values()]) this.leave(member)
  }

  /** A member of another machine, or of this one, speaks to the primary that it names. */
  #accept(channel: Channel): void {
    let seat: { chair: Chair; index: number } | undefined
    const session: GuestSession = serverSession(groupsProtocol, channel, {
      calls: {
        join: async ({ attempt }, { remote }) => {
          // A request that was there before the session is handled while that is made.
          await Promise.resolve()
          if (seat !== undefined) throw new MeshError('InvalidRequestBody', 'This channel has a member already.')
          const index = attempt.member ?? 0
          const chair = this.#members.get(attemptKey({ ...attempt, member: undefined }))?.chair
          // S1: who is no member learns no more than that.
          if (chair === undefined || index === 0 || chair.gang.members[index]?.peer !== remote.peer)
            throw new MeshError('TaskNotFound', 'The primary of this gang is not here, or has no such member on that machine.')
          seat = { chair, index }
          chair.seat(index, session)
          return {}
        },
        ping: () => {
          seat?.chair.heard(seat.index)
          return {}
        },
      },
      notes: {
        ready: (presence) => seat?.chair.brought(seat.index, presence),
        reached: ({ unreached }) => seat?.chair.reported(seat.index, unreached),
      },
    })
  }
}
