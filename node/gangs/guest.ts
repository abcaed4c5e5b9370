/** The end of a gang's member that is not the primary (protocols/groups.ts): a channel to the primary's machine, kept up. */
import { setTimeout as sleep } from 'node:timers/promises'
import { MeshError } from '../../protocols/errors.ts'
import { type GroupsProtocol, groupsProtocol, lostAfterMs, type Presence, pingMs, type Unreached } from '../../protocols/groups.ts'
import type { Attempt } from '../../protocols/ids.ts'
import { clientSession, type Session } from '../../protocols/rpc.ts'
import { nameOf } from './chair.ts'
import type { Gang } from './membership.ts'
import { Vigil } from './muster.ts'
import type { Heard, Place, TableParts } from './table.ts'

type ChairSession = Session<GroupsProtocol['server'], GroupsProtocol['client']>

/** The primary's grant may come a moment later than this member's: asked again soon, and then less often. */
const askAgainMs = { first: 10, most: 500 }
/** A primary that could not be dialled for so long will not be: the dials of a few tries, each 10 s at most. */
const unreachableMs = 30_000
/** Of why a primary could not be dialled, in a message of 4096 with two names. */
const maxRefusalChars = 2000

export class Guest implements Place {
  readonly #gang: Gang
  readonly #attempt: Attempt
  readonly #parts: TableParts
  readonly #heard: Heard
  readonly #vigil = new Vigil()
  readonly #left = new AbortController()
  #session: ChairSession | undefined
  #presence: Presence | undefined
  #unreached: readonly Unreached[] | undefined
  /** Pages that came on the channel that is open. */
  #pages: Presence[] = []
  #isOver = false

  constructor(gang: Gang, attempt: Attempt, parts: TableParts, heard: Heard) {
    this.#gang = gang
    this.#attempt = attempt
    this.#parts = parts
    this.#heard = heard
    const { peer, addresses } = gang.members[0]!
    if (addresses !== undefined && peer !== parts.wire.peer) parts.wire.learn(peer, addresses)
    void this.#keepUp()
  }

  bring(presence: Presence): void {
    this.#presence = presence
    this.#session?.note('ready', presence)
  }

  report(unreached: readonly Unreached[]): void {
    this.#unreached = unreached
    this.#session?.note('reached', { unreached: [...unreached] })
  }

  leave(): void {
    this.#left.abort()
    this.#session?.close()
  }

  /** Joins, and joins again whenever the channel has ended, until the member or the primary has. */
  async #keepUp(): Promise<void> {
    const { signal } = this.#left
    const { now } = this.#parts
    let hasJoined = false
    let since = now()
    for (
      let waitMs = askAgainMs.first;
      !signal.aborted && !this.#isOver && !this.#vigil.isLost(0);
      waitMs = Math.min(2 * waitMs, askAgainMs.most)
    ) {
      try {
        const session = await this.#join(signal)
        hasJoined = true
        waitMs = askAgainMs.first
        await this.#sit(session)
        since = now()
      } catch (error) {
        if (signal.aborted) return
        const isAnswered = error instanceof MeshError && error.code === 'TaskNotFound'
        // It was there, and has ended: its last note was lost with the channel. The coordinator knows why, and says what follows.
        if (isAnswered && hasJoined) return
        // Not there yet.
        if (isAnswered) since = now()
        else this.#parts.log.debug({ err: error, attempt: this.#attempt }, 'no channel to the primary of a gang')
        if (!hasJoined && now() - since > unreachableMs) return this.#heard.failed(this.#unreachable(error))
      }
      if (hasJoined && (await this.#isGone(now() - since))) return
      await sleep(waitMs, undefined, { signal, ref: false }).catch(() => undefined)
    }
  }

  #unreachable(error: unknown): string {
    // A refusal's text is the other machine's.
    const said = (error instanceof Error ? error.message : String(error)).slice(0, maxRefusalChars)
    return `Members of the group cannot reach each other: ${nameOf(this.#gang, this.#attempt.member!)} has no connection to ${nameOf(this.#gang, 0)}: ${said}`
  }

  /** L7: a process that has ended, or silence. */
  async #isGone(silentMs: number): Promise<boolean> {
    const { signal } = this.#left
    if (signal.aborted || this.#isOver || this.#vigil.isLost(0)) return true
    const found = await this.#parts.wire.probe(this.#gang.members[0]!.peer, { signal })
    if (signal.aborted || (found !== 'refused' && silentMs <= lostAfterMs)) return signal.aborted
    this.#lose(found === 'refused' ? 'its process has ended' : 'it was silent for too long')
    return true
  }

  async #join(signal: AbortSignal): Promise<ChairSession> {
    const channel = await this.#parts.wire.open(this.#gang.members[0]!.peer, groupsProtocol, { signal })
    this.#pages = []
    const session: ChairSession = clientSession(groupsProtocol, channel, {
      calls: {},
      notes: {
        presences: ({ from, presences }) => this.#page(from, presences),
        together: ({ key }) => this.#heard.together(key),
        failed: ({ message }) => this.#heard.failed(message),
        lost: ({ index, reason }) => {
          if (index !== this.#attempt.member) this.#heard.lost(index, reason)
        },
        over: () => {
          this.#isOver = true
        },
      },
    })
    try {
      await session.call('join', { attempt: this.#attempt }, { signal })
      return session
    } catch (error) {
      session.close()
      throw error
    }
  }

  /** Says what was said before, and asks for signs of life until the channel ends. */
  async #sit(session: ChairSession): Promise<void> {
    this.#session = session
    if (this.#left.signal.aborted) session.close()
    if (this.#presence !== undefined) session.note('ready', this.#presence)
    if (this.#unreached !== undefined) session.note('reached', { unreached: [...this.#unreached] })
    const { now } = this.#parts
    this.#vigil.heard(0, now())
    const timer = setInterval(() => {
      if (this.#vigil.silent(now()).length > 0) {
        this.#lose('it was silent for too long')
        return session.close()
      }
      session.call('ping', {}).then(
        () => this.#vigil.heard(0, now()),
        // The end of the channel tells, or the silence.
        () => undefined,
      )
    }, pingMs).unref()
    await session.closed
    clearInterval(timer)
    this.#session = undefined
  }

  #lose(reason: string): void {
    if (this.#vigil.lose(0)) this.#heard.lost(0, reason)
  }

  #page(from: number, presences: readonly Presence[]): void {
    if (from !== this.#pages.length || from + presences.length > this.#gang.members.length) return
    this.#pages.push(...presences)
    if (this.#pages.length === this.#gang.members.length) this.#heard.presences(this.#pages)
  }
}
