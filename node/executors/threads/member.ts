/** A thread as a member of a gang: it meets the others, gives the function its group, and parts from them with what it returned. */
import { deserialize, serialize } from 'node:v8'
import type { MessagePort } from 'node:worker_threads'
import type { Group } from '../../groups/group.ts'
import { openMember } from '../../groups/links/member.ts'
import { openGroup } from '../../groups/open.ts'
import type { GangFacts, Rallied } from './messages.ts'
import { PartingLink } from './parting-link.ts'

export interface Meeting {
  gang: GangFacts
  /** Of this process, for this thread (groups/links/broker.ts). */
  broker: MessagePort
  /** Brings a card for the others, and waits for theirs. */
  rally: (card: Uint8Array) => Promise<Rallied>
}

export class Member {
  readonly group: Group
  readonly #link: PartingLink

  private constructor(link: PartingLink) {
    this.#link = link
    this.group = openGroup(link)
  }

  static async join({ gang: { rank, address }, broker, rally }: Meeting): Promise<Member> {
    const member = await openMember({ addresses: address === '' ? [] : [address], broker })
    try {
      const { cards, key } = await rally(member.card)
      return new Member(new PartingLink(await member.join({ rank, cards, key })))
    } catch (error) {
      member.close()
      throw error
    }
  }

  /** Another member is gone. */
  lost(rank: number, why: string): void {
    this.#link.lose(rank, new Error(why))
  }

  /** Whether a member is gone that had not parted. */
  get isBereft(): boolean {
    return this.#link.missing !== undefined
  }

  /** Parts with what the function returned: at the primary with what all returned, by rank; elsewhere with nothing. */
  async part(serialized: Uint8Array): Promise<Uint8Array | undefined> {
    const values = await this.#link.part(serialized)
    return this.#link.rank === 0 ? serialize(values.map((value) => deserialize(value) as unknown)) : undefined
  }

  /** Lets the others go, if it is the primary, and goes. */
  async leave(): Promise<void> {
    await this.#link.release()
    await this.#link.close()
  }
}
