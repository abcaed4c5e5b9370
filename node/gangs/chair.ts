/** The primary's end of a gang (protocols/groups.ts): brings the members together, and watches over them. */
import { randomBytes } from 'node:crypto'
import { setTimeout as sleep } from 'node:timers/promises'
import { type GroupsProtocol, groupKeyBytes, maxPage, type Presence, type Unreached } from '../../protocols/groups.ts'
import type { Session } from '../../protocols/rpc.ts'
import type { Gang } from './membership.ts'
import { Muster, Vigil } from './muster.ts'
import type { Heard, Place, TableParts } from './table.ts'

export type GuestSession = Session<GroupsProtocol['client'], GroupsProtocol['server']>

/** Silence is looked for so often: what it adds to the time after which a member is lost. */
const lookMs = 1000
/** A process that is ending may listen for a moment longer after its channel has ended. */
const probeAfterMs = [0, 200, 500, 1000, 2000]

export class Chair implements Place {
  readonly gang: Gang
  readonly #parts: TableParts
  readonly #heard: Heard
  readonly #muster: Muster
  readonly #vigil = new Vigil()
  readonly #sessions = new Map<number, GuestSession>()
  readonly #left = new AbortController()
  readonly #timer: NodeJS.Timeout
  #key: Uint8Array | undefined
  #failure: string | undefined

  /** `heard` is what the primary itself is told. */
  constructor(gang: Gang, parts: TableParts, heard: Heard) {
    this.gang = gang
    this.#parts = parts
    this.#heard = heard
    this.#muster = new Muster(gang.members.length)
    this.#timer = setInterval(() => this.#look(), lookMs).unref()
  }

  /** A member has a channel, its first or another one. */
  seat(index: number, session: GuestSession): void {
    this.#sessions.get(index)?.close()
    this.#sessions.set(index, session)
    this.heard(index)
    this.#parts.log.debug({ member: index, machine: this.gang.members[index]!.peer }, 'a member of a gang has joined')
    void session.closed.then(() => this.#unseated(index, session))
    const { presences } = this.#muster
    if (presences !== undefined) this.#tellPresences(session, presences)
    for (const lost of this.#vigil.lost) session.note('lost', { index: lost, reason: 'it was lost before' })
    if (this.#key !== undefined) session.note('together', { key: this.#key })
    if (this.#failure !== undefined) session.note('failed', { message: this.#failure })
  }

  heard(index: number): void {
    this.#vigil.heard(index, this.#parts.now())
  }

  bring(presence: Presence): void {
    this.brought(0, presence)
  }

  brought(index: number, presence: Presence): void {
    if (!this.#muster.bring(index, presence)) return
    const presences = this.#muster.presences!
    for (const session of this.#sessions.values()) this.#tellPresences(session, presences)
    this.#heard.presences(presences)
  }

  report(unreached: readonly Unreached[]): void {
    this.reported(0, unreached)
  }

  reported(index: number, unreached: readonly Unreached[]): void {
    if (!this.#muster.report(index, unreached)) return
    this.#failure = this.#muster.unreached((member) => nameOf(this.gang, member))
    if (this.#failure === undefined) {
      const key = new Uint8Array(randomBytes(groupKeyBytes))
      this.#key = key
      for (const session of this.#sessions.values()) session.note('together', { key })
      this.#heard.together(key)
    } else {
      for (const session of this.#sessions.values()) session.note('failed', { message: this.#failure })
      this.#heard.failed(this.#failure)
    }
  }

  leave(): void {
    if (this.#left.signal.aborted) return
    this.#left.abort()
    clearInterval(this.#timer)
    for (const session of this.#sessions.values()) {
      session.note('over', {})
      session.close()
    }
    this.#sessions.clear()
  }

  #tellPresences(session: GuestSession, presences: readonly Presence[]): void {
    for (let from = 0; from < presences.length; from += maxPage)
      session.note('presences', { from, presences: presences.slice(from, from + maxPage) })
  }

  #look(): void {
    for (const index of this.#vigil.silent(this.#parts.now())) this.#lose(index, 'it was silent for too long')
  }

  #unseated(index: number, session: GuestSession): void {
    if (this.#left.signal.aborted || this.#sessions.get(index) !== session) return
    this.#sessions.delete(index)
    void this.#probe(index)
  }

  /** A process that has ended is no machine that is out of reach (L7). */
  async #probe(index: number): Promise<void> {
    const { signal } = this.#left
    const { peer } = this.gang.members[index]!
    for (const afterMs of probeAfterMs) {
      await sleep(afterMs, undefined, { signal, ref: false }).catch(() => undefined)
      if (signal.aborted || this.#sessions.has(index)) return
      if ((await this.#parts.wire.probe(peer, { signal })) !== 'refused') continue
      if (!signal.aborted && !this.#sessions.has(index)) this.#lose(index, 'its process has ended')
      return
    }
  }

  #lose(index: number, reason: string): void {
    if (!this.#vigil.lose(index)) return
    this.#parts.log.warn({ member: index, machine: this.gang.members[index]!.peer, reason }, 'a member of a gang is lost')
    for (const [other, session] of this.#sessions) if (other !== index) session.note('lost', { index, reason })
    this.#heard.lost(index, reason)
  }
}

/** How a member is called in what people read. */
export function nameOf(gang: Gang, index: number): string {
  const member = gang.members[index]
  return member === undefined ? `member ${index}` : `${member.name} (${index === 0 ? 'the primary' : `subtask ${index}`})`
}
