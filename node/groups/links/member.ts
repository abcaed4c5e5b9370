/**
 * How a member of a group comes to its link, on the thread that it runs on:
 *
 *     const member = await openMember({ addresses: ['10.0.0.7'], broker })   // broker: MessagePort of a Broker, or undefined
 *     const { rank, cards, key } = await meet(member.card)                   // a rally of nodes, or a rendezvous
 *     const link = await member.join({ rank, cards, key })
 */
import { once } from 'node:events'
import { isIP } from 'node:net'
import type { MessagePort } from 'node:worker_threads'
import type { Link } from '../link.ts'
import type { FromBroker } from './broker.ts'
import { type Card, decodeCard, encodeCard } from './card.ts'
import { CombinedLink } from './combined-link.ts'
import { groupKeyBytes, groupNameOf } from './keys.ts'
import { SharedLink } from './shared-link.ts'
import { TlsLink } from './tls-link.ts'
import { TlsPort } from './tls-port.ts'

export interface MemberOptions {
  /** Where other processes reach this one: IP addresses or names, best first. With none, only its own process does. */
  addresses: readonly string[]
  /** Of the process's {@link Broker}, for this thread and group alone: its threads then share memory. */
  broker?: MessagePort | undefined
}

/** All members have met. */
export interface Meeting {
  rank: number
  /** Of all members, by rank. */
  cards: readonly Uint8Array[]
  /** 32 bytes that only they know. */
  key: Uint8Array
}

/** A member that can be reached, before it knows the others. */
export interface Member {
  /** For the others; at most 4 KiB. */
  readonly card: Uint8Array
  /** The link to them, once. */
  join(meeting: Meeting): Promise<Link>
  /** For one that does not join. */
  close(): void
}

/** Opens a port, where there are addresses. Rejects when none can be had. */
export async function openMember({ addresses, broker }: MemberOptions): Promise<Member> {
  const named = broker === undefined ? undefined : await processOf(broker)
  const port = addresses.length === 0 ? undefined : await TlsPort.open(addresses.every(isLoopback) ? addresses[0]! : '::')
  const card = encodeCard({ addresses, port: port?.port ?? 0, ...(named === undefined ? {} : { process: named }) })
  const close = () => {
    port?.close()
    broker?.close()
  }
  return {
    card,
    close,
    async join({ rank, cards: texts, key }) {
      try {
        if (key.length !== groupKeyBytes) throw new RangeError(`The key of a group has ${groupKeyBytes} bytes, not ${key.length}.`)
        const cards = texts.map(decodeCard)
        return await linkOf(rank, cards, key, { port, broker, process: named })
      } catch (error) {
        close()
        throw error
      }
    },
  }
}

interface Means {
  port: TlsPort | undefined
  broker: MessagePort | undefined
  process: string | undefined
}

async function linkOf(rank: number, cards: readonly Card[], key: Uint8Array, { port, broker, process }: Means): Promise<Link> {
  const near = new Set(cards.flatMap((card, at) => (at === rank || (process !== undefined && card.process === process) ? [at] : [])))
  const shared =
    broker === undefined
      ? undefined
      : await SharedLink.open({ rank, size: cards.length, ranks: [...near], group: groupNameOf(key), port: broker })
  if (shared !== undefined && near.size === cards.length) {
    port?.close()
    return shared
  }
  if (port === undefined) throw new RangeError('A member in another process needs an address of this one.')
  const tls = new TlsLink({ rank, cards, key, port, others: near })
  return shared === undefined ? tls : new CombinedLink(shared, tls, (other) => near.has(other))
}

async function processOf(broker: MessagePort): Promise<string> {
  const [told] = (await once(broker, 'message')) as [FromBroker]
  if (!('process' in told)) throw new Error('The broker of this process does not say its name.')
  return told.process
}

function isLoopback(address: string): boolean {
  return address === 'localhost' || address === '::1' || (isIP(address) === 4 && address.startsWith('127.'))
}
