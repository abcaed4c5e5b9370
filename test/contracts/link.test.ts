import { randomBytes } from 'node:crypto'
import { Broker } from '../../node/groups/links/broker.ts'
import { type MemberOptions, openMember } from '../../node/groups/links/member.ts'
import { MemoryNetwork } from '../support/memory-link.ts'
import { linkContract, type OpenedLinks } from './link-contract.ts'

const loopback = ['127.0.0.1']

async function open(size: number, optionsOf: (rank: number) => MemberOptions): Promise<OpenedLinks> {
  const members = await Promise.all(Array.from({ length: size }, (_, rank) => openMember(optionsOf(rank))))
  const cards = members.map(({ card }) => card)
  const key = randomBytes(32)
  const links = await Promise.all(members.map((member, rank) => member.join({ rank, cards, key })))
  return {
    links,
    stop: async () => {
      await Promise.all(links.map((link) => link.close()))
    },
  }
}

linkContract('the TLS link', { shares: 'none', open: (size) => open(size, () => ({ addresses: loopback })) })

linkContract('the link of shared memory', {
  shares: 'all',
  open: (size) => {
    const broker = new Broker()
    return open(size, () => ({ addresses: [], broker: broker.port() }))
  },
})

linkContract('both together', {
  shares: 'pairs',
  open: (size) => {
    const brokers = Array.from({ length: Math.ceil(size / 2) }, () => new Broker())
    return open(size, (rank) => ({ addresses: loopback, broker: brokers[rank >> 1]!.port() }))
  },
})

for (const seed of [1, 2]) {
  linkContract(`the tests' link in one thread, seed ${seed}`, {
    shares: 'all',
    open: async (size) => ({ links: new MemoryNetwork(size, { seed, isShared: true }).links, stop: async () => {} }),
  })
}
