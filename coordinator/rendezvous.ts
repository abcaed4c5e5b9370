/** Who waits for whom (protocols/rendezvous.ts). Pure: the shell (rendezvous-desk.ts) answers, and brings time and keys. */
import { MeshError } from '../protocols/errors.ts'
import type { RendezvousAnswer, RendezvousRequest } from '../protocols/rendezvous.ts'

/** Members that wait, and that were answered of late: with the largest cards 40 MiB each. */
const maxWaiting = 10_000
const maxAnswered = 10_000
/** A member whose connection broke asks again within this, or never. */
const answeredMs = 60_000

export interface Gathering {
  size: number
  /** By request, in the order of arrival. */
  members: Map<string, Uint8Array>
}

export interface Answered {
  at: number
  name: string
  answer: RendezvousAnswer
}

export interface Rendezvous {
  /** By name. */
  gatherings: Map<string, Gathering>
  /** By request, the oldest first. */
  answered: Map<string, Answered>
  waiting: number
}

export function newRendezvous(): Rendezvous {
  return { gatherings: new Map(), answered: new Map(), waiting: 0 }
}

/**
 * A member comes. Returns what is to be answered now, by request: nothing while others are missing, all members' answers when
 * it is the last one, its own again when it had one. Throws the refusal: InvalidPropertyValue where the others want another
 * size, ServerBusy.
 */
export function come(all: Rendezvous, request: RendezvousRequest, now: number, key: Uint8Array): ReadonlyMap<string, RendezvousAnswer> {
  const { name, size, requestId, card, waitMs } = request
  forget(all, now)
  const known = all.answered.get(requestId)
  if (known?.name === name) return new Map([[requestId, known.answer]])
  // Who gives up takes no place, least of all the last one.
  if (waitMs === 0) return new Map()
  const gathering = all.gatherings.get(name) ?? { size, members: new Map() }
  if (gathering.size !== size) {
    const message = `The members of group "${name}" that have come so far want a group of ${gathering.size}, this one wants ${size}: all must give the same size.`
    throw new MeshError('InvalidPropertyValue', message)
  }
  if (!gathering.members.has(requestId)) {
    if (all.waiting >= maxWaiting) throw new MeshError('ServerBusy', `${maxWaiting} programs wait for members of their groups already.`)
    all.waiting += 1
  }
  gathering.members.set(requestId, card)
  all.gatherings.set(name, gathering)
  if (gathering.members.size < size) return new Map()
  all.gatherings.delete(name)
  all.waiting -= size
  const cards = [...gathering.members.values()]
  const answers = new Map([...gathering.members.keys()].map((id, rank) => [id, { rank, cards, key }]))
  for (const [id, answer] of answers) all.answered.set(id, { at: now, name, answer })
  return answers
}

/** A member gives up, or is gone. Says how many had come, with it. */
export function giveUp(all: Rendezvous, { name, requestId }: Pick<RendezvousRequest, 'name' | 'requestId'>): number {
  const gathering = all.gatherings.get(name)
  const came = gathering?.members.size ?? 0
  if (gathering?.members.delete(requestId) === true) all.waiting -= 1
  if (gathering?.members.size === 0) all.gatherings.delete(name)
  return came
}

function forget(all: Rendezvous, now: number): void {
  for (const [id, { at }] of all.answered) {
    if (now - at < answeredMs && all.answered.size <= maxAnswered) return
    all.answered.delete(id)
  }
}
