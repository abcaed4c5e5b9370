/** A member of a gang of functions, while its function is called in a thread (executors/threads/). */
import type { Limit } from '../attempt-limit.ts'
import type { GangMember } from '../ports.ts'
import type { Gangs } from './gangs.ts'
import { endWithLost, type MemberSetup } from './member.ts'

export async function asMember<T>(gangs: Gangs, setup: MemberSetup, limit: Limit, call: (member: GangMember) => Promise<T>): Promise<T> {
  const { gang } = setup
  const member = gangs.enter(setup)
  endWithLost(member, limit)
  try {
    return await call({
      rank: gang.index,
      address: gang.members[gang.index]!.address,
      rally: (card, signal) => member.rally(card, signal),
      onLost: (handler) => member.onLost(handler),
    })
  } finally {
    gangs.leave(member)
  }
}
